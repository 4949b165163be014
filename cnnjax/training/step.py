"""The step: (state, batch) -> (state, metrics), a pure function.

Metrics are sums: {"loss": sum over examples, "correct": ..., "count": ...}. Whoever reports them adds up and divides
once, so that a partial batch weighs what it holds. Any other sum that is returned beside them is reported as they are.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt8

from cnnjax.core.randomness import AXIS, key_for
from cnnjax.data.batches import Batch
from cnnjax.layers.flax_layers import as_ours
from cnnjax.training.losses import Loss, one_hot
from cnnjax.training.state import State
from cnnjax.transfer.freezing import Frozen, frozen_mask, frozen_statistics, nothing, statistics_kept

Metrics = Mapping[str, Array]
# Images as they are stored, and how they are normalised -> views as the network takes them.
Views = Callable[[Array, "Normalize"], list[Array]]
Normalize = Callable[[UInt8[Array, "batch height width channel"]], Float[Array, "batch height width channel"]]
# A batch and the step's number -> images as the network takes them, and targets.
Inputs = Callable[
    [Batch, Int[Array, ""]], tuple[Float[Array, "batch height width channel"], Float[Array, "batch class"]]
]


def plain_inputs(normalize: Normalize, num_classes: int) -> Inputs:
    """A batch's images as they are, normalised."""
    return lambda batch, step: (normalize(batch["image"]), one_hot(batch["label"], num_classes))


def train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    inputs: Inputs,
    seed: int,
    *,
    penalty: Callable[[Any], Float[Array, ""]] | None = None,
    average: float = 0.0,
    accumulate: int = 1,
    frozen: Frozen = nothing,
) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """The training step, to be run under `pmap` over the axis `devices`.

    The loss that is minimised is the mean over the examples of the global batch, plus the penalty; that of a model's
    auxiliary logits (its collection "auxiliary") is added with its `auxiliary_weight`. The metrics are those of the
    logits, the penalty included.

    Args:
      model: a Linen module that takes `train=True`.
      optimizer: its update is multiplied by the state's `rate_scale`.
      loss: one value an example.
      inputs: makes images and targets of a batch: augmentation, normalisation, mixing.
      seed: dropout's masks follow from it and the step.
      penalty: of the parameters, such as L2.
      average: the decay d of the averages, a = d a + (1 - d) w, after every update; in a run's first n updates at most
        (1 + n) / (10 + n), so that they do not remember the initial weights.
      accumulate: how many steps the optimiser takes for an update.
      frozen: which parameters stay as they are; a frozen normalisation's batch statistics stay too.
    """

    mean_loss = training_loss(model, loss, seed, penalty, frozen)

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        images, targets = inputs(batch, state.step)
        gradient = jax.grad(mean_loss, has_aux=True)
        gradients, (batch_stats, sums) = gradient(state.params, state, batch, images, targets)
        gradients, sums = jax.lax.psum((gradients, sums), AXIS)
        # The devices' own where normalisation is not synchronised; a mean of equals may differ in the last bit.
        batch_stats = jax.tree.map(
            lambda stays, old, new: old if stays else jax.lax.pmean(new, AXIS),
            frozen_statistics(state.batch_stats, frozen),
            state.batch_stats,
            batch_stats,
        )
        updates, opt_state = scaled_update(optimizer, gradients, state.opt_state, state, frozen)
        params = optax.apply_updates(state.params, updates)
        averages = state.averages
        if averages is not None:
            now = {"params": params, "batch_stats": batch_stats}
            averages = _averaged(averages, now, average, state.step + 1, accumulate)
        return State(state.step + 1, params, batch_stats, opt_state, state.rate_scale, averages), sums

    return step


def training_loss(
    model: nn.Module,
    loss: Loss,
    seed: int,
    penalty: Callable[[Any], Float[Array, ""]] | None = None,
    frozen: Frozen = nothing,
) -> Callable[[Any, State, Batch, Array, Array], tuple[Float[Array, ""], tuple[Any, Metrics]]]:
    """What the training step differentiates: (params, state, batch, images, targets) -> (loss, (batch_stats, sums)).

    The loss is this device's share of the mean over the global batch: its gradients are to be added up over the devices.
    Arguments as in `train_step`.
    """

    def mean_loss(
        params: Any, state: State, batch: Batch, images: Array, targets: Array
    ) -> tuple[Float[Array, ""], tuple[Any, Metrics]]:
        mask = batch["mask"]
        count = jax.lax.psum(mask.sum(), AXIS)
        # Without gradients of what is frozen, XLA leaves out the whole backward pass below it.
        stays = frozen_mask(params, frozen)
        params = jax.tree.map(lambda w, stays: jax.lax.stop_gradient(w) if stays else w, params, stays)
        with as_ours(), statistics_kept(frozen):
            logits, changed = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                rngs={"dropout": key_for(seed, "dropout", state.step)},
                mutable=["batch_stats", "auxiliary"],
            )
        extra = penalty(params) if penalty else 0.0
        sums = _sums(logits, loss, batch, targets)
        # Every device adds its share of the penalty, which is one for the whole batch.
        sums = {**sums, "loss": sums["loss"] + extra * mask.sum()}
        total = sums["loss"]
        for auxiliary in jax.tree.leaves(changed.get("auxiliary", {})):  # a model's heads that help training alone
            total += model.auxiliary_weight * _sums(auxiliary, loss, batch, targets)["loss"]
        return total / count, (changed.get("batch_stats", {}), sums)

    return mean_loss


