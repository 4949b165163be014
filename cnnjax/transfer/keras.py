"""Imports weights of `keras.applications`, without Keras.

The names of layers in a file depend on the version of Keras, and some are only numbers, so that Keras itself assigns layers by their
order. The same is done here, for each kind of layer. There are two file formats: `.weights.h5` of Keras 3 numbers the layers of each
kind and their weights (`layers/conv2d_1/vars/0`); `.h5`, in which the weights are published, has the attribute `layer_names`, and in
each layer's group `weight_names` (Keras 3.15, `saving/saving_lib.py` and `legacy/saving/legacy_h5_format.py`).
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.core.options import unknown
from cnnjax.models import MODELS, create_model
from cnnjax.models.linen import variable_shapes

# The name of a network in Keras -> the name of the same network in cnnjax.
NETWORKS: dict[str, str] = {row.keras.name: name for name, row in MODELS.items() if row.keras}

# The kinds of layers by the numbers of axes of their weights.
_KINDS = {
    (4,): "convolution",
    (4, 1): "convolution",
    (4, 4): "separable convolution",
    (1, 1, 1, 1): "batch normalisation",
    (2, 1): "dense layer",
}
# Our names of a layer's weights in Keras's order.
_LEAVES = {
    "convolution": ("kernel", "bias"),
    "separable convolution": ("depthwise/kernel", "pointwise/kernel"),
    "batch normalisation": ("scale", "bias", "mean", "var"),
    "dense layer": ("kernel", "bias"),
}
Layers = Mapping[str, list[list[np.ndarray]]]


def is_keras_file(source: Any) -> bool:
    """Whether a file of weights is in one of Keras's formats, by its suffix."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in (".h5", ".hdf5")


def load_keras(name: str, file: str | Path, *, reverse_channels: bool = False) -> tuple[nn.Module, dict[str, Any]]:
    """Loads weights of a network of `keras.applications` into the same network here, whose logits are those of Keras.

    `model.apply(variables, images)` takes images as Keras's `preprocess_input` returns them. Biases of convolutions before batch
    normalisation, which exist in Keras's ResNet but not here, are subtracted from the running means.

    Args:
      name: Keras's name of the network, such as "ResNet50" (the model is `resnet50`).
      file: a weight file, .h5 or .weights.h5; a model that Keras saved as .h5 too. Without the network's output layer the model is
        the trunk (`num_classes=0`).
      reverse_channels: whether to reverse the channels that the first convolution takes, so that a network that was trained with BGR
        images takes RGB. The published weights of VGG and ResNet were.

    Raises:
      ValueError: the name is unknown, the file is damaged or of another form, or its layers do not fit.
      FileNotFoundError: there is no such file.
      ImportError: h5py is not installed.

    Returns:
      The model, with the number of classes of the last layer, and its variables.
    """
    if name not in NETWORKS:
        raise ValueError(unknown("Keras model", name, NETWORKS, f"(those equal to ours are {', '.join(NETWORKS)})"))
    layers = read_layers(Path(file))
    published = MODELS[NETWORKS[name]]
    outputs = [weights[0].shape[1] for weights in layers["dense layer"]]
    model = create_model(NETWORKS[name], outputs[-1] if outputs else 0)
    channels = next((weights[0].shape[2] for weights in layers["convolution"]), published.image_shape[-1])
    shapes = variable_shapes(model, (*published.image_shape[:2], channels))
    expected = {"/".join(path): leaf for path, leaf in flax.traverse_util.flatten_dict(dict(shapes)).items()}
    values, problems = _assigned(["/".join(path) for path in published.keras.layers], layers, expected)
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ValueError(f"weights of {name} in {file} do not fit: {'; '.join(problems[:8])}{more}")
    if reverse_channels:
        stem = f"params/{'/'.join(published.keras.layers[0])}/kernel"
        values[stem] = values[stem][:, :, ::-1]
    variables = {tuple(path.split("/")): jnp.asarray(value, jnp.float32) for path, value in values.items()}
    return model, flax.traverse_util.unflatten_dict(variables)


