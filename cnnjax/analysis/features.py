"""Feature maps: the outputs of layers for images."""

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
    """The outputs of layers for each image, before subsequent activation functions.

    All layers are read in one pass. For one layer and many images use `Run.features`.

    Args:
      source: a run, or a model and its variables.
      images: prepared images for a run, network inputs for a model.
      layers: the paths of the layers, such as "conv4_1/bn2"; None is all layers with parameters.
      batch_size: the number of images at a time; does not affect results.

    Returns:
      {layer: (image, height, width, feature)}, with other spatial axes for signals and volumes, and (image, feature) for dense
      layers.

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
