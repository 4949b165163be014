"""Loads a run from its directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import optax
from ml_collections import ConfigDict

from cnnjax.config import load_config
from cnnjax.core import files
from cnnjax.core.locate import OBJECT
from cnnjax.runs.run import Run, network_shape, stored_facts
from cnnjax.tasks.task import Task
from cnnjax.training import run_directory
from cnnjax.training.checkpoints import CheckpointError, CheckpointOptions, Checkpoints
from cnnjax.training.experiment import (
    Given,
    build,
    state_shapes,
)


def stored_config(workdir: Path) -> ConfigDict:
    """The config of a run.

    Raises:
      ValueError: `config.json` is damaged.
    """
    given = files.read_json(workdir / run_directory.CONFIG)
    if not isinstance(given, dict) or not {"seed", "dataset", "model", "train"} <= given.keys():
        raise ValueError(f"{workdir / run_directory.CONFIG} is damaged: {run_directory.REMEDY}")
    copies = workdir.resolve() / run_directory.COPIES
    return load_config({**given, "folder": str(copies)} if copies.is_dir() else given)


def load_run(
    workdir: str | Path,
    *,
    model: nn.Module | None = None,
    task: Task | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> Run:
    """Loads a run from its directory: `run.config`, `run.model`, `run.state`, `run.history`, `run.predict(images)`.

    An unfinished run is loaded from its last checkpoint.

    Args:
      workdir: the run directory.
      model: the module of the training, if one was passed to `train`.
      task: the task of the training, if one was passed to `train`.
      optimizer: the optax transformation of the training, if one was passed to `train`.

    Raises:
      FileNotFoundError: the directory does not hold a run.
      ValueError: the run was trained with objects that are not passed.
      CheckpointError: the run has no checkpoint that can be read.
    """
    workdir = Path(workdir).expanduser()
    if not run_directory.is_run(workdir):
        raise FileNotFoundError(
            f"{workdir} holds no run ({run_directory.CONFIG} is missing): train one with `cnnjax train`"
        )
    given = Given(model, task, optimizer)
    described, history = run_directory.read_description(workdir), run_directory.read_history(workdir)
    return restore(workdir, stored_config(workdir), described, history, given)


def check_given(config: ConfigDict, given: Given, workdir: Path) -> None:
    """Raises ValueError if a run was trained with objects that are not passed."""
    if missing := missing_objects(config, given._asdict()):
        raise ValueError(
            f"{workdir} was trained with objects from Python: pass them again, as in load_run({str(workdir)!r}, "
            f"{missing})"
        )


def missing_objects(config: ConfigDict, given: Mapping[str, Any]) -> str:
    """The arguments for objects that a config refers to and that are not passed, as text.

    Args:
      config: the resolved config.
      given: the object passed for each section, or None.
    """
    return ", ".join(
        f"{section}=... ({config[section].name.removeprefix(OBJECT)})"
        for section, value in given.items()
        if value is None and config[section].name.startswith(OBJECT)
    )


def restore(
    workdir: Path,
    config: ConfigDict,
    described: Mapping[str, Any],
    history: list[dict[str, Any]],
    given: Given = Given(),  # noqa: B008
) -> Run:
    """Loads a run as `load_run` does, from files that have already been read, and the checkpoints.

    Raises:
      CheckpointError: the run has no checkpoint that can be read.
    """
    check_given(config, given, workdir)
    experiment = build(config, stored_facts(config, described), given)
    shapes = state_shapes(experiment, network_shape(config, described["image_shape"]))
    folder = workdir / run_directory.CHECKPOINTS
    if not folder.is_dir():
        raise CheckpointError(
            f"{workdir} has no checkpoint yet: continue training with `cnnjax train --workdir {workdir}`"
        )
    options = CheckpointOptions(**config.checkpoint)
    with Checkpoints(folder, options, experiment.metric, experiment.mode, read_only=True) as checkpoints:
        latest = checkpoints.latest(shapes)
        if latest is None:
            raise CheckpointError(
                f"{workdir} has no checkpoint yet: continue training with `cnnjax train --workdir {workdir}`"
            )
        selected = (checkpoints.best(shapes) if config.evaluate.checkpoint == "best" else None) or latest
    return Run(
        workdir=workdir,
        config=config,
        model=experiment.model,
        task=experiment.task,
        state=latest.state,
        history=history,
        selected=selected.state,
        described=described,
    )
