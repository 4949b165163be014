"""The training step: a pure function (state, batch) -> (state, sums) for any task.

Sums are over examples: {"loss": ..., "count": ..., and the other sums of the task}. They are added up over steps and divided
once, so that a partial batch counts by its number of examples.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from cnnjax.core.randomness import AXIS, key_for
from cnnjax.data.augment import example_keys
from cnnjax.data.batches import Batch
from cnnjax.layers.flax_layers import as_ours
from cnnjax.models.linen import with_streams
from cnnjax.tasks.task import Prepared, Task, as_it_is
from cnnjax.training.state import TRANSIENT, State
from cnnjax.transfer.freezing import Frozen, frozen_mask, frozen_statistics, nothing, statistics_kept

Metrics = Mapping[str, Array]
# (stored batch, step number) -> the batch for the task's loss.
Inputs = Callable[[Batch, Int[Array, ""]], Batch]


def training_inputs(
    task: Task, prepared: Callable[[Int[Array, ""]], Prepared], seed: int | Array, steps_per_epoch: int
) -> Inputs:
    """The task's inputs in training, with keys from epoch and example, or its repetition; `prepared` is a function of the step number."""

    def inputs(batch: Batch, step: Int[Array, ""]) -> Batch:
        keys = example_keys(seed, step // steps_per_epoch, batch.get("draw", batch["index"]))
        return task.inputs(batch, keys, True, prepared(step))

    return inputs


def evaluation_inputs(task: Task, prepared: Prepared, seed: int | Array) -> Inputs:
    """The task's inputs in evaluation, with the same keys each time."""

    def inputs(batch: Batch, step: Int[Array, ""] | int) -> Batch:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key_for(seed, "evaluate"), batch["index"])
        return task.inputs(batch, keys, False, prepared)

    return inputs


def plain_inputs(task: Task, normalize: Callable[[Array], Array], outputs: Mapping[str, Any]) -> Inputs:
    """The task's inputs for images that are neither augmented nor cropped."""
    return evaluation_inputs(task, as_it_is(normalize, outputs), 0)


def train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    task: Task,
    inputs: Inputs,
    seed: int,
    *,
    penalty: Callable[[Any], Float[Array, ""]] | None = None,
    average: float = 0.0,
    accumulate: int = 1,
    frozen: Frozen = nothing,
) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """The training step, to be run under `pmap` over the axis `devices`.

    The minimised loss is the mean over the examples of the global batch plus the penalty. The loss of a model's auxiliary
    outputs (its collection "auxiliary") is added with the weight `auxiliary_weight`, but is not part of the sums.

    Args:
      model: a Linen module that takes `train=True`.
      optimizer: the optimiser, whose updates are multiplied by the state's `rate_scale`. An optimiser that needs them receives
        `value`, `grad` and `value_fn` of the global batch.
      task: the task whose loss is minimised.
      inputs: a function from a stored batch to the task's batch: augmentation, normalisation, mixing.
      seed: the seed, which together with their names and the step determines the model's random streams.
      penalty: a function of the parameters that is added to the loss, such as L2.
      average: the decay d of the averages, a = d a + (1 - d) w, after every update. In update n it is at most
        (1 + n) / (10 + n), so that the averages forget the initial weights.
      accumulate: the number of steps per update of the optimiser.
      frozen: the selection of frozen parameters; the batch statistics of a frozen normalisation are frozen too.
    """

    mean_loss = training_loss(model, task, seed, penalty, frozen)

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        batch = inputs(batch, state.step)
        (share, (changed, sums)), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params, state, batch)
        gradients, sums = jax.lax.psum((gradients, sums), AXIS)
        # Statistics differ between devices if normalisation is not synchronised; the mean makes them equal in every bit.
        batch_stats = jax.tree.map(
            lambda stays, old, new: old if stays else jax.lax.pmean(new, AXIS),
            frozen_statistics(state.batch_stats, frozen),
            state.batch_stats,
            changed.pop("batch_stats", state.batch_stats),
        )
        collections = state.collections and jax.tree.map(_reduced, {**state.collections, **changed})
        extra = {}
        if isinstance(optimizer, optax.GradientTransformationExtraArgs):
            stays = frozen_mask(state.params, frozen)  # for these the optimiser receives zeros

            def own(params: Any) -> Float[Array, ""]:
                whole = jax.tree.map(lambda stays, old, new: old if stays else new, stays, state.params, params)
                return mean_loss(whole, state, batch)[0]

            extra = {"value": jax.lax.psum(share, AXIS), "grad": gradients, "value_fn": added_over_devices(own)}
        updates, opt_state = scaled_update(optimizer, gradients, state.opt_state, state, frozen, **extra)
        params = optax.apply_updates(state.params, updates)
        averages = state.averages
        if averages is not None:
            now = {"params": params, "batch_stats": batch_stats}
            averages = _averaged(averages, now, average, state.step + 1, accumulate)
        return State(state.step + 1, params, batch_stats, opt_state, state.rate_scale, averages, collections), sums

    return step


