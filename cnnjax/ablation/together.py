"""Trains trials that differ only in numbers as one compiled program.

The training step is a pure function of state and batch, made from a config. If the seed, dropout rates and options marked as
`Traceable` are inputs of the compiled step, one program serves trials with different values: `vmap` runs several trials at
once on the devices that share each batch, `devices` runs one trial on each device. Every trial has the same order of examples,
initial weights and keys as when it is trained alone, so its results are those of `cnnjax.train` up to the order of
floating-point sums.

During training the states of all trials are saved in one checkpoint. At the end each trial becomes an ordinary run directory.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import flax.struct
import jax
import numpy as np
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from cnnjax import runs
from cnnjax.ablation.trials import GROUPS, Trial, digest, record_strategy
from cnnjax.config import COMPONENTS, flatten, options_of, to_json
from cnnjax.core import files
from cnnjax.core.options import known_zero
from cnnjax.data import batches
from cnnjax.data.batches import Batch
from cnnjax.data.datasets import Dataset, DatasetOptions
from cnnjax.data.sequences import ReadOnce
from cnnjax.models.linen import is_rate
from cnnjax.tasks.losses import TRAINING_ONLY
from cnnjax.tasks.registry import TASKS
from cnnjax.training import run_directory
from cnnjax.training.checkpoints import CheckpointOptions, Checkpoints
from cnnjax.training.evaluation import add_up, as_json, checked_metrics, host_batches
from cnnjax.training.experiment import (
    Experiment,
    build,
    check_batch_size,
    data_facts,
    measuring_step,
    takes_loss_values,
    training_step,
    validates_predictions,
)
from cnnjax.training.logs import MetricsLog
from cnnjax.training.loop import of_trial, run_training
from cnnjax.training.parallel import RunAhead, choose_devices, over_devices, over_trials, replicate
from cnnjax.training.program import Program, compile_program
from cnnjax.training.record import NOT_FINITE, Progress, RunRecord
from cnnjax.training.state import State, initial_state
from cnnjax.training.step import Metrics

Strategy = Literal["vmap", "devices"]


@flax.struct.dataclass
class GroupState:
    """The checkpoint of a group: the arrays of the states, with a leading trial axis."""

    step: Int[Array, ""]
    states: State
    best: State  # the states at the best value of the followed metric


@dataclasses.dataclass(frozen=True)
class Trained:
    """The result of training a trial in a group.

    Attributes:
      state: the final state.
      best: the state at the best value of the followed metric; of ties the latest.
      lines: the lines of `metrics.jsonl`.
      error: the error message of a failed trial, else None.
    """

    state: State
    best: State
    lines: list[dict[str, Any]]
    error: str | None


# --- which trials are compatible ------------------------------------------------------------------------------------


def numbers(config: ConfigDict) -> set[str]:
    """The fields whose values may differ within one program: component options that JAX may trace.

    >>> from cnnjax.config import load_config
    >>> sorted(numbers(load_config({"model": {"name": "maxdrop_cnn"}})))
    ['loss.label_smoothing', 'model.dense_dropout_rate', 'model.rate', 'optimizer.learning_rate', 'optimizer.weight_decay']
    """
    found = ((path, *path.split("."), option) for path, option in options_of(config).items() if "." in path)
    return {
        path
        for path, section, field, option in found
        if section in COMPONENTS and (option.traceable or (section == "model" and is_rate(field)))
    }


def evaluated(path: str) -> bool:
    """Whether a number also affects evaluation: that of a task, or of a loss or model unless it applies only in training.

    >>> [evaluated(path) for path in ("loss.gamma", "loss.label_smoothing", "model.dense_dropout_rate", "task.rate")]
    [True, False, False, True]
    >>> evaluated("optimizer.learning_rate")
    False
    """
    section, _, field = path.partition(".")
    only_in_training = {"task": False, "loss": field in TRAINING_ONLY, "model": is_rate(field)}
    return not only_in_training.get(section, True)


def compatibility(config: ConfigDict) -> str | None:
    """A digest that compatible trials, which can be one program, share; None for a config that is always trained alone.

    Compatible trials may differ in numbers (though not in whether these are zero), in the seed, and in the name and scale of
    the initialiser, which the step does not use. Always trained alone are configs that set an option marked as `TrainedAlone`,
    use the plateau schedule, have an optimiser that uses the value of the loss, or a task that scores the predictions for the
    validation split.
    """
    values = flatten(config)
    alone = any(option.trained_alone and values[path] != option.default for path, option in options_of(config).items())
    if alone or config.schedule.name == "plateau" or takes_loss_values(config) or validates_predictions(config):
        return None
    fields, differing = flatten(to_json(config)), numbers(config)
    shared = {path: known_zero(value) if path in differing else value for path, value in fields.items()}
    quiet = (path for path in fields if path.startswith(("log.", "checkpoint.")))
    free = ("seed", "model.initializer", "initial.scale", *quiet)
    return digest({path: value for path, value in shared.items() if path not in free})


def differing_numbers(configs: Sequence[ConfigDict]) -> dict[str, np.ndarray]:
    """The seed and the numbers that differ between trials, as arrays with a trial axis."""
    fields = [flatten(config) for config in configs]
    varied = [path for path in sorted(numbers(configs[0])) if len({values[path] for values in fields}) > 1]
    arrays = {path: np.array([values[path] for values in fields], np.float32) for path in varied}
    return {"seed": np.array([config.seed for config in configs], np.uint32), **arrays}


# --- the program ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class GroupProgram:
    """The compiled program of a group, with the interface of `training.program.Program`.

    Its state consists of the differing numbers and the states of the trials, each with a leading trial axis, which the metrics
    of a step have too.
    """

    configs: Sequence[ConfigDict]
    strategy: Strategy
    experiments: Sequence[Experiment]
    dataset: Dataset
    devices: list[jax.Device]
    arrays: Mapping[str, Any]
    train: Callable[..., tuple[Any, Metrics]]
    measuring: Callable[..., Metrics]
    shapes: None = None  # checkpoints have the shapes of `initial`
    together: int = 1

    def initial(self) -> State:
        """The states of all trials before the first step."""
        shape = runs.network_shape(self.configs[0], self.dataset.image_shape)
        drawn = [
            initial_state(e.model, e.optimizer, shape, config.seed, e.averaged, config.initial.scale)
            for e, config in zip(self.experiments, self.configs, strict=True)
        ]
        return stack(jax.device_get(drawn))

    def place(self, states: State) -> tuple[dict[str, np.ndarray], State]:
        """The numbers and the states; on the devices if these share each batch."""
        numbered = differing_numbers(self.configs), states
        return replicate(numbered, self.devices) if self.strategy == "vmap" else numbered

    def stage(self, epoch: int) -> float:
        """The stage 0, since no layers are frozen."""
        return 0.0

    def feed(self, epoch: int, first: int) -> Iterator[tuple[Batch, ...]]:
        """The batches of an epoch for each trial, from batch `first` on."""
        return zip(*(_feed(config, self.dataset, epoch, first) for config in self.configs), strict=True)

    def steps(self, numbered: Any, group: Sequence[tuple[Batch, ...]], epoch: int) -> tuple[Any, Metrics]:
        """Takes one step of every trial."""
        [each] = group
        if self.strategy == "devices":
            stacked = {name: np.stack([batch[name] for batch in each]) for name in each[0]}
        else:
            shared = [batches.split_over_devices(batch, len(self.devices)) for batch in each]
            stacked = {name: np.stack([batch[name] for batch in shared], axis=1) for name in shared[0]}
        return self.train(numbered, self.arrays, stacked)

    def compiled(self, operations: Mapping[str, str]) -> None:
        """Records nothing, since the trials' directories are made at the end."""

    def measure(self, numbered: Any, split: str) -> list[dict[str, float]]:
        """The metrics of a split, for each trial."""
        together, results = self.devices if self.strategy == "vmap" else self.devices[:1], []
        run_ahead, count, task = RunAhead(self.devices), len(self.configs), self.experiments[0].task
        for batch in host_batches(self.dataset.splits[split], self.configs[0].evaluate.batch_size, together):
            if self.strategy == "devices":
                batch = {name: np.broadcast_to(part[0], (count, *part.shape[1:])) for name, part in batch.items()}
            results.append(self.measuring((numbered[0], numbered[1].variables), {}, batch))
            run_ahead(results[-1])
        fetched = jax.device_get(results)
        means = [checked_metrics(task.summarize(add_up(of_trial(fetched, t, count))), task) for t in range(count)]
        return [{f"{split}/{name}": value for name, value in each.items()} for each in means]

    def probe(self, numbered: Any, epoch: int) -> dict[str, float]:
        """An empty dict, since trials with probes are trained alone."""
        return {}


