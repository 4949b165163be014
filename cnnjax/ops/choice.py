"""Which implementation of an operation is used: JAX's own, or one of ours where that is faster.

The choice depends only on shapes, type and backend, never on a measurement at run time, so that a run is bitwise
reproducible. Our implementations are for float32 on the CPU, where a whole training step of plain Flax takes up to 3 times as
long (see docs/explanation/speed.md). On a GPU or TPU all operations are JAX's own.
"""

import contextlib
import contextvars
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.core.options import unknown

Ops = Literal["fast", "stock"]
Implementation = Literal["stock", "product", "winograd", "batch_minor", "columns", "depthwise", "grouped"]
# Of at most this many channels, the weight gradient as a matrix product is faster.
FEW_CHANNELS = 16
# With fewer channels or features than a vector holds, and at least this many images, putting the batch axis last is faster.
VECTOR, MANY_IMAGES = 8, 32
# A kernel of more elements than this is large: a depthwise or transposed convolution would shift its input too often.
MANY_TAPS = 64
_LIBRARY = "xla_cpu_experimental_ynn_fusion_type"
_OPS: tuple[Ops, ...] = ("fast", "stock")
# Contexts that JAX includes in its cache keys: programs compiled with one choice are not reused with the other.
_chosen = jax.make_user_context("fast")
_platform = jax.make_user_context(None)  # of the devices for which a program is traced; None for JAX's default devices


@contextlib.contextmanager
def using(ops: Ops) -> Iterator[None]:
    """Within the block, models are traced with "fast" operations where these exist, or with JAX's "stock" operations.

    Only stock operations support forward-mode differentiation (`jax.jvp`, `jax.hessian`), since the fast ones define their own
    gradients.

    Raises:
      ValueError: `ops` is neither "fast" nor "stock".
    """
    if ops not in _OPS:
        raise ValueError(unknown("choice of operations", ops, _OPS))
    with _chosen(ops):
        yield