def added_over_devices(share: Callable[[Any], Float[Array, ""]]) -> Callable[[Any], Float[Array, ""]]:
    """The sum over devices of a function of the parameters, with a gradient that is the same on all devices.

    Under `pmap`, JAX's transpose of a sum over devices is again such a sum. The gradient of `psum(share(params))` would
    therefore be this device's gradient times the number of devices, which differs between devices.
    """

    @jax.custom_vjp
    def whole(params: Any) -> Float[Array, ""]:
        return jax.lax.psum(share(params), AXIS)

    def forward(params: Any) -> tuple[Float[Array, ""], Any]:
        return jax.lax.psum(jax.value_and_grad(share)(params), AXIS)

    def backward(gradients: Any, cotangent: Float[Array, ""]) -> tuple[Any]:
        return (jax.tree.map(lambda gradient: cotangent * gradient, gradients),)

    whole.defvjp(forward, backward)
    return whole


def _reduced(array: Array) -> Array:
    """An array of a collection, made equal on all devices: the mean of real numbers, the maximum of integers."""
    return jax.lax.pmean(array, AXIS) if jnp.issubdtype(array.dtype, jnp.inexact) else jax.lax.pmax(array, AXIS)


def training_loss(
    model: nn.Module,
    task: Task,
    seed: int,
    penalty: Callable[[Any], Float[Array, ""]] | None = None,
    frozen: Frozen = nothing,
) -> Callable[[Any, State, Batch], tuple[Float[Array, ""], tuple[dict[str, Any], Metrics]]]:
    """The function that the training step differentiates: (params, state, batch) -> (loss, (changed collections, sums)).

    The batch is a result of the task's inputs. The loss is this device's share of the mean over the global batch, so that
    gradients must be summed over the devices. Arguments as in `train_step`.
    """

    def mean_loss(params: Any, state: State, batch: Batch) -> tuple[Float[Array, ""], tuple[dict[str, Any], Metrics]]:
        mask = batch["mask"]
        count = jax.lax.psum(mask.sum(), AXIS)
        # Without gradients for frozen layers, XLA omits the whole backward pass below them.
        stays = frozen_mask(params, frozen)
        params = jax.tree.map(lambda w, stays: jax.lax.stop_gradient(w) if stays else w, params, stays)
        kept = {"batch_stats": state.batch_stats, **(state.collections or {})}
        with as_ours(), statistics_kept(frozen):
            (values, sums), changed = with_streams(
                lambda rngs: model.apply(
                    {"params": params, **kept},
                    rngs=rngs,
                    mutable=[*kept, *TRANSIENT],
                    method=lambda net: task.loss(net, batch, True),
                ),
                lambda name: key_for(seed, name, state.step),
            )
        extra = penalty(params) if penalty else 0.0
        sums = masked_sums(task, values, sums, mask)
        # Every device adds its share of the penalty, which counts once for the global batch.
        sums = {**sums, "loss": sums["loss"] + extra * mask.sum()}
        total = sums["loss"]
        changed = dict(changed)
        for auxiliary in jax.tree.leaves(changed.get("auxiliary", {})):  # heads that are used only in training
            values = task.auxiliary_loss(auxiliary, batch)
            total += model.auxiliary_weight * jnp.where(mask > 0, values, 0).sum()
        for name, collection in changed.items():
            if name in kept and jax.tree.structure(collection) != jax.tree.structure(kept[name]):
                raise ValueError(
                    f"the model's collection {name!r} changes its structure in a training step (sown values grow): write it "
                    "with self.variable, or sow it into 'intermediates'"
                )
        return total / count, ({name: value for name, value in changed.items() if name in kept}, sums)

    return mean_loss