def compile_group(
    configs: Sequence[ConfigDict],
    strategy: Strategy,
    experiments: Sequence[Experiment],
    dataset: Dataset,
    devices: list[jax.Device],
) -> GroupProgram:
    """The program of several compatible configs."""
    config, facts = configs[0], experiments[0].facts
    experiments[0].task.prepare()
    resident = batches.is_resident(dataset.splits["train"], config.dataset.resident)
    arrays = replicate(batches.resident_arrays(dataset.splits["train"]), devices) if resident else {}

    def one(numbered: Any, batch: Batch) -> tuple[Any, Metrics]:
        numbers, state = numbered
        own = {path: value for path, value in numbers.items() if path != "seed"}
        try:
            experiment = build(config, facts, numbers=own)
            state, metrics = training_step(config, experiment, dataset.statistics, numbers["seed"])(state, batch)
        except jax.errors.JAXTypeError as error:
            raise ValueError(
                f"the Python code needs the value of a number that varies over the trials ({', '.join(own)}): use strategy "
                f"serial, or jnp.where instead of if ({' '.join(str(error).split())[:300]})"
            ) from error
        return (numbers, state), metrics

    def judge(numbered: Any, batch: Batch) -> Metrics:
        numbers, variables = numbered
        own = {path: value for path, value in numbers.items() if evaluated(path)}
        experiment = build(config, facts, numbers=own) if own else experiments[0]
        return measuring_step(config, experiment, dataset, numbers["seed"])(variables, batch)

    if strategy == "vmap":
        train = over_devices(jax.vmap(one), devices, True, config.train.parallel)
        measuring = over_devices(jax.vmap(judge, in_axes=(0, None)), devices, parallel=config.train.parallel)
    else:
        train = over_trials(one, devices, True, config.train.parallel)
        measuring = over_trials(judge, devices, parallel=config.train.parallel)
    return GroupProgram(configs, strategy, experiments, dataset, devices, arrays, train, measuring)


