"""The state of a training: a pytree, the same on every device."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from cnnjax.core.randomness import drawn_at_once, key_for
from cnnjax.ops import choice
from cnnjax.training.optimizers import evaluated_params, kernel_mask

# Collections that each call of a model refills.
TRANSIENT = ("auxiliary", "intermediates", "perturbations")
# Collections of a model's variables that are not kept in `State.collections`.
NOT_KEPT = ("params", "batch_stats", *TRANSIENT)


@flax.struct.dataclass
class State:
    """Everything that a step changes; it contains no random keys."""

    step: Int[Array, ""]  # number of steps done
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    rate_scale: Float[Array, ""]  # factor of the schedule's learning rate, lowered by the plateau schedule
    averages: Any = None  # moving averages of {"params", "batch_stats"}, if the config asks for them
    collections: Any = None  # the model's other variables by collection, or None

    @property
    def variables(self) -> dict[str, Any]:
        """The variables for evaluation and prediction: the averages of the state or of a schedule-free optimiser, if there are any."""
        params = evaluated_params(self.opt_state, self.params)
        averaged = self.averages or {"params": params, "batch_stats": self.batch_stats}
        return averaged | self.collections if self.collections else averaged


def initial_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    seed: int,
    averaged: bool = False,
    scale: float = 1.0,
) -> State:
    """The state before the first step, determined by the seed.

    Args:
      model: the model, whose layers define how parameters are initialised.
      optimizer: the optimiser, whose state is initialised for these parameters.
      image_shape: the height, width and channels of an image.
      seed: the config's seed.
      averaged: whether to keep averages.
      scale: the factor by which every initial kernel is multiplied.
    """
    key = key_for(seed, "initial")
    return drawn_at_once(_drawing(model, optimizer, image_shape, key, averaged), key, scale)


def initial_shapes(
    model: nn.Module, optimizer: optax.GradientTransformation, image_shape: tuple[int, ...], averaged: bool = False
) -> State:
    """The shapes of `initial_state` without computing it; same arguments."""
    return jax.eval_shape(_drawing(model, optimizer, image_shape, jax.random.key(0), averaged), 1.0)


def _drawing(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    key: Key[Array, ""],
    averaged: bool,
) -> Callable[[Float[Array, ""]], State]:
    def make(scale: Float[Array, ""]) -> State:
        with choice.using("stock"):  # traced faster, and the outputs are discarded
            variables = model.init({"params": key}, jnp.zeros((1, *image_shape)))
        params = variables["params"]
        params = jax.tree.map(lambda w, kernel: w * scale if kernel else w, params, kernel_mask(params))
        collections = {name: value for name, value in variables.items() if name not in NOT_KEPT}
        return start_from(params, variables.get("batch_stats", {}), optimizer, averaged, collections or None)

    return make


def start_from(
    params: Any,
    batch_stats: Any,
    optimizer: optax.GradientTransformation,
    averaged: bool = False,
    collections: Any = None,
) -> State:
    """The state before the first step, with given weights."""
    averages = {"params": params, "batch_stats": batch_stats} if averaged else None
    opt_state = optimizer.init(params)
    return State(jnp.zeros((), jnp.int32), params, batch_stats, opt_state, jnp.ones(()), averages, collections)
