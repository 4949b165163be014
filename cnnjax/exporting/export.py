"""Writes a run as a file for other programs; the file's suffix chooses the format."""

import dataclasses
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cnnjax import __version__
from cnnjax.core import files
from cnnjax.core.options import unknown
from cnnjax.exporting import page, stablehlo, weights
from cnnjax.exporting.prediction import Outputs, Prediction, prediction_of, preparation
from cnnjax.runs import load_run
from cnnjax.runs.run import Run
from cnnjax.tasks import Detection


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported file.

    Attributes:
      path: the file.
      kind: the format in words.
      size: the number of bytes.
      inputs: the shape and type of each input by name; "batch" is any number of images.
      outputs: the shape and type of each output by name.
      remarks: sentences on requirements of the file and its differences from the run.
    """

    path: Path
    kind: str
    size: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    remarks: tuple[str, ...] = ()


def export(
    run: Run | str | Path,
    path: str | Path,
    *,
    preprocessing: bool = True,
    outputs: Outputs = "predictions",
    fold_batch_norm: bool = True,
    platforms: Sequence[str] = stablehlo.PLATFORMS,
    runtime: str | Path | None = None,
) -> Exported:
    """Writes a run's prediction, or its weights, as a file for other programs. A file of that name is replaced.

    The suffix chooses the format:

    - `.onnx`: an ONNX graph of the prediction, for batches of any size (`pip install 'cnnjax[export]'`);
    - `.jaxexport`: the same as StableHLO, which JAX loads with `jax.export.deserialize`; JAX promises to load it for six months;
    - `.safetensors`: the weights, with torchvision's names if the network is torchvision's, otherwise with ours; `load_weights` reads both;
    - `.html`: a page that classifies in a browser, with the network and onnxruntime-web in it.

    Args:
      run: the run, or its directory.
      path: the file.
      preprocessing: whether the file takes images as `run.prepare` returns them and normalises them itself; False takes the network's
        inputs, as `run.network_inputs` returns them.
      outputs: "predictions" are those of `run.predict`; "logits" are the network's outputs for the central view.
      fold_batch_norm: for ONNX, whether batch normalisations are folded into the convolutions before them.
      platforms: for StableHLO, the platforms on which the file can be used: "cpu", "cuda", "rocm", "tpu".
      runtime: for a page, the npm package onnxruntime-web, as its .tgz or unpacked; None looks for it (`page.find_runtime`).

    Raises:
      ValueError: the suffix or another argument is unknown, or the run contains something that the format cannot express.
      ImportError: a package that the format needs is not installed.
      OSError: the file cannot be written.
    """
    path = Path(path).expanduser()
    _check(path)
    if outputs not in _OUTPUTS:
        raise ValueError(unknown("outputs", outputs, _OUTPUTS))
    place = Path(runtime).expanduser() if runtime else None
    settings = _Settings(path, preprocessing, outputs, fold_batch_norm, tuple(platforms), place)
    _check_use(settings)
    run = run if isinstance(run, Run) else load_run(run)
    kind, write, _ = _FORMATS[path.suffix.lower()]
    written = write(run, settings)
    files.write_atomically(path, written.content)
    return Exported(path, kind, len(written.content), written.inputs, written.outputs, written.remarks)


_OUTPUTS: tuple[Outputs, ...] = ("predictions", "logits")


@dataclasses.dataclass(frozen=True)
class _Settings:
    """The arguments of `export`."""

    path: Path
    preprocessing: bool
    outputs: Outputs
    fold_batch_norm: bool
    platforms: tuple[str, ...]
    runtime: Path | None


class _Written(NamedTuple):
    """The content of a file, and the fields of `Exported`."""

    content: bytes
    remarks: tuple[str, ...]
    inputs: Mapping[str, str] = {}
    outputs: Mapping[str, str] = {}


def _check(path: Path) -> None:
    """Checks the path of a file before the run is loaded."""
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        known = "; ".join(f"{name}: {kind}" for name, (kind, *_) in _FORMATS.items())
        raise ValueError(f"{path}: the file's suffix chooses the format: {known}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: expected a file")
    files.check_writable(path, suffix)
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path}: the folder {path.parent} cannot be written to")


def _check_use(settings: _Settings) -> None:
    """Raises ValueError for an argument that is set and that the format does not use."""
    suffix = settings.path.suffix.lower()
    defaults = {
        name: given.default
        for name, given in inspect.signature(export).parameters.items()
        if given.kind is given.KEYWORD_ONLY
    }
    for name, default in defaults.items():
        if getattr(settings, name) != default and name not in _FORMATS[suffix][2]:
            users = " and ".join(other for other, (*_, used) in _FORMATS.items() if name in used)
            raise ValueError(f"{settings.path}: {name} is for {users}: leave it out")


def _onnx(run: Run, settings: _Settings) -> _Written:
    if isinstance(run.task, Detection) and settings.outputs == "predictions":
        raise ValueError(
            f"{settings.path}: the suppression of overlapping boxes is a loop, which the exporter cannot write as ONNX: export the "
            "network's outputs (--outputs logits), or boxes with scores and classes to .jaxexport"
        )
    given = prediction_of(run, settings.preprocessing, settings.outputs, float32=True)
    content, opset = _onnx_content(run, given, settings)
    remarks = (f"ONNX opset {opset}, onnxruntime 1.14 or newer", *_precision(run))
    return _Written(content, remarks, *_sizes(given))


def _onnx_content(run: Run, given: Prediction, settings: _Settings) -> tuple[bytes, int]:
    """The ONNX file of a prediction, and the version of its operators (opset)."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise ImportError(f"{settings.path}: the package onnx writes it: pip install 'cnnjax[export]'") from None
    from cnnjax.exporting.onnx import OPSET, onnx_model

    names = [*_output_shapes(given)]
    described = _description(run, settings.preprocessing)
    model = onnx_model(
        given.function,
        given.variables,
        given.image_shape,
        given.image_dtype,
        names,
        described,
        settings.fold_batch_norm,
    )
    return model.SerializeToString(), OPSET


