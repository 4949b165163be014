"""Flax's BatchNorm and Dropout, adapted to give the same results on any number of devices."""

import contextlib
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.core.options import known_zero
from cnnjax.core.randomness import AXIS, example_keys
from cnnjax.layers.normalization import BatchNorm


@contextlib.contextmanager
def as_ours() -> Iterator[None]:
    """Within the block, `nn.BatchNorm` and `nn.Dropout` behave like `layers.BatchNorm` and `layers.Dropout` in two respects.

    - `nn.BatchNorm` without an `axis_name` computes its statistics over all devices of the pmapped axis.
    - `nn.Dropout` derives an example's mask from the example's position in the global batch, so that it is the same on any
      number of devices, and its rate may be a number that JAX traces.

    Everything else is as in Flax: the running variance of `nn.BatchNorm` is the biased one.
    """

    def intercept(
        method: Any, args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
    ) -> Any:
        layer = context.module
        if (
            context.method_name == "__call__"
            and isinstance(layer, nn.BatchNorm)
            and layer.axis_name is None
            and _mapped()
        ):
            with fields_set(layer, axis_name=AXIS):
                return method(*args, **kwargs)
        if context.method_name == "__call__" and type(layer) is nn.Dropout:
            return _dropout(layer, *args, **kwargs)
        return method(*args, **kwargs)

    with nn.intercept_methods(intercept):
        yield


def is_batch_norm(layer: nn.Module) -> bool:
    """Whether a layer is a batch normalisation, ours or Flax's."""
    return isinstance(layer, BatchNorm | nn.BatchNorm)


def is_channels_last(layer: nn.Module) -> bool:
    """Whether a batch normalisation normalises the last axis, as ours always does."""
    return not isinstance(layer, nn.BatchNorm) or layer.axis == -1


@contextlib.contextmanager
def fields_set(module: nn.Module, **fields: Any) -> Iterator[None]:
    """Within the block, the fields of a bound module have the given values."""
    before = {name: getattr(module, name) for name in fields}
    for name, value in fields.items():
        object.__setattr__(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            object.__setattr__(module, name, value)


def _mapped() -> bool:
    with contextlib.suppress(NameError):  # not inside pmap: the batch is whole
        jax.lax.axis_size(AXIS)
        return True
    return False


def _dropout(
    layer: nn.Dropout, inputs: Float[Array, "batch *shape"], deterministic: bool | None = None, rng: Any = None
) -> Float[Array, "batch *shape"]:
    deterministic = nn.merge_param("deterministic", layer.deterministic, deterministic)
    if deterministic or known_zero(layer.rate):
        return inputs
    if isinstance(layer.rate, int | float) and layer.rate == 1:
        return jnp.zeros_like(inputs)
    shared = {axis % inputs.ndim for axis in layer.broadcast_dims}
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(inputs.shape))
    key = layer.make_rng(layer.rng_collection) if rng is None else rng
    if 0 in shared:  # one mask for all examples, on all devices
        keep = jax.random.bernoulli(key, 1 - layer.rate, shape)
    else:
        draw = lambda key: jax.random.bernoulli(key, 1 - layer.rate, shape[1:])  # noqa: E731
        keep = jax.vmap(draw)(example_keys(key, shape[0]))
    return jnp.where(keep, (inputs / (1 - layer.rate)).astype(inputs.dtype), 0)
