"""Augmentation against independent truths: identity at zero strength, known turns, Pillow, mixing that sums to one."""

import colorsys
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from cnnjax.core.randomness import AXIS
from cnnjax.data import augment
from cnnjax.data.augment import AugmentOptions
from cnnjax.training.losses import one_hot

generator = np.random.RandomState(0)
IMAGE = generator.randint(0, 256, (12, 12, 3)).astype(np.float32)
SMOOTH = np.asarray(Image.fromarray(IMAGE.astype(np.uint8)).resize((48, 48), Image.Resampling.BICUBIC), np.float32)
BATCH = generator.randint(0, 256, (8, 12, 12, 3)).astype(np.float32)
KEYS = augment.example_keys(0, jnp.array(0), jnp.arange(8))


@functools.cache
def compiled(options):
    return jax.jit(lambda images, keys: augment.augment(images, keys, options))


def apply(images=BATCH, keys=KEYS, **options):
    return np.asarray(compiled(AugmentOptions(**options))(images, keys))


EVERYTHING = {
    "pad": 2, "crop": (12, 12), "rotation": 20.0, "shift": 2.0, "stretch": 0.1, "shear": 5.0, "elastic": 2.0,
    "resized_crop": (0.5, 1.0), "flip_horizontal": True, "flip_vertical": True, "randaugment": (2, 9.0),
    "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "greyscale": 0.1, "lighting": 0.1,
    "noise": 0.02, "cutout": 4, "erasing": 0.25,
}  # fmt: skip
ALONE = [{name: value} for name, value in EVERYTHING.items() if name not in ("pad", "crop")] + [
    {"pad": 2}, {"crop": (8, 9)},
]  # fmt: skip


def test_nothing_is_done_by_default_and_at_zero_strength():
    assert not augment.changes(AugmentOptions())
    np.testing.assert_array_equal(apply(), BATCH)
    one = jnp.array(IMAGE)
    for change in (augment.brightness, augment.contrast, augment.saturation, augment.sharpness):
        np.testing.assert_allclose(change(one, 1.0), one, atol=1e-4)
    np.testing.assert_allclose(augment.turn_hue(one, 0.0), one, atol=1e-3)
    np.testing.assert_array_equal(augment.posterize(one, 8), one)
    np.testing.assert_array_equal(augment.solarize(one, 256.0), one)
    identity = jnp.array([[1.0, 0, 0], [0, 1.0, 0]])
    for fill in ("zero", "edge", "reflect"):
        np.testing.assert_allclose(augment.resample(one, identity, jnp.zeros((2, 12, 12)), fill), one, atol=1e-4)


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


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, -1)])
def test_quarter_turns_are_exact(degrees, turns):
    angle = np.radians(degrees)
    matrix = jnp.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    turned = augment.resample(jnp.array(IMAGE), matrix, None, "zero")
    np.testing.assert_allclose(turned, np.rot90(IMAGE, -turns), atol=1e-2)


def test_a_turn_is_pillows():
    image = Image.fromarray(SMOOTH.astype(np.uint8))
    angle = np.radians(20)
    matrix = jnp.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    ours = np.asarray(augment.resample(jnp.array(np.asarray(image), jnp.float32), matrix, None, "zero"))
    theirs = np.asarray(image.rotate(-20, Image.Resampling.BILINEAR), np.float32)
    difference = np.abs(ours - theirs)[8:-8, 8:-8]
    assert difference.mean() < 1.5, difference.mean()


def test_shifts_by_whole_pixels_are_exact():
    image = jnp.array(IMAGE)
    shifted = augment.resample(image, jnp.array([[1.0, 0, 2], [0, 1.0, -1]]), None, "zero")
    np.testing.assert_allclose(shifted[:10, 1:], IMAGE[2:, :11], atol=1e-3)
    assert not shifted[10:].any() and not shifted[:, 0].any()
    edge = augment.resample(image, jnp.array([[1.0, 0, 2], [0, 1.0, 0]]), None, "edge")
    np.testing.assert_allclose(edge[-1], IMAGE[-1], atol=1e-3)
    reflected = augment.resample(image, jnp.array([[1.0, 0, 2], [0, 1.0, 0]]), None, "reflect")
    np.testing.assert_allclose(reflected[-2:], IMAGE[[-2, -3]], atol=1e-3)


