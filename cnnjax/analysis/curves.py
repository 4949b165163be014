"""Training curves: the metrics by epoch, as series and as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from ml_collections import ConfigDict

from cnnjax.runs import Run
from cnnjax.tasks.losses import NATS
from cnnjax.tasks.registry import TASKS

History = Sequence[Mapping[str, Any]]


def metric_names(history: History) -> list[str]:
    """The names of the metrics measured after epochs, in training or validation: the loss, then the others.

    >>> metric_names([{"epoch": 1, "train/mae": 3.0, "train/loss": 0.5, "valid/r2": 0.1, "test/loss": 0.4}])
    ['loss', 'mae', 'r2']
    """
    lines = [line for line in history if "train/batch_loss" not in line]
    keys = dict.fromkeys(key for line in lines for key in line if key.startswith(("train/", "valid/")))
    names = dict.fromkeys(key.partition("/")[2] for key in keys)
    return sorted(names, key=lambda name: name != "loss")


def series(history: History, name: str) -> tuple[Float[np.ndarray, "point"], Float[np.ndarray, "point"]]:
    """The epochs and values of a metric, without lines within an epoch and the test line.

    Args:
      history: the lines of `metrics.jsonl`.
      name: the metric, such as "train/loss".

    >>> series([{"epoch": 1, "valid/loss": 0.5}, {"epoch": 1.5, "train/batch_loss": 0.4}], "valid/loss")
    (array([1.]), array([0.5]))
    """
    lines = [line for line in history if isinstance(line.get(name), int | float) and "train/batch_loss" not in line]
    epochs = [float(line["epoch"]) for line in lines]
    return np.array(epochs), np.array([line[name] for line in lines], np.float64)


def smoothed(values: Float[np.ndarray, "point"], share: float) -> Float[np.ndarray, "point"]:
    """The bias-corrected exponential moving average: a_t = s a_(t-1) + (1 - s) v_t, divided by 1 - s^t.

    Values that are not finite are skipped.

    >>> smoothed(np.array([1.0, 3.0]), 0.5).round(3).tolist()
    [1.0, 2.333]
    """
    if not 0 <= share < 1:
        raise ValueError(f"smoothing={share}: expected a number from 0 up to, not including, 1")
    average, weight, result = 0.0, 0.0, []
    for value in values:
        if np.isfinite(value):
            average, weight = share * average + (1 - share) * value, share * weight + (1 - share)
        result.append(average / weight if weight else np.nan)
    return np.array(result)


def names_of(runs: Sequence[Run]) -> list[str]:
    """The names of runs: their directories' names, with parent directories if needed to distinguish them."""
    return short_names([run.workdir.resolve().parts for run in runs])


def short_names(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The shortest suffixes of paths that distinguish them.

    >>> short_names([("runs", "a", "best"), ("runs", "b", "best")])
    ['a/best', 'b/best']
    """
    for depth in range(1, max(map(len, paths)) + 1):
        names = ["/".join(path[-depth:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            break
    return names


def plot_curves(*runs: Run, smoothing: float = 0.0, log: bool = False) -> Figure:
    """Plots loss and metrics of training (dashed) and validation by epoch, with the learning rate below.

    Args:
      *runs: the runs, all in one figure.
      smoothing: the smoothing factor (see `smoothed`); 0 draws the measured values, values near 1 average over more epochs.
      log: whether the axis of the loss is logarithmic.
    """
    histories = dict(zip(names_of(runs), (run.history for run in runs), strict=True))
    return plot_histories(histories, smoothing, log, loss_title([run.config for run in runs]))


def loss_title(configs: Sequence[ConfigDict | None]) -> str:
    """The title of the loss axis, with the unit if it is known for all configs; None stands for a damaged config."""
    in_nats = all(config is not None and config.loss.name in NATS and config.task.name in TASKS for config in configs)
    return "loss (nats)" if in_nats else "loss"


def plot_histories(
    histories: Mapping[str, History], smoothing: float = 0.0, log: bool = False, loss: str = "loss"
) -> Figure:
    """Plots named histories as `plot_curves` does; `loss` is the title of the loss axis."""
    metrics = metric_names([line for history in histories.values() for line in history]) or ["loss"]
    figure = Figure(figsize=(4.5 * max(len(metrics), 2), 5), layout="constrained")
    panels = figure.subplot_mosaic([metrics, ["learning_rate"] * len(metrics)], height_ratios=[3, 1])
    for number, (name, history) in enumerate(histories.items()):
        for metric in metrics:
            for split, style in (("train", "--"), ("valid", "-")):
                epochs, values = series(history, f"{split}/{metric}")
                color = f"C{number}" if len(histories) > 1 else {"train": "C0", "valid": "C1"}[split]
                label = {"train": "training", "valid": "validation"}[split]
                label = label if len(histories) == 1 else f"{name}, {label}"
                marker = "o" if len(epochs) == 1 else None
                panels[metric].plot(epochs, smoothed(values, smoothing), style, color=color, label=label, marker=marker)
        epochs, rates = series(history, "learning_rate")
        color, marker = f"C{number}" if len(histories) > 1 else "0.4", "o" if len(epochs) == 1 else None
        panels["learning_rate"].plot(epochs, rates, color=color, marker=marker)
    if log and "loss" in panels:
        panels["loss"].set_yscale("log")
    for name, panel in panels.items():
        panel.set_ylabel(loss if name == "loss" else name.replace("_", " "))
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        panel.grid(color="0.92")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    panels["learning_rate"].set_xlabel("epoch")
    panels[metrics[0]].legend(frameon=False, fontsize=8)
    return figure
