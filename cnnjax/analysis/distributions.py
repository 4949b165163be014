"""Histograms of the weights, activations and gradients of each layer."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cnnjax.analysis.networks import Source, check_layers, layer_names, opened, outputs_of
from cnnjax.runs import Run


@dataclasses.dataclass(frozen=True)
class Histogram:
    """A histogram with bins of equal width.

    Attributes:
      counts: the number of values in each bin.
      edges: the edges of the bins, one more than there are bins.
      mean: the mean of the finite values.
      deviation: the standard deviation of the finite values.
      finite: the share of values that are finite; all other figures are for these values only.
    """

    counts: Int[np.ndarray, "bin"]
    edges: Float[np.ndarray, "edge"]
    mean: float
    deviation: float
    finite: float


@dataclasses.dataclass(frozen=True)
class LayerHistograms:
    """The histograms of one layer.

    Attributes:
      weights: the layer's kernel, or all its parameters if it has no kernel.
      activations: the layer's output for the images, before a subsequent activation function.
      gradients: the gradient of the loss with respect to these parameters.
    """

    weights: Histogram
    activations: Histogram
    gradients: Histogram


def histogram(values: np.ndarray, bins: int = 60) -> Histogram:
    """The histogram of an array, over the range of its finite values."""
    values = np.asarray(values, np.float32).ravel()
    kept = values[np.isfinite(values)].astype(np.float64)
    if not len(kept):
        return Histogram(np.zeros(bins, np.int64), np.linspace(0, 1, bins + 1), np.nan, np.nan, 0.0)
    counts, edges = np.histogram(kept, bins)
    return Histogram(counts, edges, float(kept.mean()), float(kept.std()), len(kept) / len(values))


def histograms(
    source: Source,
    images: np.ndarray,
    labels: Int[np.ndarray, "image"],
    layers: Sequence[str] | None = None,
    bins: int = 60,
    probabilities: Callable[[Array], Array] | None = None,
) -> dict[str, LayerHistograms]:
    """Histograms of weights, activations and gradients of each layer, in prediction mode.

    The gradient is that of the mean over images of -log p, with p the probability of the label.

    Args:
      source: a run, or a model and its variables.
      images: some dozens of images, which are processed at once: prepared images for a run, network inputs for a model.
      labels: the labels of the images.
      layers: the paths of the layers; None is all layers with parameters.
      bins: the number of bins of each histogram.
      probabilities: the function from logits to class probabilities; None is that of the run, or softmax.

    Raises:
      ValueError: there is no such layer, or images and labels do not fit.
    """
    model, variables, inputs = opened(source, images)
    layers = layer_names(model, inputs) if layers is None else list(layers)
    check_layers(layers, model, inputs)
    labels = np.asarray(labels)
    if labels.shape != (len(inputs),):
        raise ValueError(f"{len(inputs)} images and labels of shape {labels.shape}: expected one label for each image")
    if probabilities is None:
        probabilities = source.probabilities if isinstance(source, Run) else jax.nn.softmax
    compute = jax.jit(partial(_activations_and_gradients, model, probabilities, tuple(layers)))
    activations, gradients = jax.device_get(compute(variables, inputs, labels))
    return {
        layer: LayerHistograms(
            histogram(_of_layer(variables["params"], layer), bins),
            histogram(activations[layer], bins),
            histogram(_of_layer(gradients, layer), bins),
        )
        for layer in layers
    }


def _activations_and_gradients(
    model: nn.Module,
    probabilities: Callable[[Array], Array],
    layers: tuple[str, ...],
    variables: Mapping[str, Any],
    inputs: Array,
    labels: Int[Array, "image"],
) -> tuple[dict[str, Array], Any]:
    def loss(params: Any) -> tuple[Float[Array, ""], dict[str, Array]]:
        logits, seen = outputs_of(model, {**variables, "params": params}, inputs, layers)
        chosen = jnp.take_along_axis(probabilities(logits.astype(jnp.float32)), labels[:, None], 1)
        return -jnp.log(jnp.maximum(chosen, jnp.finfo(jnp.float32).tiny)).mean(), seen

    gradients, seen = jax.grad(loss, has_aux=True)(variables["params"])
    return seen, gradients


def _of_layer(params: Any, layer: str) -> np.ndarray:
    own = {
        path[-1]: np.asarray(leaf)
        for path, leaf in flax.traverse_util.flatten_dict(params).items()
        if "/".join(path[:-1]) == layer
    }
    return own["kernel"] if "kernel" in own else np.concatenate([leaf.ravel() for leaf in own.values()])
