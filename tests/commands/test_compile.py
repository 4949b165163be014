"""`cnnjax compile` as a user meets it, with another compiler instead of XLA's for absent devices."""

import json

import pytest

from cnnjax.ahead import compilation, targets
from tests.commands.shell import run

PROGRAM = {
    "batch_size": 16, "fits": True, "flops": 2e9, "bytes": 2**30,
    "memory": {"arguments": 2**30, "outputs": 2**29, "alias": 2**29, "temporaries": 2**28, "peak": 5 * 2**28, "data": 0},
    "collectives": {"all-reduce": {"number": 3, "bytes": 2**20}},
    "bound": {
        "seconds": 0.004, "compute_seconds": 0.003, "memory_seconds": 0.002, "collective_seconds": 0.001, "collective_share": 0.25,
        "images_per_second": 4000.0,
    },
}  # fmt: skip
TOO_LARGE = {"batch_size": 64, "fits": False, "flops": 8e9, "memory": {"peak": None, "data": 0}}


@pytest.fixture
def requests(monkeypatch):
    """The requests that were sent to a process of its own, which is not started."""
    sent = []

    def answered(request):
        sent.append(request)
        train = PROGRAM if request["config"]["train"]["batch_size"] < 200 else TOO_LARGE
        train = train | ({"largest_batch": 96} if request["largest"] else {})
        return {"train": train, "predict": PROGRAM}

    monkeypatch.setattr(compilation, "figures_in_process", answered)
    monkeypatch.setattr(targets, "check_compiler", lambda target: None)
    return sent


def test_the_figures_of_a_target(capsys, requests):
    code, out, _ = run(
        capsys, "compile", "quickstart", "--for", "tpu:v5e:8", "--largest-batch", "--config.train.batch-size=16",
        "--input", "28,28,1", "--classes", "7",
    )  # fmt: skip
    rows = dict(line.split("\t")[:2] for line in out if "\t" in line)
    assert code == 0 and out[0] == "tpu:v5e:2x4: 8 devices, TPU v5e"
    assert rows["arguments, MiB"] == "1,024.0" and rows["largest batch that fits"] == "96"
    assert rows["all-reduce: number, MiB"] == "3, 1.00" and rows["lower bound of a step, ms"] == "4.000"
    assert out[-1] == "Times are lower bounds at these peak figures, not measurements."
    assert (requests[0]["input_shape"], requests[0]["classes"], requests[0]["target"]) == (
        [28, 28, 1],
        7,
        "tpu:v5e:2x4",
    )


def test_json_of_one_target_and_of_several(capsys, requests):
    code, out, _ = run(capsys, "compile", "quickstart", "--for", "cuda:h100:8", "--json")
    found = json.loads("\n".join(out))
    assert code == 0 and found["train"]["collectives"] == {"all-reduce": {"number": 3, "bytes": 2**20}}
    assert found["predict"]["memory"]["peak"] == 5 * 2**28 and found["target"] == "cuda:h100:8"
    _, out, _ = run(capsys, "compile", "quickstart", "--for", "cuda:h100", "--for", "tpu:v4:4", "--json")
    assert list(json.loads("\n".join(out))) == ["cuda:h100:1", "tpu:v4:2x2x1"]


def test_a_table_keeps_the_images_of_each_device(capsys, requests):
    code, out, _ = run(capsys, "compile", "quickstart", "--for", "tpu:v5e:4", "--table", "--config.train.batch-size=16")
    assert code == 0 and [request["config"]["train"]["batch_size"] for request in requests] == [4, 16, 64, 256, 1024]
    rows = [line.split("\t") for line in out if line.startswith("tpu:")]
    assert [row[0] for row in rows] == ["tpu:v5e:1x1", "tpu:v5e:2x2", "tpu:v5e:4x4", "tpu:v5e:8x8", "tpu:v5e:16x16"]
    assert rows[0][2] == "yes" and rows[-1][2:4] == ["no", "unknown"]


def test_what_is_wrong_is_said_in_a_line(capsys):
    code, _, err = run(capsys, "compile", "quickstart", "--for", "tpu:v9:8")
    assert code == 1 and err[0].startswith("cnnjax: unknown chip of tpu 'v9'")
    code, _, err = run(capsys, "compile", "quickstart")
    assert code == 2 and "--for" in err[-1]
    code, _, err = run(capsys, "compile", "no_such_config", "--for", "tpu:v5e:8")
    assert code == 1 and "no_such_config" in err[0]
    code, _, err = run(capsys, "compile", "quickstart", "--for", "tpu:v5e", "--input", "28")
    assert code == 2 and "expected height,width,channels" in err[-1]
