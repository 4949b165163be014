"""Many-dimensional features as points of a plane."""

from typing import Literal

import numpy as np
from jaxtyping import Float

from cnnjax.core.options import unknown

Method = Literal["pca", "tsne"]
_METHODS: tuple[Method, ...] = ("pca", "tsne")
# t-SNE works on at most this many principal components, as its authors do.
TSNE_COMPONENTS = 50
# Features are equal if they differ by less than this share of the greatest: several roundings of float32.
EQUAL = 1e-6


def embed(
    features: Float[np.ndarray, "example *shape"], method: Method = "pca", seed: int = 0
) -> Float[np.ndarray, "example 2"]:
    """Places examples in the plane by a layer's features: `embed(run.features(images, "f6"))`.

    - "pca": the two principal components, by singular value decomposition; distances in the plane are those of the
      features, as far as two dimensions can have them.
    - "tsne": van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008, by scikit-learn, from at most fifty
      principal components; who is near whom is kept, distances between groups mean little.

    Args:
      features: of each example; maps are taken as one long vector.
      method: which.
      seed: of t-SNE; PCA draws nothing.

    Raises:
      ValueError: no such method, fewer than three examples, or features that are not finite, or equal for all examples.
    """
    if method not in _METHODS:
        raise ValueError(unknown("embedding", method, _METHODS))
    flat = np.asarray(features, np.float64).reshape(len(features), -1)
    if len(flat) < 3:
        raise ValueError(f"embed: {len(flat)} examples: expected at least 3")
    if not np.isfinite(flat).all():
        raise ValueError("embed: the features are not finite")
    if np.ptp(flat, 0).max() <= EQUAL * np.abs(flat).max():
        raise ValueError(
            f"embed: the features of all {len(flat)} examples are equal: they do not depend on the input, "
            "and there is nothing to place"
        )
    if method == "pca":
        return principal_components(flat, 2)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    reduced = principal_components(flat, TSNE_COMPONENTS)
    # t-SNE has no scale of its own, but squares distances in float32: scikit-learn crashes where these vanish.
    reduced = (reduced / reduced[:, 0].std()).astype(np.float32)
    perplexity = min(30.0, (len(flat) - 1) / 3)
    with threadpool_limits(1):  # several threads spin while they wait: on busy cores they take twenty times as long
        places = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return places.astype(np.float64)


def principal_components(
    vectors: Float[np.ndarray, "example feature"], count: int
) -> Float[np.ndarray, "example component"]:
    """The vectors' coordinates along the axes of greatest variance: U S of the centred vectors' U S V'.

    An axis points to where its feature of greatest weight grows. Where there are fewer than two axes, zeros fill up.
    """
    centred = vectors - vectors.mean(0)
    left, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])
    components = (left * sizes * signs)[:, :count]
    return np.pad(components, ((0, 0), (0, max(2 - components.shape[1], 0))))
