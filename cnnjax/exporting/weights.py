"""Weights as .safetensors: with torchvision's names if the network is torchvision's, otherwise with the paths of our variables."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import __version__
from cnnjax.core.locate import OBJECT, locate
from cnnjax.models import MODELS, create_model
from cnnjax.models.linen import build_model, is_rate, variable_shapes
from cnnjax.runs.run import Run
from cnnjax.transfer.torchvision import NETWORKS, export_torchvision, load_torchvision

# The key of the description among a file's texts, and fields of a network that change neither its layers nor their names.
KEY = "cnnjax"
_FREE = ("auxiliary_weight", "dtype", "name", "num_classes", "parent", "rematerialize", "sync_batch_norm")


def named_tensors(run: Run) -> tuple[dict[str, np.ndarray], str]:
    """The tensors of a run's selected weights by name, and whose names these are: torchvision:NETWORK or cnnjax."""
    variables = jax.tree.map(np.asarray, dict(run.selected.variables))
    network = torchvision_network(run, variables)
    if network is not None:
        return export_torchvision(network, variables), f"torchvision:{network}"
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    return {name: np.ascontiguousarray(array) for name, array in flat.items()}, "cnnjax"


def torchvision_network(run: Run, variables: Mapping[str, Any]) -> str | None:
    """torchvision's name of a run's network, if torchvision has it with these layers and sizes of tensors."""
    ours = str(run.config.model.name)
    name = next((name for name, equal in NETWORKS.items() if equal == ours), None)
    classes = run.facts.outputs.get("num_classes")
    if name is None or not classes:
        return None
    usual = create_model(ours, classes)
    fields = [field.name for field in dataclasses.fields(usual) if field.name not in _FREE and not is_rate(field.name)]
    if type(run.model) is not type(usual) or any(getattr(run.model, one) != getattr(usual, one) for one in fields):
        return None
    shape = (*MODELS[ours].image_shape[:-1], run.described["image_shape"][-1])
    model = run.model.clone(dtype=jnp.float32)
    expected = variable_shapes(model, shape)
    sizes = [
        {path: leaf.shape for path, leaf in flax.traverse_util.flatten_dict(dict(tree)).items()}
        for tree in (expected, variables)
    ]
    return name if sizes[0] == sizes[1] else None


def metadata(run: Run, names: str, preparation: Mapping[str, Any]) -> dict[str, str]:
    """The description of a file of weights."""
    described = {
        "version": __version__,
        "names": names,
        "model": run.config.model.to_dict(),
        "outputs": dict(run.facts.outputs),
        "image_shape": list(run.described["image_shape"]),
        "classes": list(run.label_names),
        "preprocessing": preparation,
    }
    texts = {KEY: json.dumps(described, default=str)}
    return {**texts, "format": "pt"} if names != KEY else texts


def serialized(tensors: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> bytes:
    """The bytes of a .safetensors file."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, dict(texts))


def load_weights(path: str | Path, model: nn.Module | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """The network and variables of a .safetensors file that `export` has written: `model.apply(variables, images)`.

    Args:
      path: the file.
      model: the network, needed if the run was trained with an object from Python or with a file that is not here.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file was not written by `export`, or its network cannot be created.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"weight file {path} does not exist")
    try:
        with safe_open(path, "numpy") as file:
            tensors, texts = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"weight file {path} cannot be read: {error}") from None
    if KEY not in texts:
        raise ValueError(f"{path} was not written by cnnjax: load_torchvision(name, file) reads torchvision's weights")
    described = json.loads(texts[KEY])
    network = described["names"].partition(":")[2]
    if network:
        return load_torchvision(network, tensors)
    return model or _built(described, path), _nested(tensors)


def _nested(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return flax.traverse_util.unflatten_dict({name: jnp.asarray(array) for name, array in tensors.items()}, sep="/")


def _built(described: Mapping[str, Any], path: Path) -> nn.Module:
    """The network that a file describes."""
    options = dict(described["model"])
    name = options.pop("name")
    if name.startswith(OBJECT):
        raise ValueError(
            f"{path}: its run was trained with a network from Python: pass it, load_weights(path, model=...)"
        )
    rows = {known: row.build for known, row in MODELS.items()}
    component = locate(f"{path}: model.name", name, rows)
    outputs = {"num_classes": 0, **described["outputs"]} if name in MODELS else described["outputs"]
    options = {key: _as_tuples(value) for key, value in options.items()}
    return build_model(component, outputs, jnp.float32, options, name)


def _as_tuples(value: Any) -> Any:
    """A value of JSON with tuples instead of lists, as in configs."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
