"""A training as HTML: its curves, and its progress in a notebook."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnnjax.core import html

Line = Mapping[str, Any]
# The number of last epochs that are listed in a notebook; the curves show all.
RECENT = 5


def trained_epochs(history: Sequence[Line]) -> list[Line]:
    """The lines of a history that end an epoch of training."""
    return [line for line in history if "train/loss" in line]


def epoch_curves(epochs: Sequence[Line], metric: str, checkpoint: int | None = None) -> str:
    """The curves of the loss and of the followed metric, of the training and the validation split, side by side.

    Args:
      epochs: the lines of the epochs.
      metric: the followed metric, such as "accuracy".
      checkpoint: the step of the selected checkpoint, whose epoch is marked.
    """
    chosen = next((line["epoch"] for line in epochs if line["step"] == checkpoint), None)
    marked = None if chosen is None else (float(chosen), f"the checkpoint that is used, epoch {chosen}")
    charts = [
        html.curves(
            name.replace("_", " "),
            {
                split: [(float(line["epoch"]), line[key]) for line in epochs if (key := f"{split}/{name}") in line]
                for split in ("train", "valid")
            },
            marked,
        )
        for name in dict.fromkeys(["loss", metric])
    ]
    return html.beside(*filter(None, charts))


def training_card(
    title: str,
    share: float,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    best: int | None,
    charts: str,
    notes: Sequence[str],
) -> str:
    """A running training: its progress, the last epochs and the best one, its curves, and messages.

    Args:
      title: the state of the training in words.
      share: the fraction of the steps that are done.
      columns: the names of the table's columns.
      rows: a row for each epoch, which begins with its number.
      best: the position of the best epoch's row, if there is one.
      charts: the curves, from `epoch_curves`.
      notes: the messages, one line each.
    """
    last = range(max(len(rows) - RECENT, 0), len(rows))
    places = [*([] if best is None or best in last else [best]), *last]
    shown = [[*rows[place], "best" if place == best else ""] for place in places]
    strong = [number for number, place in enumerate(places) if place == best]
    return html.card(
        title,
        html.bar(share),
        charts,
        html.table([*columns, ""], shown, strong) if rows else "",
        *(html.remark(note) for note in notes),
    )
