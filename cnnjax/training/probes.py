"""Training's inner life by layer: activations, gradients, updates, batch statistics, measured on a fixed probe batch.

Measured before the first step and at each epoch's end by a program of its own, so that the training step is the same
with and without. The network is looked at as it trains: batch normalisation by the batch's statistics, dropout masks as
the next step would draw them, the parameters that are trained rather than their averages. The probe batch is the first
128 examples or so of the first epoch's order, not augmented: the same examples every time.

A layer's activation is its output after the activation function where one is applied to it directly
(`cnnjax.layers.activation`), and its output otherwise. In a network that has no such function those of JAX and Flax are
recognised (`layers.recognition`): ReLU, tanh and sigmoid, where nothing else takes the layer's output. Where an activation function is applied to something else, as to the
sum at a residual block's end, the module that it stands in is the layer.

Quantities, as `probe/<layer's path>/<quantity>` in `metrics.jsonl`:

activation_mean      over examples, positions and units
activation_variance  over examples, positions and units
dead                 after ReLU: share of the units (a convolution's: its maps) that are 0 for every example and position
saturated            after tanh and sigmoid: share of the values beyond 0.97 of the bound (Glorot and Bengio, AISTATS 2010)
gradient_norm        |g|, of the loss that training minimises, by the layer's parameters
weight_norm          |w|, of the layer's parameters
update_ratio         |u| / |w|, with u the update that the optimiser would make of g now, momentum and rate included
statistics_drift     of a batch normalisation: how far the running statistics are from the probe batch's, in nats

The update is that of the next step, rather than the difference between two epochs' weights: the steps of an epoch partly cancel,
so that their sum says little of their size, and nothing but the state is needed, so that a resumed run measures the same.
About 1e-3 is a usual ratio (Stanford's CS231n, "Neural networks part 3", section "Ratio of weights:updates").

The drift is the divergence of the running statistics (m, v) from the batch's (b, s), as normal distributions, a mean over
channels: KL = ((s + (b - m)^2) / v - 1 + log(v / s)) / 2. It is 0 where they agree, and a half where the mean alone is off
by one standard deviation.
"""

import collections
import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from cnnjax.core.paths import path_name
from cnnjax.core.randomness import AXIS
from cnnjax.data import batches
from cnnjax.data.batches import Batch
from cnnjax.data.datasets import Split
from cnnjax.layers.activations import watched_by
from cnnjax.layers.flax_layers import is_batch_norm, is_channels_last
from cnnjax.layers.normalization import batch_statistics
from cnnjax.layers.recognition import with_activations
from cnnjax.tasks.task import Task
from cnnjax.training import processes
from cnnjax.training.state import State
from cnnjax.training.step import Inputs, scaled_update, training_loss
from cnnjax.transfer.freezing import Frozen, frozen_mask, nothing

# In whole batches of training's size, enough of them to hold this many examples.
EXAMPLES = 128
# Of an activation function's output: its middle, and how far its bounds are from there.
BOUNDS = {"tanh": (0.0, 1.0), "scaled_tanh": (0.0, 1.7159), "sigmoid": (0.5, 0.5)}
SATURATED = 0.97

Measured = Mapping[str, Mapping[str, Any]]  # by layer, in the network's order, and quantity


@dataclasses.dataclass
class Seen:
    """What was seen of one layer while the network was applied."""

    output: Float[Array, "batch *size unit"]
    activation: str | None = None  # the function's name
    normalized: Float[Array, "batch *size channel"] | None = None  # what a batch normalisation was given


