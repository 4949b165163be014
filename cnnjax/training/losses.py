"""Losses: logits and targets -> one value an example.

Targets are the probabilities of the classes: one 1 for an ordinary example, a mixture where images were mixed.

With class weights w a batch's loss is sum_i w_i l_i / n, as with Keras's `class_weight`. PyTorch's `CrossEntropyLoss(weight=w)`
divides by sum_i w_i instead, which makes an example's share depend on the others that share its batch. Balanced weights
have mean 1 over the training split, so that the two agree on average; for others the learning rate differs by their mean.
With label smoothing w_i is that of the example's class, for the whole of l_i; PyTorch weighs each class's part by its own.
"""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from cnnjax.core.options import fraction, known_zero, not_negative

Loss = Callable[[Float[Array, "batch class"], Float[Array, "batch class"]], Float[Array, "batch"]]


def _weights(weights: tuple[float, ...] | str) -> str | None:
    if weights == "balanced":
        return None
    return None if any(weights) and not any(map(not_negative, weights)) else "finite numbers of 0 or more, not all 0"


ClassWeights = Annotated[
    tuple[float, ...] | Literal["balanced"] | None,
    "in training, by which a class's loss is multiplied; balanced is examples / (classes * the class's examples); the batch's "
    "sum is divided by its examples, as in Keras, not by their weights, as in PyTorch",
    _weights,
]


class Losses(NamedTuple):
    """What a loss is in training, on the other splits, and for predictions.

    Attributes:
      train: what is minimised.
      evaluate: the same without smoothing and weights.
      probabilities: of the classes, from logits; they sum to 1.
    """

    train: Loss
    evaluate: Loss
    probabilities: Callable[[Float[Array, "batch class"]], Float[Array, "batch class"]] = jax.nn.softmax


def _shares(values: Float[Array, "batch class"]) -> Float[Array, "batch class"]:
    return values / jnp.maximum(values.sum(-1, keepdims=True), 1e-30)


def cross_entropy(
    class_counts: Int[np.ndarray, "class"],
    *,
    label_smoothing: Annotated[float, "share of each target spread over all classes", fraction] = 0.0,
    class_weights: ClassWeights = None,
) -> Losses:
    """-sum_c t_c log softmax(logits)_c, in nats.

    With label smoothing s and n classes (Szegedy et al., CVPR 2016), t becomes (1 - s) t + s / n.
    """
    weigh = _class_weights(class_weights, class_counts)

    def train(logits: Float[Array, "batch class"], targets: Float[Array, "batch class"]) -> Float[Array, "batch"]:
        return weigh(targets, optax.losses.softmax_cross_entropy(logits, _smooth(targets, label_smoothing)))

    return Losses(train, optax.losses.softmax_cross_entropy)


def binary_cross_entropy(
    class_counts: Int[np.ndarray, "class"],
    *,
    label_smoothing: Annotated[float, "share of each target moved to one half", fraction] = 0.0,
    class_weights: ClassWeights = None,
) -> Losses:
    """-sum_c t_c log sigmoid(logit_c) + (1 - t_c) log(1 - sigmoid(logit_c)): each class against all others, in nats."""
    weigh = _class_weights(class_weights, class_counts)

    def evaluate(logits: Float[Array, "batch class"], targets: Float[Array, "batch class"]) -> Float[Array, "batch"]:
        return optax.losses.sigmoid_binary_cross_entropy(logits, targets).sum(-1)

    def train(logits: Float[Array, "batch class"], targets: Float[Array, "batch class"]) -> Float[Array, "batch"]:
        return weigh(targets, evaluate(logits, (1 - label_smoothing) * targets + label_smoothing / 2))

    return Losses(train, evaluate, lambda logits: _shares(jax.nn.sigmoid(logits)))


def mean_squared_error(
    class_counts: Int[np.ndarray, "class"],
    *,
    label_smoothing: Annotated[float, "share of each target spread over all classes", fraction] = 0.0,
    class_weights: ClassWeights = None,
) -> Losses:
    """mean_c (logit_c - t_c)^2: the logits themselves are to be 1 and 0, as networks were trained before softmax."""
    weigh = _class_weights(class_weights, class_counts)

    def evaluate(logits: Float[Array, "batch class"], targets: Float[Array, "batch class"]) -> Float[Array, "batch"]:
        return jnp.square(logits - targets).mean(-1)

    def train(logits: Float[Array, "batch class"], targets: Float[Array, "batch class"]) -> Float[Array, "batch"]:
        return weigh(targets, evaluate(logits, _smooth(targets, label_smoothing)))

    return Losses(train, evaluate, lambda logits: _shares(jnp.clip(logits, 1e-6, 1)))


def one_hot(labels: Int[Array, "batch"], classes: int) -> Float[Array, "batch class"]:
    """Targets of ordinary examples."""
    return jax.nn.one_hot(labels, classes, dtype=jnp.float32)


def _smooth(targets: Float[Array, "batch class"], share: float) -> Float[Array, "batch class"]:
    return targets if known_zero(share) else (1 - share) * targets + share / targets.shape[-1]


def _class_weights(
    weights: tuple[float, ...] | str | None, counts: Int[np.ndarray, "class"]
) -> Callable[[Float[Array, "batch class"], Float[Array, "batch"]], Float[Array, "batch"]]:
    if weights is None:
        return lambda targets, values: values
    if weights == "balanced":
        weights = counts.sum() / (len(counts) * np.maximum(counts, 1))
    if len(weights) != len(counts):
        raise ValueError(f"config: loss.class_weights has {len(weights)} values and the data set {len(counts)} classes")
    by_class = np.asarray(weights, np.float32)
    return lambda targets, values: values * (targets @ by_class)


LOSSES: dict[str, Callable[..., Losses]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "mean_squared_error": mean_squared_error,
}
