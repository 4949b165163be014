import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.core.randomness import AXIS, key_for
from cnnjax.data import augment
from cnnjax.data.augment import AugmentOptions, mixing
from cnnjax.data.boxes import as_rows
from cnnjax.tasks.losses import one_hot
from tests.data.augment.examples import draws


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_labels_sum_to_one_and_follow_the_pixels(options):
    options = AugmentOptions(**options)
    # image n is n everywhere, so that a mixture's mean says how much of each is in it
    images = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None, None], (8, 12, 12, 1))
    targets, mix = one_hot(jnp.arange(8), 8), jax.jit(mixing.mix, static_argnums=3)
    shares = set()
    for number in range(12):
        mixed, labels = map(np.asarray, mix(images, targets, jax.random.key(number), options))
        np.testing.assert_allclose(labels.sum(-1), 1, rtol=1e-5)
        np.testing.assert_allclose(mixed.mean((1, 2, 3)), labels @ np.arange(8.0), atol=1e-4)
        assert (labels > 0).sum(-1).max() <= 2
        shares.add(round(float(labels[0, 0]), 3))
    assert len(shares) > 5


@pytest.mark.parametrize("option", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_mixup_and_cutmix_draw_the_same_with_and_without_each_other(option, monkeypatch):
    key = key_for(3, "mix", 7)

    def mixture_draws(**options):
        return draws(monkeypatch, lambda: mixing.draw_mixture(key, (12, 12, 3), AugmentOptions(**options)))

    assert {*mixture_draws(**option)} < {*mixture_draws(mixup=0.4, cutmix=1.0)}


@pytest.mark.parametrize("spatial", [(40,), (8, 9, 10)])
@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_signals_and_volumes_are_mixed_by_their_shares(spatial, options):
    images = np.broadcast_to(np.arange(8, dtype=np.float32).reshape(8, *(1,) * (len(spatial) + 1)), (8, *spatial, 2))
    shares, mix = set(), jax.jit(mixing.mix, static_argnums=3)
    for number in range(8):
        drawn = mix(images, np.eye(8, dtype=np.float32), jax.random.key(number), AugmentOptions(**options))
        mixed, labels = map(np.asarray, drawn)
        means = mixed.mean(tuple(range(1, mixed.ndim)))
        np.testing.assert_allclose(means, labels @ np.arange(8.0), atol=1e-4)
        shares.add(round(float(labels[0, 0]), 3))
    assert len(shares) > 3


def test_a_mosaic_has_an_image_and_the_next_three_and_their_boxes():
    # image n is n + 1 everywhere; one box is the whole image, one its upper left quarter, one has no class
    size, count = (24, 32), 6
    images = np.broadcast_to(np.arange(1, count + 1, dtype=np.float32)[:, None, None, None], (count, *size, 1))
    boxes = as_rows([[0, 0, 32, 24], [0, 0, 16, 12], [0, 0, 9, 9]], [0, 1, -1])
    rows, keys = np.stack([boxes] * count), jax.random.split(jax.random.key(0), count)
    made, found = jax.jit(mixing.mosaic, static_argnums=(3, 4))(images, rows, keys, 1.0, 0.25)
    centres = set()
    for number, (image, own) in enumerate(zip(np.asarray(made)[..., 0], np.asarray(found), strict=True)):
        y, x = (int(np.isclose(image, image[0, 0])[cut].sum()) for cut in (np.s_[:, 0], np.s_[0]))
        assert 6 <= y <= 18 and 8 <= x <= 24
        parts = [image[:y, :x], image[:y, x:], image[y:, :x], image[y:, x:]]
        for place, part in enumerate(parts):
            np.testing.assert_allclose(part, (number + place) % count + 1, rtol=1e-6)
        windows = [(0, 0, x, y), (x, 0, 32, y), (0, y, x, 24), (x, y, 32, 24)]
        np.testing.assert_allclose(own[[0, 3, 6, 9], :4], windows, atol=1e-4)
        for place, (left, top, right, bottom) in enumerate(windows):
            scale = max((right - left) / 32, (bottom - top) / 24)
            corner = np.array([32 - 32 * scale if left else 0, 24 - 24 * scale if top else 0])
            quarter = np.concatenate([corner, corner + scale * np.array([16, 12])])
            expected = quarter.clip([left, top] * 2, [right, bottom] * 2)
            if (expected[2:] - expected[:2]).prod() >= 0.25 * (16 * 12) * scale**2:
                np.testing.assert_allclose(own[3 * place + 1, :5], [*expected, 1], atol=1e-4)
            else:
                assert own[3 * place + 1, 4] == -1
        assert (own[2::3, 4] == -1).all()
        centres.add((y, x))
    assert len(centres) > 3


def test_mosaics_do_not_depend_on_the_number_of_devices(eight_devices):
    """Image n is n everywhere, and so is the class of its object."""
    options, numbers = AugmentOptions(mosaic=0.5), np.arange(8, dtype=np.float32)
    box = np.array([[0, 0, 8, 8, 0, 0]], np.float32)
    batch = {
        "image": np.broadcast_to(numbers[:, None, None, None], (8, 8, 8, 1)),
        "label": box + numbers[:, None, None] * (np.arange(6) == 4),
    }
    results = []
    for devices in (1, 4):
        parts = {name: array.reshape(devices, -1, *array.shape[1:]) for name, array in batch.items()}
        keys = augment.example_keys(1, jnp.array(0), jnp.arange(8)).reshape(devices, -1)
        change = lambda batch, keys: augment.augment_examples(batch, keys, options, visible=0.0)  # noqa: E731
        made = jax.pmap(change, axis_name=AXIS, devices=eight_devices[:devices])(parts, keys)
        results.append([np.asarray(made["image"]).reshape(8, 8, 8), np.asarray(made["label"]).reshape(8, 4, 6)])
    for one, four in zip(*results, strict=True):
        np.testing.assert_allclose(four, one, atol=1e-5)
    images, rows = results[0]
    mosaics = rows[:, 1, 4] >= 0
    assert 0 < mosaics.sum() < 8
    for number, (image, own, mosaic) in enumerate(zip(images, rows, mosaics, strict=True)):
        partners = [(number + place) % 8 for place in range(4)]
        assert own[:, 4].tolist() == (partners if mosaic else [number, -1, -1, -1])
        corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
        np.testing.assert_allclose(corners, partners if mosaic else [number] * 4, atol=1e-5)
