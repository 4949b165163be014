"""Style transfer: the content of one picture in the style of another.

Gatys, Ecker and Bethge, "Image style transfer using convolutional neural networks", CVPR 2016. A picture is optimised until a network's
features in it are those of the content picture at each position, and the features' correlations are those of the style picture:

    network = cnnjax.load_torchvision("vgg19", "vgg19-dcbb9e9d.pth")
    picture = transfer_style(network, content, style)                     # uint8, of the content picture's size
    run = cnnjax.load_run("runs/my_photos")
    picture = transfer_style(run, content, style, style_weight=1e4)       # any trained run
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Shaped, UInt8
from PIL import Image

from cnnjax.analysis.networks import Source
from cnnjax.analysis.visualization import total_variation
from cnnjax.core.options import convert, declared, not_negative, positive, unknown
from cnnjax.core.randomness import key_for
from cnnjax.data import transforms
from cnnjax.layers import max_pools_averaged
from cnnjax.models.published import IMAGENET_MEAN, IMAGENET_STD
from cnnjax.runs import Run
from cnnjax.training.parallel import device_memory, needed_memory
from cnnjax.transfer.initial import layer_order

Picture = Float[Array, "height width channel"]
Features = Float[Array, "height width feature"]
Pixels = UInt8[np.ndarray, "height width channel"]


@dataclasses.dataclass(frozen=True)
class StyleOptions:
    """The settings of a style transfer.

    Raises:
      ValueError: a value is not allowed; the message says what is.
    """

    content_layers: Annotated[
        tuple[str, ...] | None, "paths of the content layers (default: chosen by `default_layers`; conv4_2 for VGG-19)"
    ] = None
    style_layers: Annotated[
        tuple[str, ...] | None,
        "paths of the style layers (default: chosen by `default_layers`; conv1_1 to conv5_1 for VGG-19)",
    ] = None
    content_weight: Annotated[float, "weight of the content, alpha in the paper", not_negative] = 1.0
    style_weight: Annotated[
        float, "weight of the style, beta in the paper, which shows alpha / beta from 1e-4 to 1e-3", not_negative
    ] = 1e3
    total_variation_weight: Annotated[
        float, "weight of a smoothness penalty, which the paper does not use", not_negative
    ] = 0
    optimizer: Annotated[
        Literal["lbfgs", "adam"], "L-BFGS with a line search, as in the paper; or Adam, which needs less memory"
    ] = "lbfgs"
    learning_rate: Annotated[float, "learning rate of Adam, for pixels from -1/2 to 1/2", positive] = 0.02
    steps: Annotated[int, "number of steps of the optimizer", positive] = 200
    start: Annotated[Literal["content", "noise"], "the picture before the first step"] = "content"
    pooling: Annotated[
        Literal["average", "max"],
        "average: the network's max-pooling is replaced by average pooling, as the paper prefers; max: it is kept",
    ] = "average"
    every: Annotated[int, "number of steps between two reports of progress", positive] = 50
    seed: Annotated[int, "seed of the noise", not_negative] = 0

    def __post_init__(self) -> None:
        for name, option in declared(type(self)).items():
            value = getattr(self, name)
            try:
                wrong = (
                    option.check(convert(value, option.type)) if option.check else convert(value, option.type) and None
                )
            except TypeError as error:
                raise ValueError(f"{name}: {error}") from None
            if wrong:
                raise ValueError(f"{name}={value!r}: expected {wrong}")
        for kind in ("content", "style"):
            if getattr(self, f"{kind}_layers") == () and getattr(self, f"{kind}_weight"):
                raise ValueError(f"{kind}_layers names no layer: expected one or more, or {kind}_weight 0")
        if not self.content_weight and not self.style_weight:
            raise ValueError("content_weight and style_weight are both 0: expected at least one above 0")


class Losses(NamedTuple):
    """The loss that is minimised, and its terms, multiplied by their weights."""

    total: Float[Array, ""]
    content: Float[Array, ""]
    style: Float[Array, ""]
    variation: Float[Array, ""]


class Targets(NamedTuple):
    """The features and Gram matrices that a picture shall have.

    Attributes:
      content: the content picture's features, by layer.
      grams: the style picture's Gram matrices, by layer.
    """

    content: Mapping[str, Features]
    grams: Mapping[str, Float[Array, "feature feature"]]


# --- the paper's equations ------------------------------------------------------------------------------------------


def gram_matrix(features: Features) -> Float[Array, "feature feature"]:
    """G_ij = (1 / M) sum over the M positions k of F_ik F_jk: which features occur together, at whatever position.

    The paper's equation 3 has no factor 1 / M, and its equation 4 divides by M^2. With the factor here, pictures may differ in size.
    """
    flat = features.reshape(-1, features.shape[-1])
    return flat.T @ flat / len(flat)


def style_loss(features: Features, gram: Float[Array, "feature feature"]) -> Float[Array, ""]:
    """E = 1 / (4 N^2) sum over i, j of (G_ij - A_ij)^2, for a layer with N features (the paper's equation 4).

    Its derivative with respect to F, which has a row for each of the M positions, is F (G - A) / (N^2 M) (equation 6).

    Args:
      features: F, of the picture.
      gram: A, of the style picture.
    """
    return ((gram_matrix(features) - gram) ** 2).sum() / (4 * features.shape[-1] ** 2)


def content_loss(features: Features, target: Features) -> Float[Array, ""]:
    """L = 1/2 sum of (F - P)^2 over positions and features (the paper's equation 1)."""
    return ((features - target) ** 2).sum() / 2


def style_transfer_losses(
    picture: Picture, features: Mapping[str, Features], targets: Targets, options: StyleOptions
) -> Losses:
    """alpha L_content + beta L_style + gamma R, where each L is a mean over its layers (equation 7), and R is `total_variation`.

    Args:
      picture: the picture that is optimised.
      features: the picture's features, by layer.
      targets: the features and Gram matrices that the picture shall have.
      options: the weights alpha, beta and gamma.
    """
    content = [content_loss(features[layer], target) for layer, target in targets.content.items()]
    style = [style_loss(features[layer], gram) for layer, gram in targets.grams.items()]
    terms = (
        options.content_weight * sum(content) / max(len(content), 1),
        options.style_weight * sum(style) / max(len(style), 1),
        options.total_variation_weight * total_variation(picture[None])[0],
    )
    return Losses(sum(terms), *map(jnp.asarray, terms))


# --- a network's features -------------------------------------------------------------------------------------------


class _AllSeen(Exception):
    """Ends a network's computation after the last of the requested layers."""


def layer_outputs(
    model: nn.Module, variables: Mapping[str, Any], inputs: Float[Array, "image *size channel"], layers: Sequence[str]
) -> dict[str, Float[Array, "image *size feature"]]:
    """The outputs of layers, before the activations that follow them; nothing after the last of them is computed.

    Images may therefore have any size that these layers accept, whatever size the network's dense layers were trained for.

    Args:
      model: the network.
      variables: the network's variables; those of later layers may be missing.
      inputs: the model's inputs.
      layers: the layers' paths; if a layer runs several times, its first output is returned.
    """
    seen: dict[str, Array] = {}

    def note(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        output = method(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name == "__call__" and path in layers:
            seen.setdefault(path, output)
            if len(seen) == len(set(layers)):
                raise _AllSeen
        return output

    with contextlib.suppress(_AllSeen), nn.intercept_methods(note):
        model.apply(variables, inputs)
    return seen


def default_layers(shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The default content and style layers of a network; for VGG-19 those of the paper, conv4_2 and conv1_1, conv2_1, ... conv5_1.

    Style: the first layer at each of the five largest sizes of maps. Content: the second layer at the fourth of these sizes, or at
    the last size if there are fewer.

    Args:
      shapes: (height, width, feature) of the layers' outputs, in order.

    >>> vgg = {f"conv{block}_{n}": (64 >> block, 64 >> block, 9) for block in (1, 2, 3, 4, 5) for n in (1, 2)}
    >>> default_layers(vgg)
    (('conv4_2',), ('conv1_1', 'conv2_1', 'conv3_1', 'conv4_1', 'conv5_1'))
    """
    by_size: dict[tuple[int, ...], list[str]] = {}
    for name, shape in shapes.items():
        by_size.setdefault(shape[:-1], []).append(name)
    scales = list(by_size.values())[:5]
    return (scales[:4][-1][:2][-1],), tuple(names[0] for names in scales)


def map_shapes(model: nn.Module, image_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes (height, width, feature) of the outputs of all layers with parameters and maps, in order, for an image's shape.

    Raises:
      ValueError: the network has no such layer.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    image = jax.ShapeDtypeStruct((1, *image_shape), np.float32)

    def note(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        output = method(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(output, jax.Array) and output.ndim == 4:
            shapes.setdefault("/".join(context.module.path), output.shape[1:])
        return output

    with nn.intercept_methods(note):
        jax.eval_shape(model.init, jax.random.key(0), image)
    found = {name: shapes[name] for name in layer_order(model, image) if name in shapes}
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no layer with maps, (height, width, feature): expected convolutions"
        )
    return found


# --- the transfer ---------------------------------------------------------------------------------------------------


def transfer_style(
    source: Source,
    content: Shaped[np.ndarray, "height width *channel"] | Image.Image,
    style: Shaped[np.ndarray, "height width *channel"] | Image.Image,
    *,
    normalize: Callable[[Array], Array] | None = None,
    progress: Callable[[int, Pixels, Losses], None] | None = None,
    **settings: Any,
) -> Pixels:
    """A picture with the content of one picture and the style of another, by the method of Gatys et al. (CVPR 2016).

    minimise over x:  content_weight L_content + style_weight L_style + total_variation_weight R

    with the terms of `style_transfer_losses`, for pixels x from -1/2 to 1/2. A layer's features are its output after ReLU, divided by
    their mean over both pictures. (The paper scales each filter so that its mean output over ImageNet is 1, which needs ImageNet.)

    The result depends on what the network has learned. Networks trained on ImageNet respond to textures and parts of objects; an
    untrained network responds to textures of a few pixels; a network trained on small grey images gives grey pictures.

    Args:
      source: a run, or a model and its variables.
      content: the picture whose content is kept, of 8 bits; the result has its size.
      style: the picture whose style is transferred, of 8 bits and any size; textures keep the scale that they have in it.
      normalize: a function from pixels (image, height, width, channel) of 0 to 255 to the model's inputs; None is the run's function,
        or for a model torchvision's normalisation for ImageNet (for a grey model, the mean over its channels).
      progress: called with the step, the picture and the losses every `every` steps, and at the end.
      **settings: fields of `StyleOptions`.

    Raises:
      ValueError: a picture is not of 8 bits, there is no such layer, a layer outputs nothing above 0, or a step needs more memory
        than there is.
      FloatingPointError: the loss is not finite.
    """
    options = StyleOptions(**settings)
    content, style = as_rgb(content, "content"), as_rgb(style, "style")
    model, variables, own_normalize, channels = _opened(source, content.size[::-1])
    normalize = own_normalize if normalize is None else normalize
    pixels, style_pixels = _pixels(content, channels), _pixels(style, channels)
    shapes = map_shapes(model, pixels.shape)
    content_layers, style_layers = (
        default if chosen is None else chosen
        for chosen, default in zip((options.content_layers, options.style_layers), default_layers(shapes), strict=True)
    )
    # A term with the weight 0 needs no layers.
    content_layers = content_layers if options.content_weight else ()
    style_layers = style_layers if options.style_weight else ()
    layers = tuple(dict.fromkeys((*content_layers, *style_layers)))
    for layer in layers:
        if layer not in shapes:
            raise ValueError(unknown("layer with maps", layer, shapes))

    def outputs(variables: Mapping[str, Any], picture: Picture) -> dict[str, Features]:
        with max_pools_averaged() if options.pooling == "average" else contextlib.nullcontext():
            seen = layer_outputs(model, variables, normalize(255 * (picture[None] + 0.5)), layers)
        return {layer: jax.nn.relu(seen[layer][0].astype(jnp.float32)) for layer in layers}

    @jax.jit
    def targeted(variables: Mapping[str, Any], content: Picture, style: Picture) -> tuple[dict[str, Array], Targets]:
        of_content, of_style = outputs(variables, content), outputs(variables, style)
        means = {layer: (of_content[layer].mean() + of_style[layer].mean()) / 2 for layer in layers}
        return means, Targets(
            {layer: of_content[layer] / means[layer] for layer in content_layers},
            {layer: gram_matrix(of_style[layer] / means[layer]) for layer in style_layers},
        )

    def losses(known: Any, picture: Picture) -> Losses:
        variables, means, targets = known
        features = {layer: maps / means[layer] for layer, maps in outputs(variables, picture).items()}
        return style_transfer_losses(picture, features, targets, options)

    means, targets = targeted(variables, pixels, style_pixels)
    silent = [layer for layer, mean in means.items() if not mean > 0]
    if silent:
        raise ValueError(f"layer {silent[0]!r} outputs nothing above 0 for these pictures: choose other layers")
    noise = 0.1 * jax.random.normal(key_for(options.seed, "style"), pixels.shape)
    start = pixels if options.start == "content" else noise
    return _minimize(losses, (variables, means, targets), start, options, progress)


def _opened(
    source: Source, size: tuple[int, int]
) -> tuple[nn.Module, Mapping[str, Any], Callable[[Array], Array], int]:
    """The model, its variables, the normalisation of pixels from 0 to 255, and the channels, for pictures of a height and width."""
    if not isinstance(source, Run):
        model, variables = source
        mean, std = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)
        if (channels := _channels(model, variables, size)) == 1:
            mean, std = mean.mean(), std.mean()
        return model, variables, lambda pixels: (pixels / 255 - mean) / std, channels
    *trained, channels = source.described["image_shape"]
    if len(trained) != 2 or channels not in (1, 3) or source.facts.image_dtype != "uint8":
        raise ValueError(
            f"{source.workdir}: trained on {source.facts.image_dtype} of shape {tuple(source.described['image_shape'])}: expected "
            "grey or RGB images of 8 bits (dataset.depth=8)"
        )
    return source.model, source.selected.variables, source.normalize, channels


def _channels(model: nn.Module, variables: Mapping[str, Any], size: tuple[int, int]) -> int:
    """The number of input channels of the first layer of a network for images of a height and width."""
    first = next(iter(map_shapes(model, (*size, 3))))
    kernel = functools.reduce(lambda tree, name: tree[name], first.split("/"), variables["params"])["kernel"]
    if kernel.shape[-2] not in (1, 3):
        raise ValueError(
            f"layer {first!r} takes {kernel.shape[-2]} channels: expected a network for grey or RGB pictures"
        )
    return kernel.shape[-2]


def as_rgb(picture: Any, name: str) -> Image.Image:
    """A picture in RGB, from a Pillow picture, an array or a file's bytes.

    Args:
      picture: the picture, of 8 bits; transparency is ignored.
      name: the picture's name in messages.

    Raises:
      ValueError: the picture does not have 8 bits, or is not grey, RGB or RGBA.
    """
    decoded = transforms.decode(picture if isinstance(picture, bytes | Image.Image) else np.asarray(picture), name, 2)
    if isinstance(decoded, np.ndarray):
        decoded = transforms.as_picture(decoded)
    if not isinstance(decoded, Image.Image):
        raise ValueError(f"{name}: {decoded.dtype} of shape {decoded.shape}: expected a grey or RGB picture of 8 bits")
    return decoded.convert("RGB")


def _pixels(picture: Image.Image, channels: int) -> Picture:
    """A picture's values from -1/2 to 1/2, in grey or RGB."""
    values = np.asarray(picture.convert("L" if channels == 1 else "RGB"), np.float32)
    return jnp.asarray(values.reshape(*values.shape[:2], channels) / 255 - 0.5)


def _minimize(
    losses: Callable[[Any, Picture], Losses],
    known: Any,
    start: Picture,
    options: StyleOptions,
    progress: Callable[[int, Pixels, Losses], None] | None,
) -> Pixels:
    """Minimises the loss of a picture; the steps between two reports of progress are one compiled program."""
    optimizer = optax.lbfgs() if options.optimizer == "lbfgs" else optax.adam(options.learning_rate)

    def advance(known: Any, picture: Picture, state: Any, count: Array) -> tuple[Picture, Any, Losses]:
        total = lambda picture: losses(known, picture).total  # noqa: E731
        # The line search has computed the value and the gradient of the picture that it chose.
        reused = optax.value_and_grad_from_state(total) if options.optimizer == "lbfgs" else None

        def step(_: Array, carry: tuple[Picture, Any]) -> tuple[Picture, Any]:
            picture, state = carry
            value, gradient = reused(picture, state=state) if reused else jax.value_and_grad(total)(picture)
            more = {"value": value, "grad": gradient, "value_fn": total} if reused else {}
            updates, state = optimizer.update(gradient, state, picture, **more)
            return optax.apply_updates(picture, updates), state

        picture, state = jax.lax.fori_loop(0, count, step, (picture, state))
        return picture, state, losses(known, picture)

    state = optimizer.init(start)
    program = jax.jit(advance).lower(known, start, state, 0).compile()
    _check_fits(program, start)
    picture, at = start, 0
    while at < options.steps:
        count = min(options.every, options.steps - at)
        picture, state, measured = program(known, picture, state, np.int32(count))
        at += count
        if not np.isfinite(measured.total):
            raise FloatingPointError(
                f"the loss became {measured.total} within step {at}: lower the weights or learning_rate"
            )
        if progress:
            progress(at, _as_pixels(picture), jax.device_get(measured))
    return _as_pixels(picture)


def _check_fits(program: Any, picture: Picture) -> None:
    """Raises ValueError for a compiled program that needs more memory than there is."""
    device = jax.devices()[0]
    needed, there = needed_memory(program), device_memory(device)
    if needed is not None and needed > there:
        height, width, _ = picture.shape
        raise ValueError(
            f"a step at {width}x{height} pixels needs {needed / 2**30:,.1f} GiB, and there are {there / 2**30:,.1f}: make the "
            "content picture smaller, or leave out the first layers"
        )


def _as_pixels(picture: Picture) -> Pixels:
    return np.asarray(255 * (picture + 0.5)).round().clip(0, 255).astype(np.uint8)
