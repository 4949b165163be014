"""Imports and exports weights in torchvision's format.

Every array of a model corresponds to one tensor in torchvision's state dict. `tensor_name` gives the tensor's name and `_to_torch` its
layout.
"""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from cnnjax.core.options import declared, unknown
from cnnjax.models import MODELS, create_model
from cnnjax.models.linen import variable_shapes
from cnnjax.models.published import Torchvision
from cnnjax.transfer import published_weights
from cnnjax.transfer.torch_files import read_torch_file

# torchvision's name -> the name of the equal network in cnnjax.
NETWORKS: dict[str, str] = {row.torchvision.name: name for name, row in MODELS.items() if row.torchvision}

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def tensor_name(equal: Torchvision, path: tuple[str, ...]) -> str:
    """The name of an array in torchvision's state dict.

    Args:
      equal: the equal network of torchvision.
      path: the path of the array in its collection, such as ("conv2_1", "bn1", "scale").

    >>> tensor_name(MODELS["resnet50_torchvision"].torchvision, ("conv2_1", "bn1", "scale"))
    'layer1.0.bn1.weight'
    """
    *layer, leaf = path
    return f"{equal.module(tuple(layer))}.{_LEAVES.get(leaf, leaf)}"


def to_torchvision(equal: Torchvision, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Variables as torchvision's tensors by name.

    Args:
      equal: the equal network of torchvision.
      variables: the variables: {"params": ..., "batch_stats": ...}.
    """
    return {
        tensor_name(equal, path[1:]): np.ascontiguousarray(_to_torch(np.asarray(array), equal, path))
        for path, array in flax.traverse_util.flatten_dict(dict(variables)).items()
    }


def from_torchvision(
    equal: Torchvision, tensors: Mapping[str, np.ndarray], shapes: Mapping[str, Any]
) -> dict[str, Any]:
    """Variables from torchvision's tensors; the inverse of `to_torchvision`.

    Args:
      equal: the equal network of torchvision.
      tensors: the tensors by name, which must fit.
      shapes: the shapes and types of the variables.
    """
    variables = {
        path: jnp.asarray(_from_torch(tensors[tensor_name(equal, path[1:])], equal, path), leaf.dtype)
        for path, leaf in flax.traverse_util.flatten_dict(dict(shapes)).items()
    }
    return flax.traverse_util.unflatten_dict(variables)


def _equal(network: str) -> Torchvision:
    if network not in NETWORKS:
        raise ValueError(unknown("torchvision model", network, NETWORKS))
    return MODELS[NETWORKS[network]].torchvision


def _is_auxiliary(tensor: str) -> bool:
    return tensor.lower().startswith("aux")


def _to_torch(array: np.ndarray, equal: Torchvision, path: tuple[str, ...]) -> np.ndarray:
    """Converts an array to torchvision's layout: convolutions HWIO -> OIHW, dense (in, out) -> (out, in)."""
    *_, layer, leaf = path
    if leaf == "layer_scale":
        return array[:, None, None]
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if leaf == "kernel" and layer in equal.flattened:
        array = array.reshape(*equal.flattened[layer], -1, array.shape[-1]).transpose(2, 0, 1, 3).reshape(array.shape)
    return array.T


def _from_torch(tensor: np.ndarray, equal: Torchvision, path: tuple[str, ...]) -> np.ndarray:
    """The inverse of `_to_torch`."""
    *_, layer, leaf = path
    if leaf == "layer_scale":
        return tensor[:, 0, 0]
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    array = tensor.T
    if leaf == "kernel" and layer in equal.flattened:
        array = array.reshape(-1, *equal.flattened[layer], array.shape[-1]).transpose(1, 2, 0, 3).reshape(array.shape)
    return array


def load_torchvision(
    name: str, state_dict: Mapping[str, Any] | str | Path, *, encoder: bool = False
) -> tuple[nn.Module, dict[str, Any]]:
    """Loads weights in torchvision's format into the equal network.

    `model.apply(variables, images)` takes normalised images with channels last.

    Args:
      name: torchvision's name, such as "resnet50" (the model is `resnet50_torchvision`).
      state_dict: {name: array}; a file: .safetensors, .npz or .pth; or "torchvision", the first weights that torchvision publishes,
        or "torchvision:IMAGENET1K_V2" for others. Published weights are downloaded once.
      encoder: whether only the feature maps will be used, so that published weights without a classifier can be taken; the
        classifier's arrays are then zero.

    Raises:
      ValueError: the name is unknown, or tensors are missing, unexpected, of another shape or not finite; the message has the
        number and the first eight of each.
      FileNotFoundError: there is no such file.
      ConnectionError: published weights are not here and cannot be downloaded.

    Returns:
      The model, with the number of classes of the last layer, and its variables.
    """
    equal = _equal(name)
    options: dict[str, Any] = {}
    empty = ""
    if isinstance(state_dict, str | Path):
        published = published_weights.find(name, str(state_dict))
        if known := published_weights.meant(name, str(state_dict)):
            options, empty = dict(known.options), known.empty
        if empty and not encoder:
            raise ValueError(
                f"weights of {name}: {known.name} are those of an encoder, without a classifier: set initial.weights to them for a "
                f"network with the encoder {name}, such as ssd300_vgg16, or choose other weights"
            )
        state_dict = read_state_dict(published_weights.fetch(published) if published else Path(state_dict))
    tensors = {key: np.asarray(value) for key, value in state_dict.items() if not key.endswith("num_batches_tracked")}
    if empty:
        tensors = {key: np.zeros_like(value) if key.startswith(empty) else value for key, value in tensors.items()}
    if equal.older:
        tensors = {re.sub(*equal.older, key): value for key, value in tensors.items()}
    last = f"{equal.module(equal.output)}.bias"
    if last not in tensors or tensors[last].ndim != 1:
        raise ValueError(f"weights of {name}: the last layer's {last} is missing: is it another model's file?")
    published = MODELS[NETWORKS[name]]
    if "auxiliary_weight" in declared(published.build) and not any(map(_is_auxiliary, tensors)):
        options["auxiliary_weight"] = 0.0
    num_classes = len(tensors[last]) // equal.outputs_per_class - equal.background
    model = create_model(NETWORKS[name], num_classes, **options)
    *size, channels = published.image_shape
    expected = variable_shapes(model, (*size, channels))
    stem = next(
        tensor_name(equal, path[1:])
        for path, leaf in flax.traverse_util.flatten_dict(expected).items()
        if leaf.ndim == 4 and leaf.shape[2] == channels
    )
    if stem in tensors and tensors[stem].shape[1:2] not in ((), (channels,)):
        expected = variable_shapes(model, (*size, tensors[stem].shape[1]))
    wanted = {
        tensor_name(equal, path[1:]): _to_torch(np.broadcast_to(np.float32(0), leaf.shape), equal, path).shape
        for path, leaf in flax.traverse_util.flatten_dict(expected).items()
    }
    problems = _compare(wanted, tensors)
    if problems:
        raise ValueError(f"weights of {name} do not fit: {'; '.join(problems)}")
    return model, from_torchvision(equal, tensors, expected)


def export_torchvision(name: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A network's variables as torchvision's state dict, which `load_torchvision` reads back with the same bits.

    Args:
      name: torchvision's name of the network.
      variables: the variables of the equal network: {"params": ..., "batch_stats": ...}.

    Raises:
      ValueError: the name is unknown.
    """
    return to_torchvision(_equal(name), variables)


def _compare(wanted: Mapping[str, tuple[int, ...]], given: Mapping[str, np.ndarray]) -> list[str]:
    missing = [key for key in wanted if key not in given]
    extra = [key for key in given if key not in wanted]
    misshapen = [
        f"{key} is {given[key].shape}, expected {shape}"
        for key, shape in wanted.items()
        if key in given and given[key].shape != shape
    ]
    damaged = [key for key, value in given.items() if not _finite(value)]
    problems = (
        ("missing", missing),
        ("unexpected", extra),
        ("of another shape", misshapen),
        ("not of finite numbers", damaged),
    )
    return [
        f"{len(names)} {what} ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"
        for what, names in problems
        if names
    ]


def _finite(array: np.ndarray) -> bool:
    return jnp.issubdtype(array.dtype, jnp.number) and bool(np.isfinite(array).all())


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads {name: array} from .safetensors, .npz (without pickles), or .pth as PyTorch saves state dicts.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file has another suffix, or is empty or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weight file {path} does not exist")
    readers = {".safetensors": _read_safetensors, ".npz": _read_npz, ".pth": read_torch_file, ".pt": read_torch_file}
    if path.suffix.lower() not in readers:
        raise ValueError(f"weight file {path}: expected {', '.join(readers)} (cnnjax.load_keras reads Keras's .h5)")
    if path.stat().st_size == 0:
        raise ValueError(f"weight file {path} is empty")
    try:
        return readers[path.suffix.lower()](path)
    except Exception as error:  # a damaged file raises various exceptions
        raise ValueError(f"weight file {path} cannot be read: {' '.join(str(error).split())[:200]}") from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):  # NumPy would suggest to load it as pickled objects, which can run code
        raise ValueError("it is damaged, or not an .npz file")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
        return {key: content[key] for key in content.files}