def test_flips_and_crops_are_exact():
    flipped = apply(flip_horizontal=True)
    kinds = [np.array_equal(b, a[:, ::-1]) - np.array_equal(b, a) for a, b in zip(BATCH, flipped, strict=True)]
    assert {*kinds} == {1, -1}
    upside = apply(flip_vertical=True)
    assert {np.array_equal(b, a[::-1]) - np.array_equal(b, a) for a, b in zip(BATCH, upside, strict=True)} == {1, -1}
    cropped, places = apply(pad=1, crop=(10, 11)), set()
    for whole, part in zip(np.pad(BATCH, ((0, 0), (1, 1), (1, 1), (0, 0))), cropped, strict=True):
        found = [(y, x) for y in range(5) for x in range(4) if np.array_equal(whole[y : y + 10, x : x + 11], part)]
        assert len(found) == 1
        places |= {*found}
    assert len(places) > 3


def test_a_resized_crop_of_everything_is_the_image_and_of_a_quarter_is_enlarged():
    key = jax.random.key(0)
    extents = [augment._crop_box(jax.random.fold_in(key, n), (32, 32), (0.25, 0.25))[0] for n in range(50)]
    areas = np.prod(np.array(extents), axis=1) / 32**2
    np.testing.assert_allclose(areas, 0.25, rtol=1e-4)
    ratios = np.array(extents)[:, 1] / np.array(extents)[:, 0]
    assert 0.75 <= ratios.min() < 0.85 and 1.2 < ratios.max() <= 1.34
    # Of a ramp, each crop is a ramp: its first and last columns are the part's, and its steps are even.
    ramp = np.broadcast_to(np.arange(12.0, dtype=np.float32)[None, None, :, None] * 20, (8, 12, 12, 3))
    enlarged = apply(ramp, resized_crop=(0.3, 0.6), crop=(9, 16))
    assert enlarged.shape == (8, 9, 16, 3)
    steps = np.diff(enlarged[:, :, :, 0], axis=2)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[:, :1, :1], steps.shape), atol=1e-2)
    spans = enlarged[:, 0, -1, 0] - enlarged[:, 0, 0, 0]
    assert (spans > 20 * 4).all() and (spans < 20 * 10).all() and spans.std() > 5
    whole = apply(ramp, resized_crop=(1.0, 1.0))
    spans = (
        whole[:, 0, -1, 0] - whole[:, 0, 0, 0]
    )  # of all the area, one side is whole and the other at least sqrt(3/4)
    assert spans.min() > 185 and abs(spans.max() - 220) < 1
    constant = np.full((8, 12, 12, 3), 77.0, np.float32)
    np.testing.assert_allclose(apply(constant, resized_crop=(0.1, 0.9)), 77, atol=1e-3)  # never beyond the border


def test_elastic_displacements_have_the_strength_that_is_asked_for():
    options = AugmentOptions(elastic=3.0, elastic_smoothness=4.0)
    fields = np.array([augment.elastic_field(jax.random.key(n), (32, 32, 1), options) for n in range(40)])
    assert 0.5 < fields.std() / 0.75 < 1.5
    assert np.abs(np.diff(fields, axis=2)).mean() < 0.4 * np.abs(fields).mean()  # smooth


def test_colours_are_pillows():
    image = Image.fromarray(IMAGE.astype(np.uint8))
    ours = jnp.array(IMAGE)
    for enhance, change in (
        (ImageEnhance.Brightness, augment.brightness),
        (ImageEnhance.Contrast, augment.contrast),
        (ImageEnhance.Color, augment.saturation),
        (ImageEnhance.Sharpness, augment.sharpness),
    ):
        for factor in (0.4, 1.7):
            expected = np.asarray(enhance(image).enhance(factor), np.float32)
            np.testing.assert_allclose(change(ours, factor), expected, atol=2.01, err_msg=enhance.__name__)
    np.testing.assert_array_equal(augment.posterize(ours, 3), np.asarray(ImageOps.posterize(image, 3)))
    np.testing.assert_array_equal(augment.solarize(ours, 100.0), np.asarray(ImageOps.solarize(image, 100)))
    np.testing.assert_allclose(augment.autocontrast(ours), np.asarray(ImageOps.autocontrast(image)), atol=1.01)
    wide = Image.fromarray(SMOOTH.astype(np.uint8))
    np.testing.assert_allclose(augment.equalize(jnp.array(SMOOTH)), np.asarray(ImageOps.equalize(wide)), atol=1.01)


