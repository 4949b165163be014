"""What the functions of this room look into: a run, or a model with its variables."""

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

# A run, whose images are prepared ones: a data set's, or what `run.prepare` returned; or a model and its variables,
# whose images are what `model.apply` takes.
Source = Run | tuple[nn.Module, Mapping[str, Any]]
Images = Float[np.ndarray, "image *size channel"]


def opened(source: Source, images: np.ndarray) -> tuple[nn.Module, Mapping[str, Any], Images]:
    """The model, its variables, and the images as the model takes them.

    Raises:
      ValueError: the images are of another type or size, or there are none.
    """
    if isinstance(source, Run):
        return source.model, source.selected.variables, source.network_inputs(images)
    model, variables = source
    inputs = np.asarray(images)
    if not 3 <= inputs.ndim <= 5 or not len(inputs) or not np.issubdtype(inputs.dtype, np.floating):
        raise ValueError(
            f"images of shape {inputs.shape}, {inputs.dtype}: expected floating-point (images, height, width, channels) as the "
            "model takes them (signals have one spatial axis, volumes three), and at least one"
        )
    try:
        _logits.eval_shape(model, variables, jax.ShapeDtypeStruct((1, *inputs.shape[1:]), np.float32))
    except Exception as error:  # whatever the model raises of a shape that it was not made for
        raise ValueError(
            f"images of shape {inputs.shape}: the model does not take them: {str(error).splitlines()[0]}"
        ) from error
    return model, variables, inputs.astype(np.float32)


@partial(jax.jit, static_argnames="model")  # traced once for images of a shape, however often they are looked into
def _logits(model: nn.Module, variables: Mapping[str, Any], inputs: Array) -> Float[Array, "image class"]:
    return model.apply(variables, inputs)


def layer_names(model: nn.Module, inputs: Images) -> list[str]:
    """The paths of the layers that have parameters, in the order in which an image meets them."""
    return layer_order(model, jax.ShapeDtypeStruct((1, *inputs.shape[1:]), np.float32))


def check_layers(layers: Sequence[str], model: nn.Module, inputs: Images) -> None:
    """Raises ValueError, with the nearest names, if the network has no layer of such a name."""
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
    """The logits, and the output of each of the layers, before the activation that follows it.

    Args:
      model: as it predicts.
      variables: of the model.
      inputs: as the model takes them.
      layers: their paths; of a layer that runs several times, the last.
      shift: added to the output of some of the layers: derivatives with respect to it, at zero, are those with respect to
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
    """The class asked for of each image; -1 stands for the one that the network predicts.

    Raises:
      ValueError: there is no such class, or not one for each image.
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
            f"class {int(given.min() if given.min() < 0 else given.max())}: the network has 0 to {count - 1}"
        )
    return np.broadcast_to(given.astype(np.int32), len(inputs))


def class_logits(
    logits: Float[Array, "image class"], classes: Int[Array, "image"]
) -> tuple[Float[Array, "image"], Int[Array, "image"]]:
    """Each image's logit of its class, and the class, which -1 leaves to the greatest logit."""
    chosen = jnp.where(classes < 0, logits.argmax(-1), classes)
    return jnp.take_along_axis(logits, chosen[:, None], 1)[:, 0].astype(jnp.float32), chosen


def in_batches(compute: Callable[..., Any], batch_size: int, *arrays: np.ndarray) -> Any:
    """What `compute` makes of arrays given a batch at a time, joined: one shape, so that it is compiled once.

    Args:
      compute: of arrays with a leading axis of examples -> a pytree of such.
      batch_size: the last batch is filled up by its last example, whose further results are left out.
      *arrays: of equal length.
    """
    total = len(arrays[0])
    size = min(batch_size, total)
    results = []
    for start in range(0, total, size):
        places = np.minimum(np.arange(start, start + size), total - 1)
        results.append(jax.device_get(compute(*(array[places] for array in arrays))))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *results)
