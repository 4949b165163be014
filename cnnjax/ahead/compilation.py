"""Compiles a config for devices that are not here: memory, operations, collectives, and a bound on the time of a step."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cnnjax.ahead import targets
from cnnjax.ahead.process import figures_in_process
from cnnjax.ahead.targets import SCALE, Target
from cnnjax.config import load_config, to_json

_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Compilation:
    """The figures of a config's training and prediction step on a target.

    Attributes:
      target: the chips that the steps were compiled for.
      train: the figures of the training step: `batch_size`, `memory`, `fits`, `flops`, `bytes`, `collectives`, `instructions`, `bound`
        and, if it was asked for, `largest_batch`; those of memory, operations, bytes and instructions are of each device.
      predict: those of the prediction step; None if it was left out.
    """

    target: Target
    train: Mapping[str, Any]
    predict: Mapping[str, Any] | None

    def __repr__(self) -> str:
        rows = [["", *self.programs], *self.rows()]
        return "\n".join(
            [self.title, *(f"{name:<34}" + "".join(f"{cell:>16}" for cell in cells) for name, *cells in rows)]
        )

    @property
    def programs(self) -> dict[str, Mapping[str, Any]]:
        """The figures by program."""
        return {"train": self.train} | ({} if self.predict is None else {"predict": self.predict})

    @property
    def title(self) -> str:
        """The target in words."""
        count = self.target.count
        return f"{self.target}: {count} device{'s' * (count > 1)}, {self.target.chip.title}"

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON data."""
        return {"target": str(self.target), **{name: dict(program) for name, program in self.programs.items()}}

    def rows(self) -> list[tuple[str, ...]]:
        """The figures in words, a row each: its name, and the figure of each of `programs`."""
        both = [*self.programs.values()]
        rows = [
            ("images a step", *(f"{program['batch_size']:,}" for program in both)),
            ("fits", *("yes" if program["fits"] else "no" for program in both)),
        ]
        if "largest_batch" in self.train:
            largest = self.train["largest_batch"]
            rows.append(("largest batch that fits", f"{largest:,}" if largest else "none", *[""] * (len(both) - 1)))
        names = {
            "arguments": "arguments", "outputs": "outputs", "alias": "  of which reuse arguments", "temporaries": "temporaries",
            "peak": "peak of a step", "data": "data set kept on the device",
        }  # fmt: skip
        for key, name in names.items():
            rows.append((f"{name}, MiB", *(_mib(program["memory"].get(key)) for program in both)))
        rows.append(("operations, GFLOP", *(f"{program['flops'] / 1e9:,.3f}" for program in both)))
        if not all("bound" in program for program in both):
            return rows
        rows.append(("memory traffic, MiB", *(_mib(program["bytes"]) for program in both)))
        kinds = sorted({kind for program in both for kind in program["collectives"]})
        for kind in kinds:
            rows.append((f"{kind}: number, MiB", *(_collective(program, kind) for program in both)))
        bounds = [program["bound"] for program in both]
        for key, name in (("compute", "operations"), ("memory", "memory traffic"), ("collective", "collectives")):
            rows.append((f"at least, for {name}, ms", *(f"{1e3 * bound[f'{key}_seconds']:,.3f}" for bound in bounds)))
        rows.append(("lower bound of a step, ms", *(f"{1e3 * bound['seconds']:,.3f}" for bound in bounds)))
        rows.append(("  share of collectives", *(f"{bound['collective_share']:.1%}" for bound in bounds)))
        rows.append(("images/s at the bound", *(f"{bound['images_per_second']:,.0f}" for bound in bounds)))
        return rows


def _mib(count: float | None) -> str:
    return "unknown" if count is None else f"{count / _MIB:,.1f}"


def _collective(program: Mapping[str, Any], kind: str) -> str:
    figures = program["collectives"].get(kind)
    return f"{figures['number']}, {figures['bytes'] / _MIB:,.2f}" if figures else "none"


def compile_for(
    config: str | Path | Mapping[str, Any] | ConfigDict,
    target: str | Target,
    input_shape: Sequence[int] | None = None,
    classes: int | None = None,
    largest_batch: bool = False,
    predict: bool = True,
) -> Compilation:
    """Compiles the training and the prediction step for devices that are not here, without data or network.

    It needs the compiler of the platform (`pip install 'cnnjax[aot-tpu]'`, `'cnnjax[aot-cuda]'`) and no device. The time is a lower
    bound from published peak figures, never a measurement.

    Args:
      config: the config, as in `load_config`.
      target: the chips: "tpu:v5e:2x4", "tpu:v5p:64", "cuda:h100:8".
      input_shape: the shape of a stored image; None is that of the data set's entry in the catalogue.
      classes: the number of classes; None is that of the catalogue.
      largest_batch: whether to look for the largest training batch that fits, which compiles some ten times.
      predict: whether the prediction step is compiled too.

    Raises:
      ValueError: the target is unknown, the batch cannot be shared equally, or shapes are not known.
      RuntimeError: the compiler is not installed, or fails.
    """
    target = targets.parse(target) if isinstance(target, str) else target
    targets.check_compiler(target)
    config = load_config(config)
    found = figures_in_process(
        {
            "config": to_json(config),
            "folder": config.folder,
            "target": str(target),
            "input_shape": input_shape and list(input_shape),
            "classes": classes,
            "largest": largest_batch,
            "predict": predict,
        }
    )
    return Compilation(target, found["train"], found.get("predict"))


def scaling(
    config: str | Path | Mapping[str, Any] | ConfigDict,
    target: str | Target,
    input_shape: Sequence[int] | None = None,
    classes: int | None = None,
) -> list[Compilation]:
    """Compiles a config for 1, 4, 16, 64 and 256 chips, each device with as many images as on the target; arguments as in `compile_for`."""
    target = targets.parse(target) if isinstance(target, str) else target
    config = load_config(config)
    each = {name: -(-config[name].batch_size // target.count) for name in ("train", "evaluate")}
    compiled = []
    for chips in SCALE:
        scaled = target.scaled(chips)
        sizes = {f"{name}.batch_size": size * scaled.count for name, size in each.items()}
        compiled.append(compile_for(load_config(config, sizes), scaled, input_shape, classes))
    return compiled


def scaling_table(compiled: Sequence[Compilation]) -> tuple[list[str], list[list[str]]]:
    """The column names and rows of a scaling table of the training step."""
    columns = [
        "target", "images a step", "fits", "peak, MiB", "all-reduces", "MiB", "bound, ms", "collectives", "images/s", "each, of one",
    ]  # fmt: skip
    rows, alone = [], None
    for one in compiled:
        program = one.train
        row = [
            str(one.target),
            f"{program['batch_size']:,}",
            "yes" if program["fits"] else "no",
            _mib(program["memory"]["peak"]),
        ]
        if "bound" in program:
            bound = program["bound"]
            figures = program["collectives"].get("all-reduce", {"number": 0, "bytes": 0})
            each = bound["images_per_second"] / one.target.count
            alone = each if alone is None else alone
            row += [
                str(figures["number"]), f"{figures['bytes'] / 2**20:,.1f}", f"{1e3 * bound['seconds']:,.2f}",
                f"{bound['collective_share']:.1%}", f"{bound['images_per_second']:,.0f}", f"{each / alone:.1%}",
            ]  # fmt: skip
        rows.append(row + [""] * (len(columns) - len(row)))
    return columns, rows
