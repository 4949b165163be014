"""What a person sees of training."""

import io
import time

import pytest
from rich.text import Text

from cnnjax.training.logs import Display


def line(epoch, accuracy=None, loss=0.5):
    valid = {} if accuracy is None else {"valid/loss": loss, "valid/accuracy": accuracy}
    speed = {"learning_rate": 1.2345e-5, "time/images_per_second": 123456.7}
    return {"step": 10 * epoch, "epoch": epoch, "train/loss": loss, "train/accuracy": 0.5, **valid, **speed}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_row_an_epoch_under_one_header_with_the_best_marked(capsys):
    display = Display("lines", 12, 10, 8, "accuracy", "max")
    for epoch, accuracy in enumerate((0.7, 0.6, None, 0.7, 0.8), start=1):
        display.epoch(line(epoch, accuracy))
    assert capsys.readouterr().out.splitlines() == [
        "epoch  train loss  accuracy  valid loss  accuracy      rate  images/s  best",
        " 1/12      0.5000    0.5000      0.5000    0.7000   1.2e-05   123,457     *",
        " 2/12      0.5000    0.5000      0.5000    0.6000   1.2e-05   123,457",
        " 3/12      0.5000    0.5000           -         -   1.2e-05   123,457",
        " 4/12      0.5000    0.5000      0.5000    0.7000   1.2e-05   123,457     *",  # the later of equal ones
        " 5/12      0.5000    0.5000      0.5000    0.8000   1.2e-05   123,457     *",
    ]


def test_the_best_of_a_resumed_run_is_over_all_of_it(capsys):
    history = [line(1, 0.7), {"step": 15, "epoch": 1.5, "train/batch_loss": 0.4, "learning_rate": 0.1}, line(2, 0.75)]
    display = Display("lines", 4, 10, 8, "accuracy", "max", history=history)
    display.epoch(line(3, 0.72))
    display.epoch(line(4, 0.76))
    assert [row.endswith("*") for row in capsys.readouterr().out.splitlines()] == [False, False, True]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_what_a_terminal_shows_fits_it(monkeypatch, width):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    with Display("auto", 1000, 10, 8, "accuracy", "max") as display:
        display.stage("compiling the training step")
        display.compiled(1)
        display.update(9995, {"loss": 1234.56789, "accuracy": 0.98765})
        display._live.refresh()
        display.epoch(line(1000, 0.9, 98765.4321))
    text = terminal.getvalue()
    lines = [Text.from_ansi(part).plain for whole in text.splitlines() for part in whole.split("\r")]
    assert max(map(len, lines)) <= width
    bar = next(shown for shown in lines if shown.startswith("epoch 1000/1000"))
    assert "━" in bar and "loss 1235  accuracy 0.9877" in bar and "images/s" in bar and bar.rstrip().endswith("left")
    assert sum(shown.lstrip().startswith("epoch  train loss") for shown in lines) == 1
    assert text.rstrip().endswith("\x1b[2K")  # the bar's line is cleared


def test_an_epoch_says_how_long_it_waited_for_data(capsys):
    display = Display("lines", 2, 10, 8, "accuracy", "max")

    def feed():
        for number in range(3):
            time.sleep(0.05)
            yield number

    display.start_clock(0)
    batches = display.timed(feed())
    assert next(batches) == 0
    time.sleep(0.2)  # the step's own time is none of it
    assert [*batches] == [1, 2] and 0.15 <= display.data_seconds < 0.25
    speed = {"time/images_per_second": 40.0}  # 80 images in two seconds
    display.epoch(line(1, 0.5) | speed | {"time/data_seconds": 0.15})
    display.epoch(line(2, 0.5) | speed | {"time/data_seconds": 1.26})
    shown = [row.strip() for row in capsys.readouterr().out.splitlines()]
    assert [row for row in shown if "waited" in row] == ["waited 1.3 of 2.0 s for data"]
    display.start_clock(10)
    assert display.data_seconds == 0


def test_nothing_is_shown_where_progress_is_off(capsys):
    with Display("off", 1, 10, 8, "accuracy", "max") as display:
        display.compiled(1)
        display.update(5, {"loss": 1.0, "accuracy": 0.5})
        display.epoch(line(1, 0.5))
    assert capsys.readouterr().out == ""
