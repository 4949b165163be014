"""The initial weights of a run (drawn at random, or from another run or a weight file), and which of them are frozen."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.core.options import TrainedAlone
from cnnjax.core.paths import check_pattern, matches, path_name
from cnnjax.models.linen import variable_shapes

Variables = Mapping[str, Any]
# Dense layers of VGG that Faster R-CNN has too, and that are convolutions in an FCN, with the same weights in the same order.
DENSE = ("fc6", "fc7")
Stages = tuple[tuple[float, str], ...]


def _scale(scale: float) -> str | None:
    return None if 0 <= scale <= float(np.finfo(np.float32).max) else "a number from 0 to float32's greatest, 3.4e38"


@dataclasses.dataclass(frozen=True)
class InitialOptions:
    """The config's `initial` section."""

    run: Annotated[
        str | None, TrainedAlone, "the directory of a run whose selected weights are used as initial weights"
    ] = None
    weights: Annotated[
        str | None,
        TrainedAlone,
        "torchvision's weights for this model, used as initial weights: torchvision (its first, downloaded once), "
        "torchvision:IMAGENET1K_V2, or a file",
    ] = None
    head: Annotated[
        Literal["match", "new"],
        "the last layer: match uses its weights too if the number of classes agrees; new always initialises it at random",
    ] = "match"
    scale: Annotated[float, "factor of every kernel that is drawn at random; loaded weights are not scaled", _scale] = (
        1.0
    )
    frozen: Annotated[tuple[str, ...], TrainedAlone, "patterns of frozen layers, such as ('conv*',)"] = ()
    frozen_up_to: Annotated[str | None, TrainedAlone, "a layer that is frozen together with all layers before it"] = (
        None
    )
    unfreeze: Annotated[
        Stages, "(epoch, pattern) of layers that are unfrozen from that epoch on", lambda stages: (
            None if all(epoch > 0 for epoch, _ in stages) else "epochs above 0")] = ()  # fmt: skip

    def __post_init__(self) -> None:
        if self.run is not None and self.weights is not None:
            raise ValueError("config: initial.run and initial.weights are both set: choose one")
        if self.unfreeze and not (self.frozen or self.frozen_up_to):
            raise ValueError("config: initial.unfreeze needs initial.frozen or initial.frozen_up_to")


def head_names(make: Callable[[int], nn.Module], num_classes: int, images: jax.ShapeDtypeStruct) -> set[str]:
    """The parameters of the last layer and of auxiliary heads, whose shapes depend on the number of classes."""
    shapes = [
        {
            path_name(path): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(
                variable_shapes(make(count), images.shape[1:])["params"]
            )
        }
        for count in (num_classes, num_classes + 1)
    ]
    return {name for name, shape in shapes[0].items() if shapes[1].get(name) != shape}


def encoder_alone(network: Variables, target: Variables) -> tuple[Variables, set[str]]:
    """The variables of a network as those of another one's encoder, and the names of all others of the latter.

    The head of the network is left out, but for the dense layers that the target has too, also as convolutions.

    Args:
      network: its {"params", "batch_stats"}.
      target: the {"params", "batch_stats"} of the network with an encoder.
    """
    source: dict[str, dict[str, Any]] = {}
    collections = "params", "batch_stats"
    parts = {name for each in collections for name in (target.get(each) or {}).get("encoder", {})}
    for collection in collections:
        given = network.get(collection) or {}
        source[collection] = {"encoder": {name: given[name] for name in given if name in parts}}
    _freeze_norms(source, target)
    for name in DENSE:
        if name in target["params"] and name in network["params"]:
            dense, shape = network["params"][name], target["params"][name]["kernel"].shape
            if dense["kernel"].size == math.prod(shape):
                source["params"][name] = {**dense, "kernel": dense["kernel"].reshape(shape)}
    parts = set(source["params"])
    names = {
        name for values in target.values() for name in flax.traverse_util.flatten_dict(dict(values or {}), sep="/")
    }
    return source, {name for name in names if name.partition("/")[0] not in parts}


def _freeze_norms(source: dict[str, dict[str, Any]], target: Variables) -> None:
    """Puts scales and biases that the target's batch normalisation has among its statistics (`layers.frozen_batch_norm`) there."""
    flatten = partial(flax.traverse_util.flatten_dict, keep_empty_nodes=True)
    wanted, params, statistics = map(flatten, (dict(target.get("batch_stats") or {}), *source.values()))
    for path in wanted.keys() & params.keys():
        statistics[path] = params.pop(path)
    source["params"], source["batch_stats"] = map(flax.traverse_util.unflatten_dict, (params, statistics))


