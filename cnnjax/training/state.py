"""The state of training: an ordinary pytree, the same on every device."""

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
from cnnjax.training.optimizers import kernel_mask

# Collections that a model's call fills anew each time.
TRANSIENT = ("auxiliary", "intermediates", "perturbations")
# Of a model's variables, those that are no other collection of the state.
NOT_KEPT = ("params", "batch_stats", *TRANSIENT)


@flax.struct.dataclass
class State:
    """Everything a step changes; nothing random is in it."""

    step: Int[Array, ""]  # steps done
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    rate_scale: Float[Array, ""]  # what the schedule's rate is multiplied by; a plateau lowers it
    averages: Any = None  # {"params", "batch_stats"} averaged over the steps, where the config asks for it
    collections: Any = None  # a model's other variables, by collection; None where it has none

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes to evaluate and predict: the averages, where they are kept."""
        averaged = self.averages or {"params": self.params, "batch_stats": self.batch_stats}
        return averaged | self.collections if self.collections else averaged


def initial_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    seed: int,
    averaged: bool = False,
    scale: float = 1.0,
) -> State:
    """The state before the first step, from the seed alone.

    Args:
      model: its parameters are drawn as its layers say.
      optimizer: its state is for those parameters.
      image_shape: height, width and channels.
      seed: the config's.
      averaged: keep averages.
      scale: what every kernel is multiplied by once it is drawn.
    """
    key = key_for(seed, "initial")
    return drawn_at_once(_drawing(model, optimizer, image_shape, key, averaged), key, scale)


def initial_shapes(
    model: nn.Module, optimizer: optax.GradientTransformation, image_shape: tuple[int, ...], averaged: bool = False
) -> State:
    """The shapes of `initial_state`, nothing computed; arguments as there."""
    return jax.eval_shape(_drawing(model, optimizer, image_shape, jax.random.key(0), averaged), 1.0)


def _drawing(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    key: Key[Array, ""],
    averaged: bool,
) -> Callable[[Float[Array, ""]], State]:
    def make(scale: Float[Array, ""]) -> State:
        with choice.using("stock"):  # traced sooner, and what is computed is thrown away
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
    """The state before the first step, from given weights."""
    averages = {"params": params, "batch_stats": batch_stats} if averaged else None
    opt_state = optimizer.init(params)
    return State(jnp.zeros((), jnp.int32), params, batch_stats, opt_state, jnp.ones(()), averages, collections)
