"""Checks a user's model: what works with the framework, and what the framework cannot detect."""

import collections
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import known_zero
from cnnjax.core.paths import path_name
from cnnjax.core.randomness import AXIS, key_for
from cnnjax.layers.activations import watched_by
from cnnjax.layers.flax_layers import as_ours, is_batch_norm, is_channels_last
from cnnjax.layers.recognition import with_activations
from cnnjax.models.linen import has_field, is_bridge, rate_fields, with_streams, with_train_argument

_BATCH = 4  # two examples for each of two devices
_DROPOUTS = (nn.Dropout, layers.Dropout, layers.SpatialDropout, layers.MaxDrop, layers.StochasticDropout)


@dataclasses.dataclass(frozen=True)
class ModelReport:
    """The result of `check_model`, which can be printed.

    Attributes:
      name: the name of the model's class.
      input_shape: the shape of one image.
      parameters: the number of trained parameters.
      output: the structure of the output, with the shape and type of each array as text.
      collections: the collections of variables that the model initialises.
      sown: collections that appear only in training, such as "auxiliary".
      streams: the random streams that the model uses in training.
      evaluation_streams: the random streams that the model uses in evaluation.
      training_differs: whether outputs in training and in evaluation differ.
      depends_on_batch: whether an example's output in evaluation depends on the other examples of its batch.
      same_on_devices: whether training gives the same results on one device and on two that share the batch.
      finite: whether outputs and gradients are finite, by type of the computation.
      batch_norms: the layers whose statistics are synchronised over devices and can be frozen.
      dropouts: the layers whose masks are the same on any number of devices.
      activations: the layers whose activation functions are visible to probes, with the function's name.
      rates: the fields that are dropout rates, and whether `vmap` can vary them.
      notes: likely mistakes, and properties that the framework cannot detect; one line each.
    """

    name: str
    input_shape: tuple[int, ...]
    parameters: int
    output: Any
    collections: tuple[str, ...]
    sown: tuple[str, ...]
    streams: tuple[str, ...]
    evaluation_streams: tuple[str, ...]
    training_differs: bool
    depends_on_batch: bool
    same_on_devices: bool
    finite: Mapping[str, bool]
    batch_norms: tuple[str, ...]
    dropouts: tuple[str, ...]
    activations: Mapping[str, str]
    rates: Mapping[str, bool]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        rows = {
            "output": self.output if isinstance(self.output, str) else str(self.output).replace("'", ""),
            "collections": _listed(self.collections) + (f"; in training {_listed(self.sown)}" if self.sown else ""),
            "random streams": _listed(self.streams),
            "training": "differs from evaluation" if self.training_differs else "is the same as evaluation",
            "evaluation": "examples depend on their batch" if self.depends_on_batch else "examples are independent",
            "devices": "same results on one and two" if self.same_on_devices else "results differ between one and two",
            "finite": _listed(name for name, finite in self.finite.items() if finite),
            "batch norm": _listed(self.batch_norms),
            "dropout": _listed(self.dropouts),
            "activations": _listed(f"{name} after {path}" for path, name in self.activations.items()),
            "vmap may vary": _listed(name for name, varies in self.rates.items() if varies),
        }
        head = f"{self.name} on {_shape_text(self.input_shape)}: {self.parameters:,} parameters"
        body = [f"  {name:<15} {text}" for name, text in [*rows.items(), *(("note", note) for note in self.notes)]]
        return "\n".join([head, *body])


