"""Keras on JAX: the same networks as functional models, trained by `train_on_batch`."""

import jax
import keras
from keras import layers as kl

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


def _padding(size: int | tuple[int, int], padding: int | tuple[int, int]) -> str:
    """Keras's word for it.

    Raises:
      ValueError: it has none.
    """
    if isinstance(size, tuple):
        return _padding(max(size), max(padding))
    if padding and 2 * padding + 1 != size:
        raise ValueError(f"padding {padding} of a window of {size}: Keras has none and (window - 1) / 2 alone")
    return "same" if padding else "valid"


class _LayerScale(kl.Layer):
    def __init__(self, initial: float):
        super().__init__()
        self.initial = initial

    def build(self, shape: tuple[int, ...]) -> None:
        self.scale = self.add_weight(shape=shape[-1:], initializer=keras.initializers.Constant(self.initial))

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return x * self.scale


def _halved(x: keras.KerasTensor, features: int) -> keras.KerasTensor:
    return keras.ops.pad(x[:, ::2, ::2], ((0, 0),) * 3 + ((0, features - x.shape[-1]),))


def _part(x: keras.KerasTensor, number: int) -> keras.KerasTensor:
    return keras.ops.split(x, 2, -1)[number]


def _apply(layers: Layers, x: keras.KerasTensor) -> keras.KerasTensor:
    for layer in layers:
        match layer:
            case Conv(features, size, strides, padding, bias, groups):
                x = kl.Conv2D(features, size, strides, _padding(size, padding), use_bias=bias, groups=groups)(x)
            case BatchNorm():
                x = kl.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
            case LayerNorm():
                x = kl.LayerNormalization(epsilon=1e-6)(x)
            case LayerScale(initial):
                x = _LayerScale(initial)(x)
            case Activation(name):
                x = kl.Activation(name)(x)
            case MaxPool(size, strides, padding):
                x = kl.MaxPooling2D(size, strides, _padding(size, padding))(x)
            case AveragePool(size, strides, padding):
                x = kl.AveragePooling2D(size, strides, _padding(size, padding))(x)
            case GlobalAveragePool():
                x = kl.GlobalAveragePooling2D()(x)
            case Flatten():
                x = kl.Flatten()(x)
            case Dense(features):
                x = kl.Dense(features)(x)
            case Pointwise(features):
                x = kl.Dense(features)(x)
            case SqueezeExcitation(squeezed, channels, hidden, gate):
                means = kl.GlobalAveragePooling2D(keepdims=True)(x)
                means = kl.Conv2D(squeezed, 1, activation=hidden.name)(means)
                x = kl.Multiply()([x, kl.Conv2D(channels, 1, activation=gate.name)(means)])
            case Dropout(rate):
                x = kl.Dropout(rate)(x)
            case Halved(features):
                x = kl.Lambda(_halved, arguments={"features": features})(x)
            case Repeated(times):
                x = kl.UpSampling2D(times)(x)
            case Part(number):
                x = kl.Lambda(_part, arguments={"number": number})(x)
            case Shuffle(groups):
                shape = x.shape[1:]
                x = kl.Permute((1, 2, 4, 3))(kl.Reshape((*shape[:2], groups, shape[2] // groups))(x))
                x = kl.Reshape(shape)(x)
            case Parallel(branches):
                x = kl.Concatenate()([_apply(branch, x) for branch in branches])
            case Residual(body, shortcut, relu):
                x = kl.Add()([_apply(body, x), _apply(shortcut, x)])
                x = kl.Activation("relu")(x) if relu else x
    return x


def build(layers: Layers, image_shape: tuple[int, int, int]) -> keras.Model:
    """A described network for images of (height, width, channel)."""
    images = keras.Input(image_shape)
    return keras.Model(images, _apply(layers, images))


def count(model: keras.Model) -> int:
    """Trained parameters."""
    return sum(variable.value.size for variable in model.trainable_variables)


def subject(network: str, purpose: str, precision: Precision) -> Subject:
    """A network in Keras, for one of `PURPOSES`."""
    timed = network_of(network)
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    keras.utils.set_random_seed(0)
    model = build(timed.describe(), timed.image_shape)
    model.compile(
        keras.optimizers.SGD(LEARNING_RATE, MOMENTUM), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    images, labels = jax.device_put(random_batch(timed, timed.batch_size))
    one = images[:1]

    def train(times: int) -> None:
        loss = None
        for _ in range(times):
            loss = model.train_on_batch(images, labels)
        check_finite(float(loss))

    def latency(times: int) -> None:
        for _ in range(times):
            model.predict_on_batch(one)

    def throughput(times: int) -> None:
        for _ in range(times):
            model.predict_on_batch(images)

    tasks = {"train": train} if purpose == "train" else {"latency": latency, "throughput": throughput}
    return Subject(tasks, count(model), jax.local_devices()[0].device_kind, peak_of_jax_device)
