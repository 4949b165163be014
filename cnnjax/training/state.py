"""The state of training: an ordinary pytree, the same on every device."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from cnnjax.randomness import drawn_at_once, key_for


@flax.struct.dataclass
class State:
    """Everything a step changes; nothing random is in it."""

    step: Int[Array, ""]  # steps done
    params: Any
    batch_stats: Any
    opt_state: optax.OptState

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def initial_state(
    model: nn.Module, optimizer: optax.GradientTransformation, image_shape: tuple[int, int, int], seed: int
) -> State:
    """The state before the first step, from the seed alone.

    Args:
      model: its parameters are drawn as its layers say.
      optimizer: its state is for those parameters.
      image_shape: height, width and channels.
      seed: the config's.
    """

    key = key_for(seed, "initial")

    def make() -> State:
        variables = model.init({"params": key}, jnp.zeros((1, *image_shape)))
        params = variables["params"]
        return State(jnp.zeros((), jnp.int32), params, variables.get("batch_stats", {}), optimizer.init(params))

    return drawn_at_once(make, key)