def check_model(module: nn.Module, input_shape: tuple[int, ...]) -> ModelReport:
    """Checks a model: its shapes, then forward and backward passes on random images.

    Args:
      module: a Linen module, such as `MyNet(10)`.
      input_shape: the shape of one image, such as (32, 32, 3).

    Raises:
      TypeError: the module is not an instance of a Linen class.
      ValueError: the module cannot be initialised or called on such images, no output has one value per example, or outputs or
        gradients are not finite in float32; the message is one line.
    """
    if isinstance(module, type):
        raise TypeError(f"{module.__name__} is a class: pass an instance, such as {module.__name__}(10)")
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected a flax.linen.Module, got {type(module).__name__} (nnx: flax.nnx.bridge.to_linen)")
    model = with_train_argument(module)
    where = f"{type(module).__name__} on {_shape_text(input_shape)}"
    images = jax.random.normal(key_for(0, "images"), (_BATCH, *input_shape))

    def initialise(images: Array) -> Any:
        key = lambda name: key_for(0, name)  # noqa: E731
        return with_streams(lambda rngs: model.init(rngs, images), key, ("params",))

    with _one_line(f"{where}, initialised"):
        shapes = jax.eval_shape(initialise, images)
    with _one_line(f"{where}, in evaluation"):
        evaluation = _traced(model, shapes, images, train=False)
    with _one_line(f"{where}, in training"):
        training = _traced(model, shapes, images, train=True)
    if not _by_example(evaluation.output):
        text = str(jax.tree.map(jnp.shape, evaluation.output))
        raise ValueError(
            f"{where}: no output has the batch as its first axis: for {_BATCH} images the shapes are {text}"
        )

    with _one_line(where):
        variables = jax.jit(initialise)(images)
        predict = jax.jit(lambda images: _call(model, variables, images, train=False)[0])
        output, among_others = predict(images), predict(images.at[1:].multiply(-2))
        one, two = (_training_pass(model, variables, images, devices) for devices in (1, 2))
    if not _all_finite((output, one)):
        what = "gradients" if _all_finite((output, one.output)) else "outputs"
        raise ValueError(f"{where}: {what} are not finite in float32: look for a division, root or logarithm of 0")
    finite = {"float32": True}
    if has_field(model, "dtype"):
        with _one_line(f"{where}, in bfloat16"):
            half = _training_pass(model.clone(dtype=jnp.bfloat16), variables, images, 1)
        finite["bfloat16"] = _all_finite(half)

    kept = [{name: each.changed[name] for name in shapes if name in each.changed} for each in (one, two)]
    report = ModelReport(
        name=type(module).__name__,
        input_shape=tuple(input_shape),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(shapes.get("params", {}))),
        output=jax.tree.map(_array_text, evaluation.output),
        collections=tuple(sorted(shapes)),
        sown=tuple(sorted(set(training.changed) - set(shapes))),
        streams=training.streams,
        evaluation_streams=evaluation.streams,
        training_differs=not _close(output, one.output),
        depends_on_batch=not _close(_first(output), _first(among_others)),
        same_on_devices=_close((one.output, kept[0]), (two.output, kept[1])),
        finite=finite,
        batch_norms=tuple(path for path, layer in training.layers.items() if is_batch_norm(layer)),
        dropouts=tuple(path for path, layer in training.layers.items() if isinstance(layer, _DROPOUTS)),
        activations=_recognized(model, shapes, images),
        rates={name: _may_vary(model, shapes, images, name) for name in rate_fields(model)},
        notes=(),
    )
    return dataclasses.replace(report, notes=tuple(_notes(report, training, shapes)))


# --- passes ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Traced:
    output: Any  # shapes
    changed: Mapping[str, Any]
    streams: tuple[str, ...]
    layers: Mapping[str, nn.Module]  # by path, in the order of their calls
    activations: int  # number of applied functions of `layers.activation`


@dataclasses.dataclass(frozen=True)
class _Pass:
    output: Any
    changed: Mapping[str, Any]
    gradients: Any


jax.tree_util.register_dataclass(_Pass)


