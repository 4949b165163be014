"""Hyperparameter searches by a metric of the validation split. The runs of each point are trials, as in a study.

    grid            every combination of lists of values
    random          points drawn independently
    halton, sobol   points that fill the space evenly
    coarse_to_fine  few epochs over wide ranges, then repeatedly more epochs over narrower ranges around the best point
    halving         many points for few epochs; repeatedly the best continue from their checkpoints for more epochs
    optuna          points that optuna proposes from earlier results (`pip install 'cnnjax[search]'`)

The points are determined by the space, the seed and the measurements, so that a repeated call resumes the search.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cnnjax import runs
from cnnjax.ablation import spaces, strategies
from cnnjax.ablation import trials as folders
from cnnjax.ablation.metrics import followed_metric, known_metrics
from cnnjax.ablation.progress import Progress
from cnnjax.ablation.spaces import Choice, Distribution, Fields, LogUniform, Variant, Whole
from cnnjax.ablation.study import make_table, prepare_process, read_record, run_trials, study_folder
from cnnjax.ablation.table import Table
from cnnjax.ablation.trials import Trial, identity, make_trials, seed_list
from cnnjax.config import load_config, to_json
from cnnjax.core import files
from cnnjax.core.options import checked, declared, positive, unknown
from cnnjax.data.datasets import Dataset
from cnnjax.data.sequences import ReadOnce, read_once
from cnnjax.training import run_directory

Share = Annotated[
    float,
    "width of the new ranges as a share of the old",
    lambda share: None if 0 < share < 1 else "a number between 0 and 1",
]


class Task(NamedTuple):
    """The arguments of a search method.

    Attributes:
      config: the config of the search.
      space: field -> its distribution.
      points: the number of points to try.
      seed: the seed of random points.
      folder: the folder of the search.
      announce: a function that takes the stages of the whole search before the first one, each the number of its points and the
        epochs for which each point is trained in it; a method that measures all points at once need not call it.
      measure: a function that runs the trials of some points and returns the result of each, which is to be maximised; None if
        all trials of a point failed. With `epochs`, the runs of the points are trained or continued to that many epochs.
    """

    config: ConfigDict
    space: Mapping[str, Distribution]
    points: int
    seed: int
    folder: Path
    announce: Callable[[Sequence[tuple[int, int]]], None]
    measure: Callable[..., list[float | None]]


def search(
    config: ConfigDict | Mapping[str, Any] | str | Path,
    space: Mapping[str, Any],
    workdir: str | Path | None = None,
    *,
    method: str = "random",
    points: int = 20,
    seeds: int | Iterable[int] = 1,
    metric: str | None = None,
    seed: int = 0,
    strategy: str = "auto",
    dataset: Any = None,
    **options: Any,
) -> Table:
    """Tries points in a space of configs and returns a table with the best point first, as the baseline.

    Another call with the same `workdir` resumes the search. Several processes with the same `workdir` share the trials, as in
    `ablate`.

    Args:
      config: a config from `load_config`, or anything that it accepts.
      space: field -> a distribution of `cnnjax.ablation.spaces`, or a list of values.
      workdir: the folder of the search; None is `runs/<model>_<data set>-search`.
      method: the name of a search method of this module.
      points: the number of points to try; `halving` starts with this number, `grid` ignores it.
      seeds: the number of seeds of each point, or a list of seeds; results are averaged over seeds.
      metric: a metric of the training or validation split, such as "valid/loss"; None is the validation metric that the best
        checkpoint follows. The task defines its direction.
      seed: the seed of random points.
      strategy: the strategy, as in `ablate`; `halving` is always serial.
      dataset: a data set that replaces the config's, as in `ablate`.
      **options: the options of the method. `coarse_to_fine`: stages, factor, coarse_epochs; `halving`: factor, first_epochs;
        `optuna`: storage, sampler.

    Raises:
      ValueError: a field, method, option or metric is unknown, a value is not allowed, or the folder holds something else;
        nothing was written.
      TypeError: a value has the wrong type.
      Interrupted: SIGINT or SIGTERM was received; the same call resumes.
    """
    dataset = read_once(dataset)
    config, _ = runs.with_objects(load_config(config), dataset)
    folders.data_mark(dataset, config)  # what is wrong with it is said before anything is written
    options = check_method(method, options)
    known = known_metrics([config])
    metric = known.check(metric or f"valid/{known.followed}")
    if metric.startswith(("test/", "time/")):
        choices = " or ".join(dict.fromkeys((f"valid/{known.followed}", "valid/loss")))
        raise ValueError(f"search by {metric}: the test split is reserved for the chosen point: choose {choices}")
    prepare_process([config])
    strategies.check_strategy(strategy, [config])
    if dataset is not None and "dataset.name" in space:
        raise ValueError("search: dataset.name is in the space, but a data set is given too: leave one of them out")
    ranges = check_space(config, space, method)
    seeds = seed_list(seeds)
    spaces.whole_count(points, "points")
    folder = study_folder(config, workdir, "search")
    definition = {
        "config": to_json(config), "space": {field: repr(given) for field, given in ranges.items()}, "method": method,
        "options": options, "points": points, "seeds": seeds, "metric": metric, "seed": seed,
    }  # fmt: skip
    folders.record_study(folder, definition, [])
    found: dict[str, tuple[Variant, list[Trial]]] = {}
    with Progress(f"search {folder}", config.log.progress, metric, partial(read_record, folder)) as display:
        announce = partial(_announce, display, len(seeds))
        measure = partial(
            _measure, config, folder, seeds, metric, known.sign(metric), strategy, dataset, display, found
        )
        METHODS[method](Task(config, ranges, points, seed, folder, announce, measure), **options)
    variants = [variant for variant, _ in found.values()]
    tried = [trial for _, trials in found.values() for trial in trials]
    folders.record_study(folder, definition, tried)
    return _best_first(make_table(folder, variants, tried, metric, variants[0].name, known, dataset))


def check_method(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Checks and returns the options of a method.

    Raises:
      ValueError: the method or an option is unknown, or a value is not allowed.
      TypeError: a value has the wrong type.
    """
    if method not in METHODS:
        raise ValueError(unknown("search method", method, METHODS))
    known = declared(METHODS[method])
    for name in options:
        if name not in known:
            raise ValueError(
                unknown(f"option of {method}", name, known) if known else f"{method} has no option {name!r}"
            )
    if method == "optuna":
        _import_optuna()
    return {name: checked(name, value, known[name]) for name, value in options.items()}


