"""Images found by gradient descent: inversion of a layer's features, and images that maximise the score of a class.

`invert_features` and `maximize_scores` take any differentiable function of images and compile one program; `invert_layer` and
`visualize_class` apply them to a run:

    run = cnnjax.load_run("runs/fashion_mnist_cnn")
    images = invert_layer(run, test.images[:4], "conv2")          # uint8: images with the same conv2 features
    images = visualize_class(run, ["Bag", "Sandal"])              # uint8: images with high logits of these classes
"""

import functools
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Shaped

from cnnjax.core.options import unknown
from cnnjax.core.randomness import key_for
from cnnjax.data import transforms

if TYPE_CHECKING:
    from cnnjax.runs import Run

Images = Float[Array, "image *spatial channel"]
Stored = Shaped[np.ndarray, "image *spatial channel"]


def total_variation(images: Images, beta: float = 2.0) -> Float[Array, "image"]:
    """R(x) = sum over i, j, c of ((x[i, j+1] - x[i, j])^2 + (x[i+1, j] - x[i, j])^2)^(beta / 2).

    Mahendran & Vedaldi (CVPR 2015), equation 4; differences beyond the border are zero. The bracket has one
    difference for a signal and three for a volume.

    Args:
      images: the images, for each of which one value is returned.
      beta: the exponent: 1 allows edges, 2 prefers smooth changes. Below 2 the gradient in flat regions is taken as zero.
    """
    last = [jax.lax.slice_in_dim(images, -1, None, axis=axis) for axis in range(images.ndim)]
    steps = [jnp.diff(images, axis=axis, append=last[axis]) for axis in reversed(_spatial(images))]
    squares = functools.reduce(operator.add, [step**2 for step in steps])
    flat = squares == 0  # the power's derivative is infinite there
    return jnp.where(flat, 0, jnp.where(flat, 1, squares) ** (beta / 2)).sum((*_spatial(images), -1))


def alpha_norm(images: Images, alpha: float = 6.0) -> Float[Array, "image"]:
    """R(x) = sum over all values of |x|^alpha, which keeps values near zero (Mahendran & Vedaldi, 2015)."""
    return (jnp.abs(images) ** alpha).sum((*_spatial(images), -1))


def _spatial(images: Images) -> tuple[int, ...]:
    """The numbers of the spatial axes."""
    return tuple(range(1, images.ndim - 1))


def _blurred(images: Images) -> Images:
    """Smoothed by (1, 2, 1) / 4 along each spatial axis, with zeros beyond the border: for two axes the 3x3 Gaussian."""
    for axis in _spatial(images):
        around = jnp.pad(images, [(int(axis == other),) * 2 for other in range(images.ndim)])
        before, after = (jax.lax.slice_in_dim(around, start, start + images.shape[axis], axis=axis) for start in (0, 2))
        images = (before + 2 * images + after) / 4
    return images


