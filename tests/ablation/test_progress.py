"""What a person sees of a study while it runs."""

import re

import pytest
from ml_collections import ConfigDict
from rich.text import Text

from cnnjax.ablation.progress import Progress
from cnnjax.ablation.trials import Trial
from tests.training.test_logs import Terminal, kernel_outputs


def trial(variant, seed, directory, epochs=1):
    return Trial(variant, seed, ConfigDict({"train": {"epochs": epochs}}), directory)


TRIALS = [trial(f"learning_rate={rate}, plan={'conv 64 pool | ' * 5}fc", 0, str(rate)) for rate in (0.01, 0.05)]


def progress(mode, trials, left, found):
    display = Progress("study runs/rates", mode, "valid/loss", records(found))
    display.add(trials, left)
    return display


def records(found):
    """Reads a trial's record from a mapping by its directory."""
    return lambda trial: found[trial.directory]


def finished(value, seconds=1234.5):
    return {"status": "finished", "valid/loss": value, "time/seconds": seconds}


@pytest.mark.parametrize("width", [80, 100])
def test_a_terminal_has_a_live_table_that_fits_it_and_failures_stay(monkeypatch, width):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "20")
    monkeypatch.setenv("TERM", "xterm")
    seeds = [trial(f"rate=0.{rate}", seed, f"{rate}-{seed}") for rate in range(40) for seed in range(2)]
    failure = {"status": "failed", "error": "ValueError: " + "no " * 60}
    found = {"0-0": finished(0.12345), "0-1": finished(0.2), "1-0": failure}
    with progress("auto", seeds, seeds[1:], found) as display:
        display.begins(seeds[1:3])
        display._live.refresh()
        display.ended(seeds[1], own=True)
        display._live.refresh()
        display.ended(seeds[2], own=True)
        display._live.refresh()
    text = terminal.getvalue()
    lines = [Text.from_ansi(part).plain.rstrip() for whole in text.splitlines() for part in whole.split("\r")]
    assert max(map(len, lines)) <= width
    shown = [re.sub(r"\d+ s\b", "0 s", " ".join(line.split())) for line in lines]  # however slow the machine is
    assert "rate trials valid/loss seconds" in shown
    assert "0.0 1 of 2 0.1235 1.23e+03 training seed 1" in shown and "0.0 2 of 2 0.1617 ± 0.0541 1.23e+03" in shown
    assert "0.1 0 of 2 training seed 0" in shown and "0.1 1 of 2 1 failed" in shown
    assert "1 of 80 trials, 0 s, time left after the first trial" in shown
    assert any(line.startswith("3 of 80 trials, 0 s,") and line.endswith(" left") for line in shown)
    assert "and 26 more variants" in shown  # 14 rows of 20 lines
    assert sum(line.startswith("failed: rate=0.1, seed 0: ValueError") for line in shown) == 1
    assert text.rstrip().endswith("\x1b[2K")  # the table goes when all is done


def test_what_an_interrupted_study_has_reached_stays(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with (
        pytest.raises(KeyboardInterrupt),
        progress("auto", TRIALS, TRIALS, {"0.01": finished(0.5)}) as display,
    ):
        display.ended(TRIALS[0], own=True)
        raise KeyboardInterrupt
    lines = [Text.from_ansi(line).plain for line in terminal.getvalue().splitlines()]
    assert [line for line in lines if line.strip()][-1].startswith("1 of 2 trials, ")
    assert not terminal.getvalue().rstrip().endswith("\x1b[2K")


def test_it_is_plain_lines_in_a_file_and_nothing_where_it_is_off(capsys):
    found = {"0.01": {"status": "failed", "error": "ValueError: no"}, "0.05": finished(0.12345)}
    for mode in ("auto", "lines", "off"):
        with progress(mode, TRIALS, TRIALS, found) as display:
            display.begins(TRIALS[:1])
            display.ended(TRIALS[0], own=True)
            display.ended(TRIALS[1], own=True)
        lines = [
            "study runs/rates: 2 trials, 2 to run",
            "learning_rate  seed  valid/loss  seconds",
            "0.01              0  failed: ValueError: no",
            "0.05              0      0.1235  1.23e+03",
        ]
        assert capsys.readouterr().out.splitlines() == ([] if mode == "off" else lines)


def test_what_another_process_trained_is_no_line_here(capsys):
    with progress("lines", TRIALS, TRIALS, {"0.01": finished(0.5)}) as display:
        display.ended(TRIALS[0], own=False)
    assert capsys.readouterr().out == "study runs/rates: 2 trials, 2 to run\n"


def test_a_search_counts_what_is_announced_and_its_time_left_is_that_of_the_epochs(monkeypatch):
    """As halving does: two points for an epoch, one of them continued to four."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    found = {"a": finished(0.5), "b": finished(0.7)}
    first, longer = [trial("rate=1", 0, "a"), trial("rate=2", 0, "b")], [trial("rate=1", 0, "a", epochs=4)]
    with Progress("search runs/rates", "auto", "valid/loss", records(found)) as display:
        display.announce(3, 5)
        display.add(first, first)
        states = [display._state()]
        for place, one in enumerate(first, 1):
            now[0] = 10.0 * place
            display.ended(one, own=True)
            states.append(display._state())
        display.add(longer, longer)
        display.begins(longer)
        states.append(display._state())
        assert [row[:3] for row in display._rows(9)[1]] == [["1", "1 of 1", "0.5000"], ["2", "1 of 1", "0.7000"]]
        found["a"], now[0] = finished(0.25), 50.0
        display.ended(longer[0], own=True)
        states.append(display._state())
        assert display._rows(9)[1][0][:3] == ["1", "1 of 1", "0.2500"]
    assert states == [
        "0 of 3 trials, 0 s, time left after the first trial",
        "1 of 3 trials, 10 s, 40 s left",
        "2 of 3 trials, 20 s, 30 s left",
        "2 of 3 trials, 20 s, 30 s left",
        "3 of 3 trials, 50 s",
    ]
    assert "search runs/rates: 3 trials, 3 to run" in terminal.getvalue()


STUDY = """
import cnnjax
config = {"dataset": {"name": "digits", "examples_per_class": 4}, "model": {"name": "mlp", "features": (4,)},
          "train": {"batch_size": 8, "epochs": 1}, "devices": 1, "log": {"tensorboard": False}}
cnnjax.ablate(config, {"optimizer.learning_rate": [0.01, 0.1]}, seeds=2, workdir="study", strategy="serial")
"""


@pytest.mark.slow
def test_a_notebook_shows_one_table_that_is_updated_and_then_the_result(tmp_path):
    shown, [cell] = kernel_outputs([STUDY], tmp_path)
    assert [kind for kind, _ in shown].count("display_data") == 1 and len(shown) >= 8
    assert (
        "4 of 4 trials" in shown[-1][1]
        and "2 of 2" in shown[-1][1]
        and "stream" not in {o.output_type for o in cell.outputs}
    )
    [result] = [output for output in cell.outputs if output.output_type == "execute_result"]
    assert "2 variants, 4 trials, 2 seeds" in result.data["text/html"]
