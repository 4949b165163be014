"""What a person sees of training."""

import io
import os
import re
import time
from pathlib import Path

import pytest
from rich.text import Text

from cnnjax.training.logs import Display
from cnnjax.training.shown import epoch_curves, training_card


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


def test_the_bar_moves_within_an_epoch_between_metrics(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Display("auto", 2, 10, 8, "accuracy", "max") as display:
        display.stage("evaluating")
        for step, shown in ((3, "epoch 1/2"), (4, "epoch 1/2"), (11, "epoch 2/2")):
            display.advance(step)  # the second within a quarter of a second after the first: not shown
            display._live.refresh()
            task = display._live.tasks[0]
            assert (task.description, task.completed) == (shown, step - (step == 4))
            display._advanced -= (step == 4) * 1.0


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


def kernel_outputs(sources, folder):
    """[(kind of message, its HTML)] of what a kernel displayed, and the cells, of a notebook with these cells."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    shown = []

    class Client(nbclient.NotebookClient):
        def process_message(self, message, cell, index):
            if message["msg_type"] in ("display_data", "update_display_data"):
                shown.append((message["msg_type"], message["content"]["data"]["text/html"]))
            return super().process_message(message, cell, index)

    client = Client(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.execute(env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    return shown, notebook.cells


TRAINING = """
import cnnjax
config = {"dataset": {"name": "digits", "examples_per_class": 20}, "model": {"name": "mlp", "features": (8,)},
          "train": {"batch_size": 16, "epochs": 12}, "devices": 1, "log": {"tensorboard": False}}
run = cnnjax.train(config, "run")
"""


@pytest.mark.slow
def test_a_notebook_has_one_output_that_is_updated_and_runs_and_data_are_cards(tmp_path):
    cells = [TRAINING, "run", "cnnjax.load_dataset('digits')", "cnnjax.summarize('lenet5')"]
    shown, cells = kernel_outputs(cells, tmp_path)
    kinds = [kind for kind, _ in shown]
    assert kinds[0] == "display_data" and set(kinds[1:]) == {"update_display_data"} and 2 <= len(kinds) < 60
    assert [output.output_type for output in cells[0].outputs] == ["display_data"]
    last = cells[0].outputs[0].data["text/html"]
    assert last == shown[-1][1] and "trained: 12 of 12 epochs" in last and "compiled the training step" in last
    assert last.count("<svg") == 2 and last.count("<tr") in (
        6,
        7,
    )  # the header, five epochs, and the best where it is none of these
    for cell, word in zip(cells[1:], ("mlp, ", "1,298 train", "416,520 MACs"), strict=True):
        [output] = cell.outputs
        assert word in output.data["text/html"] and "\n" not in output.data["text/plain"]


def test_the_last_epochs_and_the_best_are_listed():
    rows = [[str(number), "0.5"] for number in range(1, 11)]
    listed = lambda best: re.findall(r">(\d+)<", training_card("t", 0.5, ["epoch", "loss"], rows, best, "", ["<note>"]))  # noqa: E731
    assert listed(2) == ["3", "6", "7", "8", "9", "10"] and listed(8) == listed(None) == ["6", "7", "8", "9", "10"]
    assert "&lt;note&gt;" in training_card("t", 0.5, ["epoch"], [], None, "", ["<note>"])


def test_curves_have_both_splits_and_the_checkpoint():
    lines = [line(epoch, 0.5 + epoch / 10) for epoch in (1, 2, 3)]
    drawn = epoch_curves(lines, "accuracy", checkpoint=20)
    assert drawn.count("<polyline") == 4 and drawn.count("checkpoint that is used, epoch 2") == 2
    assert epoch_curves(lines, "loss").count("<svg") == 1 and "<svg" not in epoch_curves([], "accuracy")
