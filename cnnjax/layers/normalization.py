"""Batch normalisation, layer normalisation over channels, and local response normalisation."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.core.randomness import AXIS

# How batch normalisation is frozen, by whether it is and with which epsilon.
_frozen: contextvars.ContextVar[tuple[bool, float | None]] = contextvars.ContextVar("frozen", default=(False, None))


@contextlib.contextmanager
def frozen_batch_norm(frozen: bool = True, epsilon: float | None = None) -> Iterator[None]:
    """Within the block, `BatchNorm` is a constant map by channel, as detectors have it, whose batches are too small for statistics.

    It uses its running statistics in training too, without changing them. Scale and bias are no parameters: they stand beside the
    statistics in `batch_stats` (torchvision's `FrozenBatchNorm2d`, whose four arrays are buffers).

    Args:
      frozen: whether that is so; with False nothing changes.
      epsilon: what is added to the variance; None is the layer's own.
    """
    token = _frozen.set((frozen, epsilon))
    try:
        yield
    finally:
        _frozen.reset(token)


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, ICML 2015): y = scale (x - mean) / sqrt(var + epsilon) + bias, by channel.

    In training, mean and variance are those of the batch, over all positions. In prediction they are the running statistics,

        running = momentum * running + (1 - momentum) * batch,

    with the unbiased variance, as in the paper's algorithm 2 and in PyTorch (whose `momentum` is 1 - ours). Parameters:
    `scale`, unless `use_scale` is False, and `bias`; collection `batch_stats`: `mean` and `var`; all of shape (channel,). The
    computation is in float32; the result has the type `dtype`, by default the input's.

    With `synchronized`, the statistics are those of the global batch, over all devices of the pmapped axis. Within
    `frozen_batch_norm` none of the four arrays is trained.
    """

    synchronized: bool = True
    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    use_scale: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *size channel"], train: bool = False
    ) -> Float[Array, "batch *size channel"]:
        channels, (frozen, epsilon) = x.shape[-1:], _frozen.get()
        if frozen:
            scale = self.variable("batch_stats", "scale", jnp.ones, channels, jnp.float32).value
            bias = self.variable("batch_stats", "bias", jnp.zeros, channels, jnp.float32).value
        else:
            scale = self.param("scale", self.scale_init, channels, jnp.float32) if self.use_scale else 1.0
            bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        if train and not frozen:
            mean, var, count = batch_statistics(x, self.synchronized)
            if not self.is_initializing():
                rate = 1 - self.momentum
                running_mean.value += rate * (mean - running_mean.value)
                running_var.value += rate * (var * (count / max(count - 1, 1)) - running_var.value)
        else:
            mean, var = running_mean.value, running_var.value
        epsilon = self.epsilon if epsilon is None or not frozen else epsilon
        factor = scale * jax.lax.rsqrt(var + epsilon)
        # In float32 for every result type: if the mean is large, so are x * factor and mean * factor, but not their difference.
        y = x.astype(jnp.float32) * factor + (bias - mean * factor)
        return y.astype(self.dtype or x.dtype)


