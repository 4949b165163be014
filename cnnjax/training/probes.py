"""Probes: activations, gradients, updates and batch statistics of each layer, measured on a fixed probe batch.

Probes are measured before the first step and after each epoch by a separate program, so that they do not change the training
step. The network is measured in training mode: batch normalisation uses the statistics of the batch, dropout masks are those
that the next step would draw, and the parameters are the trained ones, not their averages. The probe batch consists of about
the first 128 examples in the order of the first epoch, without augmentation: the same examples every time.

The activation of a layer is its output after the activation function, if one is applied to it directly
(`cnnjax.layers.activation`), and otherwise its output. In a network that uses none of these functions, ReLU, tanh and
sigmoid of JAX and Flax are recognised (`layers.recognition`) where nothing else uses the layer's output. If an activation
function is applied to something else, such as the sum at the end of a residual block, it belongs to the module that
contains it.

Quantities, as `probe/<layer's path>/<quantity>` in `metrics.jsonl`:

activation_mean      over examples, positions and units
activation_variance  over examples, positions and units
dead                 after ReLU: share of units (feature maps of a convolution) that are 0 for all examples and positions
saturated            after tanh and sigmoid: share of values beyond 0.97 of the bound (Glorot and Bengio, AISTATS 2010)
gradient_norm        |g|, the gradient of the training loss with respect to the layer's parameters
weight_norm          |w|, the layer's parameters
update_ratio         |u| / |w|, with u the update that the optimiser would compute from g now, momentum and rate included
statistics_drift     batch normalisation: divergence of the running statistics from the probe batch's, in nats

The update is that of the next step, not the difference of the weights between two epochs. The steps of an epoch partly
cancel, so that their sum says little about their size. The next update depends only on the state, so that a resumed run
measures the same. A usual ratio is about 1e-3 (Stanford's CS231n, "Neural networks part 3", section "Ratio of
weights:updates").

The drift is the KL divergence between normal distributions with the running statistics (m, v) and those of the batch (b, s),
averaged over channels: KL = ((s + (b - m)^2) / v - 1 + log(v / s)) / 2. It is 0 if they agree, and 1/2 if only the mean is
off, by one standard deviation.
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

# The probe uses as many whole training batches as are needed for this many examples.
EXAMPLES = 128
# The centre of each activation function's output, and the distance of its bounds from the centre.
BOUNDS = {"tanh": (0.0, 1.0), "scaled_tanh": (0.0, 1.7159), "sigmoid": (0.5, 0.5)}
SATURATED = 0.97

Measured = Mapping[str, Mapping[str, Any]]  # by layer, in the network's order, and quantity


@dataclasses.dataclass
class LayerObservation:
    """The output of one layer and its activation, observed while the network was applied."""

    output: Float[Array, "batch *size unit"]
    activation: str | None = None  # the function's name
    normalized: Float[Array, "batch *size channel"] | None = None  # the input of a batch normalisation


@contextlib.contextmanager
def watched(layers: set[str]) -> Iterator[dict[str, LayerObservation]]:
    """Collects the outputs of the given layers, by path and in order of execution, while a network is applied in the block."""
    seen: dict[str, LayerObservation] = {}
    within: list[str] = []

    def call(method: Any, args: tuple[Any, ...], kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name != "__call__":
            return method(*args, **kwargs)
        path = "/".join(context.module.path)
        within.append(path)
        output = method(*args, **kwargs)
        within.pop()
        array = isinstance(output, jax.Array)  # a layer may return several arrays
        if path in layers and array and not (path in seen and seen[path].output is output):
            given = args[0] if is_batch_norm(context.module) and is_channels_last(context.module) else None
            seen[path] = LayerObservation(output, normalized=given)
        return output

    def activate(name: str, x: Array, y: Array) -> None:
        of = next((path for path, layer in seen.items() if layer.output is x), None)
        path = of or within[-1] or next(reversed(seen), "")
        before = seen[path].normalized if path in seen else None
        seen[path] = LayerObservation(y, name, before)

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
    """A step, to be run under `pmap`, that measures the probes on one batch without changing the state.

    Its results are for `summarize`. Arguments as in `step.train_step`, except that the inputs are not augmented.
    """
    mean_loss = training_loss(model, task, seed, penalty, frozen)

    def step(state: State, batch: Batch) -> Measured:
        batch = inputs(batch, state.step)

        def loss_and_layers(params: Any) -> tuple[Float[Array, ""], Measured]:
            with watched(set(_by_layer(params))) as seen:
                total, _ = mean_loss(params, state, batch)
            if not any(layer.activation for layer in seen.values()):
                total, seen = _recognized(lambda params: mean_loss(params, state, batch)[0], params)
            # JAX sorts the keys of ordinary dicts; an OrderedDict keeps the order of the network.
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


def _recognized(
    mean_loss: Callable[[Any], Float[Array, ""]], params: Any
) -> tuple[Float[Array, ""], dict[str, LayerObservation]]:
    """The loss and the observations of each layer, for a network without activation functions from `layers.activation`."""

    def apply(params: Any) -> tuple[Any, dict[str, Array]]:
        with watched(set(_by_layer(params))) as seen:
            total = mean_loss(params)
        normalized = {path: layer.normalized for path, layer in seen.items()}
        return (total, normalized), collections.OrderedDict((path, layer.output) for path, layer in seen.items())

    (total, normalized), outputs, found = with_activations(apply, params)
    seen = {path: LayerObservation(output, normalized=normalized[path]) for path, output in outputs.items()}
    return total, seen | {path: LayerObservation(y, name, normalized[path]) for path, (name, y) in found.items()}


def _by_layer(params: Any) -> dict[str, list[Any]]:
    """The arrays of each layer, without those of its submodules."""
    layers: dict[str, list[Any]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        layers.setdefault(path_name(path).rpartition("/")[0], []).append(leaf)
    return layers


def _activations(layer: LayerObservation) -> dict[str, Array]:
    """The quantities of one layer's activation, over all devices, which hold equal parts of the batch."""
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
    """The state of an accumulating optimiser just before its update, with the given gradients as the accumulated mean."""
    if accumulate == 1:
        return opt_state
    last = jnp.asarray(accumulate - 1, opt_state.mini_step.dtype)
    return opt_state._replace(mini_step=last, acc_grads=gradients)