def stack(states: Sequence[State]) -> State:
    """Stacks the states of trials along a leading trial axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def state_of(states: State, trial: int) -> State:
    """The state of one trial."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[trial], states)


def select_states(is_first: np.ndarray, first: State, second: State) -> State:
    """For each trial the first state if `is_first`, else the second."""
    return jax.tree.map(lambda a, b: np.where(is_first.reshape(-1, *(1,) * (a.ndim - 1)), a, b), first, second)


# --- training -------------------------------------------------------------------------------------------------------


class GroupRecord:
    """The record of a group: one checkpoint of the latest and best states of all trials, until they become runs.

    Args:
      directory: the directory of the group's checkpoints.
      experiments: the experiments built from each trial's config.
      dataset: the loaded data set.
    """

    every_steps = None

    def __init__(self, directory: Path, experiments: Sequence[Experiment], dataset: Dataset):
        self._directory, self._experiments, self._dataset = directory, experiments, dataset
        self._errors: list[str | None] = [None] * len(experiments)
        self._last = self._best = None
        self.what = f" of a group of {len(experiments)}"
        self.trained: list[Trained] = []

    def __enter__(self) -> "GroupRecord":
        self._checkpoints = Checkpoints(self._directory, CheckpointOptions(keep=1)).__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._checkpoints.__exit__(*error)

    def resume(self, initial: Callable[[], State], shapes: None) -> Progress:
        """The progress of the group.

        Raises:
          ValueError: the data have changed since the group was started.
        """
        count = len(self._experiments)
        self._last = self._best = initial()
        restored = self._checkpoints.latest(GroupState(np.zeros((), np.int32), self._last, self._best))
        if restored is None:
            return Progress(self._last, 0, [None] * count, [[] for _ in range(count)])
        run_directory.check_same_data(restored.notes, self._dataset, f"group {self._directory}")
        self._last, self._best = restored.state.states, restored.state.best
        lines, self._errors, sums = (restored.notes[name] for name in ("lines", "errors", "sums"))
        return Progress(self._last, int(restored.state.step), sums, lines)

    def begin(self, progress: Progress) -> None:
        """Does nothing: a group writes only checkpoints."""

    def trials(self) -> list[int]:
        """The trials that have not failed."""
        return [trial for trial, error in enumerate(self._errors) if error is None]

    def diverged(self, trial: int, step: int, loss: float) -> None:
        """Records the error; the other trials continue."""
        self._errors[trial] = f"the loss became {loss} at step {step}: {NOT_FINITE}"

    def write(self, progress: Progress, lines: Mapping[int, Mapping[str, Any]], kind: str) -> None:
        """Does nothing: the lines are in the histories, which the checkpoints contain."""

    def save(self, progress: Progress, measured: bool | None) -> None:
        """Saves the latest and best states of all trials."""
        count, last = len(self._experiments), jax.device_get(progress.state[1])
        for trial in self.trials():
            self._errors[trial] = not_finite(state_of(last, trial), progress.step)
        alive = self.trials()
        if measured:
            improved = [t in alive and is_best(progress.histories[t], self._experiments[0]) for t in range(count)]
            self._best = select_states(np.array(improved), last, self._best)
        # The states of failed trials are not needed, and checkpoints must not contain NaN.
        self._last = select_states(np.isin(np.arange(count), alive), last, jax.tree.map(np.zeros_like, last))
        notes = {
            "lines": progress.histories,
            "errors": self._errors,
            "sums": [as_json(sums) if trial in alive else None for trial, sums in enumerate(progress.sums)],
            "fingerprint": self._dataset.fingerprint,
        }
        self._checkpoints.save(GroupState(np.int32(progress.step), self._last, self._best), notes, None)

    def wait(self) -> None:
        """Waits until all checkpoints are on disk."""
        self._checkpoints.wait()

    def finish(self, program: GroupProgram, progress: Progress) -> None:
        """Collects the results of all trials, which are tested once they are runs."""
        self.trained = [
            Trained(state_of(self._last, trial), state_of(self._best, trial), progress.histories[trial], error)
            for trial, error in enumerate(self._errors)
        ]