def check_space(config: ConfigDict, space: Mapping[str, Any], method: str) -> dict[str, Distribution]:
    """The space as a distribution for each field, after checking the ends of each with the config.

    Raises:
      ValueError: the space is empty, a field is unknown, or a value is not allowed.
      TypeError: a value has the wrong type, or is neither a list nor a distribution.
    """
    if not space:
        raise ValueError("search: the space is empty: give at least one field with its range")
    ranges = {field: spaces.distribution(field, values) for field, values in space.items()}
    if "seed" in ranges:
        raise ValueError("search: seed is set by `seeds`: leave it out of the space")
    if method in ("coarse_to_fine", "halving") and "train.epochs" in ranges:
        raise ValueError(f"search: {method} sets train.epochs: leave it out of the space")
    middle = {field: given.at(0.5) for field, given in ranges.items()}
    load_config(config, middle)
    for field, given in ranges.items():
        if method == "grid" and not isinstance(given, Choice):
            raise ValueError(f"search by grid: {field}: expected a list of values, got {given}")
        for value in spaces.ends(given):
            load_config(config, {**middle, field: value})
    return ranges


def _best_first(table: Table) -> Table:
    sign = table.known.sign(table.metric)
    means = {row.variant: sign * row.estimate.mean if row.estimate else -math.inf for row in table.rows}
    names = sorted(means, key=lambda name: -means[name])
    records = [record for name in names for record in table.trials if record["variant"] == name]
    return dataclasses.replace(table, trials=tuple(records), baseline=names[0])


# --- the result of a point ------------------------------------------------------------------------------------------


def _announce(display: Progress, seeds: int, stages: Sequence[tuple[int, int]]) -> None:
    """Implements `Task.announce`."""
    counts = [seeds * points for points, _ in stages]
    display.announce(sum(counts), sum(count * epochs for count, (_, epochs) in zip(counts, stages, strict=True)))


