"""The common part of the studies: runs an ablation at one of its scales and writes its page with tables, plots and findings.

    python -m experiments.pooling --scale laptop

`smoke` takes seconds and is for tests; `small` takes at most half an hour on 2 cores, `laptop` at most an hour; `full` is for a GPU.
Without `--scale` it is `laptop`, or `small` where there is no `laptop`. Finished trials are not trained again (`cnnjax.ablate`), so that
an interrupted study is resumed. What the page is made of is kept beside it in NAME.json: `--page` writes the page and its figure from
that, without training.
"""

import argparse
import dataclasses
import platform
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import cnnjax
from cnnjax.ablation.statistics import CONFIDENCE, POWER, Estimate, estimate, pairs_needed
from cnnjax.ablation.table import Row, Table
from cnnjax.core import files
from cnnjax.core.options import unknown
from cnnjax.training import run_directory
from experiments.drawings import COLOURS, QUIET, RULE, panels, save_svg, styled

ScaleName = Literal["smoke", "small", "laptop", "full"]
RESULTS = Path(__file__).parent / "results"
# The metrics that figures show in per cent.
SHARES = ("accuracy", "mean_iou")
# The common part of most configs: the rate falls to zero, and the final state is tested.
COMMON = {"schedule": {"name": "cosine"}, "evaluate": {"checkpoint": "last"}, "log": {"tensorboard": False}}


@dataclasses.dataclass(frozen=True)
class Scale:
    """The size of a study.

    Attributes:
      data: a description of the training data.
      fields: the config fields of this scale.
      seeds: the number of seeds per variant.
      variants: the names of the study's variants that are trained at this scale; None is all of them.
    """

    data: str
    fields: Mapping[str, Any]
    seeds: int
    variants: Sequence[str] | None = None