@contextlib.contextmanager
def watched(layers: set[str]) -> Iterator[dict[str, Seen]]:
    """Gathers these layers' outputs while a network is applied within, by path, in the order they are met."""
    seen: dict[str, Seen] = {}
    within: list[str] = []

    def call(method: Any, args: tuple[Any, ...], kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name != "__call__":
            return method(*args, **kwargs)
        path = "/".join(context.module.path)
        within.append(path)
        output = method(*args, **kwargs)
        within.pop()
        array = isinstance(output, jax.Array)  # a layer may return several
        if path in layers and array and not (path in seen and seen[path].output is output):
            given = args[0] if is_batch_norm(context.module) and is_channels_last(context.module) else None
            seen[path] = Seen(output, normalized=given)
        return output

    def activate(name: str, x: Array, y: Array) -> None:
        of = next((path for path, layer in seen.items() if layer.output is x), None)
        path = of or within[-1] or next(reversed(seen), "")
        before = seen[path].normalized if path in seen else None
        seen[path] = Seen(y, name, before)

    with nn.intercept_methods(call), watched_by(activate):
        yield seen


def probe_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    task: Task,
    inputs: Inputs,
    seed: int,
    *,
    penalty: Callable[[Any], Float[Array, ""]] | None = None,
    accumulate: int = 1,
    frozen: Frozen = nothing,
) -> Callable[[State, Batch], Measured]:
    """What `summarize` makes a line of, from a state and one batch, to be run under `pmap`; the state is not changed.

    Arguments as in `step.train_step`, but that the inputs are not augmented.
    """
    mean_loss = training_loss(model, task, seed, penalty, frozen)

    def step(state: State, batch: Batch) -> Measured:
        batch = inputs(batch, state.step)

        def loss_and_layers(params: Any) -> tuple[Float[Array, ""], Measured]:
            with watched(set(_by_layer(params))) as seen:
                total, _ = mean_loss(params, state, batch)
            if not any(layer.activation for layer in seen.values()):
                total, seen = _recognized(lambda params: mean_loss(params, state, batch)[0], params)
            # Ordered dicts alone come back from JAX in the network's order.
            return total, collections.OrderedDict((path, _activations(layer)) for path, layer in seen.items())

        gradients, measured = jax.grad(loss_and_layers, has_aux=True)(state.params)
        gradients = jax.lax.psum(gradients, AXIS)
        updates, _ = scaled_update(
            optimizer, gradients, _gathered(state.opt_state, gradients, accumulate), state, frozen
        )
        stays = _by_layer(frozen_mask(state.params, frozen))
        trees = _by_layer(gradients), _by_layer(state.params), _by_layer(updates)
        for path, layer in measured.items():
            if path in stays and not all(stays[path]):
                gradient, weight, update = (optax.tree.norm(tree[path]) for tree in trees)
                layer |= {"gradient_norm": gradient, "weight_norm": weight, "update_norm": update}
        return measured

    return step


def _recognized(mean_loss: Callable[[Any], Float[Array, ""]], params: Any) -> tuple[Float[Array, ""], dict[str, Seen]]:
    """The loss and what is seen of each layer of a network none of whose activation functions is from `layers.activation`."""

    def apply(params: Any) -> tuple[Any, dict[str, Array]]:
        with watched(set(_by_layer(params))) as seen:
            total = mean_loss(params)
        normalized = {path: layer.normalized for path, layer in seen.items()}
        return (total, normalized), collections.OrderedDict((path, layer.output) for path, layer in seen.items())

    (total, normalized), outputs, found = with_activations(apply, params)
    seen = {path: Seen(output, normalized=normalized[path]) for path, output in outputs.items()}
    return total, seen | {path: Seen(y, name, normalized[path]) for path, (name, y) in found.items()}


