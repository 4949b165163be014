"""Losses of detectors for single values and boxes. The network chooses which of them are summed, and the divisor."""

import contextlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cnnjax.core.randomness import AXIS
from cnnjax.detection.boxes import area


class Ratio(NamedTuple):
    """A loss of the whole batch: the sum of the examples' values, divided by the sum of their counts (by 1 if all counts are 0).

    Attributes:
      values: each example's part of the sum.
      counts: each example's part of the divisor, such as the number of its matched anchors.
    """

    values: Float[Array, "batch"]
    counts: Int[Array, "batch"]

    def by_example(self, mask: Float[Array, "batch"]) -> Float[Array, "batch"]:
        """One value for each example, such that the mean over the examples of the global batch is the loss.

        Inside `pmap` both sums are over all devices, so that the loss does not depend on the number of devices that share the batch.

        Args:
          mask: 0 for padding, else 1.
        """
        sums = jnp.stack([mask.sum(), (mask * self.counts).sum()])
        with contextlib.suppress(NameError):  # not inside pmap: the batch is whole
            sums = jax.lax.psum(sums, AXIS)
        examples, count = sums
        return self.values * (examples / jnp.maximum(count, 1))


def binary_cross_entropy(logits: Float[Array, "*shape"], targets: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The cross-entropy of targets t of 0 or 1: -t log p - (1 - t) log(1 - p),   p = sigmoid(logit)."""
    return targets * jax.nn.softplus(-logits) + (1 - targets) * jax.nn.softplus(logits)


def sigmoid_focal_loss(
    logits: Float[Array, "*shape"], targets: Float[Array, "*shape"], alpha: float = 0.25, gamma: float = 2.0
) -> Float[Array, "*shape"]:
    """The focal loss of Lin et al., "Focal loss for dense object detection", ICCV 2017, equation 5.

    FL = -a_t (1 - p_t)^gamma log p_t,   p_t = p where the target is 1 and 1 - p where it is 0, and a_t = alpha or 1 - alpha.

    Args:
      logits: the logits.
      targets: the targets, 0 or 1.
      alpha: the weight of targets of 1.
      gamma: the exponent, which reduces the loss of predictions that are already right.
    """
    signed = jnp.where(targets > 0, logits, -logits)  # p_t is its sigmoid
    weight = jnp.where(targets > 0, alpha, 1 - alpha)
    return weight * jax.nn.sigmoid(-signed) ** gamma * jax.nn.softplus(-signed)


def smooth_l1(difference: Float[Array, "*shape"], beta: float) -> Float[Array, "*shape"]:
    """The smooth L1 loss of Girshick, "Fast R-CNN", ICCV 2015: d^2 / (2 beta) below beta, |d| - beta / 2 above; |d| with beta = 0."""
    absolute = jnp.abs(difference)
    if beta == 0:
        return absolute
    return jnp.where(absolute < beta, 0.5 * jnp.square(difference) / beta, absolute - 0.5 * beta)


def generalized_iou_loss(first: Float[Array, "*batch 4"], second: Float[Array, "*batch 4"]) -> Float[Array, "*batch"]:
    """1 - GIoU of pairs of boxes (Rezatofighi et al., CVPR 2019): from 0 for equal boxes to 2 for boxes far apart.

    GIoU = IoU - (|hull| - |union|) / |hull|, where the hull is the smallest box that contains both.
    """
    inner = jnp.maximum(first[..., :2], second[..., :2]), jnp.minimum(first[..., 2:], second[..., 2:])
    outer = jnp.minimum(first[..., :2], second[..., :2]), jnp.maximum(first[..., 2:], second[..., 2:])
    shared, hull = (area(jnp.concatenate(corners, -1)) for corners in (inner, outer))
    union, small = area(first) + area(second) - shared, 1e-7
    return 1 - shared / (union + small) + (hull - union) / (hull + small)
