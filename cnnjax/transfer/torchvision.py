"""Imports and exports weights in torchvision's format.

Every array of a model corresponds to one tensor in torchvision's state dict. `tensor_name` gives the tensor's name and `_to_torch` its
layout.
"""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.core.options import declared, unknown
from cnnjax.models import MODELS, create_model, deeplabv3, fcn_resnet, lraspp, mobilenet_v3, vgg
from cnnjax.transfer import published_weights
from cnnjax.transfer.torch_files import read_torch_file

# torchvision's name -> the name of the equal network in cnnjax.
NETWORKS: dict[str, str] = {
    **{name: name for name in (*vgg.BLOCKS, *(f"{name}_bn" for name in vgg.BLOCKS), "resnet18", "resnet34")},
    **{name: f"{name}_torchvision" for name in ("alexnet", "googlenet", "resnet50", "resnet101", "resnet152")},
    **{name: name for file in (mobilenet_v3, fcn_resnet, deeplabv3, lraspp) for name in file.PUBLISHED},
}

_CONV_NORM = {"conv": 0, "bn": 1}
# The parts of the networks for segmentation but their encoders.
_FCN_HEAD = {"conv": "0", "bn": "1", "output": "4"}
_DEEPLAB_HEAD = {
    **{
        f"rate{rate}/{part}": f"0.convs.{i}.{n}"
        for i, rate in enumerate((1, *deeplabv3.RATES))
        for part, n in _CONV_NORM.items()
    },
    **{f"pooled/{part}": f"0.convs.{len(deeplabv3.RATES) + 1}.{number + 1}" for part, number in _CONV_NORM.items()},
    **{f"project/{part}": f"0.project.{number}" for part, number in _CONV_NORM.items()},
    **{f"last/{part}": f"{number + 1}" for part, number in _CONV_NORM.items()},
    "output": "4",
}
_LRASPP = {
    "conv": "cbr.0",
    "bn": "cbr.1",
    "gate": "scale.1",
    "low_output": "low_classifier",
    "high_output": "high_classifier",
}
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
# The output layer by family, whose bias has a number for each class.
_OUTPUTS = {
    "alexnet": ("fc8",),
    "deeplabv3": ("head", "output"),
    "fcn": ("head", "output"),
    "googlenet": ("fc",),
    "lraspp": ("high_output",),
    "mobilenet": ("fc2",),
    "resnet": ("fc",),
    "vgg": ("fc8",),
}
# The size of the map that is flattened before a dense layer: torchvision flattens channels first, cnnjax channels last.
_FLATTENED = {("alexnet", "fc6"): (6, 6), ("vgg", "fc6"): (7, 7), ("googlenet", "fc1"): (4, 4)}


def tensor_name(network: str, path: tuple[str, ...]) -> str:
    """The name of an array in torchvision's state dict.

    Args:
      network: torchvision's name of the network, such as "resnet50".
      path: the path of the array in its collection, such as ("conv2_1", "bn1", "scale").

    >>> tensor_name("resnet50", ("conv2_1", "bn1", "scale"))
    'layer1.0.bn1.weight'
    """
    *modules, leaf = path
    first = modules[0]
    if MODELS[NETWORKS[network]].task == "segmentation":
        modules = _segmentation_modules(network, modules)
    elif network.startswith("resnet") and "_" in first:
        stage, block = first.removeprefix("conv").split("_")
        inner = {"shortcut_conv": "downsample.0", "shortcut_bn": "downsample.1"}.get(modules[1], modules[1])
        modules = [f"layer{int(stage) - 1}", str(int(block) - 1), inner]
    elif network.startswith("vgg"):
        modules = [_vgg_module(network, first)]
    elif network == "alexnet":
        features = {"conv1": 0, "conv2": 3, "conv3": 6, "conv4": 8, "conv5": 10}
        classifier = {"fc6": 1, "fc7": 4, "fc8": 6}
        modules = [f"features.{features[first]}" if first in features else f"classifier.{classifier[first]}"]
    elif network == "googlenet":
        heads = {"auxiliary4a": "aux1", "auxiliary4d": "aux2"}
        modules = [heads.get(module, module.replace("_", ".")) for module in modules]
    elif network.startswith("mobilenet_v3"):
        modules = _mobilenet_modules(mobilenet_v3.PUBLISHED[network].build.keywords["rows"], modules)
    return ".".join([*modules, _LEAVES[leaf]])


def _segmentation_modules(network: str, modules: list[str]) -> list[str]:
    """The encoder's layers are named as in its own network, after "backbone"."""
    first, inner = modules[0], "/".join(modules[1:])
    if first == "encoder":
        _, encoder = network.split("_", 1)
        name = tensor_name(encoder, (*modules[1:], "kernel")).removeprefix("features.")
        return ["backbone", name.removesuffix(".weight")]
    if first == "auxiliary":
        return ["aux_classifier", _FCN_HEAD[inner]]
    if network.startswith("lraspp"):
        return ["classifier", _LRASPP[first]]
    return ["classifier", (_DEEPLAB_HEAD if network.startswith("deeplab") else _FCN_HEAD)[inner]]


def _vgg_module(network: str, module: str) -> str:
    """The module's name in torchvision, which numbers convolutions, normalisations, ReLUs and poolings together."""
    if module.startswith("fc"):
        return f"classifier.{ {'fc6': 0, 'fc7': 3, 'fc8': 6}[module] }"
    kind, block, index = module[: module.index("_") - 1], int(module[module.index("_") - 1]), int(module.split("_")[1])
    per_conv = 3 if network.endswith("_bn") else 2
    counts = vgg.BLOCKS[network.removesuffix("_bn")]
    before = sum(count * per_conv + 1 for count in counts[: block - 1]) + (index - 1) * per_conv
    return f"features.{before + (kind == 'bn')}"


