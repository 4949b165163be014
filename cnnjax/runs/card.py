"""A run as a person sees it: a line in a shell, a card in a notebook."""

from typing import TYPE_CHECKING

import jax

from cnnjax.core import html
from cnnjax.core.terminal import count_of
from cnnjax.data.card import class_text, shape_text
from cnnjax.training.shown import epoch_curves, trained_epochs

if TYPE_CHECKING:
    from cnnjax.runs.run import Run

# How many metrics besides the followed one and the loss a card shows.
OTHERS = 6


def run_line(run: "Run") -> str:
    """A run in one line: its directory, model, data, epochs and test figure."""
    epochs, tested = trained_epochs(run.history), f"test/{followed(run)}"
    figure = f", {tested} {run.metrics[tested]:.4f}" if tested in run.metrics else ""
    return f"Run({str(run.workdir)!r}: {run.config.model.name} on {data_name(run)}, {count_of(len(epochs), 'epoch')}{figure})"


def run_card(run: "Run") -> str:
    """A run as HTML: what was trained on what, its metrics by split, and the curves of the loss and of the followed metric."""
    config, metric, epochs = run.config, followed(run), trained_epochs(run.history)
    examples = run.described["examples"]
    steps = epochs[-1]["step"] // len(epochs) if epochs else 0
    classes = class_text(run.label_names)
    known = {
        "model": f"{config.model.name}, {sum(leaf.size for leaf in jax.tree.leaves(run.state.params)):,} parameters",
        "data": f"{data_name(run)}: {', '.join(f'{count:,} {split}' for split, count in examples.items())}".rstrip(
            ": "
        ),
        "images": shape_text(run.described["image_shape"]) + (classes and f"; {classes}"),
        "optimizer": f"{config.optimizer.name}, learning rate {config.optimizer.learning_rate:g}, {config.schedule.name}"
        if epochs
        else "",
        "trained": f"{len(epochs)} of {config.train.epochs} epochs, {steps:,} steps of {config.train.batch_size} each"
        if epochs
        else "weights were imported",
        "checkpoint": f"of step {run.metrics['checkpoint']:,}, by valid/{metric}"
        if "checkpoint" in run.metrics
        else "",
    }
    return html.card(
        str(run.workdir),
        html.facts(known),
        metrics_table(run, metric),
        epoch_curves(epochs, metric, run.metrics.get("checkpoint")),
    )


def followed(run: "Run") -> str:
    """The metric that a run's best checkpoint follows."""
    return run.config.evaluate.metric or run.task.monitor


def data_name(run: "Run") -> str:
    """The name of a run's data; of imported weights, whose data are not here, what they are."""
    return run.described["name"] or "weights from elsewhere"


def metrics_table(run: "Run", metric: str) -> str:
    """A table of metrics by split, those of the checkpoint that the test used; "" of a run without any."""
    last = run.metrics
    at = next((line for line in trained_epochs(run.history) if line["step"] == last.get("checkpoint")), last)
    values = {**at, **{name: value for name, value in last.items() if name.startswith("test/")}}
    splits = [split for split in ("train", "valid", "test") if any(name.startswith(f"{split}/") for name in values)]
    names = dict.fromkeys(
        [metric, "loss", *(name.partition("/")[2] for name in values if name.startswith(("valid/", "test/")))]
    )
    names.pop("nll", None)  # of averaged views; of one view it is the loss
    shown = [name for name in names if any(f"{split}/{name}" in values for split in splits)][: 2 + OTHERS]
    rows = [
        [name, *(f"{values[key]:.4f}" if (key := f"{split}/{name}") in values else "" for split in splits)]
        for name in shown
    ]
    return html.table(["", *splits], rows) if rows else ""