def _measure(
    config: ConfigDict, folder: Path, seeds: Sequence[int], metric: str, sign: int, strategy: str, dataset: Dataset | ReadOnce | None,
    display: Progress, found: dict[str, tuple[Variant, list[Trial]]], points: Sequence[Fields], epochs: int | None = None,
) -> list[float | None]:  # fmt: skip
    """Implements `Task.measure`; stores the variant and trials of each point in `found`, where a continued point keeps its place."""
    keys = [json.dumps(point, sort_keys=True) for point in points]
    variants = {
        key: Variant(spaces.variant_name(point, list(point)), point) for key, point in zip(keys, points, strict=True)
    }
    data = folders.data_mark(dataset, config)
    trials = make_trials(config, list(variants.values()), seeds, data=data)
    if epochs is not None:
        trials = [_trained_to(trial, epochs, data) for trial in trials]
    run_trials(folder, trials, display, strategy if epochs is None else "serial", dataset)
    for key, variant in variants.items():
        found[key] = variant, [trial for trial in trials if trial.variant == variant.name]
    means = [_mean_result(folder, found[key][1], metric) for key in keys]
    return [None if mean is None else sign * mean for mean in means]


def _trained_to(trial: Trial, epochs: int, data: str | None) -> Trial:
    """The trial extended to `epochs`; its directory does not depend on the number of epochs, so that its run is continued."""
    longer = load_config(trial.config, {"train.epochs": epochs})
    return Trial(trial.variant, trial.seed, longer, identity(longer, ("train.epochs",), data))


def _mean_result(folder: Path, trials: Sequence[Trial], metric: str) -> float | None:
    results = [result for trial in trials if (result := _result(folder, trial, metric)) is not None]
    return float(np.mean(results)) if results else None


def _result(folder: Path, trial: Trial, metric: str) -> float | None:
    """The metric at the selected checkpoint, up to the trial's last epoch; None if the trial failed.

    The result is also None if the history of a run that was continued is damaged or lost; continuing the run reports that.
    """
    if not folders.is_finished(folder, trial):
        return None
    try:
        history = run_directory.read_history(folder / trial.directory)
    except ValueError:
        return None
    followed, sign = followed_metric(trial.config)
    rated = [line for line in history if followed in line and line["epoch"] <= trial.config.train.epochs]
    if not rated:
        return None
    if trial.config.evaluate.checkpoint == "last":
        chosen = rated[-1]
    else:
        chosen = max(rated, key=lambda line: (sign * line[followed], line["step"]))
    if metric not in chosen:
        measured = [name for name in chosen if name.startswith(("train/", "valid/"))]
        raise ValueError(f"search by {metric}: {folder / trial.directory}: {unknown('metric', metric, measured)}")
    return chosen[metric]


# --- methods --------------------------------------------------------------------------------------------------------


def grid(task: Task) -> None:
    """Every combination of lists of values."""
    task.measure(spaces.grid({field: given.values for field, given in task.space.items()}))


def random(task: Task) -> None:
    """Points drawn independently (Bergstra and Bengio, JMLR 13, 2012)."""
    task.measure(spaces.random(task.space, task.points, task.seed))


def halton(task: Task) -> None:
    """Points of a Halton sequence."""
    task.measure(spaces.quasi_random(task.space, task.points, task.seed, "halton"))


def sobol(task: Task) -> None:
    """Points of a Sobol' sequence."""
    task.measure(spaces.quasi_random(task.space, task.points, task.seed, "sobol"))


