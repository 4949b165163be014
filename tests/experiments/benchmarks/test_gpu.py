"""What is measured when a GPU can be had: on the CPU, with the peak figures of a named chip."""

import json
import re
import signal
import time
from importlib.util import find_spec

import pytest

from cnnjax.ahead.chips import CHIPS
from experiments.benchmarks import gpu, measurement
from experiments.benchmarks.gpu import Part, Skipped
from experiments.benchmarks.networks import NETWORKS, network_of
from experiments.benchmarks.train_step import MODES


@pytest.fixture(autouse=True)
def signals():
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_a_part_begins_only_where_it_would_end_in_time():
    parts, now = [Part("step", name, seconds) for name, seconds in (("a", 50), ("b", 60), ("c", 30), ("d", 20))], [0.0]
    taken = []
    for part in gpu.begun(parts, deadline=100.0, clock=lambda: now[0]):
        taken.append(part)
        if isinstance(part, Part):
            now[0] += part.seconds + 5  # longer than was thought
    assert taken == [parts[0], Skipped(parts[1], 45.0), parts[2], Skipped(parts[3], 10.0)]


def test_every_network_has_a_part_and_its_name_gives_the_batch():
    steps = [part.name for part in gpu.PARTS if part.kind == "step"]
    assert {name.partition("@")[0] for name in steps} == NETWORKS.keys() and len(steps) == len(NETWORKS)
    assert network_of("resnet50@256").batch_size == 256 and network_of("resnet50").batch_size == 8
    assert gpu.DETERMINISTIC_OF in steps and all(0 < part.seconds < 480 for part in gpu.PARTS)


def test_the_bound_of_a_step_by_hand():
    chip = CHIPS["h100"]
    program = {"flops": 2e-3 * chip.bfloat16, "bytes": 3e-3 * chip.bandwidth, "collectives": {}}
    predictions = {"results": {"mlp@8": program}}
    assert gpu.bound_seconds("mlp@8", "h100", predictions) == pytest.approx(3e-3)
    assert gpu.bound_seconds("mlp@8", "b200", predictions) == pytest.approx(
        3e-3 * chip.bandwidth / CHIPS["b200"].bandwidth
    )
    assert gpu.bound_seconds("mlp@16", "h100", predictions) is None is gpu.bound_seconds("mlp@8", None, predictions)
    assert gpu.chip_of("NVIDIA H200") == "h200" and gpu.chip_of("cpu") is None


def test_when_the_time_has_passed_there_is_a_page_of_what_was_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "measure", lambda *arguments: time.sleep(60))
    monkeypatch.setattr(gpu, "PARTS", (Part("step", "mlp@8", 0.1), Part("step", "lenet5@8", 0.1)))
    start = time.monotonic()
    with pytest.raises(SystemExit, match="1"):
        gpu.main(["--minutes=0.02", f"--json={tmp_path / 'a' / 'gpu.json'}", f"--markdown={tmp_path / 'a' / 'gpu.md'}"])
    assert time.monotonic() - start < 30
    said = "interrupted, or out of time, during step:mlp@8: what follows it was not begun"
    assert said in (tmp_path / "a" / "gpu.md").read_text()
    assert json.loads((tmp_path / "a" / "gpu.json").read_text())["failures"] == [said]


@pytest.mark.slow
def test_all_kinds_of_parts_from_end_to_end(monkeypatch, tmp_path):
    monkeypatch.setattr(measurement, "FOREIGN_LIMIT", 1.0)
    monkeypatch.setattr(measurement, "TURN_SECONDS", 0.05)
    monkeypatch.setattr(measurement, "WARM_UP_STEPS", 1)
    parts = [
        Part("step", "lenet5@8", 0),
        Part("epoch", "digits", 0),
        Part("seeds", "mlp@8", 0),
        Part("step", "resnet50@256", 1e6),
    ]
    monkeypatch.setattr(gpu, "PARTS", tuple(parts))
    monkeypatch.setattr(gpu, "DETERMINISTIC_OF", "lenet5@8")
    monkeypatch.setattr(gpu, "PREDICTIONS", tmp_path / "predictions.json")
    program = {"flops": 1e-6 * CHIPS["h100"].bfloat16, "bytes": 0.0, "collectives": {}}
    gpu.PREDICTIONS.write_text(json.dumps({"results": {"lenet5@8": program}}))
    page, found = tmp_path / "gpu.md", tmp_path / "gpu.json"
    options = [
        "--modes=cnnjax,torch-channels-last",
        "--chip=h100",
        "--rounds=1",
        f"--json={found}",
        f"--markdown={page}",
    ]
    with pytest.raises(SystemExit, match="0"):
        gpu.main(options)
    step, epoch, seeds = json.loads(found.read_text())["results"]
    modes = {"cnnjax", "cnnjax-deterministic"} | ({"torch-channels-last"} if find_spec("torch") else set())
    assert step["kind"] == "step" and step["modes"].keys() == modes
    assert step["precision"] == "bfloat16" and step["images"] == 8
    assert epoch["kind"] == "epoch" and epoch["epoch"]["median_seconds"] > 0
    assert seeds["kind"] == "seeds" and seeds["vmap"]["median_seconds"] > 0
    text = page.read_text()
    row = next(line for line in text.splitlines() if line.startswith("| lenet5, 8 |")).split(" | ")
    assert (
        len(row) == 8 and row[5] == "0.00100" and re.fullmatch(r"\d+ %", row[6]) and re.fullmatch(r"[\d.]+ \|", row[7])
    )
    assert "| step:resnet50@256 | 1000000 |" in text and "The next run: `--parts step:resnet50@256`." in text


def test_the_deterministic_mode_sets_the_flag_that_a_config_would():
    assert "--xla_gpu_deterministic_ops=true" in MODES["cnnjax-deterministic"].environment["XLA_FLAGS"].split()
