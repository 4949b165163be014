"""Images that are found by gradient descent: what a layer still knows of an image, and what a class looks like.

Both are functions of a differentiable function of images, compiled as one program; `invert_layer` and `visualize_class` apply
them to a run:

    run = cnnjax.load_run("runs/fashion_mnist_cnn")
    images = invert_layer(run, test.images[:4], "conv2")          # uint8, beside the originals: what conv2 still tells
    images = visualize_class(run, ["Bag", "Sandal"])              # uint8: what raises these classes' logits
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

from cnnjax.core.options import unknown
from cnnjax.core.randomness import key_for
from cnnjax.layers.filters import apply_filter

if TYPE_CHECKING:
    from cnnjax.runs import Run

Images = Float[Array, "image height width channel"]


def total_variation(images: Images, beta: float = 2.0) -> Float[Array, "image"]:
    """R(x) = sum over i, j, c of ((x[i, j+1] - x[i, j])^2 + (x[i+1, j] - x[i, j])^2)^(beta / 2).

    Mahendran & Vedaldi (CVPR 2015), equation 4; differences beyond the border are zero.

    Args:
      images: one value each is returned.
      beta: 1 allows edges, 2 prefers smooth change. Below 2 the gradient where all is flat is taken as zero.
    """
    right = jnp.pad(images[:, :, 1:] - images[:, :, :-1], ((0, 0), (0, 0), (0, 1), (0, 0)))
    down = jnp.pad(images[:, 1:] - images[:, :-1], ((0, 0), (0, 1), (0, 0), (0, 0)))
    squares = right**2 + down**2
    flat = squares == 0  # the power's derivative is infinite there
    return jnp.where(flat, 0, jnp.where(flat, 1, squares) ** (beta / 2)).sum((1, 2, 3))


def alpha_norm(images: Images, alpha: float = 6.0) -> Float[Array, "image"]:
    """R(x) = sum over all values of |x|^alpha: keeps them in a range about zero (Mahendran & Vedaldi, 2015)."""
    return (jnp.abs(images) ** alpha).sum((1, 2, 3))


def invert_features(
    features: Callable[[Images], Float[Array, "image *shape"]],
    target: Float[Array, "image *shape"],
    image_shape: tuple[int, int, int],
    *,
    total_variation_weight: float = 0.0,
    beta: float = 2.0,
    alpha_weight: float = 0.0,
    alpha: float = 6.0,
    steps: int = 400,
    learning_rate: float = 0.05,
    seed: int = 0,
) -> tuple[Images, Float[Array, "step image"]]:
    """Images whose features match the target's (Mahendran & Vedaldi, CVPR 2015, "Understanding Deep Image Representations by
    Inverting Them").

    minimise over x:  |features(x) - target|^2 / |target|^2  +  alpha_weight sum |x|^alpha  +  total_variation_weight R(x)

    with R of `total_variation`; each image on its own, by Adam whose rate falls to zero along a cosine, from small noise.

    Args:
      features: of images, differentiable; zero is the middle of an image's range.
      target: the features to match, one image's a row.
      image_shape: height, width and channels of the images sought.
      total_variation_weight: of smoothness.
      beta: its exponent.
      alpha_weight: of staying in range.
      alpha: its exponent.
      steps: of the descent.
      learning_rate: of the first step: how far a value moves in it.
      seed: of the noise it starts from.

    Returns:
      The images, and what was minimised at each step.
    """
    _check_positive(steps=steps, learning_rate=learning_rate)
    axes = tuple(range(1, target.ndim))
    scale = (target**2).sum(axes)

    def loss(images: Images, step: Array) -> Float[Array, "image"]:
        error = ((features(images) - target) ** 2).sum(axes) / jnp.where(scale > 0, scale, 1)
        return error + total_variation_weight * total_variation(images, beta) + alpha_weight * alpha_norm(images, alpha)

    start = 0.01 * jax.random.normal(key_for(seed, "inversion"), (len(target), *image_shape))
    return _descend(loss, lambda images: images, start, steps, learning_rate)


def maximize_scores(
    scores: Callable[[Images], Float[Array, "image"]],
    start: Images,
    *,
    l2: float = 0.01,
    jitter: int = 0,
    blur: float = 0.0,
    steps: int = 400,
    learning_rate: float = 0.05,
    seed: int = 0,
) -> tuple[Images, Float[Array, "step image"]]:
    """Images that a score is highest for (Simonyan, Vedaldi & Zisserman, 2013, "Deep Inside Convolutional Networks").

    maximise over x:  scores(x) - l2 |x|^2,   each image on its own, by Adam whose rate falls to zero along a cosine.

    Args:
      scores: of each image, differentiable, such as one class's logit.
      start: where to begin; zeros are the middle of the range.
      l2: what a value's square costs; a linear score w.x has its maximum at x = w / (2 l2).
      jitter: each step looks at the images shifted by up to this number of pixels, wrapping around: what is found then does not
        depend on single pixels.
      blur: 0 to 1, how much of each image is replaced by its 3x3 Gaussian blur after each step, which leaves out fine noise.
      steps: of the ascent.
      learning_rate: of the first step: how far a value moves in it.
      seed: of the shifts.

    Returns:
      The images, and what was maximised at each step.
    """
    _check_positive(steps=steps, learning_rate=learning_rate)
    if not 0 <= blur <= 1 or jitter < 0 or l2 < 0:
        raise ValueError(f"blur={blur}, jitter={jitter}, l2={l2}: expected 0 to 1, 0 or more, 0 or more")
    key = key_for(seed, "jitter")

    def loss(images: Images, step: Array) -> Float[Array, "image"]:
        shift = jax.random.randint(jax.random.fold_in(key, step), (2,), -jitter, jitter + 1)
        seen = jnp.roll(images, shift, (1, 2)) if jitter else images
        return l2 * (images**2).sum((1, 2, 3)) - scores(seen)

    def smoothed(images: Images) -> Images:
        return images + blur * (apply_filter(images, "gaussian_blur") - images) if blur else images

    images, losses = _descend(loss, smoothed, start, steps, learning_rate)
    return images, -losses


def _check_positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name}={number}: expected a number above 0")


def _descend(
    loss: Callable[[Images, Array], Float[Array, "image"]],
    project: Callable[[Images], Images],
    start: Images,
    steps: int,
    learning_rate: float,
) -> tuple[Images, Float[Array, "step image"]]:
    """Each image's loss made small, `project` applied after every step; one compiled program."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def step(carry: Any, number: Array) -> tuple[Any, Float[Array, "image"]]:
        images, state = carry

        def total(images: Images) -> tuple[Array, Array]:
            each = loss(images, number)
            return each.sum(), each

        gradient, each = jax.grad(total, has_aux=True)(images)
        updates, state = optimizer.update(gradient, state)
        return (project(optax.apply_updates(images, updates)), state), each

    @jax.jit
    def run(start: Images) -> tuple[Images, Float[Array, "step image"]]:
        (images, _), losses = jax.lax.scan(step, (start, optimizer.init(start)), jnp.arange(steps))
        return images, losses

    return run(start)


