"""ONNX: a traced program, step by step, as a graph of ONNX's standard operators."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.export

from cnnjax import __version__
from cnnjax.exporting.onnx.file import IR_VERSION, OPSET, as_model
from cnnjax.exporting.onnx.graph import UnsupportedError, made
from cnnjax.exporting.onnx.simplify import simplified
from cnnjax.exporting.onnx.translate import translated
from cnnjax.ops import choice

__all__ = ["BATCH", "IMAGES", "IR_VERSION", "OPSET", "UnsupportedError", "onnx_model"]

# Names of the input, and of its open axis.
IMAGES, BATCH = "images", "batch"


def onnx_model(
    function: Callable[[Mapping[str, Any], Any], Any],
    variables: Mapping[str, Any],
    image_shape: Sequence[int],
    image_dtype: Any,
    names: Sequence[str],
    metadata: Mapping[str, str],
    fold_batch_norm: bool = True,
) -> Any:
    """An `onnx.ModelProto` of a function (variables, images) -> arrays (batch, ...), for batches of any size.

    Its input is `images`, (batch, ...), channels last as the function takes them. It is traced with JAX's own operations.

    Args:
      function: the function, which JAX can trace.
      variables: the arrays that become constants ("initializers"), named by their paths.
      image_shape: the shape of an image.
      image_dtype: the type of its values.
      names: the names of the outputs, in the order of `jax.tree.leaves`.
      metadata: texts by key.
      fold_batch_norm: whether batch normalisations are folded into the convolutions before them.

    Raises:
      UnsupportedError: an operation has no counterpart here; the message names it and its layer.
    """
    [batch] = jax.export.symbolic_shape(BATCH)
    images = jax.ShapeDtypeStruct((batch, *image_shape), image_dtype)
    with choice.using("stock"):
        graph, outputs = translated(function, variables, images, IMAGES, names)
    simplified(graph, names, fold_batch_norm)
    given = made(IMAGES, images.shape, images.dtype)
    return as_model(graph, given, dict(zip(names, outputs, strict=True)), BATCH, metadata, ("cnnjax", __version__))
