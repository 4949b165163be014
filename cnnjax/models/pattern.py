"""Pattern: the general pattern of convolutional networks, described by a plan.

INPUT -> [[CONV -> norm? -> activation -> dropout?]*N -> POOL?]*M -> [FC -> activation -> dropout?]*K -> FC

A plan is a text with the number and width of layers: `conv 32 32 pool | conv 64 64 pool | fc 128` means two stages of two
convolutions and a pooling, and one hidden dense layer. The output layer is not part of the plan. An empty plan is a linear classifier.
For images, signals or volumes the kernels have two, one or three spatial axes.
"""

import dataclasses
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction, positive
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import CIFAR, Published


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage [CONV]*N -> POOL?: the width of each convolution, and whether pooling follows the last."""

    features: tuple[int, ...]
    pool: bool


@dataclasses.dataclass(frozen=True)
class Plan:
    """A plan of M stages, followed by K hidden dense layers with the given widths."""

    stages: tuple[Stage, ...] = ()
    hidden: tuple[int, ...] = ()


def repeat(
    convolutions: int, stages: int, hidden: int, features: int = 32, units: int = 128, pool: bool = True
) -> Plan:
    """The plan with given N, M and K, in which every stage is twice as wide as the one before.

    Args:
      convolutions: N, the number of convolutions per stage.
      stages: M, the number of stages.
      hidden: K, the number of hidden dense layers.
      features: the width of the first stage.
      units: the width of the dense layers.
      pool: whether each stage ends with pooling.

    >>> format_plan(repeat(2, 2, 1))
    'conv 32 32 pool | conv 64 64 pool | fc 128'
    """
    return Plan(tuple(Stage((features * 2**stage,) * convolutions, pool) for stage in range(stages)), (units,) * hidden)


def format_plan(plan: Plan) -> str:
    """A plan as text, which `parse_plan` can parse."""
    parts = [" ".join(["conv", *map(str, stage.features), *["pool"] * stage.pool]) for stage in plan.stages]
    if plan.hidden:
        parts.append(" ".join(["fc", *map(str, plan.hidden)]))
    return " | ".join(parts)


def parse_plan(text: str) -> Plan:
    """Parses the text of a plan.

    Raises:
      ValueError: the text is not a plan; the message has the part that is wrong.

    >>> parse_plan("conv 8 pool | fc 10")
    Plan(stages=(Stage(features=(8,), pool=True),), hidden=(10,))
    """
    stages: list[Stage] = []
    hidden: tuple[int, ...] = ()
    for part in text.split("|") if text.strip() else []:
        kind, *words = part.split() or [""]
        pool = kind == "conv" and words[-1:] == ["pool"]
        widths = words[:-1] if pool else words
        if (
            kind not in ("conv", "fc")
            or not widths
            or not all(word.isdigit() and int(word) for word in widths)
            or hidden
        ):
            raise ValueError(
                f"plan {text!r}: expected stages such as 'conv 32 32 pool', then at most one 'fc 128', not {part.strip()!r}"
            )
        if kind == "conv":
            stages.append(Stage(tuple(map(int, widths)), pool))
        else:
            hidden = tuple(map(int, widths))
    return Plan(tuple(stages), hidden)


def _check_plan(text: str) -> str | None:
    try:
        parse_plan(text)
    except ValueError as error:
        return str(error).split(": expected ")[1]
    return None


class Pattern(Network):
    """INPUT -> [[CONV -> activation]*N -> POOL?]*M -> [FC -> activation]*K -> FC, as described by a plan."""

    num_classes: int
    plan: Annotated[str, "stages and hidden layers, such as 'conv 32 32 pool | fc 128'", _check_plan] = (
        "conv 32 32 pool | conv 64 64 pool | fc 128"
    )
    kernel_size: Annotated[int, "kernel size of every convolution", positive] = 3
    strides: Annotated[int, "strides of the last convolution of each stage, before any pooling", positive] = 1
    padding: Annotated[Literal["same", "valid"], "padding of every convolution: same or valid"] = "same"
    pooling: Annotated[
        layers.PoolingName, "kind of pooling (max, average or min) over windows of 2 in each spatial axis"
    ] = "max"
    norm: Annotated[
        Literal["none", "batch"], "normalisation after each convolution, instead of a bias: none or batch"
    ] = "none"
    activation: Annotated[layers.ActivationName, "activation function after each convolution and hidden layer"] = "relu"
    conv_dropout_rate: Annotated[float, "dropout rate after each convolution's activation", fraction] = 0.0
    dense_dropout_rate: Annotated[float, "dropout rate after each hidden layer", fraction] = 0.0
    initializer: Annotated[layers.InitializerName, "initialiser of every kernel"] = "he_normal"
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *size channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        plan, activation, pool = parse_plan(self.plan), layers.activation(self.activation), layers.pooling(self.pooling)
        initial = {"kernel_init": layers.initializer(self.initializer), "dtype": self.dtype}
        # No bias before batch normalisation: it would be subtracted with the mean, and would not learn.
        conv = partial(layers.Conv, padding=self.padding, use_bias=self.norm == "none", **initial)
        maps = []
        for m, stage in enumerate(plan.stages, start=1):
            for n, features in enumerate(stage.features, start=1):
                strides = self.strides if n == len(stage.features) else 1
                if strides > 1 and (m, n) != (1, 1):
                    maps.append(x)
                x = conv(features, self.kernel_size, strides, name=f"conv{m}_{n}")(x)
                if self.norm == "batch":
                    x = layers.BatchNorm(self.sync_batch_norm, name=f"bn{m}_{n}")(x, train)
                x = layers.Dropout(self.conv_dropout_rate)(activation(x), train)
            if stage.pool:
                maps.append(x)
                x = pool(x, 2, name=f"pool{m}")
        if features_only:
            return [*maps, x]
        x = layers.flatten(x)
        for k, units in enumerate(plan.hidden, start=1):
            x = layers.Dropout(self.dense_dropout_rate)(
                activation(layers.Dense(units, name=f"fc{k}", **initial)(x)), train
            )
        return layers.output(x, self.num_classes, name="output", **initial)


_8_16_32 = partial(Pattern, plan="conv 8 pool | conv 16 pool | conv 32", norm="batch")
# The LeNet of traffic-sign tutorials, for 32x32x3 images and 43 classes, and the same network with twice the width.
_SIGNS = partial(Pattern, plan="conv 6 pool | conv 16 pool | fc 120", kernel_size=5, padding="valid")
_SIGNS_DOUBLE = partial(_SIGNS, plan="conv 12 pool | conv 32 pool | fc 240")

PUBLISHED = {
    "pattern": Published(Pattern, *CIFAR, "the general pattern of a course on CNNs", counts=(591_274, 25_003_264)),
    "cnn_8_16_32": Published(
        _8_16_32,
        (28, 28, 1),
        10,
        "the tutorials' three convolutions with batch normalisation",
        counts=(21_634, 523_712),
    ),
    "lenet_signs": Published(
        _SIGNS,
        (32, 32, 3),
        43,
        "tutorials on German traffic signs",
        parameters=56_195,
        counts=(56_195, 645_960),
    ),
    "lenet_signs_double": Published(
        _SIGNS_DOUBLE, (32, 32, 3), 43, "the same, twice as wide", counts=(213_147, 1_867_920)
    ),
}
