import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers
from cnnjax.transfer.freezing import frozen_statistics, nothing, statistics_kept
from cnnjax.transfer.initial import InitialOptions, frozen_at

IMAGES = jax.random.normal(jax.random.key(0), (4, 6, 6, 2))


class Net(nn.Module):
    """Two normalisations, in one of the ways in which they are written."""

    written: str

    @nn.compact
    def __call__(self, x, train=False):
        for name in ("first", "second"):
            x = nn.Conv(2, (3, 3), name=f"{name}_conv")(x)
            if self.written == "ours":
                x = layers.BatchNorm(name=name)(x, train)
            elif self.written == "field":
                x = nn.BatchNorm(use_running_average=not train, use_scale=name == "second", name=name)(x)
            elif self.written == "argument":
                x = nn.BatchNorm(name=name)(x, use_running_average=not train)
            else:
                x = nn.BatchNorm(name=name)(x=x, use_running_average=not train, mask=jnp.ones((4, 1, 1, 1), bool))
        return x


@pytest.mark.parametrize("written", ["ours", "field", "argument", "keyword"])
def test_frozen_statistics_are_used_and_kept_and_others_are_not(written):
    model = Net(written)
    variables = model.init(jax.random.key(1), IMAGES)
    statistics = jax.tree.map(lambda value: value + 0.5, variables["batch_stats"])
    variables = {**variables, "batch_stats": statistics}
    shape = jax.ShapeDtypeStruct(IMAGES.shape, jnp.float32)
    frozen = frozen_at(InitialOptions(frozen=("first",)), model, variables["params"], shape)(0)

    def after(train):
        with statistics_kept(frozen):
            return model.apply(
                variables, IMAGES, train=train, mutable=["batch_stats", "intermediates"], capture_intermediates=True
            )[1]

    trained, evaluated = after(True), after(False)
    np.testing.assert_array_equal(trained["batch_stats"]["first"]["mean"], statistics["first"]["mean"])
    assert np.abs(trained["batch_stats"]["second"]["mean"] - statistics["second"]["mean"]).max() > 1e-3
    outputs, running = (
        {layer: found["intermediates"][layer]["__call__"][0] for layer in ("first", "second")}
        for found in (trained, evaluated)
    )
    np.testing.assert_array_equal(outputs["first"], running["first"])
    assert np.abs(outputs["second"] - running["second"]).max() > 1e-2


def test_statistics_that_stay_are_those_of_frozen_scales_and_of_constant_normalisation():
    """Of the others a step takes the mean over devices, which rounds."""
    statistics = {name: dict.fromkeys(("mean", "var"), 1.0) for name in ("first", "second")}
    statistics["constant"] = dict.fromkeys(("bias", "mean", "scale", "var"), 1.0)
    for frozen, expected in ((nothing, {"constant"}), (lambda name: name == "first/scale", {"constant", "first"})):
        stays = frozen_statistics(statistics, frozen)
        assert {name for name, values in stays.items() if all(values.values())} == expected
        assert not any(any(values.values()) for name, values in stays.items() if name not in expected)