def coarse_to_fine(
    task: Task,
    *,
    stages: Annotated[int, "number of stages, in each of which points are drawn", positive] = 3,
    factor: Share = 0.3,
    coarse_epochs: Annotated[
        int | None, "epochs of the first stage; None is a fifth of the config's epochs", positive
    ] = None,
) -> None:
    """Random points in stages: each stage has more epochs, and ranges `factor` times as wide around the best point so far.

    The points are shared equally among the stages. The number of epochs rises to the config's by a constant factor.
    """
    space, epochs = task.space, task.config.train.epochs
    first = min(coarse_epochs or max(1, epochs // 5), epochs)
    parts = [stage / (stages - 1) for stage in range(stages)] if stages > 1 else [1.0]
    lengths = [round(first ** (1 - part) * epochs**part) for part in parts]
    count = -(-task.points // stages)
    task.announce([(count, length) for length in lengths])
    for stage, length in enumerate(lengths):
        points = spaces.random(space, count, task.seed + stage)
        results = task.measure([{**point, "train.epochs": length} for point in points])
        rated = [(result, point) for result, point in zip(results, points, strict=True) if result is not None]
        if rated:
            _, best = max(rated, key=lambda pair: pair[0])
            space = {field: given.narrowed(best[field], factor) for field, given in space.items()}


def halving(
    task: Task,
    *,
    factor: Annotated[
        int,
        "one in this many points is kept, and trained for this many times the epochs",
        lambda f: None if f >= 2 else "at least 2",
    ] = 3,
    first_epochs: Annotated[
        int | None,
        "epochs of the first stage; None chooses them so that one point reaches the config's epochs",
        positive,
    ] = None,
) -> None:
    """Successive halving (Jamieson and Talwalkar, AISTATS 2016).

    All points are trained for a few epochs. The best of them, one in `factor`, are continued to `factor` times as many epochs,
    and so on up to the config's epochs. A decaying schedule is computed for the epochs of each stage, so a constant learning
    rate is preferable.
    """
    epochs = task.config.train.epochs
    rungs = math.floor(math.log(task.points, factor) + 1e-9)
    length = min(first_epochs or max(1, round(epochs / factor**rungs)), epochs)
    stages, trained = [(task.points, length)], length
    while trained < epochs:
        longer = min(trained * factor, epochs)
        stages.append((max(1, stages[-1][0] // factor), longer - trained))
        trained = longer
    task.announce(stages)
    points = spaces.random(task.space, task.points, task.seed)
    while True:
        results = task.measure(points, epochs=length)
        rated = [(result, index) for index, result in enumerate(results) if result is not None]
        if length == epochs or not rated:
            return
        rated.sort(key=lambda pair: -pair[0])
        points = [points[index] for _, index in rated[: max(1, len(points) // factor)]]
        length = min(length * factor, epochs)


def optuna(
    task: Task,
    *,
    storage: Annotated[str | None, "the URL of a database; None is an SQLite file in the folder"] = None,
    sampler: Annotated[Literal["tpe", "random"], "optuna's sampler that proposes the points"] = "tpe",
) -> None:
    """Points proposed one after the other by optuna (Akiba et al., KDD 2019), by default with its Parzen estimator.

    A point whose process died is tried again by the next process.
    """
    engine = _import_optuna()
    engine.logging.set_verbosity(engine.logging.WARNING)
    samplers = {"tpe": engine.samplers.TPESampler, "random": engine.samplers.RandomSampler}
    lock = partial(files.locked, task.folder / folders.LOCKS / "optuna", "the search", wait=True)
    with lock():
        study = engine.create_study(
            storage=storage or f"sqlite:///{task.folder / 'optuna.db'}", study_name="cnnjax", direction="maximize",
            load_if_exists=True,
        )  # fmt: skip
    asked = {field: _optuna_distribution(engine, given) for field, given in task.space.items()}

    def point(trial: Any) -> Fields:
        values = ((field, given, trial.params[field]) for field, given in task.space.items())
        return {
            field: given.values[value] if isinstance(given, Choice) else given.rounded(value)
            for field, given, value in values
        }

    def run(trial: Any) -> None:
        [result] = task.measure([point(trial)])
        state = engine.trial.TrialState.FAIL if result is None else engine.trial.TrialState.COMPLETE
        study.tell(trial.number, result, state=state, skip_if_finished=True)

    untried = task.points - sum(trial.state.is_finished() for trial in study.trials)
    task.announce([(untried, task.config.train.epochs)])
    while True:
        with lock():
            tried = len(study.trials)
            # Seeded anew for every point, so that neither a restart nor another process repeats an earlier proposal.
            study.sampler = samplers[sampler](seed=task.seed + tried)
            trial = study.ask(asked) if tried < task.points else None
        if trial is None:
            break
        run(trial)
    unfinished = [trial for trial in study.trials if not trial.state.is_finished()]
    for trial in unfinished:
        run(trial)
    task.measure([point(trial) for trial in study.trials])


def _optuna_distribution(engine: Any, given: Distribution) -> Any:
    kinds = engine.distributions
    if isinstance(given, Choice):
        return kinds.CategoricalDistribution(tuple(range(len(given.values))))
    if isinstance(given, Whole):
        return kinds.IntDistribution(given.low, given.high)
    return kinds.FloatDistribution(given.low, given.high, log=isinstance(given, LogUniform))


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ValueError("search by optuna: it is not installed: pip install 'cnnjax[search]'") from None
    return optuna


METHODS: Mapping[str, Callable[..., None]] = {
    "grid": grid,
    "random": random,
    "halton": halton,
    "sobol": sobol,
    "coarse_to_fine": coarse_to_fine,
    "halving": halving,
    "optuna": optuna,
}
