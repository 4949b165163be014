"""Access to the networks that the functions of this package analyse: runs, or models with their variables."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cnnjax.core.options import unknown
from cnnjax.runs import Run
from cnnjax.transfer.initial import layer_order

# A run, with prepared images (those of a data set, or results of `run.prepare`), or a model and its variables, with network
# inputs as images.
Source = Run | tuple[nn.Module, Mapping[str, Any]]
Images = Float[np.ndarray, "image *size channel"]


def opened(source: Source, images: np.ndarray) -> tuple[nn.Module, Mapping[str, Any], Images]:
    """The model, its variables and the network inputs.

    Raises:
      ValueError: the images have another type or size, or there are none.
    """
    if isinstance(source, Run):
        return source.model, source.selected.variables, source.network_inputs(images)
    model, variables = source
    inputs = np.asarray(images)
    if not 3 <= inputs.ndim <= 5 or not len(inputs) or not np.issubdtype(inputs.dtype, np.floating):
        raise ValueError(
            f"images of shape {inputs.shape}, {inputs.dtype}: expected at least one floating-point input of the model, as (images, "
            "height, width, channels); signals have one spatial axis, volumes three"
        )
    try:
        _logits.eval_shape(model, variables, jax.ShapeDtypeStruct((1, *inputs.shape[1:]), np.float32))
    except Exception as error:  # a model may raise any exception for a wrong shape
        raise ValueError(
            f"images of shape {inputs.shape}: the model does not accept them: {str(error).splitlines()[0]}"
        ) from error
    return model, variables, inputs.astype(np.float32)


@partial(jax.jit, static_argnames="model")  # traced once per image shape
def _logits(model: nn.Module, variables: Mapping[str, Any], inputs: Array) -> Float[Array, "image class"]:
    return model.apply(variables, inputs)


def layer_names(model: nn.Module, inputs: Images) -> list[str]:
    """The paths of the layers that have parameters, in the order of the forward pass."""
    return layer_order(model, jax.ShapeDtypeStruct((1, *inputs.shape[1:]), np.float32))


def check_layers(layers: Sequence[str], model: nn.Module, inputs: Images) -> None:
    """Raises ValueError, with the nearest names, if the network lacks one of the layers."""
    names = layer_names(model, inputs)
    for layer in layers:
        if layer not in names:
            raise ValueError(unknown("layer", layer, names))


def outputs_of(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: Array,
    layers: Sequence[str],
    shift: Mapping[str, Array] = {},
) -> tuple[Float[Array, "image class"], dict[str, Array]]:
    """The logits, and the output of each layer before a subsequent activation function.

    Args:
      model: the model, which is called in prediction mode.
      variables: the variables of the model.
      inputs: the network inputs.
      layers: the paths of the layers; for a layer that is called several times, the last output is returned.
      shift: arrays that are added to the outputs of layers. Derivatives with respect to a shift of zero are those with respect to
        the output.
    """
    seen: dict[str, Array] = {}

    def note(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        output = method(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name != "__call__" or path not in layers:
            return output
        seen[path] = output + shift[path] if path in shift else output
        return seen[path]

    with nn.intercept_methods(note):
        logits = model.apply(variables, inputs)
    return logits, seen


def class_indices(
    classes: int | Sequence[int] | None, model: nn.Module, variables: Mapping[str, Any], inputs: Images
) -> Int[np.ndarray, "image"]:
    """The requested class of each image; -1 stands for the predicted class.

    Raises:
      ValueError: there is no such class, or the number of classes is not that of the images.
    """
    if classes is None:
        return np.full(len(inputs), -1, np.int32)
    count = _logits.eval_shape(model, variables, inputs[:1]).shape[-1]
    given = np.asarray(classes)
    if given.ndim > 1 or not np.issubdtype(given.dtype, np.integer) or (given.ndim and len(given) != len(inputs)):
        raise ValueError(
            f"classes {classes!r}: expected one number for all images, or one for each of the {len(inputs)}"
        )
    if given.min() < 0 or given.max() >= count:
        raise ValueError(
            f"class {int(given.min() if given.min() < 0 else given.max())}: the network has classes 0 to {count - 1}"
        )
    return np.broadcast_to(given.astype(np.int32), len(inputs))


def class_logits(
    logits: Float[Array, "image *spatial class"], classes: Int[Array, "image"]
) -> tuple[Float[Array, "image"], Int[Array, "image"]]:
    """The logit of each image's class, and the class, which for -1 is that of the greatest logit.

    For the maps of a segmentation the logit is the mean over the pixels predicted as the class, or over all pixels if there are none
    (Vinogradova et al., AAAI 2020); -1 is the class of most pixels.
    """
    if logits.ndim > 2:
        return _map_logits(logits.reshape(len(logits), -1, logits.shape[-1]), classes)
    chosen = jnp.where(classes < 0, logits.argmax(-1), classes)
    return jnp.take_along_axis(logits, chosen[:, None], 1)[:, 0].astype(jnp.float32), chosen


def _map_logits(
    logits: Float[Array, "image pixel class"], classes: Int[Array, "image"]
) -> tuple[Float[Array, "image"], Int[Array, "image"]]:
    predicted = logits.argmax(-1)
    pixels = jax.nn.one_hot(predicted, logits.shape[-1]).sum(1)
    chosen = jnp.where(classes < 0, pixels.argmax(-1), classes)
    own = jnp.take_along_axis(logits, chosen[:, None, None], 2)[..., 0].astype(jnp.float32)
    counted = predicted == chosen[:, None]
    counted = counted | ~counted.any(1, keepdims=True)
    return jnp.where(counted, own, 0).sum(1) / counted.sum(1), chosen


def in_batches(compute: Callable[..., Any], batch_size: int, *arrays: np.ndarray) -> Any:
    """Applies `compute` to arrays in batches of equal shape, so that it is compiled once, and joins the results.

    Args:
      compute: a function from arrays with a leading example axis to a pytree of such arrays.
      batch_size: the size of a batch; the last batch is filled with copies of its last example, whose results are dropped.
      *arrays: the arrays, all of the same length.
    """
    total = len(arrays[0])
    size = min(batch_size, total)
    results = []
    for start in range(0, total, size):
        places = np.minimum(np.arange(start, start + size), total - 1)
        results.append(jax.device_get(compute(*(array[places] for array in arrays))))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *results)