def _call(
    model: nn.Module, variables: Any, images: Array, train: bool, asked: dict[str, None] | None = None
) -> tuple[Any, Any]:
    """The outputs and written collections of a call as in the framework's steps; the streams used are recorded in `asked`."""

    def key(name: str) -> Array:
        if asked is not None:
            asked[name] = None
        return key_for(0, name)

    def apply(rngs: dict[str, Array]) -> tuple[Any, Any]:
        return model.apply(variables, images, train, rngs=rngs, mutable=flax.core.DenyList("params"))

    with as_ours() if train else contextlib.nullcontext():
        return with_streams(apply, key, ())


def _traced(model: nn.Module, variables: Any, images: Array, train: bool) -> _Traced:
    """Traces a call without computing anything."""
    streams: dict[str, None] = {}
    found: dict[str, nn.Module] = {}
    activations: list[str] = []

    def note(method: Any, args: tuple[Any, ...], kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name == "__call__":
            found["/".join(context.module.path)] = context.module
        return method(*args, **kwargs)

    with nn.intercept_methods(note), watched_by(lambda name, x, y: activations.append(name)):
        call = lambda variables, images: _call(model, variables, images, train, streams)  # noqa: E731
        output, changed = jax.eval_shape(call, variables, images)
    return _Traced(output, changed, tuple(streams), found, len(activations))


def _training_pass(model: nn.Module, variables: Any, images: Array, devices: int) -> _Pass:
    """A forward and a backward pass on devices that share the batch, simulated by `vmap`."""

    def on_each(images: Array) -> _Pass:
        def loss(params: Any) -> tuple[Float[Array, ""], tuple[Any, Any]]:
            output, changed = _call(model, {**variables, "params": params}, images, train=True)
            leaves = [leaf.astype(jnp.float32) for leaf in jax.tree.leaves(output) if _is_float(leaf)]
            return jnp.zeros(()) + sum(jnp.square(leaf).sum() for leaf in leaves), (output, changed)

        gradients, (output, changed) = jax.grad(loss, has_aux=True)(variables.get("params", {}))
        return _Pass(output, dict(changed), gradients)

    each = jax.jit(jax.vmap(on_each, axis_name=AXIS))(images.reshape(devices, -1, *images.shape[1:]))
    joined = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]) if leaf.ndim > 1 else leaf, each.output)
    return _Pass(joined, jax.tree.map(lambda leaf: leaf.mean(0), each.changed), each.gradients)