def train_group(
    folder: Path,
    group: str,
    strategy: Strategy,
    trials: Sequence[Trial],
    pending: Sequence[str],
    dataset: Dataset | ReadOnce | None = None,
) -> dict[str, FloatingPointError]:
    """Trains trials as one program and turns them into run directories; returns the errors of failed trials by directory.

    Args:
      folder: the folder of the study, in which `groups/<group>` holds the checkpoints during training.
      group: the name of the group.
      strategy: the strategy, "vmap" or "devices".
      trials: all trials of the group, including those that have ended, since the program is compiled for their number.
      pending: the directories of the trials that have not ended.
      dataset: the data set that was passed to the study, if any.

    Raises:
      files.InUseError: a run directory is in use.
      ValueError: the config does not fit the data.
      Interrupted: a signal was received; the progress is saved.
    """
    configs = [trial.config for trial in trials]
    config = configs[0]
    devices = choose_devices(len(trials) if strategy == "devices" else config.devices)
    dataset = runs.chosen_dataset(config, dataset)
    alone = devices[:1] if strategy == "devices" else devices
    check_batch_size(config.train.batch_size, len(alone))
    facts = data_facts(config, dataset)
    experiments = [build(each, facts) for each in configs]
    # Trials whose evaluation does not differ share a program; the first one also checks that the config fits the data.
    # A user's task may draw random numbers in evaluation; built-in tasks do not.
    measured = [*filter(evaluated, numbers(config)), *(["seed"] if config.task.name not in TASKS else [])]
    alike = [tuple(flatten(each)[path] for path in measured) for each in configs]
    programs = {alike[0]: compile_program(config, experiments[0], dataset, alone, None)}
    with contextlib.ExitStack() as stack:
        for directory in pending:
            stack.enter_context(run_directory.in_use(folder / directory))
        together = compile_group(configs, strategy, experiments, dataset, devices)
        record = GroupRecord(folder / GROUPS / group, experiments, dataset)
        run_training(config, experiments, together, record, devices)
        trained = record.trained
        for trial, own, result, key in zip(trials, experiments, trained, alike, strict=True):
            if trial.directory in pending and result.error is None:
                program = programs.get(key) or compile_program(trial.config, own, dataset, alone, None)
                programs[key] = program
                _end(folder / trial.directory, trial.config, own, dataset, alone, program, result)
                record_strategy(folder / trial.directory, strategy, group)
    failed = [(t, r) for t, r in zip(trials, trained, strict=True) if r.error and t.directory in pending]
    shutil.rmtree(folder / GROUPS / group, ignore_errors=True)
    return {trial.directory: FloatingPointError(result.error) for trial, result in failed}