def batch_statistics(
    x: Float[Array, "batch *size channel"], synchronized: bool
) -> tuple[Float[Array, "channel"], Float[Array, "channel"], int]:
    """Mean, biased variance and number of values by channel, in float32, over all devices if `synchronized`.

    The variance of the global batch is the mean of the devices' variances plus the variance of their means (Chan, Golub and LeVeque,
    "Algorithms for computing the sample variance", The American Statistician 37, 1983), so that one sum over the devices gives both
    results, and one their gradients. The variance of the means would lose its digits where they are large: see `_over_devices`.
    """
    axes, devices, reduce = tuple(range(x.ndim - 1)), 1, lambda value: value
    with contextlib.suppress(NameError):  # not inside pmap: this batch is the global one
        if synchronized:
            devices = jax.lax.axis_size(AXIS)
            reduce = lambda value: jax.lax.pmean(value, AXIS)  # noqa: E731
    x = x.astype(jnp.float32)
    count = devices * (x.size // x.shape[-1])
    # Two passes: the one-pass formula E[x^2] - E[x]^2 loses all digits where the mean is large.
    if devices == 1:  # with the reductions: the program, and with it every bit, is that of earlier versions
        mean = reduce(x.mean(axes))
        return mean, reduce(jnp.square(x - mean).mean(axes)), count
    mean = x.mean(axes)
    return *_over_devices(mean, jnp.square(x - mean).mean(axes), devices), count


def _over_devices(
    mean: Float[Array, "channel"], var: Float[Array, "channel"], devices: int
) -> tuple[Float[Array, "channel"], Float[Array, "channel"]]:
    """Mean and variance of the batches of all devices, from those of each device's batch, by one sum.

    Of E[mean^2] - E[mean]^2 all digits would be lost where the means are large. Each mean is therefore split into its first six
    bits, whose squares and sums are exact for up to 64 devices, and a remainder that is 2^-6 as large. With a mean of 100 standard
    deviations the variance's relative error is 5e-5, with 1000 5e-3.
    """
    high = jax.lax.stop_gradient(jax.lax.reduce_precision(mean, exponent_bits=8, mantissa_bits=5))
    low = mean - high
    parts = jnp.stack([high, jnp.square(high), low, var + 2 * high * low + jnp.square(low)])
    high, squares, low, rest = jax.lax.psum(parts, AXIS)
    between = (devices * squares - jnp.square(high)) / devices**2
    high, low = high / devices, low / devices
    # What is left of rounding may be below zero where all values are equal.
    return high + low, jnp.maximum(rest / devices + between - 2 * high * low - jnp.square(low), 0)


class LayerNorm(nn.Module):
    """Layer normalisation over the channels of each position: y = scale (x - mean) / sqrt(var + epsilon) + bias.

    Ba, Kiros and Hinton, arXiv:1607.06450, 2016, as ConvNeXt has it. Parameters: `scale` and `bias`, of shape (channel,). The
    computation is in float32; the result has the type `dtype`, by default the input's.
    """

    epsilon: float = 1e-6
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch *size channel"]) -> Float[Array, "batch *size channel"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        centred = x.astype(jnp.float32) - x.mean(-1, keepdims=True, dtype=jnp.float32)
        factor = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.epsilon)
        return (centred * factor * scale + bias).astype(self.dtype or x.dtype)


class LayerScale(nn.Module):
    """y = layer_scale * x, a factor for each channel, which begins small (Touvron et al., ICCV 2021).

    Parameter: `layer_scale`, of shape (channel,).
    """

    initial: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "batch *size channel"]) -> Float[Array, "batch *size channel"]:
        factors = self.param("layer_scale", nn.initializers.constant(self.initial), x.shape[-1:], jnp.float32)
        return x * factors.astype(x.dtype)


def local_response_norm(
    x: Float[Array, "batch *size channel"], size: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
) -> Float[Array, "batch *size channel"]:
    """Local response normalisation across channels, as AlexNet's paper defines it (Krizhevsky et al., NIPS 2012, 3.3).

    b_i = a_i / (k + alpha * sum_{j = i - n/2}^{i + n/2} a_j^2)^beta,   n = size, the sum within the existing channels.

    `alpha` multiplies the *sum*. Caffe and PyTorch divide it by n first: `caffe_local_response_norm`.

    Raises:
      ValueError: `size` is not odd, so that the window has no central channel.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"local_response_norm: size={size}: expected an odd number of channels")
    half, ones = size // 2, (1,) * (x.ndim - 1)
    padding = ((0, 0),) * (x.ndim - 1) + ((half, half),)
    total = jax.lax.reduce_window(jnp.square(x), 0.0, jax.lax.add, (*ones, size), (*ones, 1), padding)
    return x * (k + alpha * total) ** -beta


def caffe_local_response_norm(
    x: Float[Array, "batch *size channel"], size: int = 5, k: float = 1.0, alpha: float = 1e-4, beta: float = 0.75
) -> Float[Array, "batch *size channel"]:
    """Local response normalisation as Caffe and PyTorch define it: alpha multiplies the *mean* of the squares."""
    return local_response_norm(x, size, k, alpha / size, beta)
