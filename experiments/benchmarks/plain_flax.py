"""Plain Flax: Linen's own layers, `jax.jit` and Optax, as Flax's MNIST example writes them; no setting of JAX is touched."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training import train_state
from jaxtyping import Array, Float

from experiments.benchmarks.networks import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    Halved,
    LayerNorm,
    Layers,
    LayerScale,
    MaxPool,
    Parallel,
    Part,
    Pointwise,
    Repeated,
    Residual,
    Shuffle,
    SqueezeExcitation,
    network_of,
)
from experiments.benchmarks.subject import (
    LEARNING_RATE,
    MOMENTUM,
    Precision,
    Subject,
    check_finite,
    peak_of_jax_device,
    random_batch,
)


class PlainFlax(nn.Module):
    """A described network."""

    layers: Layers
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False
    ) -> Float[Array, "batch class"]:
        return _apply(self.layers, x, train, self.dtype)


def _apply(layers: Layers, x: Array, train: bool, dtype: Any) -> Array:
    for layer in layers:
        match layer:
            case Conv(features, size, strides, padding, bias, groups):
                kernel, padding = ((given if isinstance(given, tuple) else (given, given)) for given in (size, padding))
                settings = {"feature_group_count": groups, "use_bias": bias, "dtype": dtype}
                x = nn.Conv(features, kernel, strides, [(each, each) for each in padding], **settings)(x)
            case BatchNorm():
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype)(x)
            case LayerNorm():
                x = nn.LayerNorm(1e-6, dtype=dtype)(x)
            case LayerScale(initial):
                x = _LayerScale(initial)(x)
            case Activation(name):
                x = _activated(name, x)
            case MaxPool(size, strides, padding):
                x = nn.max_pool(x, (size, size), (strides, strides), ((padding, padding),) * 2)
            case AveragePool(size, strides, padding):
                x = nn.avg_pool(x, (size, size), (strides or size,) * 2, ((padding, padding),) * 2)
            case GlobalAveragePool():
                x = x.mean((1, 2))
            case Flatten():
                x = x.reshape(len(x), -1)
            case Dense(features):
                x = nn.Dense(features, dtype=dtype)(x)
            case Pointwise(features):
                x = nn.Dense(features, dtype=dtype)(x)
            case SqueezeExcitation(squeezed, channels, hidden, gate):
                means = x.mean((1, 2), keepdims=True)
                means = _activated(hidden.name, nn.Conv(squeezed, (1, 1), dtype=dtype)(means))
                x = x * _activated(gate.name, nn.Conv(channels, (1, 1), dtype=dtype)(means))
            case Dropout(rate):
                x = nn.Dropout(rate, deterministic=not train)(x)
            case Halved(features):
                x = jnp.pad(x[:, ::2, ::2], ((0, 0),) * 3 + ((0, features - x.shape[-1]),))
            case Repeated(times):
                x = x.repeat(times, 1).repeat(times, 2)
            case Part(number):
                x = jnp.split(x, 2, -1)[number]
            case Shuffle(groups):
                x = x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape)
            case Parallel(branches):
                x = jnp.concatenate([_apply(branch, x, train, dtype) for branch in branches], -1)
            case Residual(body, shortcut, relu):
                x = _apply(body, x, train, dtype) + _apply(shortcut, x, train, dtype)
                x = nn.relu(x) if relu else x
    return x


def _activated(name: str, x: Array) -> Array:
    return nn.gelu(x, approximate=False) if name == "gelu" else getattr(nn, name)(x)


class _LayerScale(nn.Module):
    initial: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.constant(self.initial), x.shape[-1:])
        return x * scale.astype(x.dtype)


class _State(train_state.TrainState):
    batch_stats: Any


@jax.jit
def _train_step(state: _State, images: Array, labels: Array) -> tuple[_State, Float[Array, ""]]:
    def mean_loss(params: Any) -> tuple[Array, Any]:
        logits, changed = state.apply_fn(
            {"params": params, "batch_stats": state.batch_stats},
            images,
            train=True,
            rngs={"dropout": jax.random.fold_in(jax.random.key(0), state.step)},
            mutable=["batch_stats"],
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
        return losses.mean(), changed.get("batch_stats", {})

    (loss, batch_stats), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    return state.apply_gradients(grads=gradients, batch_stats=batch_stats), loss


def subject(network: str, purpose: str, precision: Precision) -> Subject:
    """A network in plain Flax, for one of `PURPOSES`."""
    timed = network_of(network)
    model = PlainFlax(timed.describe(), jnp.dtype(precision))
    images, labels = jax.device_put(random_batch(timed, timed.batch_size))
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    optimizer = optax.sgd(LEARNING_RATE, MOMENTUM)

    if purpose == "train":
        state = _State.create(
            apply_fn=model.apply,
            params=variables["params"],
            tx=optimizer,
            batch_stats=variables.get("batch_stats", {}),
        )
        del variables

        def train(times: int) -> None:
            nonlocal state
            loss = None
            for _ in range(times):
                state, loss = _train_step(state, images, labels)
            jax.block_until_ready(state)
            check_finite(float(loss))

        tasks = {"train": train}
    else:
        predict, one = jax.jit(model.apply), images[:1]

        def latency(times: int) -> None:
            for _ in range(times):
                jax.block_until_ready(predict(variables, one))

        def throughput(times: int) -> None:
            logits = None
            for _ in range(times):
                logits = predict(variables, images)
            jax.block_until_ready(logits)

        tasks = {"latency": latency, "throughput": throughput}
    return Subject(tasks, parameters, jax.local_devices()[0].device_kind, peak_of_jax_device)