def _mobilenet_modules(rows: tuple[mobilenet_v3.Row, ...], modules: list[str]) -> list[str]:
    """torchvision numbers the layers that a block has."""
    first, *inner = modules
    if first.startswith("fc"):
        return [f"classifier.{ {'fc1': 0, 'fc2': 3}[first] }"]
    ends = {"stem": 0, "last": len(rows) + 1}
    if first in ends:
        return [f"features.{ends[first]}.{_CONV_NORM[inner[0]]}"]
    number = int(first.removeprefix("block"))
    row, width = rows[number - 1], rows[number - 2].features if number > 1 else 16
    expand, squeeze = ["expand"] * (row.expanded != width), ["squeeze"] * row.squeezes
    layer = [*expand, "depthwise", *squeeze, "project"].index(inner[0])
    return [f"features.{number}.block.{layer}", str(_CONV_NORM.get(inner[1], inner[1]))]


def _flattened(network: str, path: tuple[str, ...]) -> tuple[int, int] | None:
    families = [family for family, _ in _FLATTENED]
    return _FLATTENED.get((_family(network, families), path[-2])) if path[-1] == "kernel" else None


def _family(network: str, families: Iterable[str]) -> str:
    return next((family for family in families if network.startswith(family)), "")


def _is_auxiliary(tensor: str) -> bool:
    return tensor.startswith("aux")


def _to_torch(array: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Converts an array to PyTorch's layout: convolutions HWIO -> OIHW, dense (in, out) -> (out, in)."""
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 2 and size:
        array = array.reshape(*size, -1, array.shape[-1]).transpose(2, 0, 1, 3).reshape(array.shape)
    return array.T


def _from_torch(tensor: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """The inverse of `_to_torch`."""
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    array = tensor.T
    if array.ndim == 2 and size:
        array = array.reshape(-1, *size, array.shape[-1]).transpose(1, 2, 0, 3).reshape(array.shape)
    return array


def load_torchvision(name: str, state_dict: Mapping[str, Any] | str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Loads weights in torchvision's format into the equal network.

    `model.apply(variables, images)` takes normalised images with channels last.

    Args:
      name: torchvision's name, such as "resnet50" (the model is `resnet50_torchvision`).
      state_dict: {name: array}; a file: .safetensors, .npz or .pth; or "torchvision", the first weights that torchvision publishes,
        or "torchvision:IMAGENET1K_V2" for others. Published weights are downloaded once.

    Raises:
      ValueError: the name is unknown, or tensors are missing, unexpected, of another shape or not finite; the message has the
        number and the first eight of each.
      FileNotFoundError: there is no such file.
      ConnectionError: published weights are not here and cannot be downloaded.

    Returns:
      The model, with the number of classes of the last layer, and its variables.
    """
    if name not in NETWORKS:
        raise ValueError(unknown("torchvision model", name, NETWORKS))
    if isinstance(state_dict, str | Path):
        published = published_weights.find(name, str(state_dict))
        state_dict = read_state_dict(published_weights.fetch(published) if published else Path(state_dict))
    tensors = {key: np.asarray(value) for key, value in state_dict.items() if not key.endswith("num_batches_tracked")}
    last = tensor_name(name, (*_OUTPUTS[_family(name, _OUTPUTS)], "bias"))
    if last not in tensors or tensors[last].ndim != 1:
        raise ValueError(f"weights of {name}: the last layer's {last} is missing: is it another model's file?")
    options = {}
    if "auxiliary_weight" in declared(MODELS[NETWORKS[name]].build) and not any(map(_is_auxiliary, tensors)):
        options = {"auxiliary_weight": 0.0}
    model = create_model(NETWORKS[name], num_classes=len(tensors[last]), **options)
    channels = MODELS[NETWORKS[name]].image_shape[-1]
    # By name the stem is the first of the convolutions, whatever order the file has.
    stem = min((key for key, value in tensors.items() if value.ndim == 4 and not _is_auxiliary(key)), default=None)
    shape = (1, 224, 224, channels if stem is None else tensors[stem].shape[1])
    expected = flax.traverse_util.flatten_dict(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape)))
    names = {path: tensor_name(name, path[1:]) for path in expected}
    wanted = {
        names[path]: _to_torch(np.broadcast_to(np.float32(0), leaf.shape), _flattened(name, path)).shape
        for path, leaf in expected.items()
    }
    problems = _compare(wanted, tensors)
    if problems:
        raise ValueError(f"weights of {name} do not fit: {'; '.join(problems)}")
    variables = {
        path: jnp.asarray(_from_torch(tensors[names[path]], _flattened(name, path)), leaf.dtype)
        for path, leaf in expected.items()
    }
    return model, flax.traverse_util.unflatten_dict(variables)


def export_torchvision(name: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A network's variables as torchvision's state dict, which `load_torchvision` reads back with the same bits.

    Args:
      name: torchvision's name of the network.
      variables: the variables of the equal network: {"params": ..., "batch_stats": ...}.

    Raises:
      ValueError: the name is unknown.
    """
    if name not in NETWORKS:
        raise ValueError(unknown("torchvision model", name, NETWORKS))
    arrays = flax.traverse_util.flatten_dict(dict(variables))
    return {
        tensor_name(name, path[1:]): np.ascontiguousarray(_to_torch(np.asarray(array), _flattened(name, path)))
        for path, array in arrays.items()
    }


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
        raise ValueError(f"weight file {path}: expected {', '.join(readers)}")
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
