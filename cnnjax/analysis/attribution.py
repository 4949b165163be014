"""Attribution of a class's logit to pixels: saliency, Grad-CAM and occlusion.

Each method returns one map per image. Saliency measures the effect of a small change of a pixel, Grad-CAM the positions of a layer's
feature maps that support the class, and occlusion the drop of the logit when a part of the image is covered.
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
    """The saliency of every pixel: max_k |d y_c / d x_k|, with the logit y_c of class c and the channels k of the network input x.

    Signals have a value at every position, volumes at every voxel. Simonyan, Vedaldi and Zisserman, "Deep inside convolutional
    networks", 2013, section 3.

    Args:
      source: a run, or a model and its variables.
      images: prepared images for a run, network inputs for a model.
      classes: one class for all images, one for each image, or None for the predicted class.
      batch_size: the number of images at a time; does not affect results.

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
    # Each logit depends only on its image, so that the gradient of the sum contains the gradients of all images.
    gradient = jax.grad(lambda x: class_logits(model.apply(variables, x), classes)[0].sum())(inputs)
    return jnp.abs(gradient).max(-1)


def grad_cam(
    source: Source,
    images: np.ndarray,
    classes: int | Sequence[int] | None = None,
    layer: str | None = None,
    batch_size: int = 64,
) -> Float[np.ndarray, "image *size"]:
    """The Grad-CAM map of a layer: max(0, sum_k a_k A_k) at every position, with a_k the mean over positions of d y_c / d A_k.

    A_k are the layer's feature maps, before a subsequent activation function, and y_c is the logit of class c (Selvaraju et al.,
    "Grad-CAM", ICCV 2017, section 3). The map has the size of the layer; `pictures.resized` enlarges it to that of the image.

    Args:
      source: a run, or a model and its variables.
      images: prepared images for a run, network inputs for a model.
      classes: one class for all images, one for each image, or None for the predicted class; of a segmentation, the class
        of most pixels.
      layer: the path of the layer; None is the last layer with feature maps as output, the logits of a segmentation aside.
      batch_size: the number of images at a time; does not affect results.

    Raises:
      ValueError: there is no such layer or class, the layer's output is not feature maps, or the images do not fit.
    """
    model, variables, inputs = opened(source, images)
    if layer is not None:
        check_layers([layer], model, inputs)
    names = layer_names(model, inputs) if layer is None else [layer]
    logits, shapes = jax.eval_shape(lambda x: outputs_of(model, variables, x, names), inputs[:1])
    # The last maps of a segmentation are its logits, of which each map speaks for its own class alone.
    spatial = [
        name for name in names if shapes[name].ndim == inputs.ndim and (layer or shapes[name].shape != logits.shape)
    ]
    if not spatial:
        what = "no layer of the network has" if layer is None else f"layer {layer!r} has no"
        raise ValueError(
            f"grad_cam: {what} feature maps (height, width, feature) as its output: a dense network has none"
        )
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
    """The drop of class c's logit when a square of the image is covered, for each position of the square.

    After Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2, who use the probability
    of the class. The probability hardly changes if the network is confident, but the logit does.

    Args:
      source: a run, or a model and its variables.
      images: prepared images for a run, network inputs for a model.
      classes: one class for all images, one for each image, or None for the predicted class.
      patch: the side of the square in pixels; None is a quarter of the image's shorter side.
      stride: the distance between positions in pixels; None is half the patch. The last row and column touch the image's border.
      fill: the value of covered pixels in the network input; 0 is the mean for normalised images.
      batch_size: the number of covered images at a time; does not affect results.

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
    # First the uncovered images, for their logits and predicted classes.
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