def masked_sums(
    task: Task, values: Float[Array, "batch"], sums: Mapping[str, Array], mask: Float[Array, "batch"]
) -> dict[str, Array]:
    """The results of a task's loss, summed over the examples that are not padding.

    The value of a masked example may be anything, including NaN, so it is replaced by 0 rather than multiplied by 0.

    Raises:
      ValueError: the loss is not one value per example, or the first axis of another array is not the batch.
    """
    name = type(task).__name__
    if jnp.shape(values) != mask.shape:
        raise ValueError(
            f"{name}.loss returned a loss of shape {jnp.shape(values)}, expected one value per example, {mask.shape}: take the "
            "mean or sum over its other axes"
        )
    if reserved := {"loss", "count"} & set(sums):
        raise ValueError(
            f"{name}.loss returned {', '.join(sorted(reserved))} among its sums: the framework adds these itself"
        )
    for key, value in sums.items():
        if jnp.ndim(value) == 0 or jnp.shape(value)[0] != len(mask):
            raise ValueError(
                f"{name}.loss returned the sum {key!r} of shape {jnp.shape(value)}, expected ({len(mask)}, ...), one value per "
                "example: the framework masks and sums them"
            )

    def total(value: Array) -> Array:
        return jnp.where(mask.reshape(-1, *(1,) * (value.ndim - 1)) > 0, value, 0).sum(0)

    return {"loss": total(values), **{key: total(value) for key, value in sums.items()}, "count": mask.sum()}


def scaled_update(
    optimizer: optax.GradientTransformation,
    gradients: Any,
    opt_state: optax.OptState,
    state: State,
    frozen: Frozen,
    **extra: Any,
) -> tuple[Any, optax.OptState]:
    """The update that is added to the parameters, and the next state of the optimiser.

    Args:
      optimizer: the optimiser, whose updates are multiplied by the state's `rate_scale`.
      gradients: the gradients of the global batch.
      opt_state: the state of the optimiser.
      state: the state with the parameters to update.
      frozen: the selection of frozen parameters.
      **extra: further arguments of the optimiser: `value`, `grad`, `value_fn`.
    """
    stays = frozen_mask(state.params, frozen)
    updates, opt_state = optimizer.update(gradients, opt_state, _zero_where(stays, state.params), **extra)
    updates = jax.tree.map(lambda update: state.rate_scale * update, updates)
    return _zero_where(stays, updates), opt_state


def _zero_where(frozen: Any, tree: Any) -> Any:
    """Zeros in the place of frozen parameters, so that neither decay nor momentum accumulates for them."""
    return jax.tree.map(lambda stays, leaf: jnp.zeros_like(leaf) if stays else leaf, frozen, tree)


def _averaged(averages: Any, now: Any, decay: float, steps: Int[Array, ""], accumulate: int) -> Any:
    updates = steps // accumulate
    decay = jnp.minimum(decay, (1 + updates) / (10 + updates))
    decay = jnp.where(steps % accumulate == 0, decay, 1.0)
    return jax.tree.map(lambda average, value: average + (1 - decay) * (value - average), averages, now)


def evaluation_step(model: nn.Module, task: Task, inputs: Inputs) -> Callable[[Mapping[str, Any], Batch], Metrics]:
    """A step that returns the sums of one batch in evaluation mode: no dropout, running batch statistics."""

    def step(variables: Mapping[str, Any], batch: Batch) -> Metrics:
        batch = inputs(batch, 0)
        values, sums = _as_it_predicts(model, variables, lambda net: task.loss(net, batch, False))
        return jax.lax.psum(masked_sums(task, values, sums, batch["mask"]), AXIS)

    return step


