"""What the studies share: a config and what is varied, at three scales -> a table, a plot, and what they show.

    python -m experiments.pooling --scale small

`smoke` takes seconds and is for tests; `small` at most half an hour on 2 cores; `full` is for a GPU. Trials that have been
trained are not trained again (`cnnjax.ablate`), so a study that was stopped goes on.
"""

import argparse
import dataclasses
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from matplotlib import pyplot

import cnnjax
from cnnjax import files
from cnnjax.ablation.table import Table

ScaleName = Literal["smoke", "small", "full"]
RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large a study is.

    Attributes:
      data: what it is trained on, in words.
      fields: of the config.
      seeds: of each variant.
    """

    data: str
    fields: Mapping[str, Any]
    seeds: int


@dataclasses.dataclass(frozen=True)
class Study:
    """An ablation with its question and its answer.

    Attributes:
      name: of its module, and of its results.
      title: a line.
      config: what every variant has.
      axes: what is varied, as `cnnjax.ablate` takes it.
      scales: by name.
      published: variant -> the figure others report, with where.
      findings: what the committed results show.
    """

    name: str
    title: str
    config: Mapping[str, Any]
    axes: Any
    scales: Mapping[ScaleName, Scale]
    published: Mapping[str, str]
    findings: str


def run(study: Study, scale: ScaleName, workdir: Path) -> Table:
    """Trains what is not trained yet.

    Args:
      study: the study.
      scale: one of its scales.
      workdir: of the trials.
    """
    chosen = study.scales[scale]
    config = cnnjax.load_config(study.config, dict(chosen.fields))
    return cnnjax.ablate(config, study.axes, chosen.seeds, workdir)


def page(study: Study, scale: ScaleName, table: Table) -> str:
    """The study in Markdown: ours beside the published figures, each row with its data, and what it shows."""
    chosen = study.scales[scale]
    head, *rows = table.cells()
    trained = {
        row.variant: f"{row.estimate.mean:.4f}" if row.estimate else "" for row in table.summarize("train/accuracy")
    }
    cells = [
        [*head, "train/accuracy", "published", "data"],
        *([*row, trained[row[0]], study.published.get(row[0], ""), chosen.data] for row in rows),
    ]
    command = f"`python -m experiments.{study.name} --scale {scale}`"
    where = f"{chosen.seeds} seeds; {hardware()}, JAX {jax.__version__}"
    return (
        f"# {study.title}\n\n{command}: {where}. Mean ± standard deviation over the seeds, 95 % confidence intervals, paired "
        f"differences.\n\n{_rows(cells)}\n\n![test accuracy by variant]({study.name}.png)\n\n{study.findings.strip()}\n"
    )


def _rows(cells: Sequence[Sequence[str]]) -> str:
    head, *rows = [[cell.replace("|", r"\|") for cell in row] for row in cells]
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def hardware() -> str:
    """The device in words."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names) or '?'} cores of {names[0] if names else platform.processor() or 'a CPU'}"


def main(study: Study, arguments: Sequence[str] | None = None) -> None:
    """Runs a study from the command line and writes its page and its plot."""
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{study.name}", description=study.title)
    parser.add_argument("--scale", choices=list(study.scales), default="small")
    parser.add_argument("--workdir", type=Path, help="of the trials; runs/studies/NAME-SCALE unless given")
    parser.add_argument("--out", type=Path, help="folder of the page and the plot; experiments/results for `small`")
    options = parser.parse_args(arguments)
    cnnjax.configure_runtime()
    workdir = options.workdir or Path("runs") / "studies" / f"{study.name}-{options.scale}"
    table = run(study, options.scale, workdir)
    folder = options.out or (RESULTS if options.scale == "small" else workdir)
    folder.mkdir(parents=True, exist_ok=True)
    text = page(study, options.scale, table)
    figure = table.plot()
    figure.savefig(folder / f"{study.name}.png", bbox_inches="tight")
    pyplot.close(figure)
    files.write_atomically(folder / f"{study.name}.md", text)
    print(text)
