import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnnjax
from cnnjax.core.randomness import AXIS, key_for
from cnnjax.data import augment
from cnnjax.data.augment import AugmentOptions, colour, geometry, pipeline
from cnnjax.data.augment.options import OPERATIONS
from cnnjax.tasks import Classification
from cnnjax.training.experiment import prepared_in_training
from cnnjax.training.step import training_inputs
from tests.data.augment.examples import ALONE, BATCH, EVERYTHING, IMAGE, KEYS, apply, draws


def test_nothing_is_done_by_default_and_at_zero_strength():
    assert not augment.changes(AugmentOptions())
    np.testing.assert_array_equal(apply(), BATCH)
    for change in (colour.brightness, colour.contrast, colour.saturation, colour.sharpness):
        np.testing.assert_allclose(jax.jit(change)(IMAGE, 1.0), IMAGE, atol=1e-4)
    np.testing.assert_allclose(jax.jit(colour.turn_hue)(IMAGE, 0.0), IMAGE, atol=1e-3)
    np.testing.assert_array_equal(jax.jit(colour.posterize)(IMAGE, 8), IMAGE)
    np.testing.assert_array_equal(jax.jit(colour.solarize)(IMAGE, 256.0), IMAGE)
    identity, nothing = np.eye(2, 3, dtype=np.float32), np.zeros((2, 12, 12), np.float32)
    resample = jax.jit(geometry.resample, static_argnums=3)
    for fill in ("zero", "edge", "reflect"):
        np.testing.assert_allclose(resample(IMAGE, identity, nothing, fill), IMAGE, atol=1e-4)


@pytest.mark.parametrize("options", ALONE, ids=lambda options: next(iter(options)))
def test_each_changes_images_keeps_their_range_and_depends_on_the_key_alone(options):
    result = apply(**options)
    assert result.shape == (8, *options.get("crop", (12, 12)), 3)
    assert result.min() >= -1e-3 and result.max() <= 255.001
    changed = [not np.allclose(a[: b.shape[0], : b.shape[1]], b) for a, b in zip(BATCH, result, strict=True)]
    assert sum(changed) >= 1
    np.testing.assert_allclose(apply(BATCH[::-1], KEYS[::-1], **options)[::-1], result, atol=1e-3)  # whatever its place
    other = apply(BATCH, augment.example_keys(0, jnp.array(1), jnp.arange(8)), **options)
    assert other.shape == result.shape and not np.allclose(other, result)


@pytest.mark.slow
def test_augmentation_and_mixing_do_not_depend_on_the_number_of_devices(eight_devices):
    options = AugmentOptions(
        **(
            EVERYTHING
            | {
                "randaugment": None,
                "trivialaugment": False,
                "randaugment_increasing": None,
                "mixup": 0.4,
                "cutmix": 1.0,
            }
        )
    )
    config = cnnjax.load_config({"augment": dataclasses.asdict(options), "dataset": {"normalize": "none"}})
    prepared = prepared_in_training(config, None, {"num_classes": 4}, seed=3)
    inputs = training_inputs(Classification(), prepared, seed=3, steps_per_epoch=5)
    batch = {"image": BATCH.astype(np.uint8), "label": np.arange(8, dtype=np.int32) % 4, "index": np.arange(8) * 7}
    results = []
    for count in (1, 4):
        parts = {name: array.reshape(count, -1, *array.shape[1:]) for name, array in batch.items()}
        mapped = jax.pmap(inputs, axis_name=AXIS, in_axes=(0, None), devices=eight_devices[:count])
        made = mapped(parts, jnp.array(12))
        images, targets = made["image"], made["target"]
        results.append((np.asarray(images).reshape(8, 12, 12, 3), np.asarray(targets).reshape(8, 4)))
    for images, targets in results[1:]:
        np.testing.assert_allclose(images, results[0][0], atol=1e-4)
        np.testing.assert_allclose(targets, results[0][1], atol=1e-6)


# --- each augmentation draws the same random numbers whatever else is switched on

# One option each; a crop of the image's own size, since noise is drawn for every pixel.
CROP = {"pad": 2, "crop": (12, 12)}
SINGLE = {name: {name: value} for name, value in EVERYTHING.items() if name not in CROP} | {"crop": CROP}


@pytest.fixture(scope="module")
def alone():
    """The draws of each augmentation alone."""
    with pytest.MonkeyPatch.context() as patch:
        return {name: augmentation_draws(patch, options) for name, options in SINGLE.items()}


@pytest.fixture(scope="module")
def with_everything():
    """The draws of all augmentations together."""
    with pytest.MonkeyPatch.context() as patch:
        return augmentation_draws(patch, EVERYTHING)


def augmentation_draws(patch, options):
    change = AugmentOptions(**options)
    return draws(patch, lambda: pipeline._augment_one(jnp.array(BATCH[0]), key_for(3, "augment", 0), change, "uint8"))


def test_the_order_names_options_and_every_option_that_draws_is_in_it_or_geometry(alone):
    assert {*OPERATIONS} < {*SINGLE}
    assert all(alone.values())


@pytest.mark.parametrize("name", SINGLE)
def test_an_augmentations_draws_are_those_it_makes_alone(name, alone, with_everything):
    assert {*alone[name]} <= {*with_everything}


def test_no_two_augmentations_share_a_key(alone):
    keys = {name: {key for _, key, _ in drawn} for name, drawn in alone.items()}
    for one, other in itertools.combinations(keys, 2):
        assert not keys[one] & keys[other], (one, other)


@pytest.mark.parametrize(
    ("one", "other"), [*itertools.permutations(["rotation", "crop", "hue", "erasing", "elastic"], 2)]
)
def test_switching_one_on_adds_its_draws_and_changes_no_other(one, other, alone, monkeypatch):
    both = augmentation_draws(monkeypatch, SINGLE[one] | SINGLE[other])
    assert sorted(both) == sorted(alone[one] + alone[other])


@pytest.mark.parametrize(
    "options",
    [
        {name: EVERYTHING[name]}
        for name in ("brightness", "contrast", "saturation", "hue", "lighting", "noise", "cutout", "erasing", "shift")
    ],
    ids=lambda options: next(iter(options)),
)
def test_values_of_16_bits_are_changed_as_those_of_8(options):
    ours = apply((BATCH * 257).astype(np.uint16), KEYS, "uint16", **options)
    np.testing.assert_allclose(ours / 257, apply(**options), atol=2e-3)


@pytest.mark.parametrize("spatial", [(50,), (5, 6, 7)])
def test_values_without_a_range_are_multiplied_and_have_noise_in_their_own_unit(spatial):
    images = np.random.RandomState(0).normal(0, 1000, (8, *spatial, 6)).astype(np.float32)
    louder = apply(images, KEYS, "float32", brightness=0.4) / images
    factors = louder.reshape(8, -1)
    np.testing.assert_allclose(factors, factors[:, :1] * np.ones_like(factors), rtol=1e-5)
    assert 0.6 <= factors.min() < 0.95 and 1.05 < factors.max() <= 1.4 + 1e-5
    for dtype, unit in (("float32", 1), ("int32", 1), ("int16", 32_767)):
        given = images.astype(dtype)
        noisy = apply(given, KEYS, dtype, noise=0.5) - given
        np.testing.assert_allclose(noisy.std(), 0.5 * unit, rtol=0.05)
    contrasted = apply(images, KEYS, "float32", contrast=0.4)
    axes = tuple(range(1, images.ndim))
    np.testing.assert_allclose(contrasted.mean(axes), images.mean(axes), atol=0.05)