def prediction_step(
    model: nn.Module, task: Task, views: Sequence[Inputs], mirrored: Sequence[bool] = (False,)
) -> Callable[[Mapping[str, Any], Batch], Any]:
    """A step that returns the predictions for one batch, averaged over views and gathered from all devices: (batch, ...)."""
    predict = prediction(model, task, views, mirrored)

    def step(variables: Mapping[str, Any], batch: Batch) -> Any:
        return jax.tree.map(lambda array: jax.lax.all_gather(array, AXIS, tiled=True), predict(variables, batch))

    return step


def prediction(
    model: nn.Module, task: Task, views: Sequence[Inputs], mirrored: Sequence[bool] = (False,)
) -> Callable[[Mapping[str, Any], Batch], Any]:
    """A function (variables, batch) -> the predictions on one device, averaged over views: (batch, ...).

    Args:
      model: the network.
      task: the task.
      views: the inputs of each view.
      mirrored: whether each view is of mirror images.
    """

    def predict(variables: Mapping[str, Any], batch: Batch) -> Any:
        seen = []
        for inputs, mirror in zip(views, mirrored, strict=True):
            view = inputs(batch, 0)
            predictions = _as_it_predicts(model, variables, partial(task.predict, batch=view))
            check_predictions(task, predictions, batch["mask"].shape[0])
            seen.append(task.mirrored_back(predictions) if mirror else predictions)
        return seen[0] if len(seen) == 1 else jax.tree.map(lambda *arrays: sum(arrays) / len(arrays), *seen)

    return predict


def check_predictions(task: Task, predictions: Any, count: int) -> None:
    """Raises ValueError for predictions that are not arrays with one entry for each of `count` examples."""
    for array in jax.tree.leaves(predictions):
        if jnp.ndim(array) == 0 or jnp.shape(array)[0] != count:
            raise ValueError(
                f"{type(task).__name__}.predict returned an array of shape {jnp.shape(array)}, expected ({count}, ...), one entry "
                "per example"
            )


def _as_it_predicts(model: nn.Module, variables: Mapping[str, Any], method: Callable[[Any], Any]) -> Any:
    return with_streams(lambda rngs: model.apply(variables, rngs=rngs, method=method), lambda name: key_for(0, name))


def all_examples(array: Array) -> Array:
    """The array for the global batch, in order, from the arrays of each device; differentiable, for use in a task's loss."""
    return jax.lax.all_gather(array, AXIS, tiled=True)


def feature_step(
    read: Callable[[Mapping[str, Any], Array], Array],
    inputs: Callable[[Array], Float[Array, "batch *size channel"]],
) -> Callable[[Mapping[str, Any], Batch], Array]:
    """A step that returns features of one batch, gathered from all devices in order: (batch, ...).

    Args:
      read: a function (variables, network input) -> features; see `layer_output` and `layer_input`.
      inputs: a function from stored images to the network input.
    """

    def step(variables: Mapping[str, Any], batch: Batch) -> Array:
        return jax.lax.all_gather(read(variables, inputs(batch["image"])), AXIS, tiled=True)

    return step


def layer_output(model: nn.Module, layer: str) -> Callable[[Mapping[str, Any], Array], Array]:
    """A function (variables, network input) -> the output of a layer, before a subsequent activation function."""

    def chosen(module: nn.Module, method: str) -> bool:
        return method == "__call__" and "/".join(module.path) == layer

    def read(variables: Mapping[str, Any], images: Float[Array, "batch *size channel"]) -> Array:
        _, seen = model.apply(variables, images, capture_intermediates=chosen, mutable=["intermediates"])
        return jax.tree.leaves(seen["intermediates"])[0]

    return read


def layer_input(model: nn.Module, layer: str) -> Callable[[Mapping[str, Any], Array], Array]:
    """A function (variables, network input) -> the input of a layer, after a preceding activation function."""

    def read(variables: Mapping[str, Any], images: Float[Array, "batch *size channel"]) -> Array:
        taken = []

        def note(method: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Any) -> Any:
            if context.method_name == "__call__" and "/".join(context.module.path) == layer:
                taken.append(args[0])
            return method(*args, **kwargs)

        with nn.intercept_methods(note):
            model.apply(variables, images)
        return taken[0]

    return read