# --- of a run: pixels / 255 - 1/2, so that zero is grey -----------------------------------------------------------


def invert_layer(
    run: "Run",
    images: Sequence[Any] | np.ndarray,
    layer: str,
    *,
    total_variation_weight: float = 1e-3,
    alpha_weight: float = 1e-4,
    **settings: Any,
) -> UInt8[np.ndarray, "image height width channel"]:
    """Images that a layer sees as it sees the given ones: what differs is what the layer has forgotten.

    Args:
      run: a trained run.
      images: as for `run.predict`.
      layer: a layer's path.
      total_variation_weight: see `invert_features`.
      alpha_weight: see `invert_features`.
      **settings: others of `invert_features`.

    Raises:
      ValueError: there is no such layer, or an image does not fit; or the run's images are not of 8 bits.
    """
    from cnnjax.training.step import layer_output

    run.check_layer(layer)
    _check_bytes(run, "invert_layer")
    if not len(images):
        raise ValueError("invert_layer: no images were given")
    pixels = run.prepare_all(images)
    read = partial(layer_output(run.model, layer), run.selected.variables)
    features = lambda images: read(run.inputs(255 * (images + 0.5)))  # noqa: E731
    target = jax.jit(features)(pixels / np.float32(255) - 0.5)
    weights = {"total_variation_weight": total_variation_weight, "alpha_weight": alpha_weight}
    return _as_pixels(invert_features(features, target, pixels.shape[1:], **weights, **settings)[0])


def visualize_class(
    run: "Run", classes: Sequence[str], *, l2: float = 0.02, jitter: int = 2, blur: float = 0.05, **settings: Any
) -> UInt8[np.ndarray, "class height width channel"]:
    """For each class an image that raises its logit as far as its L2 norm allows.

    Args:
      run: a trained run.
      classes: names of classes.
      l2: see `maximize_scores`.
      jitter: see `maximize_scores`.
      blur: see `maximize_scores`.
      **settings: others of `maximize_scores`.

    Raises:
      ValueError: there is no such class, or the run's images are not of 8 bits.
    """
    _check_bytes(run, "visualize_class")
    for name in classes:
        if name not in run.label_names:
            raise ValueError(unknown("class", name, run.label_names))
    if not classes:
        raise ValueError("visualize_class: no classes were given")
    chosen = np.array([run.label_names.index(name) for name in classes])

    def scores(images: Images) -> Float[Array, "image"]:
        logits = run.model.apply(run.selected.variables, run.inputs(255 * (images + 0.5)))
        return logits[jnp.arange(len(chosen)), chosen].astype(jnp.float32)

    start = jnp.zeros((len(classes), *run.described["image_shape"]))
    return _as_pixels(maximize_scores(scores, start, l2=l2, jitter=jitter, blur=blur, **settings)[0])


def _check_bytes(run: "Run", what: str) -> None:
    if run.facts.image_dtype != "uint8":
        raise ValueError(
            f"{what}: the run's images are {run.facts.image_dtype}, and pictures of 0 to 255 are made: train with dataset.depth=8"
        )


def _as_pixels(images: Images) -> UInt8[np.ndarray, "image height width channel"]:
    return np.asarray(255 * (images + 0.5)).round().clip(0, 255).astype(np.uint8)
