"""What a person sees of a study while it runs."""

import pytest
from rich.text import Text

from cnnjax.ablation.progress import Progress
from cnnjax.ablation.trials import Trial
from tests.training.test_logs import Terminal

TRIALS = [Trial(f"learning_rate={rate}, plan={'conv 64 pool | ' * 5}fc", 0, None, "") for rate in (0.01, 0.05)]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_bar_fits_the_terminal_and_goes_and_the_rows_stay(monkeypatch, width):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    named = [Trial("[x] " * 30, 0, None, ""), Trial("b", 12, None, "")]
    for trials in (TRIALS, named):
        with Progress("auto", trials, 2, "valid/loss") as display:
            display.begins(trials)
            display._live.refresh()
            display.ended(trials[1], {"status": "finished", "valid/loss": 0.12345, "time/seconds": 1234.5})
            display.ended(trials[0], None)
    text = terminal.getvalue()
    lines = [Text.from_ansi(part).plain.rstrip() for whole in text.splitlines() for part in whole.split("\r")]
    assert max(map(len, lines)) <= width and text.rstrip().endswith("\x1b[2K")
    assert "learning_rate  seed  valid/loss  seconds" in lines
    assert "0.05              0      0.1235  1.23e+03" in lines
    bars = [line for line in lines if "━" in line]
    assert any(line.startswith("0.01, seed 0 and 1 more ━") and "0/2 trials" in line for line in bars)
    assert any(line.startswith("[x] [x]") and "…" in line for line in bars)


def test_it_is_plain_lines_in_a_file_and_nothing_where_it_is_off(capsys):
    for mode in ("auto", "lines", "off"):
        with Progress(mode, TRIALS, 1, "test/accuracy") as display:
            display.note("study")
            display.begins(TRIALS[:1])
            display.ended(TRIALS[0], {"status": "failed", "error": "ValueError: no"})
        lines = ["study", "learning_rate  seed  test/accuracy  seconds", "0.01              0  failed: ValueError: no"]
        assert capsys.readouterr().out.splitlines() == ([] if mode == "off" else lines)