# The smallest scale of studies on Fashion-MNIST, and of those on digits.
SMOKE_CLOTHES = Scale(
    "Fashion-MNIST, 4 per class, test of 50",
    {
        "dataset.name": "fashion_mnist",
        "dataset.examples_per_class": 4,
        "dataset.test_split": "test[:50]",
        "train.batch_size": 20,
        "train.epochs": 1,
    },
    1,
)
SMOKE_DIGITS = Scale(
    "digits, 8 per class",
    {"dataset.name": "digits", "dataset.examples_per_class": 8, "train.batch_size": 16, "train.epochs": 1},
    1,
)


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
      question: the question, in the index and on the page.
      answer: the answer of the committed results, in one or two sentences.
      exercise: a task for a reader.
      config: the config that all variants share.
      axes: the variants, in a form that `cnnjax.ablate` accepts.
      scales: the scales by name.
      published: variant -> the published result with its source.
      findings: the findings of the committed results.
      parts: a function from the results to additional sections.
      smallest: the smallest difference of the compared metric that is worth naming, chosen before the trials are trained.
      seed_fields: the fields that are set to the seed; "dataset.split_seed" also draws other training images.
      strategy: the strategy of `cnnjax.ablate`.
      sources: pretrained runs, name -> the fields in which each differs from `config`; a variant starts from the run whose name
        is its "initial.run".
    """

    name: str
    title: str
    question: str
    answer: str
    exercise: str
    config: Mapping[str, Any]
    axes: Any
    scales: Mapping[ScaleName, Scale]
    published: Mapping[str, str]
    findings: str
    parts: Callable[[Results], Iterable[Part]] = lambda results: ()
    smallest: float | None = None
    seed_fields: Sequence[str] = ("seed",)
    strategy: str = "auto"
    sources: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def default_scale(self) -> ScaleName:
        """The scale that runs if none is named, and whose page is written into the repository."""
        return "laptop" if "laptop" in self.scales else "small"


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
    axes = study.axes if chosen.variants is None else {name: study.axes[name] for name in chosen.variants}
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


def stored_results(study: Study, scale: ScaleName, table: Table, parts: Sequence[Part] = ()) -> dict[str, Any]:
    """What the page and its figure are made of, as it is kept in JSON beside them."""
    columns, *rows = table.cells(times=False)  # seconds are for `experiments/benchmarks`, on a quiet machine
    training = f"train/{table.metric.partition('/')[2]}"
    trained = {row.variant: f"{row.estimate.mean:.4f}" if row.estimate else "" for row in table.summarize(training)}
    return {
        "scale": scale,
        "seeds": study.scales[scale].seeds,
        "where": f"{hardware()}, JAX {jax.__version__}",
        "metric": table.metric,
        "columns": [*columns, training],
        "rows": [[*row, trained[row[0]]] for row in rows],
        "power": table.power(),
        "smallest": study.smallest,
        "verdicts": {row.variant: verdict(row, study.smallest) for row in table.summarize()} if study.smallest else {},
        "intervals": {row.variant: _interval(table, row) for row in table.summarize()},
        "parts": [{"text": part.text.strip(), "picture": _picture_file(study, part)} for part in parts],
    }


def verdict(row: Row, smallest: float) -> str:
    """What the seeds say of a variant's difference from the baseline: its direction, that there is none worth naming, or nothing yet.

    A direction needs a p-value, corrected for the number of variants, below 0.05; no difference worth naming needs a 95 % confidence
    interval between -smallest and +smallest. Both may be true. Otherwise the text says how many seeds would find a difference of that
    size.

    Args:
      row: the variant's row of a table.
      smallest: the smallest difference that is worth naming.
    """
    found = row.difference
    if found is None or found.deviation is None or row.p_value is None:
        return ""
    said = []
    if row.p_value < 1 - CONFIDENCE:
        said.append("higher" if found.mean > 0 else "lower")
    if -smallest < found.low and found.high < smallest:
        said.append(f"within {smallest:g}")
    needed = pairs_needed(smallest, found.deviation)
    return ", ".join(said) or f"undecided ({needed or 'more than 10,000'} seeds)"


def _interval(table: Table, row: Row) -> dict[str, Any]:
    mean, low, high = (row.estimate.mean, row.estimate.low, row.estimate.high) if row.estimate else (None,) * 3
    return {"mean": mean, "low": low, "high": high, "values": [*table.values(row.variant).values()]}


def _picture_file(study: Study, part: Part) -> str | None:
    return f"{study.name}_{part.name}.svg" if part.picture else None


def page(study: Study, results: Mapping[str, Any]) -> str:
    """The study in Markdown: its answer, one figure, how to repeat it, an exercise, and the tables behind it.

    Args:
      study: the study.
      results: what `stored_results` returned.
    """
    data, metric = study.scales[results["scale"]].data, words(results["metric"])
    published, verdicts = ["published"] if study.published else [], results.get("verdicts") or {}
    judged = ["verdict"] if verdicts else []
    cells = [
        [*row, *[verdicts.get(row[0], "")] * len(judged), *[study.published.get(row[0], "")] * len(published), data]
        for row in results["rows"]
    ]
    seeds = f"{results['seeds']} seed{'s' if results['seeds'] > 1 else ''}"
    caption = f"{metric[0].upper()}{metric[1:]} by variant, {data}: the mean of {seeds}"
    if results["seeds"] > 1:
        caption += " and its 95 % confidence interval" + ("; each dot is a seed" if has_values(results) else "")
    return (
        "\n\n".join(
            [
                f"# {study.title}",
                f"**{study.question}** {study.answer}",
                f"![{caption}]({study.name}.svg)",
                f"*{caption}.*",
                f"To repeat it ({seeds}; {results['where']}):",
                f"```sh\npython -m experiments.{study.name} --scale {results['scale']}\n```",
                f"**Exercise.** {study.exercise}",
                "## What it shows",
                study.findings.strip(),
                "## Results",
                "Mean ± standard deviation over the seeds, 95 % confidence intervals, paired differences."
                + (f" {power}" if (power := results.get("power")) else "")
                + (f" {_judged(results['smallest'])}" if judged else ""),
                markdown([*map(words, results["columns"]), *judged, *published, "data"], cells),
                *(_part(part) for part in results["parts"]),
            ]
        )
        + "\n"
    )


def _judged(smallest: float) -> str:
    """How the column of verdicts is to be read."""
    return (
        f"The smallest difference worth naming was set to {smallest:g} before the trials. Verdict: *higher* or *lower* if the p-value, "
        f"corrected for the number of variants (Holm), is below {1 - CONFIDENCE:.2f}; *within {smallest:g}* if the 95 % confidence "
        f"interval of the difference is, whatever its sign; otherwise *undecided*, with the number of seeds that would find a difference of {smallest:g} "
        f"with probability {POWER}."
    )


def _part(part: Mapping[str, Any]) -> str:
    picture = part["picture"] and Path(part["picture"]).stem.replace("_", " ")
    return "\n\n".join(
        [*([part["text"]] if part["text"] else []), *([f"![{picture}]({part['picture']})"] if picture else [])]
    )


def has_values(results: Mapping[str, Any]) -> bool:
    """Whether the values of single seeds were stored: they were not before there was a JSON file."""
    return any(interval["values"] for interval in results["intervals"].values())


@styled()
def figure(results: Mapping[str, Any]) -> Figure:
    """The study's figure: each variant's mean with its 95 % confidence interval, and its seeds as dots, in per cent."""
    found = results["intervals"]
    share = 100 if results["metric"].endswith(SHARES) else 1
    drawn, [axis] = panels(1, height=0.34 * len(found) + 0.9)
    for row, interval in enumerate(found.values()):
        if interval["low"] is not None:  # the normal interval of a share may leave 0 to 1
            ends = [
                100 * min(max(end, 0.0), 1.0) if share == 100 else end for end in (interval["low"], interval["high"])
            ]
            axis.plot(ends, [row, row], color=COLOURS[0], linewidth=3, alpha=0.45, solid_capstyle="butt")
        axis.plot([share * value for value in interval["values"]], [row] * len(interval["values"]), ".", color=QUIET)
        if interval["mean"] is not None:
            axis.plot([share * interval["mean"]], [row], "o", color=COLOURS[0], markersize=6)
    axis.set_yticks(range(len(found)), [textwrap.fill(name, 40) for name in found])
    axis.set_ylim(len(found) - 0.5, -0.5)
    axis.set_xlabel(words(results["metric"]) + (" (%)" if share == 100 else ""))
    axis.grid(False, axis="y")
    axis.grid(axis="x", color=RULE)
    axis.tick_params(axis="y", length=0)
    return drawn


def words(metric: str) -> str:
    """A metric's name as an axis has it.

    >>> words("test/accuracy"), words("test/mean_iou")
    ('test accuracy', 'test mean IoU')
    """
    return metric.replace("/", " ").replace("mean_iou", "mean IoU").replace("_", " ")


def write_page(study: Study, results: Mapping[str, Any], folder: Path) -> str:
    """Writes a study's page and its figure from what is stored, and returns the page."""
    save_svg(figure(results), folder / f"{study.name}.svg")
    text = page(study, results)
    files.write_atomically(folder / f"{study.name}.md", text)
    return text


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