def invert_features(
    features: Callable[[Images], Float[Array, "image *shape"]],
    target: Float[Array, "image *shape"],
    image_shape: tuple[int, ...],
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

    with R of `total_variation`. Each image is optimised separately by Adam with a cosine schedule, starting from small noise.

    Args:
      features: a differentiable function of images whose values are centred at zero.
      target: the features to match, one row per image.
      image_shape: the spatial axes and channels of the images.
      total_variation_weight: the weight of the total variation.
      beta: the exponent of the total variation.
      alpha_weight: the weight of the alpha norm.
      alpha: the exponent of the alpha norm.
      steps: the number of steps.
      learning_rate: the initial learning rate, which is the size of the first step.
      seed: the seed of the initial noise.

    Returns:
      The images, and the loss of each at each step.
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
    """Images that maximise a score (Simonyan, Vedaldi & Zisserman, 2013, "Deep Inside Convolutional Networks").

    maximise over x:  scores(x) - l2 |x|^2,   each image separately, by Adam with a cosine schedule.

    Args:
      scores: a differentiable function of images that returns one score per image, such as the logit of a class.
      start: the initial images; zero is the centre of the range.
      l2: the weight of the L2 penalty; a linear score w.x has its maximum at x = w / (2 l2).
      jitter: the images are shifted at random by up to this many pixels in each step, with wrap-around, so that the result does not
        depend on single pixels.
      blur: the share, from 0 to 1, of a Gaussian blur (3x3 in two axes) that is mixed in after each step to suppress fine noise.
      steps: the number of steps.
      learning_rate: the initial learning rate, which is the size of the first step.
      seed: the seed of the shifts.

    Returns:
      The images, and the objective of each at each step.
    """
    _check_positive(steps=steps, learning_rate=learning_rate)
    if not 0 <= blur <= 1 or jitter < 0 or l2 < 0:
        raise ValueError(f"blur={blur}, jitter={jitter}, l2={l2}: expected 0 to 1, 0 or more, 0 or more")
    key = key_for(seed, "jitter")

    def loss(images: Images, step: Array) -> Float[Array, "image"]:
        axes = _spatial(images)
        shift = jax.random.randint(jax.random.fold_in(key, step), (len(axes),), -jitter, jitter + 1)
        seen = jnp.roll(images, shift, axes) if jitter else images
        return l2 * (images**2).sum((*axes, -1)) - scores(seen)

    def smoothed(images: Images) -> Images:
        return images + blur * (_blurred(images) - images) if blur else images

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
    """Minimises the loss of each image in one compiled program, with `project` applied after every step."""
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


# --- for runs: zero is the centre of the range of the values, and one its width ------------------------------------


def invert_layer(
    run: "Run",
    images: Sequence[Any] | np.ndarray,
    layer: str,
    *,
    total_variation_weight: float = 1e-3,
    alpha_weight: float = 1e-4,
    **settings: Any,
) -> Stored:
    """Images with the same features of a layer as the given images; differences show what the layer does not represent.

    Args:
      run: a trained run.
      images: the images, as for `run.predict`.
      layer: the path of the layer.
      total_variation_weight: the weight of the total variation, as in `invert_features`.
      alpha_weight: the weight of the alpha norm, as in `invert_features`.
      **settings: other arguments of `invert_features`.

    Returns:
      Images of the same type as the run's.

    Raises:
      ValueError: there is no such layer, an image does not fit, or the run's images have neither 8 bits nor statistics.
    """
    from cnnjax.training.step import layer_output

    run.check_layer(layer)
    middle, width = _range(run, "invert_layer")
    if not len(images):
        raise ValueError("invert_layer: no images were given")
    pixels = run.prepare_all(images)
    read = partial(layer_output(run.model, layer), run.selected.variables)
    features = lambda images: read(run.inputs(width * images + middle))  # noqa: E731
    target = jax.jit(features)((pixels - middle) / width)
    weights = {"total_variation_weight": total_variation_weight, "alpha_weight": alpha_weight}
    found, _ = invert_features(features, target, pixels.shape[1:], **weights, **settings)
    return transforms.as_type(np.asarray(width * found + middle), pixels.dtype)


def visualize_class(
    run: "Run", classes: Sequence[str], *, l2: float = 0.02, jitter: int = 2, blur: float = 0.05, **settings: Any
) -> Stored:
    """An image for each class that maximises the class's logit with an L2 penalty.

    Args:
      run: a trained run.
      classes: the names of the classes.
      l2: the weight of the L2 penalty, as in `maximize_scores`.
      jitter: the size of the shifts, as in `maximize_scores`.
      blur: the share of blur, as in `maximize_scores`.
      **settings: other arguments of `maximize_scores`.

    Returns:
      Images of the same type as the run's, one for each class.

    Raises:
      ValueError: there is no such class, or the run's images have neither 8 bits nor statistics.
    """
    middle, width = _range(run, "visualize_class")
    for name in classes:
        if name not in run.label_names:
            raise ValueError(unknown("class", name, run.label_names))
    if not classes:
        raise ValueError("visualize_class: no classes were given")
    chosen = np.array([run.label_names.index(name) for name in classes])

    def scores(images: Images) -> Float[Array, "image"]:
        logits = run.model.apply(run.selected.variables, run.inputs(width * images + middle))
        return logits[jnp.arange(len(chosen)), chosen].astype(jnp.float32)

    start = jnp.zeros((len(classes), *run.described["image_shape"]))
    found, _ = maximize_scores(scores, start, l2=l2, jitter=jitter, blur=blur, **settings)
    return transforms.as_type(np.asarray(width * found + middle), np.dtype(run.facts.image_dtype))


def _range(run: "Run", what: str) -> tuple[Float[np.ndarray, "#channel"], Float[np.ndarray, "#channel"]]:
    """The centre and the width of the range of the values: 0 to 255, or 2.5 standard deviations on each side of the training mean."""
    if run.facts.image_dtype == "uint8":
        return np.array([127.5], np.float32), np.array([255.0], np.float32)
    from cnnjax.training import run_directory

    statistics = run_directory.read_statistics(run.described)
    if statistics is None:
        raise ValueError(
            f"{what}: the run's images are {run.facts.image_dtype}, and the run has no statistics that give their range: train with "
            "dataset.normalize='dataset'"
        )
    deviation = np.array(statistics.std, np.float32)
    return np.array(statistics.mean, np.float32), np.where(deviation > 0, 5 * deviation, 1)
