"""How trials are run: each alone, or several as one program; and the plan that says which.

serial   one after the other, each by `cnnjax.train`
vmap     trials of one family as one program, on the devices that share each batch
devices  trials of one family as one program, one a device
auto     on a CPU serial; on several GPUs or TPUs devices; on one vmap up to a million parameters, else serial
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
from cnnjax.training import run_directory
from cnnjax.training.experiment import build, data_facts, state_shapes, takes_loss_values

STRATEGIES = ("auto", "serial", "vmap", "devices")
# So many trials are one program at most, so that memory suffices and other processes find some left.
VMAP_TRIALS = 16
# `auto` runs networks of up to this many parameters together.
SMALL_PARAMETERS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Unit:
    """What one process runs at a time.

    Attributes:
      strategy: serial, vmap or devices.
      group: the name of the trials' group; None of a trial alone.
      trials: one, or all of the group.
    """

    strategy: str
    group: str | None
    trials: tuple[Trial, ...]


def check_strategy(strategy: str, configs: Sequence[ConfigDict] = ()) -> str:
    """The strategy itself.

    Raises:
      ValueError: there is none of that name, `devices` and there is one device, or an optimiser that is trained alone.
    """
    if strategy not in STRATEGIES:
        raise ValueError(unknown("strategy", strategy, STRATEGIES))
    if strategy == "devices" and jax.local_device_count() == 1:
        raise ValueError(
            f"strategy 'devices' needs several, and there is one ({jax.local_devices()[0].platform}): choose serial or vmap; "
            "of a CPU, cnnjax.configure_runtime(cpu_devices=4) makes several"
        )
    names = [
        config.optimizer.name for config in configs if strategy in ("vmap", "devices") and takes_loss_values(config)
    ]
    if names:
        raise ValueError(
            f"strategy {strategy!r}: optimizer.name={names[0]!r} takes the loss's value and may evaluate the loss again, which "
            "trials in one program cannot: choose serial or auto"
        )
    return strategy


def plan(folder: Path, trials: Sequence[Trial], strategy: str, dataset: Dataset | None = None) -> list[Unit]:
    """The units of trials that have not ended, in the trials' order.

    A trial that is in a group already stays in it, and one that was begun alone is resumed alone, whatever the strategy. New
    groups are written down before this returns, so that every process finds the same. `dataset` is the one that was given.
    """
    (folder / GROUPS).mkdir(exist_ok=True)
    with files.locked(folder / LOCKS / "plan", "the study's plan", wait=True):
        known = {trial.directory: unit for unit in _read_groups(folder) for trial in unit.trials}
        begun = {trial.directory for trial in trials if run_directory.is_run(folder / trial.directory)}
        free = [trial for trial in trials if trial.directory not in known and trial.directory not in begun]
        for unit in _make_groups(free, strategy, dataset):
            _write_group(folder, unit)
            known |= {trial.directory: unit for trial in unit.trials}
    alone = {trial.directory: Unit("serial", None, (trial,)) for trial in trials}
    units = [known.get(trial.directory, alone[trial.directory]) for trial in trials]
    return list({unit.trials[0].directory: unit for unit in units}.values())


def _make_groups(trials: Sequence[Trial], strategy: str, dataset: Dataset | None) -> Iterator[Unit]:
    if strategy == "serial" or (strategy == "auto" and jax.default_backend() == "cpu"):
        return
    families: dict[str, list[Trial]] = collections.defaultdict(list)
    for trial in trials:
        if name := together.family(trial.config):
            families[name].append(trial)
    for members in families.values():
        chosen = _suited(members[0], dataset) if strategy == "auto" else strategy
        size = {"serial": 1, "vmap": VMAP_TRIALS, "devices": jax.local_device_count()}[chosen]
        for start in range(0, len(members), size):
            part = members[start : start + size]
            if len(part) > 1:
                yield Unit(chosen, digest([chosen, *(trial.directory for trial in part)]), tuple(part))


def _suited(trial: Trial, given: Dataset | None) -> str:
    """What `auto` is for a family on other than CPUs."""
    if jax.local_device_count() > 1:
        return "devices"
    try:
        return "vmap" if _parameters(trial, given) <= SMALL_PARAMETERS else "serial"
    except Exception:  # running it will say what is wrong with it
        return "serial"


def _parameters(trial: Trial, given: Dataset | None) -> int:
    dataset = runs.chosen_dataset(trial.config, given)
    experiment = build(trial.config, data_facts(trial.config, dataset))
    shapes = state_shapes(experiment, runs.network_shape(trial.config, dataset.image_shape))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes.params))


def _write_group(folder: Path, unit: Unit) -> None:
    trials = [
        {**dataclasses.asdict(trial), "config": {**to_json(trial.config), "folder": trial.config.folder}}
        for trial in unit.trials
    ]
    files.write_json(folder / GROUPS / f"{unit.group}.json", {"strategy": unit.strategy, "trials": trials})


def _read_groups(folder: Path) -> list[Unit]:
    groups = {path.stem: files.read_json(path) for path in sorted((folder / GROUPS).glob("*.json"))}
    return [Unit(group["strategy"], name, _read_trials(group["trials"])) for name, group in groups.items()]


def _read_trials(stored: Sequence[Mapping[str, Any]]) -> tuple[Trial, ...]:
    return tuple(Trial(**{**trial, "config": load_config(trial["config"])}) for trial in stored)


def forget_group(folder: Path, group: str) -> None:
    """Takes a group back: its trials can be planned anew."""
    with contextlib.suppress(FileNotFoundError):
        (folder / GROUPS / f"{group}.json").unlink()
