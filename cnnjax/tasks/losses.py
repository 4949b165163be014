"""Losses: (outputs, targets, *, options) -> one value per example.

Targets are class probabilities: one-hot for an ordinary example, a mixture for mixed images. In segmentation
outputs and targets are (batch, height, width, class), and a loss returns one value per pixel, or one per example.

`label_smoothing` and `class_weights` apply only in training, also in a loss of your own. On the other splits they have their
defaults.

With class weights w the loss of a batch is sum_i w_i l_i / n, as with Keras's `class_weight`. PyTorch's
`CrossEntropyLoss(weight=w)` divides by sum_i w_i instead, which makes the weight of an example depend on the others in its
batch. Balanced weights have mean 1 over the training split, so that the two agree on average. For other weights the effective
learning rate differs by their mean. With label smoothing, the weight of the example's class multiplies the whole of l_i;
PyTorch multiplies the term of each class by the weight of that class.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from cnnjax.core.options import Traceable, fraction, known_zero, not_negative, positive
from cnnjax.tasks.task import Criterion

Loss = Callable[
    [Float[Array, "batch *spatial class"], Float[Array, "batch *spatial class"]], Float[Array, "batch *spatial"]
]
# Options that apply only in training.
TRAINING_ONLY = ("label_smoothing", "class_weights")


def _weights(weights: tuple[float, ...] | str) -> str | None:
    if weights == "balanced":
        return None
    return None if any(weights) and not any(map(not_negative, weights)) else "finite numbers of 0 or more, not all 0"


ClassWeights = Annotated[
    tuple[float, ...] | Literal["balanced"] | None,
    "factors of each class's loss in training; balanced means examples / (classes * examples of the class); the sum over a "
    "batch is divided by the number of examples, as in Keras, not by the sum of weights, as in PyTorch",
    _weights,
]


def cross_entropy(
    logits: Float[Array, "batch *spatial class"],
    targets: Float[Array, "batch *spatial class"],
    *,
    label_smoothing: Annotated[float, Traceable, "share of each target spread over all classes", fraction] = 0.0,
    class_weights: ClassWeights = None,
) -> Float[Array, "batch *spatial"]:
    """Cross-entropy: -sum_c t_c log softmax(logits)_c, in nats.

    With label smoothing s and n classes (Szegedy et al., CVPR 2016), t becomes (1 - s) t + s / n.
    """
    values = optax.losses.softmax_cross_entropy(logits, _smooth(targets, label_smoothing))
    return _weighted(values, targets, class_weights)


def focal(
    logits: Float[Array, "batch *spatial class"],
    targets: Float[Array, "batch *spatial class"],
    *,
    gamma: Annotated[
        float, Traceable, "how strongly easy examples are down-weighted; 0 is cross-entropy", not_negative
    ] = 2.0,
    label_smoothing: Annotated[float, Traceable, "share of each target spread over all classes", fraction] = 0.0,
    class_weights: ClassWeights = None,
) -> Float[Array, "batch *spatial"]:
    """Focal loss: -sum_c t_c (1 - p_c)^gamma log p_c with p = softmax(logits), in nats (Lin et al., ICCV 2017).

    The alpha of the paper corresponds to class weights.
    """
    log_p = jax.nn.log_softmax(logits)
    # For gamma below 1 the gradient contains 0^(gamma - 1), which is infinite; below its bound `maximum` has gradient 0.
    others = jnp.maximum(-jnp.expm1(log_p), 1e-30)
    values = -(_smooth(targets, label_smoothing) * jnp.exp(gamma * jnp.log(others)) * log_p).sum(-1)
    return _weighted(values, targets, class_weights)


def dice(
    logits: Float[Array, "batch *spatial class"],
    targets: Float[Array, "batch *spatial class"],
    *,
    smooth: Annotated[
        float, "pixels added to both counts, by which an absent class that is not predicted costs nothing", positive
    ] = 1.0,
) -> Float[Array, "batch"]:
    """Dice loss: 1 - mean_c (2 sum_x p_xc t_xc + s) / (sum_x p_xc + sum_x t_xc + s) with p = softmax(logits), for each example.

    The sums are over the pixels x that have a target. Milletari et al. (3DV 2016) square p and t in the denominator.
    """
    axes = tuple(range(1, logits.ndim - 1))
    p = jax.nn.softmax(logits) * (targets.sum(-1, keepdims=True) > 0)
    return 1 - ((2 * (p * targets).sum(axes) + smooth) / (p.sum(axes) + targets.sum(axes) + smooth)).mean(-1)


def binary_cross_entropy(
    logits: Float[Array, "batch class"],
    targets: Float[Array, "batch class"],
    *,
    label_smoothing: Annotated[float, Traceable, "share of each target moved to one half", fraction] = 0.0,
    threshold: Annotated[
        float | None, "targets above it, such as those of mixed images, become 1, and others 0", fraction
    ] = None,
    reduction: Annotated[Literal["sum", "mean"], "whether the classes' terms are added or averaged"] = "sum",
    class_weights: ClassWeights = None,
) -> Float[Array, "batch"]:
    """Binary cross-entropy, each class against the rest, in nats.

    -sum_c t_c log sigmoid(logit_c) + (1 - t_c) log(1 - sigmoid(logit_c))
    """
    chosen = targets if threshold is None else (targets > threshold).astype(targets.dtype)
    smooth = chosen if known_zero(label_smoothing) else (1 - label_smoothing) * chosen + label_smoothing / 2
    values = optax.losses.sigmoid_binary_cross_entropy(logits, smooth)
    return _weighted(values.sum(-1) if reduction == "sum" else values.mean(-1), targets, class_weights)


def mean_squared_error(
    outputs: Float[Array, "batch class"],
    targets: Float[Array, "batch class"],
    *,
    label_smoothing: Annotated[float, Traceable, "share of each target spread over all classes", fraction] = 0.0,
    signed: Annotated[bool, "whether the targets of classes are 1 and -1 instead of 1 and 0"] = False,
    class_weights: ClassWeights = None,
) -> Float[Array, "batch"]:
    """Mean squared error: mean_c (f_c - t_c)^2. In classification the targets of the logits are 1 and 0, or 1 and -1."""
    values = _smooth(targets, label_smoothing)
    values = 2 * values - 1 if signed else values
    return _weighted(jnp.square(outputs - values).mean(-1), targets, class_weights)


def mean_absolute_error(
    outputs: Float[Array, "batch number"], targets: Float[Array, "batch number"]
) -> Float[Array, "batch"]:
    """Mean absolute error: mean_c |f_c - t_c|."""
    return jnp.abs(outputs - targets).mean(-1)


def huber(
    outputs: Float[Array, "batch number"],
    targets: Float[Array, "batch number"],
    *,
    delta: Annotated[float, "the error above which the loss is linear", positive] = 1.0,
) -> Float[Array, "batch"]:
    """Huber loss: mean_c of e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), with e = f_c - t_c (Huber, 1964)."""
    return optax.losses.huber_loss(outputs, targets, delta=delta).mean(-1)


def one_hot(labels: Int[Array, "batch"], classes: int) -> Float[Array, "batch class"]:
    """One-hot targets from class numbers."""
    return jax.nn.one_hot(labels, classes, dtype=jnp.float32)


def _shares(values: Float[Array, "batch class"]) -> Float[Array, "batch class"]:
    return values / jnp.maximum(values.sum(-1, keepdims=True), 1e-30)


def _smooth(targets: Float[Array, "batch class"], share: float) -> Float[Array, "batch class"]:
    return targets if known_zero(share) else (1 - share) * targets + share / targets.shape[-1]


def _weighted(
    values: Float[Array, "batch"], targets: Float[Array, "batch class"], weights: Sequence[float] | None
) -> Float[Array, "batch"]:
    return values if weights is None else values * (targets @ np.asarray(weights, np.float32))


LOSSES: Mapping[str, Callable[..., Float[Array, "batch"]]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "dice": dice,
    "binary_cross_entropy": binary_cross_entropy,
    "mean_squared_error": mean_squared_error,
    "mean_absolute_error": mean_absolute_error,
    "huber": huber,
}
# Losses in nats.
NATS = ("cross_entropy", "focal", "binary_cross_entropy")
# Functions from a classifier's outputs to probabilities that sum to 1, for losses without softmax.
_PROBABILITIES: Mapping[Callable[..., Any], Callable[[Array], Array]] = {
    binary_cross_entropy: lambda logits: _shares(jax.nn.sigmoid(logits)),
    mean_squared_error: lambda outputs: _shares(jnp.clip(outputs, 1e-6, 1)),
}


def make_criterion(loss: Callable[..., Any], class_counts: Sequence[int] | None = None, **options: Any) -> Criterion:
    """A loss with its options, for training and for the other splits.

    Args:
      loss: (outputs, targets, *, options) -> one value per example.
      class_counts: the number of training examples of each class, for class weights; None if there are no classes.
      **options: the options of the loss.

    Raises:
      ValueError: the class weights do not fit the data.
    """
    if options.get("class_weights") is not None:
        options["class_weights"] = class_weights(options["class_weights"], class_counts)
    kept = {name: value for name, value in options.items() if name not in TRAINING_ONLY}
    whole = functools.wraps(loss)(partial(loss, **options))
    probabilities = _PROBABILITIES.get(loss, jax.nn.softmax)
    if loss is mean_squared_error and options.get("signed"):
        probabilities = lambda outputs: _PROBABILITIES[mean_squared_error]((outputs + 1) / 2)  # noqa: E731
    return Criterion(whole, functools.wraps(loss)(partial(loss, **kept)), probabilities)


def class_weights(weights: Sequence[float] | str, counts: Sequence[int] | None) -> tuple[float, ...]:
    """The weight of each class; "balanced" means examples / (classes * examples of the class).

    Raises:
      ValueError: there are no classes, or their number is not that of the weights.
    """
    if counts is None:
        raise ValueError("config: loss.class_weights: the labels of the data set are not classes: set it to none")
    if isinstance(weights, str):
        numbers = np.asarray(counts)
        return tuple(numbers.sum() / (len(numbers) * np.maximum(numbers, 1)))
    if len(weights) != len(counts):
        raise ValueError(f"config: loss.class_weights has {len(weights)} values and the data set {len(counts)} classes")
    return tuple(weights)


CROSS_ENTROPY = make_criterion(cross_entropy)
BINARY_CROSS_ENTROPY = make_criterion(binary_cross_entropy)
MEAN_SQUARED_ERROR = make_criterion(mean_squared_error)