def probe_batches(seed: int, split: Split, batch_size: int, resident: bool) -> list[Batch]:
    """This process's part of the probe batches.

    Args:
      seed: the config's seed.
      split: the training split.
      batch_size: the batch size of training, so that the probes need no more memory.
      resident: whether batches hold only indices.
    """
    order = batches.epoch_order(seed, 0, len(split))
    count = min(math.ceil(EXAMPLES / batch_size), len(split) // batch_size)
    fed = batches.feed(
        split, order[: count * batch_size], batch_size, 0, resident, 1, None, processes.index(), processes.count()
    )
    return list(fed)


def summarize(measured: Sequence[Measured], batch_stats: Any) -> dict[str, float]:
    """The probes in a line of `metrics.jsonl`: `probe/<layer>/<quantity>`, without values that are not finite.

    Norms are averaged over the batches; all other quantities are over the examples of all batches together.

    Args:
      measured: the results of `probe_step` for each batch, on the host.
      batch_stats: the running batch statistics.
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
    """The mean and variance of all values from those of equal parts: variance = mean of variances + variance of means."""
    return means.mean(0), variances.mean(0) + means.var(0)


def drift(
    running_mean: Float[np.ndarray, "channel"],
    running_variance: Float[np.ndarray, "channel"],
    mean: Float[np.ndarray, "channel"],
    variance: Float[np.ndarray, "channel"],
    epsilon: float = 1e-5,
) -> float:
    """The divergence of running statistics from those of a batch, in nats, averaged over channels (see the module docstring).

    `epsilon` is added to the variances, as in the normalisation.

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
