import jax
import numpy as np
import pytest

from cnnjax.data.augment import occlusion
from tests.data.augment.examples import generator

cutout = jax.jit(occlusion.cutout, static_argnums=2)
random_erasing = jax.jit(occlusion.random_erasing)


def test_cutout_and_erasing_change_a_box_of_the_right_size():
    image = generator.randint(1, 255, (20, 20, 3)).astype(np.float32)
    sizes = set()
    for number in range(20):
        changed = (np.asarray(cutout(image, jax.random.key(number), 6)) != image).all(-1)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        assert changed.sum() == len(rows) * len(columns) and max(len(rows), len(columns)) <= 6
        sizes.add(int(changed.sum()))
    assert max(sizes) == 36
    shares = []
    for number in range(40):
        changed = (np.asarray(random_erasing(image, jax.random.key(number), 0.5)) != image).any(-1)
        shares.append(changed.mean())
    assert 8 < np.count_nonzero(shares) < 32 and 0.01 < max(shares) < 0.45
    same = [random_erasing(image, jax.random.key(number), 0.0) for number in range(5)]
    assert all(np.array_equal(result, image) for result in same)


@pytest.mark.parametrize("spatial", [(30,), (10, 12, 14)])
def test_cutout_and_erasing_change_an_interval_or_a_box(spatial):
    image = generator.randint(1, 255, (*spatial, 2)).astype(np.float32)
    for number in range(10):
        for change, strength in ((cutout, 5), (random_erasing, 1.0)):
            changed = (np.asarray(change(image, jax.random.key(number), strength)) != image).any(-1)
            places = np.argwhere(changed)
            extent = np.ptp(places, axis=0) + 1
            assert changed.sum() == np.prod(extent)
            assert (extent <= (5 if change is cutout else np.array(spatial))).all()
            assert changed.mean() < 0.45


def test_erasing_fills_with_a_mean_and_a_deviation_for_each_channel():
    image = np.full((40, 40, 3), 200, np.float32)
    mean, std = (10.0, 20.0, 30.0), (0.0, 3.0, 60.0)
    filled = np.asarray(occlusion.random_erasing(image, jax.random.key(1), 1.0, mean))
    box = (filled != image).all(-1)
    assert 0.02 < box.mean() < 0.4
    np.testing.assert_array_equal(filled[box], np.broadcast_to(mean, (box.sum(), 3)))
    noisy = np.asarray(occlusion.random_erasing(image, jax.random.key(1), 1.0, mean, std))[box]
    tolerance = 5 / np.sqrt(box.sum())
    np.testing.assert_allclose((noisy.mean(0) - mean)[1:] / std[1:], 0, atol=tolerance)
    np.testing.assert_allclose(noisy.std(0)[1:] / std[1:], 1, atol=tolerance)