def _jaxexport(run: Run, settings: _Settings) -> _Written:
    given = prediction_of(run, settings.preprocessing, settings.outputs, float32=False)
    content = stablehlo.serialized(given, settings.platforms, settings.path)
    remark = (
        f"for {', '.join(settings.platforms)}; jax.export.deserialize of JAX {jax.__version__} reads it, and by JAX's promise versions "
        "of the six months after"
    )
    return _Written(content, (remark,), *_sizes(given))


def _safetensors(run: Run, settings: _Settings) -> _Written:
    tensors, names = weights.named_tensors(run)
    values = sum(array.size for array in tensors.values())
    remark = f"{len(tensors)} tensors of {values:,} values, with {names}'s names"
    return _Written(weights.serialized(tensors, weights.metadata(run, names, preparation(run))), (remark,))


def _html(run: Run, settings: _Settings) -> _Written:
    page.check(run)
    runtime = page.find_runtime(settings.runtime)
    given = prediction_of(run, True, "predictions", float32=True)
    network, _ = _onnx_content(run, given, settings)
    remark = f"with onnxruntime-web {runtime.version} in it; open it in a browser, which needs no network"
    return _Written(page.rendered(run, network, runtime).encode(), (remark, *_precision(run)), *_sizes(given))


def _precision(run: Run) -> tuple[str, ...]:
    if run.config.train.precision == "float32":
        return ()
    return (f"it computes in float32, the run in {run.config.train.precision}",)


def _sizes(given: Prediction) -> tuple[dict[str, str], dict[str, str]]:
    """The shapes and types of the input and of the outputs, as text by name."""

    def text(shape: Sequence[int], dtype: Any) -> str:
        return f"(batch, {', '.join(map(str, shape))}) {np.dtype(dtype).name}"

    outputs = {name: text(output.shape[1:], output.dtype) for name, output in _output_shapes(given).items()}
    return {"images": text(given.image_shape, given.image_dtype)}, outputs


def _output_shapes(given: Prediction) -> dict[str, jax.ShapeDtypeStruct]:
    """The outputs by name: a task's own names where it predicts several arrays."""
    images = jax.ShapeDtypeStruct((2, *given.image_shape), given.image_dtype)
    shapes = jax.tree_util.tree_leaves_with_path(jax.eval_shape(given.function, given.variables, images))
    names = [
        "/".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)
        for path, _ in shapes
    ]
    return {name or given.name: shape for name, (_, shape) in zip(names, shapes, strict=True)}


def _description(run: Run, preprocessing: bool) -> dict[str, str]:
    """What an ONNX file says of itself, as texts; lists and numbers in JSON."""
    return {
        "cnnjax": __version__,
        "network": str(run.config.model.name),
        "task": str(run.config.task.name),
        "classes": json.dumps(list(run.label_names)),
        "preprocessing": json.dumps(preparation(run)),
        "preprocessing_included": json.dumps(preprocessing),
    }


# What a file of each suffix is, what makes its content, and the arguments of `export` that this uses.
_FORMATS: Mapping[str, tuple[str, Callable[[Run, _Settings], _Written], tuple[str, ...]]] = {
    ".onnx": ("ONNX, for onnxruntime and other runtimes", _onnx, ("preprocessing", "outputs", "fold_batch_norm")),
    ".jaxexport": ("StableHLO, for JAX", _jaxexport, ("preprocessing", "outputs", "platforms")),
    ".safetensors": ("the weights", _safetensors, ()),
    ".html": ("a page that classifies in a browser", _html, ("runtime",)),
}
