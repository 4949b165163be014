"""Every metric of training and validation by epoch, and the learning rate."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnjax.analysis import curves
from cnnjax.report.blocks import Block, Figure, Heading, Section, Template
from cnnjax.report.charts import sparkline
from cnnjax.report.contents import RunContents
from cnnjax.tasks.classification import Classification
from cnnjax.tasks.task import bounds_of

NEEDS = ("epochs",)


def section(contents: RunContents) -> Section:
    """The curves of one run."""
    return compare({contents.workdir.name: contents})


def compare(runs: Mapping[str, RunContents]) -> Section:
    """The curves of several runs in the same charts."""
    histories = {name: contents.history for name, contents in runs.items()}
    names = curves.metric_names([line for contents in runs.values() for line in contents.epochs])
    loss = curves.loss_title([contents.config for contents in runs.values()])
    titles = {name: loss if name == "loss" else name.replace("_", " ") for name in names}
    shares = shares_of(runs)
    metrics = [{"name": name, "title": title, "bounded": name in shares} for name, title in titles.items()]
    drawn = Figure(
        curves.plot_histories(histories, loss=loss), f"{', '.join(map(str, names))} and learning rate by epoch"
    )
    blocks: list[Block] = [Template("curves.html", {"metrics": metrics}, [drawn])]
    probes = [block for name, history in histories.items() for block in probe_charts(name, history)]
    if probes:
        blocks.append(Template("details.html", {"summary": "Probes", "blocks": probes}))
    data = {"metrics": metrics, "runs": [run_data(name, history, names) for name, history in histories.items()]}
    return Section("Training", blocks, data)


def shares_of(runs: Mapping[str, RunContents]) -> set[str]:
    """The metrics that range from 0 to 1, by the runs' tasks (classification for runs that cannot be loaded)."""
    tasks = [contents.run.task if contents.run else Classification for contents in runs.values()]
    return {name for task in tasks for name, bounds in bounds_of(task).items() if bounds == (0.0, 1.0)}


def run_data(name: str, history: curves.History, metrics: list[str]) -> dict[str, Any]:
    """The measured curves of one run: {"train/loss": [[epoch, value], ...]}."""
    keys = [f"{split}/{metric}" for metric in metrics for split in ("train", "valid")]
    measured = {key: np.stack(curves.series(history, key), 1) for key in (*keys, "learning_rate")}
    return {"name": name, **{key: values for key, values in measured.items() if len(values)}}


def probe_charts(name: str, history: curves.History) -> list[Block]:
    """A sparkline by epoch for each quantity of each probed layer."""
    keys = sorted({key for line in history for key in line if key.startswith("probe/")})
    blocks: list[Block] = [Heading(name)] if keys else []
    for quantity in sorted({key.rpartition("/")[2] for key in keys}):
        lines = [
            {
                "layer": key.removeprefix("probe/").rpartition("/")[0],
                "chart": sparkline(*curves.series(history, key)),
            }
            for key in keys
            if key.endswith(f"/{quantity}")
        ]
        blocks.append(Template("sparks.html", {"title": quantity.replace("_", " "), "lines": lines}))
    return blocks