def _assigned(
    order: list[str], layers: Layers, expected: Mapping[str, jax.ShapeDtypeStruct]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The values of our variables by path, such as "params/conv1/kernel", and the differences that prevent loading.

    Args:
      order: the paths of our layers, those of each kind in the file's order.
      layers: the weights of the file's layers by kind.
      expected: the shapes of our variables by path.
    """

    def path(layer: str, leaf: str) -> str:
        return f"{'batch_stats' if leaf in ('mean', 'var') else 'params'}/{layer}/{leaf}"

    ours: dict[str, list[str]] = {kind: [] for kind in _LEAVES}
    for layer in order:
        own = [key for key in _LEAVES["convolution"] + _LEAVES["batch normalisation"] if path(layer, key) in expected]
        if path(layer, "depthwise/kernel") in expected:
            ours["separable convolution"].append(layer)
        elif "scale" in own:
            ours["batch normalisation"].append(layer)
        elif own:  # empty for the output layer of a trunk
            axes = len(expected[path(layer, "kernel")].shape)
            ours["convolution" if axes == 4 else "dense layer"].append(layer)
    values: dict[str, np.ndarray] = {}
    problems = [
        f"{len(layers[kind])} layers with the weights of a {kind}, expected {len(names)}"
        for kind, names in ours.items()
        if len(layers[kind]) != len(names)
    ]
    if problems:
        return {}, problems
    means: dict[str, np.ndarray] = {}
    for kind, names in ours.items():
        for layer, weights in zip(names, layers[kind], strict=True):
            for leaf, value in zip(_LEAVES[kind], weights, strict=False):
                if leaf == "depthwise/kernel":
                    value = value.transpose(0, 1, 3, 2)
                target = path(layer, leaf)
                if target not in expected:  # the bias of a convolution before batch normalisation
                    means[path("bn".join(layer.rsplit("conv", 1)), "mean")] = value
                elif value.shape != expected[target].shape:
                    problems.append(f"{layer}/{leaf} is {value.shape}, expected {expected[target].shape}")
                elif not np.isfinite(value).all():
                    problems.append(f"{layer}/{leaf} has values that are not finite")
                else:
                    values[target] = value
    for target, bias in means.items():
        if target in values and values[target].shape == bias.shape:
            values[target] = values[target] - bias
        else:
            problems.append(f"a bias of a convolution, and no {target} to subtract it from")
    problems += [f"{target} is missing" for target in expected if not problems and target not in values]
    return values, problems


def read_layers(path: Path) -> Layers:
    """The weights of a file's layers, by kind and in the file's order.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged or in another format.
      ImportError: h5py is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weight file {path} does not exist")
    try:
        import h5py
    except ImportError:
        raise ImportError(f"{path}: reading it needs the package h5py: pip install 'cnnjax[keras]'") from None
    layers: dict[str, list[list[np.ndarray]]] = defaultdict(list)
    try:
        with h5py.File(path, "r") as file:
            for layer, weights in _each(file):
                kind = _KINDS.get(tuple(array.ndim for array in weights))
                if kind is None:
                    raise ValueError(
                        f"weight file {path}: layer {layer} has weights of shapes {[w.shape for w in weights]}: expected those of a "
                        "convolution, batch normalisation or dense layer"
                    )
                layers[kind].append(weights)
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f"weight file {path} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if not layers:
        raise ValueError(f"weight file {path} has no layers with weights in one of Keras's formats (.h5, .weights.h5)")
    return layers


def _each(file: Any) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The name and weights of each layer that has weights, in order."""
    file = file.get("model_weights", file)  # a whole model in the older form
    names = _attribute(file, "layer_names")
    groups = next((file[key] for key in ("layers", "_layer_checkpoint_dependencies") if key in file), {})
    if names:
        for name in names:
            weights = [np.asarray(file[name][weight]) for weight in _attribute(file[name], "weight_names")]
            if weights:
                yield name, weights
        return
    for name in sorted(groups, key=_numbered):
        stored = groups[name].get("vars", {})
        if len(stored):
            yield name, [np.asarray(stored[key]) for key in sorted(stored, key=int)]


def _attribute(group: Any, name: str) -> list[str]:
    """A list of texts, which Keras divides into several attributes, `name0`, `name1`, ..., if it is long."""
    parts = [key for key in group.attrs if re.fullmatch(rf"{name}\d*", key)]
    parts.sort(key=lambda part: int(part.removeprefix(name) or 0))
    return [text.decode() if isinstance(text, bytes) else str(text) for part in parts for text in group.attrs[part]]


def _numbered(name: str) -> tuple[str, int]:
    """The parts of a layer's name, so that numbers sort as such.

    >>> sorted(["conv2d_10", "conv2d", "conv2d_2"], key=_numbered)
    ['conv2d', 'conv2d_2', 'conv2d_10']
    """
    base, number = re.fullmatch(r"(.*?)(?:_(\d+))?", name).groups()
    return base, int(number or 0)
