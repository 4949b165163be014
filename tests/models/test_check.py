import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import cnnjax
from cnnjax import layers
from cnnjax.models.check import check_model

SHAPE = (8, 8, 2)


class Good(nn.Module):
    """All that the framework sees, of Flax's own layers."""

    num_classes: int
    dropout_rate: float = 0.5
    rate: float = 0.1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(3, (3, 3), dtype=self.dtype)(x)
        x = layers.activation("relu")(nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x.mean((1, 2)))
        if self.rate > 0:
            x = nn.Dropout(self.rate, rng_collection="other", deterministic=not train)(x)
        steps = self.variable("counters", "steps", lambda: jnp.zeros((), jnp.int32))
        if train:
            steps.value += 1
            self.sow("auxiliary", "logits", x)
        return nn.Dense(self.num_classes, dtype=self.dtype)(x)


def test_a_good_model_is_described():
    report = cnnjax.check_model(Good(5), SHAPE)
    assert (report.name, report.input_shape, report.parameters) == ("Good", SHAPE, 9 * 2 * 3 + 3 + 6 + 3 * 5 + 5)
    assert report.output == "(batch, 5) float32"
    assert report.collections == ("batch_stats", "counters", "params") and report.sown == ("auxiliary",)
    assert report.streams == ("dropout", "other") and report.evaluation_streams == ()
    assert report.training_differs and not report.depends_on_batch and report.same_on_devices
    assert report.finite == {"float32": True, "bfloat16": True}
    assert report.batch_norms == ("BatchNorm_0",) and report.dropouts == ("Dropout_0", "Dropout_1")
    assert report.activations == {"BatchNorm_0": "relu"}
    assert report.rates == {"dropout_rate": True, "rate": False}
    assert [note.split(":")[0] for note in report.notes] == ["the Python code needs the value of rate"]
    text = str(report)
    assert "Good on 8x8x2: 83 parameters" in text and "batch norm      BatchNorm_0" in text


def test_ours_are_seen_too():
    report = check_model(
        cnnjax.create_model("pattern", 3, plan="conv 4 pool", norm="batch", conv_dropout_rate=0.5), SHAPE
    )
    assert report.batch_norms == ("bn1_1",) and report.dropouts == ("Dropout_0",) and report.notes == ()
    assert report.rates == {"conv_dropout_rate": True, "dense_dropout_rate": True}


class Careless(nn.Module):
    """All that can be wrong without an error."""

    @nn.compact
    def __call__(self, x):
        x = nn.swish(nn.BatchNorm(use_running_average=False, axis=1)(x))
        x = nn.BatchNorm(use_running_average=False, use_scale=False, use_bias=False)(x)
        x = x + jax.random.normal(self.make_rng("noise"), x.shape)
        x = nn.SpectralNorm(nn.Dense(3))(x.mean((1, 2)), update_stats=False)
        return {"logits": x, "mean": x.mean()}


def test_what_is_likely_wrong_and_what_cannot_be_seen_is_said():
    report = check_model(Careless(), SHAPE)
    assert report.output == {"logits": "(batch, 3) float32", "mean": "() float32"}
    assert report.depends_on_batch and not report.same_on_devices and not report.training_differs
    assert report.evaluation_streams == ("noise",) and report.finite == {"float32": True}
    for start in (
        "an example's output in evaluation depends on its batch",
        "evaluation uses random numbers (noise)",
        "training depends on the number of devices",
        "training is the same as evaluation in spite of",
        "no field `dtype`",
        "no activation function that probes can detect",
        "statistics of layers other than batch norm (SpectralNorm_0/Dense_0/kernel)",
        "batch norm without scale and bias (BatchNorm_1)",
        "batch norm over an axis other than the last (BatchNorm_0)",
    ):
        assert any(note.startswith(start) for note in report.notes), start


class Bad(nn.Module):
    fault: str

    @nn.compact
    def __call__(self, x):
        logits = nn.Dense(3)(x.mean((1, 2)))
        if self.fault == "exception":
            return logits + jnp.zeros((3, 2))
        if self.fault == "nan":
            return jnp.log(0 * logits - 1)
        if self.fault == "gradient":
            return jnp.sqrt(0 * logits)
        if self.fault == "rank":
            return logits.mean()
        return logits


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (Bad("exception"), SHAPE, "Bad on 8x8x2, initialised: TypeError: add got incompatible shapes"),
        (Bad("nan"), SHAPE, "Bad on 8x8x2: outputs are not finite in float32"),
        (Bad("gradient"), SHAPE, "Bad on 8x8x2: gradients are not finite in float32"),
        (
            Bad("rank"),
            SHAPE,
            r"Bad on 8x8x2: no output has the batch as its first axis: for 4 images the shapes are \(\)",
        ),
        (Bad(""), (8,), "Bad on 8, initialised: "),
        (
            cnnjax.create_model("lenet5", 10),
            SHAPE,
            "LeNet5 on 8x8x2, initialised: ValueError: c3: a 5x5 window does not fit",
        ),
        (Bad, SHAPE, r"Bad is a class: pass an instance, such as Bad\(10\)"),
        (nn.relu, SHAPE, "expected a flax.linen.Module"),
    ],
)
def test_a_bad_model_is_one_line(module, shape, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        check_model(module, shape)
    assert "\n" not in str(caught.value)


def test_an_nnx_module_is_named_as_what_cannot_be_seen():
    from tests.models.test_linen import nnx_network

    report = check_model(nnx_network(3), SHAPE)
    assert report.training_differs and not report.depends_on_batch and not report.same_on_devices
    assert report.batch_norms == report.dropouts == () and any(note.startswith("nnx layers") for note in report.notes)