def _recognized(model: nn.Module, variables: Any, images: Array) -> dict[str, str]:
    """The activation functions that are applied to the outputs of layers, by the layer's path."""
    names: dict[str, str] = {}

    def apply(given: tuple[Any, Array]) -> tuple[Any, dict[str, Array]]:
        outputs: dict[str, Array] = {}

        def note(method: Any, args: tuple[Any, ...], kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            output = method(*args, **kwargs)
            if context.method_name == "__call__" and isinstance(output, jax.Array):
                outputs["/".join(context.module.path)] = output
            return output

        with nn.intercept_methods(note):
            result = _call(model, *given, train=False)
        return result, collections.OrderedDict(outputs)

    def run(given: tuple[Any, Array]) -> Any:
        result, _, found = with_activations(apply, given)
        names.update({path: name for path, (name, _) in found.items()})
        return result

    jax.eval_shape(run, (variables, images))
    return names


def _may_vary(model: nn.Module, variables: Any, images: Array, field: str) -> bool:
    """Whether a field can be a number that JAX traces."""

    def trained(rate: Float[Array, ""], variables: Any, images: Array) -> Any:
        return _call(model.clone(**{field: rate}), variables, images, train=True)

    try:
        jax.eval_shape(trained, jnp.zeros(()), variables, images)
    except jax.errors.JAXTypeError:  # the Python code needs its value
        return False
    return True


# --- notes ----------------------------------------------------------------------------------------------------------


def _notes(report: ModelReport, training: _Traced, shapes: Mapping[str, Any]) -> Iterator[str]:
    if report.depends_on_batch:
        yield "an example's output in evaluation depends on its batch: batch norm needs use_running_average=not train"
    if report.evaluation_streams:
        yield f"evaluation uses random numbers ({_listed(report.evaluation_streams)}): dropout needs deterministic=not train"
    if not report.same_on_devices:
        yield "training depends on the number of devices: an unlisted layer normalises or draws random numbers on each device"
    active = [path for path in report.dropouts if not known_zero(getattr(training.layers[path], "rate", 1.0))]
    if not report.training_differs and (report.batch_norms or active):
        yield "training is the same as evaluation in spite of batch norms or dropouts: is `train` passed to them?"
    if "bfloat16" not in report.finite:
        yield "no field `dtype`: train.precision does not change the type of the computation"
    elif not report.finite["bfloat16"]:
        yield "outputs or gradients are not finite in bfloat16: train with train.precision=float32"
    if structural := [
        name for name, tree in training.changed.items()
        if name in shapes and jax.tree.structure(tree) != jax.tree.structure(shapes[name])
    ]:  # fmt: skip
        yield f"collections that grow with each step ({_listed(structural)}): use self.variable, or sow into 'intermediates'"
    yield from _unseen(report, training, shapes)


def _unseen(report: ModelReport, training: _Traced, shapes: Mapping[str, Any]) -> Iterator[str]:
    """Properties that synchronisation, freezing, probes and `vmap` cannot detect."""
    if any(is_bridge(layer) for layer in training.layers.values()):
        yield "nnx layers: batch norm is not synchronised, freezing does not include statistics, probes see a single layer"
    elif not training.activations and not report.activations:
        yield "no activation function that probes can detect: they do not count dead and saturated units"
    statistics = jax.tree_util.tree_leaves_with_path(shapes.get("batch_stats", {}))
    keepers = dict.fromkeys(path_name(path).rpartition("/")[0] for path, _ in statistics)
    if others := [path for path in keepers if path not in report.batch_norms]:
        yield f"statistics of layers other than batch norm ({_listed(others)}): neither synchronised nor frozen"
    params = {
        path_name(path).rpartition("/")[0] for path, _ in jax.tree_util.tree_leaves_with_path(shapes.get("params", {}))
    }
    if bare := [path for path in report.batch_norms if path not in params]:
        yield f"batch norm without scale and bias ({_listed(bare)}): no pattern of initial.frozen can match it"
    if first := [path for path in report.batch_norms if not is_channels_last(training.layers[path])]:
        yield f"batch norm over an axis other than the last ({_listed(first)}): probes do not see its statistics"
    if fixed := [name for name, varies in report.rates.items() if not varies]:
        yield f"the Python code needs the value of {_listed(fixed)}: vmap cannot vary it, so trials are trained one by one"


@contextlib.contextmanager
def _one_line(where: str) -> Iterator[None]:
    """Within the block, any exception becomes a ValueError with a one-line message."""
    try:
        yield
    except Exception as error:
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise ValueError(
            f"{where}: {type(error).__name__}: {text}" if text else f"{where}: {type(error).__name__}"
        ) from error


def _listed(names: Any) -> str:
    return ", ".join(name or "the model itself" for name in names) or "none"


def _shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _array_text(array: Any) -> str:
    sizes = ["batch", *map(str, array.shape[1:])] if array.shape[:1] == (_BATCH,) else list(map(str, array.shape))
    return f"({', '.join(sizes)}) {array.dtype}"


def _by_example(tree: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.shape(leaf)[:1] == (_BATCH,)]


def _first(tree: Any) -> list[Any]:
    return [leaf[0] for leaf in _by_example(tree)]


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _all_finite(tree: Any) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree) if _is_float(leaf))


def _close(first: Any, second: Any) -> bool:
    """Whether two trees agree up to rounding."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    as_numbers = ((np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs)
    return all(np.abs(a - b).max(initial=0) <= 1e-3 * max(np.abs(a).max(initial=0), 1e-6) for a, b in as_numbers)
