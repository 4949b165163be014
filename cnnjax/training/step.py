"""The step: (state, batch) -> (state, metrics), a pure function.

Metrics are sums: {"loss": sum over examples, "correct": ..., "count": ...}. Whoever reports them adds up and divides
once, so that a partial batch weighs what it holds.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, UInt8

from cnnjax.data.batches import Batch
from cnnjax.randomness import AXIS, key_for
from cnnjax.training.losses import Loss
from cnnjax.training.state import State

Metrics = Mapping[str, Array]
Normalize = Callable[[UInt8[Array, "batch height width channel"]], Float[Array, "batch height width channel"]]


def train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    normalize: Normalize,
    seed: int,
) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """The training step, to be run under `pmap` over the axis `devices`.

    The loss that is minimised is the mean over the examples of the global batch; that of a model's auxiliary logits (its
    collection "auxiliary") is added with its `auxiliary_weight`. The metrics are those of the logits.
    """

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        images, mask = normalize(batch["image"]), batch["mask"]
        count = jax.lax.psum(mask.sum(), AXIS)

        def mean_loss(params: Any) -> tuple[Float[Array, ""], tuple[Any, Metrics]]:
            logits, changed = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                rngs={"dropout": key_for(seed, "dropout", state.step)},
                mutable=["batch_stats", "auxiliary"],
            )
            sums = _sums(logits, loss, batch)
            total = sums["loss"]
            for auxiliary in jax.tree.leaves(changed.get("auxiliary", {})):  # a model's heads that help training alone
                total += model.auxiliary_weight * _sums(auxiliary, loss, batch)["loss"]
            return total / count, (changed.get("batch_stats", {}), sums)

        gradients, (batch_stats, sums) = jax.grad(mean_loss, has_aux=True)(state.params)
        gradients, sums = jax.lax.psum((gradients, sums), AXIS)
        batch_stats = jax.lax.pmean(batch_stats, AXIS)  # the devices' own where normalisation is not synchronised
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(state.step + 1, params, batch_stats, opt_state), sums

    return step


def evaluation_step(
    model: nn.Module, loss: Loss, normalize: Normalize
) -> Callable[[Mapping[str, Any], Batch], Metrics]:
    """The sums of one batch with the model as it predicts: no dropout, running batch statistics."""

    def step(variables: Mapping[str, Any], batch: Batch) -> Metrics:
        logits = model.apply(variables, normalize(batch["image"]))
        return jax.lax.psum(_sums(logits, loss, batch), AXIS)

    return step


def prediction_step(model: nn.Module, normalize: Normalize) -> Callable[[Mapping[str, Any], Batch], Array]:
    """The probabilities of one batch, gathered from all devices in order: (batch, class)."""

    def step(variables: Mapping[str, Any], batch: Batch) -> Array:
        probabilities = jax.nn.softmax(model.apply(variables, normalize(batch["image"])).astype(jnp.float32))
        return jax.lax.all_gather(probabilities, AXIS, tiled=True)

    return step


def _sums(logits: Float[Array, "batch class"], loss: Loss, batch: Batch) -> Metrics:
    logits = logits.astype(jnp.float32)
    mask = batch["mask"]
    correct = logits.argmax(-1) == batch["label"]
    # A masked example's loss may be anything, NaN too, so it is left out rather than multiplied by zero.
    return {
        "loss": jnp.where(mask > 0, loss(logits, batch["label"]), 0).sum(),
        "correct": (correct & (mask > 0)).sum(),
        "count": mask.sum(),
    }
