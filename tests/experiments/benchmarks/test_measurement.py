import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from experiments.benchmarks import devices, epoch, measurement, report, seeds, start, train_step
from experiments.benchmarks.measurement import Job, Measured, Process, ProcessError, Turn, Worker
from experiments.benchmarks.training_run import TrainingRun


@pytest.fixture(autouse=True)
def signals():
    """The benchmarks' commands set what Ctrl-C and SIGTERM do: afterwards it is as before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def job(**arguments):
    return Job("tests.experiments.benchmarks.subjects:counting", arguments)


def test_a_worker_times_its_task_and_says_in_a_line_what_failed():
    with Worker("counter", job()) as worker:
        assert worker.facts == {"parameters": 7, "device": "abacus"}
        turn = worker.run("count", 2)
        assert 0.01 <= turn.seconds < 0.5 and turn.memory_bytes > 1e6 and turn.device_bytes is None
        assert turn.foreign is None or 0 <= turn.foreign <= 1
        with pytest.raises(ProcessError, match=r"^counter: ValueError: thirteen is not computed$"):
            worker.run("count", 9)  # after 2 and 1 before them, and 1 before these
        assert worker.run("count", 1).seconds > 0


def test_a_worker_that_dies_is_one_line_and_the_others_continue():
    with Worker("dying", job(end_at=3)) as dying, Worker("well", job()) as well:
        turns = {"dying": lambda: dying.run("count", 1), "well": lambda: well.run("count", 1)}
        taken, failures = measurement.in_turns(turns, 2, lambda line: None)
    assert list(taken) == ["well"] and len(taken["well"]) == 2
    assert failures == {"dying": "dying: ended with exit status 3 (no memory left)"}


def test_a_subject_that_cannot_be_made_is_one_line():
    with pytest.raises(ProcessError, match=r"^nameless: TypeError: .*unexpected keyword argument 'color'"):
        Worker("nameless", job(color="red"))


def test_a_silent_process_is_given_up():
    with (
        Process("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], {}) as sleeper,
        pytest.raises(ProcessError, match=r"^sleeper: no answer in 0 s$"),
    ):
        sleeper.read(timeout_seconds=0.2)


def test_a_killed_process_says_so():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with (
        Process("large", [sys.executable, "-c", code], {}) as large,
        pytest.raises(ProcessError, match=r"^large: was ended by SIGKILL: is there enough memory\?$"),
    ):
        large.read()


def test_a_disturbed_turn_is_taken_again_and_the_least_disturbed_counts(monkeypatch):
    monkeypatch.setattr(measurement, "PAUSE_SECONDS", 0.0)
    shares = iter([0.3, 0.2, 0.4, 0.01])
    turn = lambda: Turn(1.0, next(shares))  # noqa: E731
    assert measurement.undisturbed(turn).foreign == 0.2
    assert measurement.undisturbed(turn).foreign == 0.01
    assert measurement.undisturbed(lambda: Turn(1.0, None)).foreign is None


def test_foreign_load_worked_out_by_hand():
    before = measurement.ProcessorSeconds(clock=10.0, idle=100.0, own=5.0, processors=2)
    # of 4 processor seconds 1 was idle and 2.6 the process's own
    after = measurement.ProcessorSeconds(clock=12.0, idle=101.0, own=7.6, processors=2)
    assert measurement.foreign_share(before, after) == pytest.approx(0.1)
    assert measurement.foreign_share(None, after) is None


def test_steps_that_fill_a_turn():
    assert measurement.steps_for(lambda steps: Turn(0.01, None), seconds=0.7) == 70
    assert measurement.steps_for(lambda steps: Turn(3.0, None), seconds=0.7) == 1


def test_a_table():
    measured = Measured([Turn(seconds, 0.0) for seconds in (0.005, 0.001, 0.004, 0.002, 0.003)])
    assert report.cell(measured, 1e-3) == "3.00 (2.00 to 4.00)" and report.cell(None, 1e-3) == "failed"
    assert (
        report.ratio(measured, [Measured([Turn(0.006, 0.0)]), None]) == "0.50" and report.ratio(None, [measured]) == ""
    )
    assert report.foreign_note([measured]) == "Foreign load: at most 0% in every turn."
    table = report.Table("Times", ["network", "ms"], [["mlp", "3.00"]], ["A note."])
    assert table.markdown() == "## Times\n\n| network | ms |\n| --- | --- |\n| mlp | 3.00 |\n\nA note."


@pytest.mark.parametrize(
    "option, message",
    [
        ("--networks=lenet", "unknown network 'lenet': choose from mlp, lenet5, mnist_cnn"),
        ("--modes=cnnjax,tensorflow", "unknown mode 'tensorflow': choose from cnnjax, flax, torch"),
        ("--what=speed", "unknown what 'speed': choose from train, latency, throughput"),
        ("--precision=float16", "unknown precision 'float16': choose from float32, bfloat16"),
        ("--rounds=0", "'0': expected a whole number of at least 1"),
    ],
)
def test_unknown_names_are_answered_with_the_valid_ones(option, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        train_step.main([option])
    assert message in capsys.readouterr().err


def test_a_missing_package_is_said_and_its_modes_left_out(monkeypatch, capsys):
    find = train_step.importlib.util.find_spec
    monkeypatch.setattr(train_step.importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    assert train_step.installed(["cnnjax", "torch", "flax"]) == ["cnnjax", "flax"]
    assert "left out: torch (torch is not installed: pip install 'cnnjax[bench]')" in capsys.readouterr().err


@pytest.mark.slow
def test_the_comparison_from_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measurement, "FOREIGN_LIMIT", 1.0)  # other tests may run beside this one
    monkeypatch.setattr(measurement, "TURN_SECONDS", 0.05)
    files = {kind: tmp_path / f"table.{kind}" for kind in ("markdown", "json")}
    options = ["--networks=mlp", "--modes=cnnjax,flax", "--rounds=2", "--precision=float32", "--what=train"]
    with pytest.raises(SystemExit, match="0"):
        train_step.main([*options, *(f"--{kind}={file}" for kind, file in files.items())])
    written = json.loads(files["json"].read_text())
    (result,) = written["results"]
    assert result["network"] == "mlp" and result["parameters"] == 636_010 and not result["failures"]
    for measured in result["modes"].values():
        assert len(measured["turns"]) == 2 and measured["median_seconds"] > 0 and measured["first_call_seconds"] > 0
    assert written["machine"]["packages"]["jax"] and written["machine"]["cores"] >= 1
    lines = files["markdown"].read_text().splitlines()
    header, row = (next(line for line in lines if line.startswith(start)) for start in ("| network", "| mlp, 128"))
    assert header.endswith("| cnnjax | flax | cnnjax / fastest PyTorch | cnnjax / flax |")
    assert len(header.split("|")) == len(row.split("|"))
    assert "mlp, train, float32: " in capsys.readouterr().err


def test_an_interrupted_comparison_shows_what_it_has(monkeypatch, capsys, tmp_path):
    measured = Measured([Turn(0.002, 0.0, memory_bytes=2**20)], first_call_seconds=0.5, device="cpu")

    def interrupted(*arguments):
        yield train_step.Result("mlp", "train", "float32", 128, {"flax": measured}, {})
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(train_step, "compare", interrupted)
    with pytest.raises(SystemExit, match="1"):
        train_step.main(["--modes=flax", "--precision=float32", f"--markdown={tmp_path / 'table.md'}"])
    assert "interrupted: these are not all" in capsys.readouterr().out
    assert "| mlp, 128 | 2.00 (2.00 to 2.00) |" in (tmp_path / "table.md").read_text()


@pytest.mark.slow
def test_an_epoch_of_cnnjax_train_ends_with_its_line_and_stops_there(tmp_path):
    with TrainingRun("training", epoch.config("digits", 4), tmp_path) as run:
        assert run.epoch().seconds > 0
        state = lambda: Path(f"/proc/{run.pid}/stat").read_text().rpartition(")")[2].split()[0]  # noqa: E731
        if sys.platform == "linux":
            deadline = time.monotonic() + 5
            while state() != "T" and time.monotonic() < deadline:
                time.sleep(0.01)
            assert state() == "T"
        assert run.epoch().seconds > 0
    epochs, step = Measured([Turn(2.2, 0.0)]), Measured([Turn(0.01, 0.0)])
    table = epoch.table({"epoch": epochs, "step": step}, "digits", 200)
    assert table.rows[0][-2:] == ["1.10", "1.10"]


def test_a_training_that_cannot_start_is_one_line(tmp_path):
    with (
        TrainingRun("training", {"dataset": {"name": "digits"}, "model": {"name": "nonet"}}, tmp_path) as run,
        pytest.raises(
            ProcessError, match=r"^training: ended with exit status 1 \(cnnjax: config: unknown model.name 'nonet': did"
        ),
    ):
        run.wait_for("compiled")


@pytest.mark.slow
@pytest.mark.parametrize("module", [devices, epoch, seeds, start], ids=lambda module: module.__name__.split(".")[-1])
def test_the_other_benchmarks_from_end_to_end(module, tmp_path, monkeypatch):
    monkeypatch.setattr(measurement, "FOREIGN_LIMIT", 1.0)
    monkeypatch.setattr(measurement, "TURN_SECONDS", 0.05)
    options = {devices: ["--networks=mlp"], seeds: ["--networks=mlp", "--seeds=2"], epoch: ["--dataset=digits"]}
    with pytest.raises(SystemExit, match="0"):
        module.main([*options.get(module, ["--networks=lenet5"]), "--rounds=1", f"--json={tmp_path / 'out.json'}"])
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["results"] and not written["failures"]