@settings(deadline=None, max_examples=30)
@given(st.tuples(*[st.integers(0, 255)] * 3), st.floats(-0.5, 0.5))
def test_hue_is_the_standard_librarys(color, share):
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    expected = np.multiply(colorsys.hsv_to_rgb((hue + share) % 1, saturation, value), 255)
    result = augment.turn_hue(jnp.array([[color]], jnp.float32), share)
    np.testing.assert_allclose(result[0, 0], expected, atol=0.1)


def test_lighting_moves_all_pixels_along_the_principal_axes():
    grey = np.full((4, 4, 3), 100, np.float32)
    moved = np.asarray(augment.lighting(jnp.array(grey), jnp.array([0.1, 0.0, 0.0]))) - grey
    np.testing.assert_allclose(moved[0, 0], 255 * 0.1 * 0.2175 * np.array([-0.5675, -0.5808, -0.5836]), rtol=1e-3)
    np.testing.assert_allclose(augment._EIGENVECTORS.T @ augment._EIGENVECTORS, np.eye(3), atol=1e-3)


def test_cutout_and_erasing_change_a_box_of_the_right_size():
    image = jnp.array(generator.randint(1, 255, (20, 20, 3)).astype(np.float32))
    sizes = set()
    for number in range(20):
        changed = (np.asarray(augment.cutout(image, jax.random.key(number), 6)) != image).all(-1)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        assert changed.sum() == len(rows) * len(columns) and max(len(rows), len(columns)) <= 6
        sizes.add(int(changed.sum()))
    assert max(sizes) == 36
    shares = []
    for number in range(40):
        changed = (np.asarray(augment.random_erasing(image, jax.random.key(number), 0.5)) != image).any(-1)
        shares.append(changed.mean())
    assert 8 < np.count_nonzero(shares) < 32 and 0.01 < max(shares) < 0.45
    same = [augment.random_erasing(image, jax.random.key(number), 0.0) for number in range(5)]
    assert all(np.array_equal(result, image) for result in same)


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_labels_sum_to_one_and_follow_the_pixels(options):
    options = AugmentOptions(**options)
    # image n is n everywhere, so that a mixture's mean says how much of each is in it
    images = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None, None], (8, 12, 12, 1))
    targets = one_hot(jnp.arange(8), 8)
    shares = set()
    for number in range(12):
        mixed, labels = augment.mix(jnp.array(images), targets, jax.random.key(number), options)
        np.testing.assert_allclose(labels.sum(-1), 1, rtol=1e-5)
        np.testing.assert_allclose(mixed.mean((1, 2, 3)), labels @ np.arange(8.0), atol=1e-4)
        assert (np.asarray(labels) > 0).sum(-1).max() <= 2
        shares.add(round(float(labels[0, 0]), 3))
    assert len(shares) > 5


def test_augmentation_and_mixing_do_not_depend_on_the_number_of_devices(eight_devices):
    options = AugmentOptions(**(EVERYTHING | {"mixup": 0.4, "cutmix": 1.0}))
    inputs = augment.training_inputs(
        options, lambda images: images / 255, lambda labels: one_hot(labels, 4), seed=3, steps_per_epoch=5
    )
    batch = {"image": BATCH.astype(np.uint8), "label": np.arange(8, dtype=np.int32) % 4, "index": np.arange(8) * 7}
    results = []
    for count in (1, 4):
        parts = {name: array.reshape(count, -1, *array.shape[1:]) for name, array in batch.items()}
        mapped = jax.pmap(inputs, axis_name=AXIS, in_axes=(0, None), devices=eight_devices[:count])
        images, targets = mapped(parts, jnp.array(12))
        results.append((np.asarray(images).reshape(8, 12, 12, 3), np.asarray(targets).reshape(8, 4)))
    for images, targets in results[1:]:
        np.testing.assert_allclose(images, results[0][0], atol=1e-4)
        np.testing.assert_allclose(targets, results[0][1], atol=1e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"augment.hue changes colours, and the images have 1 channel"):
        augment.check_channels(AugmentOptions(hue=0.1), 1)
    with pytest.raises(
        ValueError, match=r"augment.crop=\(40, 8\) is larger than the images, 32x32 with 2 pixels around"
    ):
        augment.output_shape((32, 32, 3), AugmentOptions(pad=2, crop=(40, 8)))
    assert augment.output_shape((32, 32, 3), AugmentOptions(pad=4, crop=(36, 32))) == (36, 32, 3)
    assert {field.name for field in dataclasses.fields(AugmentOptions)} >= {*EVERYTHING, "mixup", "cutmix"}
