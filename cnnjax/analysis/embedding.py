"""Embeddings of high-dimensional features in the plane."""

from typing import Literal

import numpy as np
from jaxtyping import Float

from cnnjax.core.options import unknown

Method = Literal["pca", "tsne"]
_METHODS: tuple[Method, ...] = ("pca", "tsne")
# t-SNE is applied to at most this many principal components, as by its authors.
TSNE_COMPONENTS = 50
# Features count as equal if they differ by less than this share of the greatest value, several roundings of float32.
EQUAL = 1e-6


def embed(
    features: Float[np.ndarray, "example *shape"], method: Method = "pca", seed: int = 0
) -> Float[np.ndarray, "example 2"]:
    """Embeds the features of examples in the plane: `embed(run.features(images, "f6"))`.

    - "pca": the first two principal components, by singular value decomposition, which approximate distances between features.
    - "tsne": van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008, by scikit-learn, from at most fifty principal
      components. It preserves neighbourhoods; distances between groups mean little.

    Args:
      features: the features of each example; feature maps are flattened.
      method: the method, "pca" or "tsne".
      seed: the seed of t-SNE; PCA is deterministic.

    Raises:
      ValueError: the method is unknown, there are fewer than three examples, or the features are not finite or equal for all
        examples.
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
            "so that they cannot be embedded"
        )
    if method == "pca":
        return principal_components(flat, 2)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    reduced = principal_components(flat, TSNE_COMPONENTS)
    # t-SNE does not depend on the scale, but squares distances in float32, and scikit-learn crashes if these vanish.
    reduced = (reduced / reduced[:, 0].std()).astype(np.float32)
    perplexity = min(30.0, (len(flat) - 1) / 3)
    with threadpool_limits(1):  # several threads wait actively, which takes twenty times as long on busy cores
        places = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return places.astype(np.float64)


def principal_components(
    vectors: Float[np.ndarray, "example feature"], count: int
) -> Float[np.ndarray, "example component"]:
    """The coordinates of vectors along the axes of greatest variance: U S of the decomposition U S V' of the centred vectors.

    The sign of an axis makes the weight of its largest feature positive. Zeros are added if there are fewer than two axes.
    """
    centred = vectors - vectors.mean(0)
    left, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])
    components = (left * sizes * signs)[:, :count]
    return np.pad(components, ((0, 0), (0, max(2 - components.shape[1], 0))))