def traced_with(ops: Ops, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function so that it is always traced with the chosen operations."""

    @functools.wraps(function)
    def traced(*args: Any) -> Any:
        with using(ops):
            return function(*args)

    return traced


def traced_for(platform: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function so that its operations are chosen for devices of a platform ("cpu", "gpu", "tpu"), present or not."""

    @functools.wraps(function)
    def traced(*args: Any) -> Any:
        with _platform(platform):
            return function(*args)

    return traced


def is_for_cpu(platform: str | None = None) -> bool:
    """Whether programs are traced for a CPU: for the given platform, that of `traced_for`, or JAX's default devices."""
    return (platform or _for()) == "cpu"


def _for() -> str:
    return _platform.value or jax.default_backend()


def compiler_options(ops: Ops, platform: str | None = None) -> Mapping[str, str]:
    """The XLA options for compiling a training step or a prediction for a platform, by default that of JAX's default devices.

    On the CPU, XLA uses YNNPACK for convolutions by default. The convolutions of Eigen are faster; they are selected by
    listing every other operation that YNNPACK supports. `cnn_small`'s training step at batch 128 takes 0.7 times as long with
    Eigen, the predictions of ResNet-50 and AlexNet 0.86 times (2 cores of an AMD EPYC). A user's setting in XLA_FLAGS has
    precedence.
    """
    if ops == "stock" or not is_for_cpu(platform) or _LIBRARY in os.environ.get("XLA_FLAGS", ""):
        return {}
    return {_LIBRARY: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


_record: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("record", default=None)


@contextlib.contextmanager
def recorded() -> Iterator[dict[str, str]]:
    """Records the convolutions and average-poolings traced within the block, each with its implementation, in a dict."""
    record: dict[str, str] = {}
    token = _record.set(record)
    try:
        yield record
    finally:
        _record.reset(token)


def fast(dtype: jnp.dtype) -> bool:
    """Whether operations on arrays of this type may use an implementation other than JAX's own."""
    return _chosen.value == "fast" and dtype == jnp.float32 and is_for_cpu()


def max_pool(dtype: jnp.dtype) -> bool:
    """Whether max-pooling has our gradient. JAX's own is 15 to 30 times as slow on a CPU, and a scatter on a GPU."""
    return fast(dtype) or (_chosen.value == "fast" and _for() in ("gpu", "cuda", "rocm"))


def convolution(
    x: Float[Array, "batch *size channel"],
    kernel: Float[Array, "*kernel_size channel_per_group features"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
) -> Implementation:
    """The implementation of a convolution with these shapes; arguments as in `ops.convolution`.

    - "product": 1x1 kernels, as a matrix product;
    - "winograd": 3x3 kernels with stride 1, at least 64 channels and features, and at least 32 tiles of 4x4 values;
    - "batch_minor": many examples, and so few channels (other than an image's) or features that they do not fill a vector;
    - "columns": the stock convolution, of several outputs side by side where there are few features, with the weight gradient
      as a matrix product, for few channels;
    - "depthwise": as many groups as channels and features, over any number of axes, unless the kernel is large;
    - "grouped": other convolutions in groups over two axes, as dense convolutions, each of which has an implementation of its own;
    - "stock": all others, including dilated convolutions and those over one or three spatial axes.
    """
    if fast(x.dtype) and 1 < groups == x.shape[-1] == kernel.shape[-1] and math.prod(kernel.shape[:-2]) <= MANY_TAPS:
        return _recorded(_described(x, kernel, strides), "depthwise")
    if fast(x.dtype) and kernel.ndim == 4 and groups > 1:
        return _recorded(_described(x, kernel, strides), "grouped")
    ours = fast(x.dtype) and kernel.ndim == 4 and set(dilation) == {1}
    implementation = _convolution(x.shape, kernel.shape, strides, padding) if ours else "stock"
    return _recorded(_described(x, kernel, strides), implementation)


def _convolution(
    shape: Sequence[int], kernel_shape: Sequence[int], strides: Sequence[int], padding: Sequence[tuple[int, int]]
) -> Implementation:
    batch, *size, _ = shape
    batch = least(batch)
    *extents, channels, features = kernel_shape
    padded = max(map(max, padding))
    if extents == [1, 1] and not padded:
        return "product"
    if extents == [3, 3] and set(strides) == {1} and padded <= 2 and min(channels, features) >= 64:
        height, width = (size + sum(pair) - 2 for size, pair in zip(size, padding, strict=True))
        if batch * -(-height // 4) * -(-width // 4) >= 32:
            return "winograd"
    narrow = features < VECTOR or 3 < channels < VECTOR
    if narrow and max(channels, features) <= FEW_CHANNELS and batch >= MANY_IMAGES:
        return "batch_minor"
    return "columns" if channels <= FEW_CHANNELS else "stock"


def transposed_convolution(
    x: Float[Array, "batch *size channel"],
    kernel: Float[Array, "*kernel_size channel features"],
    strides: Sequence[int],
) -> Implementation:
    """The implementation of a transposed convolution: "columns" for its weight gradient unless the kernel is large, or "stock"."""
    ours = fast(x.dtype) and x.ndim == 4 and kernel.shape[0] * kernel.shape[1] <= MANY_TAPS
    return _recorded(f"{_described(x, kernel, strides)}, transposed", "columns" if ours else "stock")


def average_pool(x: Float[Array, "batch *size channel"]) -> Implementation:
    """The implementation of average-pooling: batch innermost where neighbouring convolutions use that order."""
    few = x.ndim == 4 and x.shape[-1] <= FEW_CHANNELS and least(x.shape[0]) >= MANY_IMAGES
    return _recorded(
        f"average-pool of {'x'.join(map(str, x.shape))}", "batch_minor" if few and fast(x.dtype) else "stock"
    )


def _described(x: Array, kernel: Array, strides: Sequence[int]) -> str:
    sizes = " by ".join("x".join(map(str, array.shape)) for array in (x, kernel))
    return f"{sizes}, strides {'x'.join(map(str, strides))}"


def least(batch: Any) -> int:
    """The size of a batch by which an implementation is chosen: 1 where `jax.export` leaves the batch open, and any may come."""
    return 1 if jax.export.is_symbolic_dim(batch) else batch


def _recorded(operation: str, implementation: Implementation) -> Implementation:
    if (record := _record.get()) is not None:
        record[operation] = implementation
    return implementation
