"""Checkpoints with Orbax: the latest few and the best, written atomically and verified when they are read."""

import contextlib
import dataclasses
import functools
import logging
import os
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np

from cnnjax.core import files
from cnnjax.core.options import positive
from cnnjax.training import processes
from cnnjax.training.state import State

logger = logging.getLogger(__name__)

# How often reading a folder is retried while another process deletes checkpoints from it.
RETRIES = 10


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """The config's `checkpoint` section."""

    keep: Annotated[int, "number of latest checkpoints to keep, in addition to the best", positive] = 2
    every_steps: Annotated[
        int | None,
        "also save within an epoch, at each multiple of this number of steps; None saves only at the end of each epoch",
        positive,
    ] = None


@dataclasses.dataclass(frozen=True)
class Restored:
    """The contents of a checkpoint: the state, and the loop's notes at that step (JSON)."""

    state: State
    notes: dict[str, Any]


class CheckpointError(RuntimeError):
    """No checkpoint could be read."""


class StructureError(CheckpointError):
    """A checkpoint has other parameters, or an optimiser state of another structure, than expected."""


class Checkpoints:
    """The `checkpoints` folder of a run, with at most one checkpoint per step.

    Orbax writes in the background; leaving the `with` block waits until it has finished.

    Args:
      directory: the folder; created when the first checkpoint is saved.
      options: the config's `checkpoint` section.
      metric: the validation metric that decides which checkpoint is the best; None for no best checkpoint.
      mode: whether a large ("max") or small ("min") metric is better.
      read_only: whether nothing may be changed, as for a run that another process may be training.
    """

    def __init__(
        self,
        directory: Path,
        options: CheckpointOptions,
        metric: str | None = None,
        mode: Literal["min", "max"] = "max",
        read_only: bool = False,
    ):
        sign = 1.0 if mode == "max" else -1.0
        self._score = lambda metrics: sign * float(metrics[f"valid/{metric}"])
        self._directory, self._options, self._read_only = directory, options, read_only
        self._empty = not directory.exists() or (directory.is_dir() and not any(directory.iterdir()))
        if not self._empty:
            _ = self._manager  # which fails here if the folder cannot be read

    @functools.cached_property
    def _manager(self) -> Any:
        """Orbax's manager. A new run opens it when its first checkpoint is saved: importing Orbax takes 0.3 s of its start."""
        self._empty = False
        try:
            return self._with_retries(self._open)
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"the checkpoints in {self._directory} cannot be listed ({reason}): delete the damaged one, restore the folder from "
                "a copy, or train again in another --workdir"
            ) from error

    def _with_retries(self, read: Callable[[], Any]) -> Any:
        """Reads the folder, and retries if that fails because the training process deletes a checkpoint meanwhile."""
        for _ in range(RETRIES if self._read_only else 0):
            with contextlib.suppress(OSError):
                return read()
            time.sleep(0.1)
        return read()

    def _open(self) -> Any:
        import orbax.checkpoint as ocp

        directory, options, read_only = self._directory, self._options, self._read_only
        policies = ocp.checkpoint_managers
        # With several processes only this one writes and reads; without this setting Orbax would wait for the others.
        alone = {}
        if processes.count() > 1:
            only = processes.index()
            alone = {"multiprocessing_options": ocp.options.MultiprocessingOptions(only, {only}, f"process{only}")}
            if not read_only:
                directory.mkdir(parents=True, exist_ok=True)
        return _manager_class()(
            self._score,
            directory.resolve(),
            options=ocp.CheckpointManagerOptions(
                best_fn=self._score,
                best_mode="max",
                # BestN also needs best_fn: without it Orbax writes no metrics and silently keeps the latest.
                preservation_policy=policies.AnyPreservationPolicy(
                    [
                        policies.LatestN(options.keep),
                        policies.BestN(get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False),
                    ]
                ),
                # With the default, a step folder whose deletion was interrupted would count as complete.
                atomicity_options=ocp.options.AtomicityOptions(mode=ocp.options.AtomicityMode.COMMIT_FILE),
                cleanup_tmp_directories=not read_only,
                create=not read_only and not alone,
                **alone,
                step_format_fixed_length=8,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._empty:
            return
        if kind is None:
            with self._writing():
                self._manager.close()
        else:  # the first error must not be hidden by one from closing
            with contextlib.suppress(Exception):
                self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns any exception that Orbax or TensorStore raises while writing into an OSError."""
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            known = next((text for text in map(os.strerror, files.DISK_ERRORS) if text in reason), reason[:200])
            raise OSError(
                f"a checkpoint in {self._manager.directory} cannot be written ({known}): earlier checkpoints are kept; "
                "free some disk space and run the same command again"
            ) from error

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order."""
        return [] if self._empty else sorted(self._manager.all_steps())

    def save(self, state: State, notes: dict[str, Any], metrics: dict[str, float] | None) -> None:
        """Saves the state under its step, unless that step already has a checkpoint.

        Args:
          state: the state; it is copied before this method returns, so it may be donated afterwards.
          notes: JSON data that is restored with the state.
          metrics: the metrics of this step's evaluation; None within an epoch.

        Raises:
          FloatingPointError: the state contains an infinity or a NaN; earlier checkpoints are kept.
          OSError: the checkpoint could not be written (because the disk is full, for example).
        """
        # np.array copies: on the CPU a JAX array's buffer would be shared, and reused by the next step.
        arrays = jax.tree.map(np.array, jax.device_get(state))
        step = int(arrays.step)
        if step in self._manager.all_steps():
            return
        for path, array in jax.tree_util.tree_leaves_with_path(arrays):
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                raise FloatingPointError(
                    f"state{jax.tree_util.keystr(path)} is no longer finite after step {step}, which is not saved: try a "
                    "lower optimizer.learning_rate in another --workdir"
                )
        from orbax.checkpoint import args

        content = args.Composite(
            state=args.StandardSave(_stored(arrays)), notes=args.JsonSave({**notes, "checksum": _checksum(arrays)})
        )
        with self._writing(), _absl_quiet():  # Orbax warns about every checkpoint without metrics
            if not self._manager.save(step, args=content, metrics=metrics, force=True):
                raise RuntimeError(f"Orbax declined to save step {step}")

    def wait(self) -> None:
        """Waits until all saved checkpoints are on disk."""
        if not self._empty:
            with self._writing():
                self._manager.wait_until_finished()

    def latest(self, target: State) -> Restored | None:
        """The latest checkpoint that can be read, or None if there are no checkpoints.

        A damaged checkpoint is reported in a warning and removed, and the one before it is tried.

        Args:
          target: a state with the expected structure, shapes and types.

        Raises:
          CheckpointError: there are checkpoints, but none can be read.
          StructureError: a checkpoint has another structure; nothing is removed.
        """
        restored = self._first_readable(lambda: self.steps()[::-1], target)
        if restored is None and self.steps():
            raise CheckpointError(
                f"none of the checkpoints in {self._manager.directory} can be read: restore the folder from a copy, or train "
                "again in another --workdir"
            )
        if restored and not self._read_only:
            for damaged in [step for step in self.steps() if step > restored.state.step]:
                self._manager.delete(damaged)
        return restored

    def best(self, target: State) -> Restored | None:
        """The checkpoint with the best metric, or the next best if it is damaged; of ties the latest, as in Orbax.

        Raises:
          StructureError: a checkpoint has another structure than the target.
        """

        def by_score() -> list[int]:
            metrics = {step: self._manager.metrics(step) for step in self.steps()}
            rated = [step for step in metrics if metrics[step] is not None]
            return sorted(rated, key=lambda step: (self._score(metrics[step]), step), reverse=True)

        return self._first_readable(by_score, target)

    def _first_readable(self, ordered: Callable[[], list[int]], target: State) -> Restored | None:
        """The first readable checkpoint of the ordered steps; damaged checkpoints before it are reported in warnings."""
        damaged: set[int] = set()
        while True:
            listed = self.steps()
            left = [step for step in ordered() if step not in damaged]
            try:
                if left:
                    return self._read(left[0], target)
            except Exception as error:  # damaged files raise various exceptions of Orbax, TensorStore and JSON
                reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            if self._read_only:
                self._with_retries(self._manager.reload)
            if self.steps() != listed:  # the training process has saved new checkpoints and deleted old ones
                continue
            if not left:
                return None
            self._check_structure(left[0], target)
            logger.warning(
                "checkpoint %s/%08d is damaged (%s) and is skipped", self._manager.directory, left[0], reason
            )
            damaged.add(left[0])

    def _read(self, step: int, target: State) -> Restored:
        from orbax.checkpoint import args

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "sharding info not provided": the state comes as NumPy arrays
            content = self._manager.restore(
                step,
                args=args.Composite(state=args.StandardRestore(_stored(_as_arrays(target))), notes=args.JsonRestore()),
            )
        state = jax.tree.map(np.asarray, _rebuilt(target, content.state))
        notes = dict(content.notes)
        # Orbax checks only names, not shapes, and silently converts types.
        if _shapes(state) != _shapes(target) or notes.pop("checksum") != _checksum(state):
            raise ValueError("its contents have changed since it was written")
        return Restored(state, notes)

    def _check_structure(self, step: int, target: State) -> None:
        """Raises StructureError, naming the first parameter that differs, if a checkpoint has another structure."""
        import orbax.checkpoint as ocp

        folder = self._manager.directory / f"{step:08d}"
        try:
            stored = _shapes(ocp.StandardCheckpointHandler().metadata(folder / "state").tree)
        except Exception:  # damaged
            return
        wanted = _shapes(_stored(target))
        differing = [name for name in wanted | stored if wanted.get(name) != stored.get(name)]
        if differing:
            first = min(differing, key=lambda name: (not name.startswith("params/"), name))
            raise StructureError(
                f"checkpoint {folder} belongs to another network or optimiser: {first} is {stored.get(first, 'absent')} there and "
                f"{wanted.get(first, 'absent')} here, and {len(differing) - 1} more differ: use the model code, options and "
                "cnnjax version that wrote it (environment.json has the version), or train again in another --workdir"
            )


@contextlib.contextmanager
def _absl_quiet() -> Iterator[None]:
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(max(level, logging.ERROR))  # the command line may already have silenced it
    try:
        yield
    finally:
        absl.setLevel(level)


@functools.cache
def _manager_class() -> type:
    """A subclass of Orbax's manager that tolerates a checkpoint with unreadable metrics, where Orbax would fail for all."""
    import orbax.checkpoint as ocp

    class Manager(ocp.CheckpointManager):
        def __init__(self, score: Callable[[Mapping[str, float]], float], *arguments: Any, **options: Any):
            self._score = score
            super().__init__(*arguments, **options)

        def metrics(self, step: int) -> dict[str, float] | None:
            try:
                metrics = super().metrics(step)
                if metrics is not None:
                    self._score(metrics)
                return metrics
            except (ValueError, KeyError, TypeError, OSError) as error:
                _warn_of_metrics(
                    Path(self.directory) / f"{step:08d}" / "metrics" / "metrics", str(error) or repr(error)
                )
                return None

    return Manager


@functools.cache  # warns once per file, which is read several times
def _warn_of_metrics(path: Path, reason: str) -> None:
    reason = " ".join(reason.split())[:200]
    logger.warning(
        "%s is damaged (%s): training can resume from this checkpoint, but it does not count as the best", path, reason
    )


def _stored(tree: Any) -> Any:
    """The part of a state that is written: its fields by name, without absent collections."""
    if not dataclasses.is_dataclass(tree):
        return tree
    fields = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    return {name: _stored(value) for name, value in fields.items() if name != "collections" or value is not None}


def _rebuilt(target: Any, stored: Any) -> Any:
    """The state rebuilt from the result of `_stored`."""
    if not dataclasses.is_dataclass(target):
        return stored
    return dataclasses.replace(target, **{name: _rebuilt(getattr(target, name), part) for name, part in stored.items()})


def _as_arrays(target: State) -> Any:
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), target)


def _shapes(tree: Any) -> dict[str, str]:
    """The path, type and shape of each leaf: {"params/c1/bias": "float32 of (6,)"}."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    name = partial(jax.tree_util.keystr, simple=True, separator="/")
    return {name(path): f"{np.dtype(leaf.dtype).name} of {tuple(leaf.shape)}" for path, leaf in leaves}


def _checksum(tree: Any) -> str:
    """The CRC-32 of all arrays' names and bytes; it detects damage that decompression does not."""
    value = 0
    for path, array in jax.tree_util.tree_leaves_with_path(tree):
        value = zlib.crc32(jax.tree_util.keystr(path).encode(), value)
        value = zlib.crc32(np.ascontiguousarray(array).tobytes(), value)
    return f"{value:08x}"
