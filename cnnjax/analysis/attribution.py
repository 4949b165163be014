"""Which pixels a class's logit rests on: saliency, Grad-CAM, occlusion.

Each gives a map for each image. They differ in what they ask: what would a small change do (saliency), which places of
a layer's maps speak for the class (Grad-CAM), what is lost without a part of the image (occlusion).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cnnjax.analysis.networks import (
    Source,
    check_layers,
    class_indices,
    class_logits,
    in_batches,
    layer_names,
    opened,
    outputs_of,
)


def saliency(
    source: Source, images: np.ndarray, classes: int | Sequence[int] | None = None, batch_size: int = 64
) -> Float[np.ndarray, "image *size"]:
    """max_k |d y_c / d x_k| at every pixel, of class c's logit y_c and the channels k of the network's input x.

    Signals have a value at every position, volumes at every voxel.

    Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", 2013, section 3.

    Args:
      source: a run, or a model and its variables.
      images: prepared uint8 ones of a run; of a model, what it takes.
      classes: one for all, one for each image, or None for the class that the network predicts.
      batch_size: images at a time; changes no result.

    Raises:
      ValueError: there is no such class, or the images do not fit.
    """
    model, variables, inputs = opened(source, images)
    wanted = class_indices(classes, model, variables, inputs)
    return in_batches(partial(_saliency, model, variables), batch_size, inputs, wanted)


@partial(jax.jit, static_argnames="model")
def _saliency(
    model: nn.Module, variables: Mapping[str, Any], inputs: Array, classes: Int[Array, "image"]
) -> Float[Array, "image *size"]:
    # An image's logit depends on that image alone, so that one gradient of the sum holds every image's.
    gradient = jax.grad(lambda x: class_logits(model.apply(variables, x), classes)[0].sum())(inputs)
    return jnp.abs(gradient).max(-1)


def grad_cam(
    source: Source,
    images: np.ndarray,
    classes: int | Sequence[int] | None = None,
    layer: str | None = None,
    batch_size: int = 64,
) -> Float[np.ndarray, "image *size"]:
    """max(0, sum_k a_k A_k) at every place of a layer, where a_k is the mean over the places of d y_c / d A_k.

    A_k are the layer's maps, before the activation that follows it, and y_c is class c's logit. Selvaraju et al.,
    "Grad-CAM", ICCV 2017, section 3. The map has the layer's size; `pictures.resized` enlarges it to the image's.

    Args:
      source: a run, or a model and its variables.
      images: prepared uint8 ones of a run; of a model, what it takes.
      classes: one for all, one for each image, or None for the class that the network predicts.
      layer: its path; None is the last whose output is maps.
      batch_size: images at a time; changes no result.

    Raises:
      ValueError: there is no such layer or class, the layer's output is no maps, or the images do not fit.
    """
    model, variables, inputs = opened(source, images)
    if layer is not None:
        check_layers([layer], model, inputs)
    names = layer_names(model, inputs) if layer is None else [layer]
    shapes = jax.eval_shape(lambda x: outputs_of(model, variables, x, names)[1], inputs[:1])
    spatial = [name for name in names if shapes[name].ndim == inputs.ndim]
    if not spatial:
        what = "no layer of the network has" if layer is None else f"layer {layer!r} has no"
        raise ValueError(f"grad_cam: {what} maps, (height, width, feature), as its output: a dense network has none")
    wanted = class_indices(classes, model, variables, inputs)
    return in_batches(partial(_grad_cam, model, variables, spatial[-1]), batch_size, inputs, wanted)


@partial(jax.jit, static_argnames=("model", "layer"))
def _grad_cam(
    model: nn.Module, variables: Mapping[str, Any], layer: str, inputs: Array, classes: Int[Array, "image"]
) -> Float[Array, "image *size"]:
    shape = jax.eval_shape(lambda: outputs_of(model, variables, inputs, [layer])[1][layer])

    def score(shift: Array) -> tuple[Array, Array]:
        logits, maps = outputs_of(model, variables, inputs, [layer], {layer: shift})
        return class_logits(logits, classes)[0].sum(), maps[layer]

    gradient, maps = jax.grad(score, has_aux=True)(jnp.zeros(shape.shape, shape.dtype))
    weights = gradient.astype(jnp.float32).mean(tuple(range(1, gradient.ndim - 1)))
    return jax.nn.relu(jnp.einsum("b...k,bk->b...", maps.astype(jnp.float32), weights))


def occlusion(
    source: Source,
    images: np.ndarray,
    classes: int | Sequence[int] | None = None,
    patch: int | None = None,
    stride: int | None = None,
    fill: float = 0.0,
    batch_size: int = 256,
) -> Float[np.ndarray, "image row column"]:
    """How far class c's logit falls when a square of the image is covered, by the square's position.

    After Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2, who show the
    class's probability; that hardly moves where the network is sure, the logit does.

    Args:
      source: a run, or a model and its variables.
      images: prepared uint8 ones of a run; of a model, what it takes.
      classes: one for all, one for each image, or None for the class that the network predicts.
      patch: the square's side in pixels; None is a quarter of the image's shorter side.
      stride: from one position to the next, in pixels; None is half the patch. The last row and column end with the image.
      fill: what covers, in the network's input; 0 is the mean where images are normalised by theirs.
      batch_size: covered images at a time; changes no result.

    Raises:
      ValueError: there is no such class, the patch is larger than the image, or the images do not fit.
    """
    model, variables, inputs = opened(source, images)
    if inputs.ndim != 4:
        raise ValueError(f"occlusion: inputs of shape {inputs.shape}: expected images (image, height, width, channel)")
    height, width = inputs.shape[1:3]
    patch = max(min(height, width) // 4, 1) if patch is None else patch
    stride = max(patch // 2, 1) if stride is None else stride
    if not 1 <= patch <= min(height, width) or stride < 1:
        raise ValueError(
            f"occlusion: patch={patch}, stride={stride}: expected a patch of 1 to {min(height, width)} and a stride of 1 or more"
        )
    wanted = class_indices(classes, model, variables, inputs)
    rows, columns = (_positions(size, patch, stride) for size in (height, width))
    places = np.array([(top, left) for top in rows for left in columns], np.int32)
    compute = partial(_covered_logits, model, variables, patch, fill)
    # First without a cover, which says how high the logit is and what the network predicts.
    whole, wanted = in_batches(partial(_plain_logits, model, variables), batch_size, inputs, wanted)
    which = np.repeat(np.arange(len(inputs)), len(places))
    covered = in_batches(
        lambda index, place: compute(inputs[index], wanted[index], place),
        batch_size,
        which,
        np.tile(places, (len(inputs), 1)),
    )
    return whole[:, None, None] - covered.reshape(len(inputs), len(rows), len(columns))


def _positions(size: int, patch: int, stride: int) -> list[int]:
    return [*range(0, size - patch, stride), size - patch]


@partial(jax.jit, static_argnames="model")
def _plain_logits(
    model: nn.Module, variables: Mapping[str, Any], inputs: Array, classes: Int[Array, "image"]
) -> tuple[Float[Array, "image"], Int[Array, "image"]]:
    return class_logits(model.apply(variables, inputs), classes)


@partial(jax.jit, static_argnames=("model", "patch"))
def _covered_logits(
    model: nn.Module,
    variables: Mapping[str, Any],
    patch: int,
    fill: float,
    inputs: Array,
    classes: Int[Array, "image"],
    places: Int[Array, "image 2"],
) -> Float[Array, "image"]:
    vertical, horizontal = (jnp.arange(size) - places[:, axis, None] for axis, size in enumerate(inputs.shape[1:3]))
    inside = [(distance >= 0) & (distance < patch) for distance in (vertical, horizontal)]
    hidden = (inside[0][:, :, None] & inside[1][:, None, :])[..., None]
    return class_logits(model.apply(variables, jnp.where(hidden, fill, inputs)), classes)[0]
