"""Layers' outputs for images: feature maps."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array

from cnnjax.analysis.networks import Source, check_layers, in_batches, layer_names, opened, outputs_of


def feature_maps(
    source: Source, images: np.ndarray, layers: Sequence[str] | None = None, batch_size: int = 64
) -> dict[str, np.ndarray]:
    """Layers' outputs for each image, before the activation that follows them.

    All layers are read off one pass: `Run.features` is for one layer of many images.

    Args:
      source: a run, or a model and its variables.
      images: prepared uint8 ones of a run; of a model, what it takes.
      layers: their paths, such as "conv4_1/bn2"; None is all that have parameters.
      batch_size: images at a time; changes no result.

    Returns:
      {layer: (image, height, width, feature)}, with the spatial axes of a signal or volume where it is one; (image, feature) of a
      dense layer.

    Raises:
      ValueError: there is no such layer, or the images do not fit.
    """
    model, variables, inputs = opened(source, images)
    if layers is None:
        layers = layer_names(model, inputs)
    check_layers(layers, model, inputs)
    return in_batches(lambda batch: _outputs(model, variables, batch, tuple(layers)), batch_size, inputs)


@partial(jax.jit, static_argnames=("model", "layers"))
def _outputs(
    model: nn.Module, variables: Mapping[str, Any], inputs: Array, layers: tuple[str, ...]
) -> dict[str, Array]:
    return outputs_of(model, variables, inputs, layers)[1]
