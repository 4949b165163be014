"""Optimisers: a schedule and options -> an optax gradient transformation."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import optax

from cnnjax.options import fraction, not_negative


def sgd(
    learning_rate: optax.Schedule,
    *,
    momentum: Annotated[float, "share of the last update that is kept", fraction] = 0.9,
    nesterov: Annotated[bool, "look ahead along the momentum"] = False,
    weight_decay: Annotated[float, "L2, added to the gradient", not_negative] = 0.0,
    decayed: Annotated[Literal["kernels", "all"], "which parameters decay: kernels, or all"] = "kernels",
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum and L2 regularisation, as the classic papers and PyTorch have it.

    g = gradient + weight_decay * w,   v = momentum * v + g,   w = w - rate * v

    (Nesterov's: w = w - rate * (g + momentum * v)). The decay is the gradient of (weight_decay / 2) |w|^2 and passes
    through the momentum; it acts on kernels, or on all parameters.
    """
    mask = kernel_mask if decayed == "kernels" else None
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask) if weight_decay else optax.identity(),
        optax.sgd(learning_rate, momentum or None, nesterov),
    )


def kernel_mask(params: Any) -> Any:
    """True for the parameters named `kernel`: not biases, nor the scales of a normalisation."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"sgd": sgd}