def _end(
    workdir: Path, config: ConfigDict, experiment: Experiment, dataset: Dataset, devices: list[jax.Device], program: Program,
    trained: Trained,
) -> None:  # fmt: skip
    """Turns a trial that was trained in a group into a run directory, and evaluates its test split."""
    if not runs.begin(config, workdir, dataset, experiment.facts, devices):
        return
    files.write_atomically(workdir / run_directory.METRICS, "")
    with MetricsLog(workdir, config.log.tensorboard, 0) as log:
        for line in trained.lines:
            log.write(line)
    rated = {line["step"]: line for line in trained.lines if f"valid/{experiment.metric}" in line}
    options = CheckpointOptions(**config.checkpoint)
    with Checkpoints(workdir / run_directory.CHECKPOINTS, options, experiment.metric, experiment.mode) as checkpoints:
        for state in (trained.best, trained.state):
            lines = [line for line in trained.lines if line["step"] <= int(state.step)]
            checkpoints.save(state, {"sums": None, "lines": lines}, rated[int(state.step)])
    with RunRecord(workdir, config, experiment) as record:
        progress = record.resume(program.initial, program.shapes)
        record.begin(progress)
        record.finish(program, progress)
    record.done()


def _feed(config: ConfigDict, dataset: Dataset, epoch: int, first: int) -> Iterator[Batch]:
    train, options = dataset.splits["train"], DatasetOptions(**config.dataset)
    order = batches.training_order(config.seed, epoch, options.balanced, train.labels)
    resident = batches.is_resident(train, options.resident)
    return batches.feed(train, order, config.train.batch_size, first, resident, options.workers, None)


def not_finite(state: State, number: int) -> str | None:
    """An error message if a value of a state is infinite or NaN, else None."""
    floats = [leaf for leaf in jax.tree.leaves(state) if np.issubdtype(leaf.dtype, np.floating)]
    if all(np.isfinite(leaf).all() for leaf in floats):
        return None
    return f"the state is no longer finite after step {number}: {NOT_FINITE}"


def is_best(lines: Sequence[Mapping[str, float]], experiment: Experiment) -> bool:
    """Whether the followed metric is at least as good in the last line as in all lines before."""
    sign, watched = 1 if experiment.mode == "max" else -1, f"valid/{experiment.metric}"
    *before, last = [sign * line[watched] for line in lines if watched in line]
    return last >= max(before, default=last)
