"""The base of the convolutional networks here: beside its output, a network gives the feature maps on the way to it."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import flax.linen as nn
from jaxtyping import Array, Float

from cnnjax.core.options import checked, declared, not_negative, unknown

# Fields of networks that are built on another: the other network's options, and its batch normalisation's epsilon.
EncoderOptions = Annotated[
    tuple[tuple[str, Any], ...],
    'options of the encoder, as pairs, such as (("features", 32),); the others have their defaults',
]
FrozenEpsilon = Annotated[
    float | None,
    "epsilon of the frozen batch normalisation; None is that of published weights (initial.weights), otherwise each layer's own",
    not_negative,
]
FeatureMaps = list[Float[Array, "batch *size channel"]]


class Network(nn.Module):
    """A network whose `__call__(x, train=False, features_only=False)` returns its feature maps, without the head, if `features_only`."""

    def feature_maps(self, x: Float[Array, "batch *size channel"], train: bool = False) -> FeatureMaps:
        """The feature maps by stride, largest first: the last map of each stride.

        Most networks for ImageNet have maps with strides 2, 4, 8, 16 and 32. VGG and the networks for small images begin at
        stride 1, AlexNet and ConvNeXt at 4. The last map is the input of the head, which pools or flattens it. A network's own
        variables can be used; `init(..., method="feature_maps")` creates only those of the layers up to the last map.

        >>> import jax
        >>> from cnnjax.models import create_model
        >>> network, images = create_model("resnet18", num_classes=0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")
        >>> init = lambda images: network.init_with_output(jax.random.key(0), images, method="feature_maps")
        >>> [feature_map.shape for feature_map in jax.eval_shape(init, images)[0]]
        [(1, 112, 112, 64), (1, 56, 56, 64), (1, 28, 28, 128), (1, 14, 14, 256), (1, 7, 7, 512)]
        """
        return self(x, train, features_only=True)


def gives_maps(build: Callable[..., nn.Module]) -> bool:
    """Whether a builder of models (a class, or a partial application of one) builds a `Network`."""
    kind = build.func if isinstance(build, functools.partial) else build
    return isinstance(kind, type) and issubclass(kind, Network)


def encoder_network(name: str, options: EncoderOptions = (), **settings: Any) -> Callable[..., Network]:
    """The builder of a registered network's trunk, on whose feature maps another network is built.

    Args:
      name: the network's name.
      options: the options of the network, as pairs.
      **settings: fields of the network; those that it does not have are left out.

    Raises:
      ValueError: there is no such network, it gives no maps, or it has no such option or value.
      TypeError: an option has the wrong type.
    """
    from cnnjax.models import MODELS  # which gathers the files that ask

    networks = {known: row.build for known, row in MODELS.items() if gives_maps(row.build)}
    if name not in networks:
        raise ValueError(unknown("encoder", name, networks))
    fields, known = inspect.signature(networks[name]).parameters, declared(networks[name])
    for key, value in options:
        if key not in known:
            raise ValueError(unknown(f"option of encoder {name}", key, known))
        settings[key] = checked(f"model.encoder_options.{key}", value, known[key])
    return functools.partial(networks[name], num_classes=0, **{key: settings[key] for key in settings if key in fields})