def merge(target: Variables, source: Variables, head: set[str], new_head: bool, what: str) -> Variables:
    """The target's variables with values from the source, except for a head that keeps its random values.

    Args:
      target: the newly drawn {"params", "batch_stats"}.
      source: the {"params", "batch_stats"} of the network to start from.
      head: the names of the last layer's parameters.
      new_head: whether to keep the target's head even if the source's fits.
      what: the origin of the source, for error messages.

    Raises:
      ValueError: values outside the head are missing, unexpected or of another shape; the message lists them.
    """
    problems: dict[str, list[str]] = {"missing": [], "of another shape": [], "unexpected": []}
    merged = {}
    for collection in ("params", "batch_stats"):
        wanted = flax.traverse_util.flatten_dict(dict(target.get(collection) or {}), sep="/")
        given = flax.traverse_util.flatten_dict(dict(source.get(collection) or {}), sep="/")
        for name, value in wanted.items():
            if name in head and (new_head or name not in given or given[name].shape != value.shape):
                continue
            if name not in given:
                problems["missing"].append(name)
            elif given[name].shape != value.shape:
                problems["of another shape"].append(f"{name} is {given[name].shape}, expected {value.shape}")
            else:
                wanted[name] = jnp.asarray(given[name], value.dtype)
        problems["unexpected"] += [name for name in given if name not in wanted]
        merged[collection] = flax.traverse_util.unflatten_dict(wanted, sep="/")
    found = [
        f"{len(names)} {kind} ({', '.join(names[:6])}{', ...' if len(names) > 6 else ''})"
        for kind, names in problems.items()
        if names
    ]
    if found:
        raise ValueError(f"{what} does not fit the model: {'; '.join(found)}: set the config's model as it was there")
    return merged


def frozen_at(
    options: InitialOptions, model: nn.Module, params: Any, images: jax.ShapeDtypeStruct
) -> Callable[[float], Callable[[str], bool]]:
    """A function from an epoch to a function that tells whether a parameter is frozen then, by its name.

    Args:
      options: the config's `initial` section.
      model: the network.
      params: the parameters of the network, or their shapes.
      images: the inputs of the network, or their shape.

    Raises:
      ValueError: a pattern matches nothing, a layer is unknown, or no parameters remain to be trained.
    """
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in options.frozen:
        check_pattern(pattern, params, "initial.frozen")
    for _, pattern in options.unfreeze:
        check_pattern(pattern, params, "initial.unfreeze")
    fixed = {name for name in names if any(matches(name, pattern) for pattern in options.frozen)}
    if options.frozen_up_to is not None:
        order = layer_order(model, images)
        check_pattern(options.frozen_up_to, params, "initial.frozen_up_to")
        last = max(place for place, layer in enumerate(order) if matches(layer, options.frozen_up_to))
        fixed |= {name for name in names if name.rpartition("/")[0] in order[: last + 1]}
    own: dict[str, list[str]] = {}
    for name in names:
        own.setdefault(name.rpartition("/")[0], []).append(name)
    if fixed == set(names):
        raise ValueError("config: initial: every parameter is frozen, so there is nothing to train")

    # A normalisation without a scale is frozen if all its parameters are.
    fixed |= {f"{layer}/scale" for layer, parameters in own.items() if fixed.issuperset(parameters)}

    def at(epoch: float) -> Callable[[str], bool]:
        unfrozen = [pattern for start, pattern in options.unfreeze if epoch >= start]
        return lambda name: name in fixed and not any(matches(name, pattern) for pattern in unfrozen)

    return at


def layer_order(model: nn.Module, images: jax.ShapeDtypeStruct) -> list[str]:
    """The layers that have parameters of their own, in the order of the forward pass."""
    order: list[str] = []

    def note(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        if context.method_name == "__call__":
            order.append("/".join(context.module.path))
        return method(*args, **kwargs)

    with nn.intercept_methods(note):
        params = variable_shapes(model, images.shape[1:])["params"]
    layers = {path_name(path).rpartition("/")[0] for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    return [name for name in dict.fromkeys(order) if name in layers]