def scaled_update(
    optimizer: optax.GradientTransformation, gradients: Any, opt_state: optax.OptState, state: State, frozen: Frozen
) -> tuple[Any, optax.OptState]:
    """What an update adds to the parameters, and the optimiser's next state.

    Args:
      optimizer: its update is multiplied by the state's `rate_scale`.
      gradients: of the global batch.
      opt_state: the optimiser's.
      state: its parameters are updated.
      frozen: which parameters stay as they are.
    """
    stays = frozen_mask(state.params, frozen)
    updates, opt_state = optimizer.update(gradients, opt_state, _zero_where(stays, state.params))
    updates = jax.tree.map(lambda update: state.rate_scale * update, updates)
    return _zero_where(stays, updates), opt_state


def _zero_where(frozen: Any, tree: Any) -> Any:
    """What the optimiser sees of frozen parameters, so that neither decay nor momentum gathers for them."""
    return jax.tree.map(lambda stays, leaf: jnp.zeros_like(leaf) if stays else leaf, frozen, tree)


def _averaged(averages: Any, now: Any, decay: float, steps: Int[Array, ""], accumulate: int) -> Any:
    updates = steps // accumulate
    decay = jnp.minimum(decay, (1 + updates) / (10 + updates))
    decay = jnp.where(steps % accumulate == 0, decay, 1.0)
    return jax.tree.map(lambda average, value: average + (1 - decay) * (value - average), averages, now)


def evaluation_step(
    model: nn.Module, loss: Loss, normalize: Normalize
) -> Callable[[Mapping[str, Any], Batch], Metrics]:
    """The sums of one batch with the model as it predicts: no dropout, running batch statistics."""

    def step(variables: Mapping[str, Any], batch: Batch) -> Metrics:
        logits = model.apply(variables, normalize(batch["image"]))
        return jax.lax.psum(_sums(logits, loss, batch, one_hot(batch["label"], logits.shape[-1])), AXIS)

    return step


def prediction_step(
    model: nn.Module,
    normalize: Normalize,
    probabilities: Callable[[Float[Array, "batch class"]], Float[Array, "batch class"]],
    views: Views,
) -> Callable[[Mapping[str, Any], Batch], Array]:
    """The probabilities of one batch, the mean over its views, gathered from all devices in order: (batch, class)."""

    def step(variables: Mapping[str, Any], batch: Batch) -> Array:
        seen = [
            probabilities(model.apply(variables, view).astype(jnp.float32)) for view in views(batch["image"], normalize)
        ]
        return jax.lax.all_gather(sum(seen) / len(seen), AXIS, tiled=True)

    return step


def feature_step(
    read: Callable[[Mapping[str, Any], Array], Array],
    inputs: Callable[[Array], Float[Array, "batch height width channel"]],
) -> Callable[[Mapping[str, Any], Batch], Array]:
    """What `read` finds in the network for one batch, gathered from all devices in order: (batch, ...).

    Args:
      read: of the variables and what the network takes; see `layer_output` and `layer_input`.
      inputs: makes of uint8 images what the network takes.
    """

    def step(variables: Mapping[str, Any], batch: Batch) -> Array:
        return jax.lax.all_gather(read(variables, inputs(batch["image"])), AXIS, tiled=True)

    return step


def layer_output(model: nn.Module, layer: str) -> Callable[[Mapping[str, Any], Array], Array]:
    """(variables, network input) -> what a layer puts out, before the activation that follows it."""

    def chosen(module: nn.Module, method: str) -> bool:
        return method == "__call__" and "/".join(module.path) == layer

    def read(variables: Mapping[str, Any], images: Float[Array, "batch height width channel"]) -> Array:
        _, seen = model.apply(variables, images, capture_intermediates=chosen, mutable=["intermediates"])
        return jax.tree.leaves(seen["intermediates"])[0]

    return read


def layer_input(model: nn.Module, layer: str) -> Callable[[Mapping[str, Any], Array], Array]:
    """(variables, network input) -> what a layer takes in, after the activation before it."""

    def read(variables: Mapping[str, Any], images: Float[Array, "batch height width channel"]) -> Array:
        taken = []

        def note(method: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Any) -> Any:
            if context.method_name == "__call__" and "/".join(context.module.path) == layer:
                taken.append(args[0])
            return method(*args, **kwargs)

        with nn.intercept_methods(note):
            model.apply(variables, images)
        return taken[0]

    return read


def _sums(
    logits: Float[Array, "batch class"], loss: Loss, batch: Batch, targets: Float[Array, "batch class"]
) -> dict[str, Array]:
    logits = logits.astype(jnp.float32)
    mask = batch["mask"]
    correct = logits.argmax(-1) == batch["label"]
    # A masked example's loss may be anything, NaN too, so it is left out rather than multiplied by zero.
    return {
        "loss": jnp.where(mask > 0, loss(logits, targets), 0).sum(),
        "correct": (correct & (mask > 0)).sum(),
        "count": mask.sum(),
    }