def _by_layer(params: Any) -> dict[str, list[Any]]:
    """Each layer's own arrays."""
    layers: dict[str, list[Any]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        layers.setdefault(path_name(path).rpartition("/")[0], []).append(leaf)
    return layers


def _activations(layer: Seen) -> dict[str, Array]:
    """Of one batch, over all devices, which have equal parts of it."""
    x = layer.output.astype(jnp.float32)
    mean = jax.lax.pmean(x.mean(), AXIS)
    measured = {"mean": mean, "variance": jax.lax.pmean(jnp.square(x - mean).mean(), AXIS)}
    if layer.activation == "relu":
        measured["alive"] = jax.lax.pmax((x > 0).any(range(x.ndim - 1)).astype(jnp.int32), AXIS)
    if layer.activation in BOUNDS:
        middle, reach = BOUNDS[layer.activation]
        measured["saturated"] = jax.lax.pmean((jnp.abs(x - middle) > SATURATED * reach).mean(), AXIS)
    if layer.normalized is not None:
        measured["channel_mean"], measured["channel_variance"], _ = batch_statistics(layer.normalized, True)
    return measured


def _gathered(opt_state: optax.OptState, gradients: Any, accumulate: int) -> optax.OptState:
    """An accumulating optimiser about to make its update, these gradients being the mean of what it has gathered so far."""
    if accumulate == 1:
        return opt_state
    last = jnp.asarray(accumulate - 1, opt_state.mini_step.dtype)
    return opt_state._replace(mini_step=last, acc_grads=gradients)


def probe_batches(seed: int, split: Split, batch_size: int, resident: bool) -> list[Batch]:
    """The probe's examples, as the step takes batches: this process's part of each.

    Args:
      seed: the config's.
      split: the training split.
      batch_size: of training, so that what fits there fits here.
      resident: indices only.
    """
    order = batches.epoch_order(seed, 0, len(split))
    count = min(math.ceil(EXAMPLES / batch_size), len(split) // batch_size)
    fed = batches.feed(
        split, order[: count * batch_size], batch_size, 0, resident, 1, None, processes.index(), processes.count()
    )
    return list(fed)


def summarize(measured: Sequence[Measured], batch_stats: Any) -> dict[str, float]:
    """What a line of `metrics.jsonl` has of the probe: `probe/<layer>/<quantity>`, without what is not finite.

    Norms are means over the batches; all else is that of all their examples together.

    Args:
      measured: of each batch, by `probe_step`, fetched.
      batch_stats: the running ones.
    """
    line: dict[str, float] = {}
    for path in measured[0]:
        quantities = _summarize_layer([batch[path] for batch in measured], _at(batch_stats, path))
        line |= {f"probe/{path}/{name}": float(value) for name, value in quantities.items()}
    return {name: value for name, value in line.items() if math.isfinite(value)}


def _summarize_layer(of_batches: Sequence[Mapping[str, Any]], running: Mapping[str, Any]) -> dict[str, Any]:
    each = {name: np.stack([np.asarray(batch[name], np.float64) for batch in of_batches]) for name in of_batches[0]}
    mean, variance = _together(each["mean"], each["variance"])
    summary = {"activation_mean": mean, "activation_variance": variance}
    if "alive" in each:
        summary["dead"] = 1 - each["alive"].max(0).mean()
    if "saturated" in each:
        summary["saturated"] = each["saturated"].mean()
    if "gradient_norm" in each:
        weight = each["weight_norm"].mean()
        update = each["update_norm"].mean()
        summary |= {"gradient_norm": each["gradient_norm"].mean(), "weight_norm": weight}
        summary["update_ratio"] = update / weight if weight and math.isfinite(update + weight) else math.nan
    if "channel_mean" in each:
        mean, variance = _together(each["channel_mean"], each["channel_variance"])
        summary["statistics_drift"] = drift(running["mean"], running["var"], mean, variance)
    return summary


def _together(means: np.ndarray, variances: np.ndarray) -> tuple[Any, Any]:
    """Mean and variance of all values, from those of equal parts: the mean of variances plus the variance of means."""
    return means.mean(0), variances.mean(0) + means.var(0)


def drift(
    running_mean: Float[np.ndarray, "channel"],
    running_variance: Float[np.ndarray, "channel"],
    mean: Float[np.ndarray, "channel"],
    variance: Float[np.ndarray, "channel"],
    epsilon: float = 1e-5,
) -> float:
    """The divergence of the running statistics from a batch's, in nats, a mean over channels (see the top of this file).

    `epsilon` is added to the variances, as the normalisation does.

    >>> one = np.ones(1)
    >>> drift(one, one, one, one), round(drift(0 * one, one, one, one), 3)
    (0.0, 0.5)
    """
    v, s = np.asarray(running_variance, np.float64) + epsilon, variance + epsilon
    return float(((s + np.square(mean - running_mean)) / v - 1 + np.log(v / s)).mean() / 2)


def _at(tree: Any, path: str) -> Any:
    for name in path.split("/"):
        tree = tree.get(name, {})
    return tree
