"""The common part of the studies: runs an ablation at one of three scales and writes its page with tables, plots and findings.

    python -m experiments.pooling --scale small

`smoke` takes seconds and is for tests; `small` takes at most half an hour on 2 cores; `full` is for a GPU. Finished trials are not
trained again (`cnnjax.ablate`), so that an interrupted study is resumed.
"""

import argparse
import dataclasses
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import cnnjax
from cnnjax.ablation.statistics import estimate
from cnnjax.ablation.table import Table
from cnnjax.analysis import pictures
from cnnjax.core import files
from cnnjax.core.options import unknown
from cnnjax.training import run_directory

ScaleName = Literal["smoke", "small", "full"]
RESULTS = Path(__file__).parent / "results"
# The common part of most configs: the rate falls to zero, and the final state is tested.
COMMON = {"schedule": {"name": "cosine"}, "evaluate": {"checkpoint": "last"}, "log": {"tensorboard": False}}


@dataclasses.dataclass(frozen=True)
class Scale:
    """The size of a study.

    Attributes:
      data: a description of the training data.
      fields: the config fields of this scale.
      seeds: the number of seeds per variant.
    """

    data: str
    fields: Mapping[str, Any]
    seeds: int


@dataclasses.dataclass(frozen=True)
class Results:
    """The results of a study.

    Attributes:
      table: the table of the trials.
      workdir: the folder of the trials.
      scale: the scale of the study.
    """

    table: Table
    workdir: Path
    scale: Scale

    def runs(self, variant: str) -> list[cnnjax.Run]:
        """The finished runs of a variant, by seed."""
        return [cnnjax.load_run(path) for path in self._directories(variant)]

    def histories(self, variant: str) -> list[list[dict[str, Any]]]:
        """The epoch lines of a variant's finished runs, without the test line."""
        return [run_directory.read_history(path)[:-1] for path in self._directories(variant)]

    def _directories(self, variant: str) -> list[Path]:
        own = [record for record in self.table.trials if record["variant"] == variant]
        return [self.workdir / record["directory"] for record in own if record["status"] == "finished"]


@dataclasses.dataclass(frozen=True)
class Part:
    """An additional section of a study's page.

    Attributes:
      name: the suffix of the picture's file name.
      text: the text above the picture, in Markdown.
      picture: the picture, or None.
    """

    name: str
    text: str
    picture: Figure | None = None


@dataclasses.dataclass(frozen=True)
class Study:
    """An ablation with its question and its answer.

    Attributes:
      name: the name of the study's module and of its results.
      title: the title of the page.
      config: the config that all variants share.
      axes: the variants, in a form that `cnnjax.ablate` accepts.
      scales: the scales by name.
      published: variant -> the published result with its source.
      findings: the findings of the committed results.
      parts: a function from the results to additional sections.
      seed_fields: the fields that are set to the seed; "dataset.split_seed" also draws other training images.
      strategy: the strategy of `cnnjax.ablate`.
      sources: pretrained runs, name -> the fields in which each differs from `config`; a variant starts from the run whose name
        is its "initial.run".
    """

    name: str
    title: str
    config: Mapping[str, Any]
    axes: Any
    scales: Mapping[ScaleName, Scale]
    published: Mapping[str, str]
    findings: str
    parts: Callable[[Results], Iterable[Part]] = lambda results: ()
    seed_fields: Sequence[str] = ("seed",)
    strategy: str = "auto"
    sources: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


def run(study: Study, scale: ScaleName, workdir: Path) -> Table:
    """Trains the trials of a study that are not finished.

    Args:
      study: the study.
      scale: the name of the scale.
      workdir: the folder of the trials.
    """
    chosen = study.scales[scale]
    # The smallest batches cannot be shared by the several virtual devices that a test machine may have.
    devices = {"devices": 1} if scale == "smoke" else {}
    config = cnnjax.load_config(study.config, {**chosen.fields, **devices})
    axes = study.axes
    if study.sources:
        runs = train_sources(study, config, workdir.with_name(f"{workdir.name}-sources"))
        axes = {name: started(fields, runs) for name, fields in axes.items()}
    return cnnjax.ablate(config, axes, chosen.seeds, workdir, seed_fields=study.seed_fields, strategy=study.strategy)


def train_sources(study: Study, config: ConfigDict, folder: Path) -> dict[str, Path]:
    """Trains the pretrained runs of a study that are not finished, and returns {name: run directory}.

    Args:
      study: the study.
      config: the config that all runs share.
      folder: the folder of the runs; the function waits if another process trains there.
    """
    directories = {name: folder / name for name in study.sources}
    with files.locked(folder / ".lock", f"the pretrained runs of {study.name}", wait=True):
        for name, directory in directories.items():
            fields = {**study.sources[name], "log.progress": "off"}
            trained = cnnjax.train(cnnjax.load_config(config, fields), directory)
            print(f"pretrained, {name}: test/accuracy {trained.metrics['test/accuracy']:.4f}", flush=True)
    return directories