def with_interval(found: Estimate, form: str, unit: float = 1) -> str:
    """A mean with its 95 % confidence interval, which a single value has not.

    Args:
      found: the estimate.
      form: the format of a number.
      unit: the factor by which numbers are shown: 100 for shares in per cent.

    >>> with_interval(estimate([0.01, 0.02, 0.03]), "+.1f", 100), with_interval(estimate([0.5]), ".3f")
    ('+2.0 [-0.5, +4.5]', '0.500')
    """
    interval = f" [{unit * found.low:{form}}, {unit * found.high:{form}}]" if found.deviation is not None else ""
    return f"{unit * found.mean:{form}}{interval}"


def difference(table: Table, variant: str, baseline: str) -> str:
    """The paired difference of a variant from a baseline with its 95 % confidence interval, in percentage points."""
    found = next(row.difference for row in table.summarize(baseline=baseline) if row.variant == variant)
    return "" if found is None else with_interval(found, "+z.1f", 100)


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
    parser.add_argument("--scale", choices=list(study.scales), default=study.default_scale)
    parser.add_argument("--workdir", type=Path, help="the folder of the trials (default: runs/studies/NAME-SCALE)")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"the folder of the page and plots (default: experiments/results for `{study.default_scale}`)",
    )
    parser.add_argument("--page", action="store_true", help="train nothing: write the page from the stored results")
    options = parser.parse_args(arguments)
    workdir = options.workdir or Path("runs") / "studies" / f"{study.name}-{options.scale}"
    folder = options.out or (RESULTS if options.scale == study.default_scale else workdir)
    stored = folder / f"{study.name}.json"
    if options.page:
        print(write_page(study, files.read_json(stored), folder))
        return
    cnnjax.configure_runtime()
    table = run(study, options.scale, workdir)
    folder.mkdir(parents=True, exist_ok=True)
    with styled():
        parts = list(study.parts(Results(table, workdir, study.scales[options.scale])))
    for part in parts:
        if part.picture:
            save_svg(part.picture, folder / f"{study.name}_{part.name}.svg")
    files.write_json(stored, stored_results(study, options.scale, table, parts))
    print(write_page(study, files.read_json(stored), folder))
