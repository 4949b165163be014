"""Frozen layers in the training step, whose parameters and batch statistics do not change."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax

from cnnjax.core.paths import path_name
from cnnjax.layers.flax_layers import fields_set, is_batch_norm
from cnnjax.layers.normalization import BatchNorm

Frozen = Callable[[str], bool]  # a parameter's name -> whether it is frozen


def nothing(name: str) -> bool:
    """The selection of frozen parameters in which nothing is frozen."""
    return False


def frozen_mask(params: Any, frozen: Frozen) -> Any:
    """True for every frozen parameter."""
    return jax.tree_util.tree_map_with_path(lambda path, _: frozen(path_name(path)), params)


def frozen_statistics(batch_stats: Any, frozen: Frozen) -> Any:
    """True for every batch statistic of a normalisation whose scale is frozen, or that is constant (`layers.frozen_batch_norm`)."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(batch_stats)]
    constant = {path[:-1] for path in paths if path[-1] == _SCALE}

    def stays(path: tuple[Any, ...], _: Any) -> bool:
        return path[:-1] in constant or frozen(path_name((*path[:-1], _SCALE)))

    return jax.tree_util.tree_map_with_path(stays, batch_stats)


_SCALE = jax.tree_util.DictKey("scale")


@contextlib.contextmanager
def statistics_kept(frozen: Frozen) -> Iterator[None]:
    """Within the block, a batch normalisation with a frozen scale uses its running statistics in training without changing them."""

    def intercept(
        method: Any, args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
    ) -> Any:
        module = context.module
        normalizes = context.method_name == "__call__" and is_batch_norm(module)
        if not normalizes or not frozen("/".join((*module.path, "scale"))):
            return method(*args, **kwargs)
        x = args[0] if args else kwargs["x"]
        if isinstance(module, BatchNorm):
            return method(x, train=False)
        with fields_set(module, use_running_average=True):
            return method(x)

    with nn.intercept_methods(intercept):
        yield
