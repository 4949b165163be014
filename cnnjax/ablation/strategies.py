"""Strategies for running trials one by one or several as one program, and the plan that assigns trials to groups.

serial   one trial after the other, each with `cnnjax.train`
vmap     compatible trials as one program, on the devices that share each batch
devices  compatible trials as one program, one trial per device
auto     serial on a CPU; devices on several GPUs or TPUs; on one GPU or TPU vmap up to a million parameters, else serial

One trial's step keeps both cores of a small CPU busy with arithmetic, so that eight in one program save little but the overhead of small
operations, and lose the implementations of convolution that are chosen for a single network. On 2 cores of an AMD EPYC eight training
steps of batch 128 take, in steps of one network, serial and by vmap: LeNet-5 7.8 and 6.9, 784-800-10 8.5 and 10.0, the CNN of Keras's
MNIST example 8.3 and 12.4 (`python -m experiments.benchmarks.seeds --networks lenet5,mlp,mnist_cnn --rounds 3`, 27 November 2026).
"""

import collections
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cnnjax import runs
from cnnjax.ablation import together
from cnnjax.ablation.trials import GROUPS, LOCKS, Trial, digest
from cnnjax.config import load_config, to_json
from cnnjax.core import files
from cnnjax.core.options import unknown
from cnnjax.data.datasets import Dataset
from cnnjax.data.sequences import ReadOnce
from cnnjax.training import run_directory
from cnnjax.training.experiment import build, data_facts, state_shapes, takes_loss_values

STRATEGIES = ("auto", "serial", "vmap", "devices")
# The maximum number of trials in one program, which limits memory and leaves trials for other processes.
VMAP_TRIALS = 16
# `auto` trains networks with up to this many parameters as one program.
SMALL_PARAMETERS = 1_000_000


@dataclasses.dataclass(frozen=True)
class TrialBatch:
    """The trials that one process runs at a time.

    Attributes:
      strategy: serial, vmap or devices.
      group: the name of the group; None for a single trial.
      trials: a single trial, or all trials of the group.
    """

    strategy: str
    group: str | None
    trials: tuple[Trial, ...]


def check_strategy(strategy: str, configs: Sequence[ConfigDict] = ()) -> str:
    """Checks and returns the name of a strategy.

    Raises:
      ValueError: the strategy is unknown, `devices` is chosen with a single device, or an optimiser must be trained alone.
    """
    if strategy not in STRATEGIES:
        raise ValueError(unknown("strategy", strategy, STRATEGIES))
    if strategy == "devices" and jax.local_device_count() == 1:
        raise ValueError(
            f"strategy 'devices' needs several devices, but there is one ({jax.local_devices()[0].platform}): choose serial or "
            "vmap; cnnjax.configure_runtime(cpu_devices=4) splits a CPU into several devices"
        )
    names = [
        config.optimizer.name for config in configs if strategy in ("vmap", "devices") and takes_loss_values(config)
    ]
    if names:
        raise ValueError(
            f"strategy {strategy!r}: optimizer.name={names[0]!r} uses the value of the loss and may evaluate the loss again, which "
            "is not possible for trials in one program: choose serial or auto"
        )
    return strategy


def plan(
    folder: Path, trials: Sequence[Trial], strategy: str, dataset: Dataset | ReadOnce | None = None
) -> list[TrialBatch]:
    """The batches of trials that have not ended, in the order of the trials.

    A trial that is already in a group stays in it, and one that was started alone is resumed alone, whatever the strategy. New
    groups are stored before this function returns, so that all processes use the same groups. `dataset` is the data set that
    was passed to the study, if any.
    """
    (folder / GROUPS).mkdir(exist_ok=True)
    with files.locked(folder / LOCKS / "plan", "the study's plan", wait=True):
        known = {trial.directory: batch for batch in _read_groups(folder) for trial in batch.trials}
        begun = {trial.directory for trial in trials if run_directory.is_run(folder / trial.directory)}
        free = [trial for trial in trials if trial.directory not in known and trial.directory not in begun]
        for batch in _make_groups(free, strategy, dataset):
            _write_group(folder, batch)
            known |= {trial.directory: batch for trial in batch.trials}
    alone = {trial.directory: TrialBatch("serial", None, (trial,)) for trial in trials}
    batches = [known.get(trial.directory, alone[trial.directory]) for trial in trials]
    return list({batch.trials[0].directory: batch for batch in batches}.values())


def _make_groups(trials: Sequence[Trial], strategy: str, dataset: Dataset | ReadOnce | None) -> Iterator[TrialBatch]:
    if strategy == "serial" or (strategy == "auto" and jax.default_backend() == "cpu"):
        return
    compatible: dict[str, list[Trial]] = collections.defaultdict(list)
    for trial in trials:
        if name := together.compatibility(trial.config):
            compatible[name].append(trial)
    for members in compatible.values():
        chosen = _auto_strategy(members[0], dataset) if strategy == "auto" else strategy
        size = {"serial": 1, "vmap": VMAP_TRIALS, "devices": jax.local_device_count()}[chosen]
        for start in range(0, len(members), size):
            part = members[start : start + size]
            if len(part) > 1:
                yield TrialBatch(chosen, digest([chosen, *(trial.directory for trial in part)]), tuple(part))


def _auto_strategy(trial: Trial, given: Dataset | ReadOnce | None) -> str:
    """The strategy that `auto` chooses for compatible trials on a GPU or TPU."""
    if jax.local_device_count() > 1:
        return "devices"
    try:
        return "vmap" if _parameters(trial, given) <= SMALL_PARAMETERS else "serial"
    except Exception:  # running the trial will report the error
        return "serial"


def _parameters(trial: Trial, given: Dataset | ReadOnce | None) -> int:
    dataset = runs.chosen_dataset(trial.config, given)
    experiment = build(trial.config, data_facts(trial.config, dataset))
    shapes = state_shapes(experiment, runs.network_shape(trial.config, dataset.image_shape))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes.params))


def _write_group(folder: Path, batch: TrialBatch) -> None:
    trials = [
        {**dataclasses.asdict(trial), "config": {**to_json(trial.config), "folder": trial.config.folder}}
        for trial in batch.trials
    ]
    files.write_json(folder / GROUPS / f"{batch.group}.json", {"strategy": batch.strategy, "trials": trials})


def _read_groups(folder: Path) -> list[TrialBatch]:
    groups = {path.stem: files.read_json(path) for path in sorted((folder / GROUPS).glob("*.json"))}
    return [TrialBatch(group["strategy"], name, _read_trials(group["trials"])) for name, group in groups.items()]


def _read_trials(stored: Sequence[Mapping[str, Any]]) -> tuple[Trial, ...]:
    return tuple(Trial(**{**trial, "config": load_config(trial["config"])}) for trial in stored)


def forget_group(folder: Path, group: str) -> None:
    """Deletes a group, so that its trials are planned anew."""
    with contextlib.suppress(FileNotFoundError):
        (folder / GROUPS / f"{group}.json").unlink()
