"""StableHLO: the prediction as a program of XLA's portable operations, in the form of `jax.export`.

The suffix is `.jaxexport`, not `.stablehlo`: the file is what `jax.export.deserialize` reads, the program together with the shapes,
types and platforms that its caller needs. The StableHLO text in it is `jax.export.deserialize(...).mlir_module()`.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from cnnjax.core.options import unknown
from cnnjax.exporting.prediction import Prediction
from cnnjax.ops import choice

PLATFORMS = ("cpu", "cuda", "tpu")
_KNOWN = (*PLATFORMS, "rocm")


def serialized(given: Prediction, platforms: Sequence[str], path: Path) -> bytes:
    """The bytes of a prediction's program, for batches of any size from 1.

    It has JAX's own operations: those of `cnnjax.ops` demand orders in memory, which `jax.export` does not promise to keep.

    Args:
      given: the prediction.
      platforms: the platforms that it is compiled for when it is loaded.
      path: the file, for messages.

    Raises:
      ValueError: a platform is unknown, or there is none.
      ImportError: flatbuffers is not installed.
    """
    if not platforms:
        raise ValueError(f"{path}: platforms is empty: choose from {', '.join(_KNOWN)}")
    for platform in platforms:
        if platform not in _KNOWN:
            raise ValueError(f"{path}: {unknown('platform', platform, _KNOWN)}")
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise ImportError(f"{path}: the package flatbuffers writes it: pip install 'cnnjax[export]'") from None
    [batch] = jax.export.symbolic_shape("batch")
    variables = jax.tree.map(np.asarray, given.variables)
    with choice.using("stock"), _explained(path):
        exported = jax.export.export(
            jax.jit(lambda images: _plain(given.function(variables, images))), platforms=tuple(platforms)
        )(jax.ShapeDtypeStruct((batch, *given.image_shape), given.image_dtype))
    return bytes(exported.serialize())


def _plain(outputs: Any) -> Any:
    """Outputs with named tuples as dicts, so that the file can be read without cnnjax."""
    if isinstance(outputs, tuple) and hasattr(outputs, "_asdict"):
        return {name: _plain(value) for name, value in outputs._asdict().items()}
    if isinstance(outputs, list | tuple):
        return type(outputs)(map(_plain, outputs))
    return {name: _plain(value) for name, value in outputs.items()} if isinstance(outputs, dict) else outputs


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Says what a network does that takes the number of images for a number."""
    try:
        yield
    except Exception as error:
        if "_DimExpr" not in str(error) and type(error).__name__ != "InconclusiveDimensionOperation":
            raise
        raise ValueError(
            f"{path}: the network or the task asks Python for the number of images, such as len(x), which is open in this file: write "
            "x.shape[0], or export to .onnx"
        ) from None
