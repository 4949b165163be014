import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.core.randomness import key_for
from cnnjax.data.augment import AugmentOptions, mixing
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
