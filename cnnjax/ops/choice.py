"""Which formulation of an operation runs: JAX's own, or one of ours where that is faster.

The choice is a function of shapes, type and backend alone, never of a measurement at run time, so that a run gives the
same bits again. Ours are for float32 on the CPU, where a whole training step of plain Flax takes up to 3 times as long (see
docs/explanation/speed.md); on a GPU or TPU everything is JAX's own.
"""

import contextlib
import contextvars
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.core.options import unknown

Ops = Literal["fast", "stock"]
Formulation = Literal["stock", "product", "winograd", "batch_minor", "columns"]
# With at most this many channels and at least this many images, putting the batch axis last is faster.
FEW_CHANNELS, MANY_IMAGES = 16, 32
_LIBRARY = "xla_cpu_experimental_ynn_fusion_type"
_OPS: tuple[Ops, ...] = ("fast", "stock")
# A context that JAX knows: what was compiled in the one is not reused in the other.
_chosen = jax.make_user_context("fast")


@contextlib.contextmanager
def using(ops: Ops) -> Iterator[None]:
    """Within the block, models are traced with "fast" operations where there are any, or with JAX's "stock" ones.

    Stock operations can also be differentiated forwards (`jax.jvp`, `jax.hessian`), which the fast ones' own gradients
    do not allow.

    Raises:
      ValueError: there is no such choice.
    """
    if ops not in _OPS:
        raise ValueError(unknown("choice of operations", ops, _OPS))
    with _chosen(ops):
        yield


def traced_with(ops: Ops, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, traced with these operations wherever it is called."""

    @functools.wraps(function)
    def traced(*args: Any) -> Any:
        with using(ops):
            return function(*args)

    return traced


def compiler_options(ops: Ops) -> Mapping[str, str]:
    """What XLA is told when it compiles a training step or a prediction.

    On the CPU it hands convolutions to YNNPACK. Eigen's, chosen here by naming all else that YNNPACK does, are faster:
    `cnn_small`'s training step at batch 128 takes 0.7 times as long with them, ResNet-50's and AlexNet's predictions 0.86
    times (2 cores of an AMD EPYC). What the user says of it in XLA_FLAGS stands.
    """
    if ops == "stock" or jax.default_backend() != "cpu" or _LIBRARY in os.environ.get("XLA_FLAGS", ""):
        return {}
    return {_LIBRARY: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


_record: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("record", default=None)


@contextlib.contextmanager
def recorded() -> Iterator[dict[str, str]]:
    """A dict that gathers the convolutions and average-poolings traced within the block, each with its formulation."""
    record: dict[str, str] = {}
    token = _record.set(record)
    try:
        yield record
    finally:
        _record.reset(token)


def fast(dtype: jnp.dtype) -> bool:
    """Whether operations on arrays of this type may take another formulation than JAX's own."""
    return _chosen.value == "fast" and dtype == jnp.float32 and jax.default_backend() == "cpu"


def convolution(
    x: Float[Array, "batch *size channel"],
    kernel: Float[Array, "*kernel_size channel_per_group features"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
) -> Formulation:
    """Which formulation of a convolution runs, from its shapes; arguments as in `ops.convolution`.

    - "product": 1x1, a matrix product;
    - "winograd": 3x3, stride 1, 64 channels and features or more, on 32 tiles of 4x4 values or more;
    - "batch_minor": a few channels and many examples;
    - "columns": the stock convolution, but the weight gradient as a product, for few channels or strides;
    - "stock": all others, also those in one or three dimensions, dilated or in groups.
    """
    ours = fast(x.dtype) and kernel.ndim == 4 and set(dilation) == {1} and groups == 1
    formulation = _convolution(x.shape, kernel.shape, strides, padding) if ours else "stock"
    described = " by ".join("x".join(map(str, array.shape)) for array in (x, kernel))
    return _recorded(f"{described}, strides {'x'.join(map(str, strides))}", formulation)


def _convolution(
    shape: Sequence[int], kernel_shape: Sequence[int], strides: Sequence[int], padding: Sequence[tuple[int, int]]
) -> Formulation:
    batch, *size, _ = shape
    *extents, channels, features = kernel_shape
    padded = max(map(max, padding))
    if extents == [1, 1] and not padded:
        return "product"
    if extents == [3, 3] and set(strides) == {1} and padded <= 2 and min(channels, features) >= 64:
        height, width = (size + sum(pair) - 2 for size, pair in zip(size, padding, strict=True))
        if batch * -(-height // 4) * -(-width // 4) >= 32:
            return "winograd"
    if max(channels, features) <= FEW_CHANNELS and batch >= MANY_IMAGES:
        return "batch_minor"
    return "columns" if channels <= FEW_CHANNELS or max(strides) > 1 else "stock"


def average_pool(x: Float[Array, "batch *size channel"]) -> Formulation:
    """Which formulation of average-pooling runs: with the batch innermost where the convolutions around it have it so."""
    few = x.ndim == 4 and x.shape[-1] <= FEW_CHANNELS and x.shape[0] >= MANY_IMAGES
    return _recorded(
        f"average-pool of {'x'.join(map(str, x.shape))}", "batch_minor" if few and fast(x.dtype) else "stock"
    )


def _recorded(operation: str, formulation: Formulation) -> Formulation:
    if (record := _record.get()) is not None:
        record[operation] = formulation
    return formulation