def started(fields: Mapping[str, Any], runs: Mapping[str, Path]) -> dict[str, Any]:
    """The fields of a variant with the name of its pretrained run replaced by the run directory.

    Raises:
      ValueError: there is no source of that name.

    >>> started({"initial.run": "digits"}, {"digits": Path("runs/digits")})
    {'initial.run': 'runs/digits'}
    """
    source = fields.get("initial.run")
    if source is None:
        return dict(fields)
    if source not in runs:
        raise ValueError(unknown("source", source, runs))
    return {**fields, "initial.run": str(runs[source])}


def page(study: Study, scale: ScaleName, table: Table, parts: Sequence[Part] = ()) -> str:
    """The page of a study in Markdown: the table with published results, the additional sections and the findings."""
    chosen = study.scales[scale]
    head, *rows = table.cells(times=False)  # times are measured by `experiments/benchmarks`, on an idle machine
    trained = {
        row.variant: f"{row.estimate.mean:.4f}" if row.estimate else "" for row in table.summarize("train/accuracy")
    }
    published = ["published"] if study.published else []
    cells = [[*row, trained[row[0]], *[study.published.get(row[0], "")] * len(published), chosen.data] for row in rows]
    command = f"`python -m experiments.{study.name} --scale {scale}`"
    seeds = f"{chosen.seeds} seed{'s' if chosen.seeds > 1 else ''}"
    where = f"{seeds}; {hardware()}, JAX {jax.__version__}"
    return "\n\n".join(
        [
            f"# {study.title}",
            f"{command}: {where}. Mean ± standard deviation over the seeds, 95 % confidence intervals, paired differences.",
            markdown([*head, "train/accuracy", *published, "data"], cells),
            f"![{table.metric} by variant]({study.name}.png)",
            *(_part(study, part) for part in parts),
            f"{study.findings.strip()}\n",
        ]
    )


def _part(study: Study, part: Part) -> str:
    picture = [f"![{part.name.replace('_', ' ')}]({study.name}_{part.name}.png)"] if part.picture else []
    return "\n\n".join([part.text.strip(), *picture])


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first are aligned to the right."""
    lines = [[str(cell).replace("|", r"\|") for cell in row] for row in [head, *rows]]
    lines.insert(1, ["---"] + ["--:"] * (len(head) - 1))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation and the mean's 95 % confidence interval, in per cent.

    >>> spread([0.50, 0.51, 0.52])
    '51.0 ± 1.0 [48.5, 53.5]'
    """
    known = estimate(values, (0.0, 1.0))
    if known is None or known.deviation is None:
        return "" if known is None else f"{100 * known.mean:.1f}"
    interval = f"[{100 * known.low:.1f}, {100 * known.high:.1f}]"
    return f"{100 * known.mean:.1f} ± {100 * known.deviation:.1f} {interval}"


def difference(table: Table, variant: str, baseline: str) -> str:
    """The paired difference of a variant from a baseline with its 95 % confidence interval, in percentage points."""
    found = next(row.difference for row in table.summarize(baseline=baseline) if row.variant == variant)
    if found is None:
        return ""
    interval = f" [{100 * found.low:+z.1f}, {100 * found.high:+z.1f}]" if found.deviation is not None else ""
    return f"{100 * found.mean:+z.1f}{interval}"


def hardware() -> str:
    """A description of the device."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names) or '?'} cores of {names[0] if names else platform.processor() or 'a CPU'}"


def main(study: Study, arguments: Sequence[str] | None = None) -> None:
    """Runs a study from the command line and writes its page and plots."""
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{study.name}", description=study.title)
    parser.add_argument("--scale", choices=list(study.scales), default="small")
    parser.add_argument("--workdir", type=Path, help="the folder of the trials (default: runs/studies/NAME-SCALE)")
    parser.add_argument(
        "--out", type=Path, help="the folder of the page and plots (default: experiments/results for `small`)"
    )
    options = parser.parse_args(arguments)
    cnnjax.configure_runtime()
    workdir = options.workdir or Path("runs") / "studies" / f"{study.name}-{options.scale}"
    table = run(study, options.scale, workdir)
    folder = options.out or (RESULTS if options.scale == "small" else workdir)
    folder.mkdir(parents=True, exist_ok=True)
    parts = list(study.parts(Results(table, workdir, study.scales[options.scale])))
    pictures.save(table.plot(), folder / f"{study.name}.png")
    for part in parts:
        if part.picture:
            pictures.save(part.picture, folder / f"{study.name}_{part.name}.png")
    text = page(study, options.scale, table, parts)
    files.write_atomically(folder / f"{study.name}.md", text)
    print(text)
