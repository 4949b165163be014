"""Measurements of trained networks for the studies, in addition to accuracy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

import cnnjax
from cnnjax.data import transforms
from cnnjax.data.datasets import DatasetOptions, Split
from cnnjax.ops.choice import using
from cnnjax.runs import network_shape
from cnnjax.training import run_directory
from cnnjax.training.experiment import build
from cnnjax.training.state import State, initial_state

Images = UInt8[np.ndarray, "example height width channel"]


def test_images(run: cnnjax.Run, count: int | None = None) -> Split:
    """The first images of a run's test split, without padding."""
    options = DatasetOptions(**{**run.config.dataset, "pad": None})
    split = cnnjax.load_dataset(options, splits=("test",)).splits["test"]
    return Split(split.images[:count], split.labels[:count])


def shifted(images: Images, down: int, right: int) -> Images:
    """Images shifted by whole pixels and filled with black.

    >>> shifted(np.array([[[[1], [2]], [[3], [4]]]], np.uint8), down=0, right=1)[0, :, :, 0].tolist()
    [[0, 1], [0, 3]]
    """
    height, width = images.shape[1:3]
    rows, columns = abs(down), abs(right)
    padded = np.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    return padded[:, rows - down :, columns - right :][:, :height, :width]


def directions(distance: int) -> list[tuple[int, int]]:
    """The four shifts (down, right) by a distance, or the single shift for distance 0.

    >>> directions(0), directions(2)
    ([(0, 0)], [(2, 0), (-2, 0), (0, 2), (0, -2)])
    """
    return [(distance, 0), (-distance, 0), (0, distance), (0, -distance)] if distance else [(0, 0)]


def classes_when_shifted(
    run: cnnjax.Run, images: Images, distances: Sequence[int]
) -> dict[int, Int[np.ndarray, "direction example"]]:
    """The classes that a run predicts for images shifted by each distance in each direction."""
    moves = [(distance, move) for distance in distances for move in directions(distance)]
    moved = np.concatenate([shifted(images, *move) for _, move in moves])
    classes = run.predict(moved).argmax(-1).reshape(len(moves), len(images))
    return {distance: classes[[of == distance for of, _ in moves]] for distance in distances}


def effective_receptive_field(
    features: Callable[[Float[Array, "batch height width channel"]], Float[Array, "batch h w feature"]],
    images: Float[Array, "batch height width channel"],
) -> Float[np.ndarray, "height width"]:
    """The effect of each pixel on the central unit of a feature map: the root mean square of its gradient.

    The mean is over images, features and channels; the result is scaled to a maximum of 1 (Luo, Li, Urtasun and Zemel,
    "Understanding the effective receptive field in deep convolutional neural networks", NIPS 2016).

    Args:
      features: a function from images to feature maps.
      images: the inputs of the network.
    """

    def middle(image: Float[Array, "height width channel"]) -> Float[Array, "feature"]:
        maps = features(image[None])[0]
        return maps[maps.shape[0] // 2, maps.shape[1] // 2]

    with using("stock"):
        gradients = jax.jit(jax.vmap(jax.jacrev(middle)))(images)  # image, feature, height, width, channel
    power = np.asarray(jnp.square(gradients).mean((0, 1, -1)))
    return np.sqrt(power / max(power.max(), np.finfo(np.float32).tiny))


def field_size(field: Float[np.ndarray, "height width"]) -> float:
    """The side of a square with as many pixels as have more than 1 - 95.45 % of the greatest effect (Luo et al., 2016).

    >>> field_size(np.array([[0.0, 0.04], [1.0, 1.0]])) ** 2
    2.0000000000000004
    """
    return float(np.sqrt((field > (1 - 0.9545) * field.max()).sum()))


def inputs(run: cnnjax.Run, images: Images) -> Float[Array, "example height width channel"]:
    """The network inputs for prepared images: scaled and normalised."""
    options = DatasetOptions(**run.config.dataset)
    statistics = run_directory.read_statistics(run.described)
    return transforms.normalize(jnp.asarray(images), options, statistics, run.facts.image_dtype)


def drawn_state(run: cnnjax.Run) -> State:
    """The initial state of a run whose weights were drawn at random, which its config determines."""
    experiment = build(run.config, run.facts)
    shape = network_shape(run.config, run.described["image_shape"])
    scale = run.config.initial.scale
    return initial_state(experiment.model, experiment.optimizer, shape, run.config.seed, scale=scale)


def layer_outputs(
    model: nn.Module,
    variables: Mapping[str, Any],
    images: Float[Array, "batch height width channel"],
    names: Sequence[str],
) -> dict[str, Float[Array, "batch *shape"]]:
    """The outputs of layers, before subsequent activation functions.

    Args:
      model: the network.
      variables: the variables of the network.
      images: the inputs of the network.
      names: the names of the layers.
    """
    seen = model.apply(variables, images, capture_intermediates=True, mutable=["intermediates"])[1]["intermediates"]
    return {name: seen[name]["__call__"][0] for name in names}
