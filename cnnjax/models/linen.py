"""Adapts Linen modules written in different conventions to models that the framework can train.

A model is called as `model(images)` to predict and as `model(images, True)` to train. Other conventions are accepted by
`with_train_argument`, as arguments of `__call__` or as fields:

    train, training, is_training          True in training, with any default, positional or keyword-only
    deterministic, use_running_average    False in training
    none of them                          the module is the same in training and evaluation
    only **kwargs                         called with `train=`
    nn.Sequential                         each layer is called with the arguments above that it takes
    nnx modules by `flax.nnx.bridge`      `module.train()` or `module.eval()` is called first

An nnx module is converted to a Linen module by `nnx.bridge.to_linen(Net, 10, metadata_fn=None)`. The bridge has pitfalls:

- without `metadata_fn=None`, variables with metadata, such as their sharding, are boxed by Linen and not arrays;
- the module is created anew in each call, so that random numbers drawn in its `__init__` without `rngs` differ between calls;
- the layers are those of nnx: batch statistics are not synchronised over devices, dropout masks are drawn separately on each
  device, and neither probes nor the freezing of statistics support them (the freezing of parameters does).
"""

import contextlib
import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core.scope import LazyRng
from jaxtyping import Array, Key

from cnnjax.core.options import checked, declared, unknown
from cnnjax.ops.choice import using

# Names of arguments and fields that switch a module to training, with their values in training.
MODES: Mapping[str, bool] = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def variable_shapes(model: nn.Module, image_shape: Sequence[int]) -> Mapping[str, Any]:
    """The shapes of a model's variables for images of a shape, channels last, without computing anything.

    They are traced with stock operations, which takes less time; the shapes are the same with any.
    """
    with using("stock"):
        return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))


def build_model(
    component: Callable[..., Any],
    outputs: Mapping[str, Any],
    dtype: Any,
    options: Mapping[str, Any],
    name: str | None = None,
) -> nn.Module:
    """Builds a model from a Linen class or from a function that returns a module.

    Args:
      component: the class or function.
      outputs: the fields that depend on the data, such as {"num_classes": 10}; those that the component has are passed.
      dtype: the type of the computation, passed if the component has a field of that name.
      options: the options set by the user, among which numbers may be traced by JAX.
      name: the model's name in error messages; by default the component's.

    Raises:
      ValueError: an option is unknown, a required field is not set, or a value is not allowed.
      TypeError: an option has the wrong type, or the component does not make a Linen module.
    """
    function = component.func if isinstance(component, functools.partial) else component
    name = name or getattr(function, "__name__", str(component))
    parameters = inspect.signature(component).parameters
    takes = {key: each for key, each in parameters.items() if each.kind in _NAMED and key not in ("parent", "name")}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    plain = declared(component)
    given: dict[str, Any] = {key: value for key, value in outputs.items() if key in takes or takes_any}
    if "dtype" in takes:
        given["dtype"] = dtype
    for key, value in options.items():
        if key not in takes and not takes_any:
            choices = set(plain) or set(takes) - set(outputs) - {"dtype"}
            raise ValueError(unknown(f"option of model {name}", key, choices))
        traced = isinstance(value, jax.Array)  # varies over trials, already checked
        given[key] = checked(f"model.{key}", value, plain[key]) if key in plain and not traced else value
    missing = [key for key, each in takes.items() if each.default is each.empty and key not in given]
    given |= {key: not MODES[key] for key in missing if key in MODES}  # set in each call
    if missing := [key for key in missing if key not in MODES]:
        known = f"; the data determine {', '.join(outputs)}" if outputs else ""
        raise ValueError(
            f"model {name} has no value for {', '.join(missing)}: set model.{missing[0]}, or give the field a default{known}"
        )
    model = component(**given)
    if not isinstance(model, nn.Module):
        bridge = ": wrap it with flax.nnx.bridge.to_linen" if "nnx" in str(type(model).__mro__) else ""
        raise TypeError(f"model {name}: expected a flax.linen.Module, got {type(model).__name__}{bridge}")
    return with_train_argument(model)


def with_train_argument(module: nn.Module) -> nn.Module:
    """The module itself if its `__call__` takes `(x, train=False)`, else the module adapted to be called that way.

    The adapted class is a subclass of the module's class, made once, with the same name, fields, methods and parameters. A second
    positional argument other than True or False is passed to the module unchanged.

    >>> class Net(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x, deterministic=True):
    ...         return nn.Dropout(0.5)(x, deterministic)
    >>> isinstance(with_train_argument(Net()), Net)
    True
    """
    kind = type(module)
    if not any("__call__" in vars(base) for base in kind.__mro__):
        return module  # it is only used through other methods
    if _is_ours(kind):
        return module
    fields = {name: getattr(module, name) for name, field in kind.__dataclass_fields__.items() if field.init}
    return _adapted(kind)(**fields)


def with_streams(
    apply: Callable[[dict[str, Key[Array, ""]]], Any],
    key: Callable[[str], Key[Array, ""]],
    names: Sequence[str] = ("dropout",),
) -> Any:
    """Calls a model with a key for every random stream that it uses.

    Args:
      apply: a function that calls the model with {stream: key}.
      key: a function from a stream's name to its key.
      names: the streams whose keys are always passed.
    """
    names = list(names)
    while True:
        try:
            return apply({name: key(name) for name in names})
        except flax.errors.InvalidRngError as error:
            asked = re.search(r'needs PRNG for "([^"]+)"', str(error))
            if asked is None or asked[1] in names:
                raise
            names.append(asked[1])


def rate_fields(model: nn.Module) -> tuple[str, ...]:
    """The names of a model's fields that are dropout rates."""
    names = [field.name for field in dataclasses.fields(model) if isinstance(getattr(model, field.name), float)]
    return tuple(filter(is_rate, names))


def is_rate(field: str) -> bool:
    """Whether a model's field with the given name is a dropout rate.

    >>> [is_rate(field) for field in ("rate", "conv_dropout_rate", "width")]
    [True, True, False]
    """
    return field == "rate" or field.endswith(("dropout_rate", "stochastic_depth_rate"))


def has_field(model: nn.Module, name: str) -> bool:
    """Whether a model has a field with the given name."""
    return any(field.name == name and field.init for field in dataclasses.fields(model))


def _is_ours(kind: type[nn.Module]) -> bool:
    """Whether the `__call__` of a class takes `(x, train=False)` as positional arguments."""
    _, *arguments = inspect.signature(kind.__call__).parameters.values()
    if len(arguments) < 2:
        return False
    train = arguments[1]
    return train.name == "train" and train.kind is train.POSITIONAL_OR_KEYWORD and train.default is False


def _modes_of_fields(module: nn.Module) -> list[str]:
    return [name for name in MODES if name in type(module).__dataclass_fields__]


@functools.cache
def _adapted(kind: type[nn.Module]) -> type[nn.Module]:
    """The subclass whose `__call__` takes `(x, train=False)`."""
    original = kind.__call__
    arguments = list(inspect.signature(original).parameters.values())[1:]

    def call(self: Any, x: Any, train: Any = False, *others: Any, **keywords: Any) -> Any:
        if not isinstance(train, bool):
            return original(self, x, train, *others, **keywords)
        fields, modes = _modes(self, arguments, train)
        positional = len(arguments) > 1 and arguments[1].name in modes and arguments[1].kind is _NAMED[0]
        if positional and not others:  # lifted transformations identify arguments by position
            others = (modes.pop(arguments[1].name),)
        if self.scope is not None and (fields or is_bridge(self)):
            scope = self.scope.rewound()
            if is_bridge(self) and "params" in scope.rngs:  # nnx layers need all their streams when they are created
                scope.rngs = {"default": LazyRng.create(scope.rngs["params"], "default"), **scope.rngs}
                scope.rng_counters.setdefault("default", 0)
            self = self.clone(parent=scope, _deep_clone=True, **fields)
        with _train_passed(self, train):
            return original(self, x, *others, **{**modes, **keywords})

    call.method_handler_wrapped = True  # Flax has already wrapped the original; a call must be intercepted once
    call.__name__, call.__qualname__, call.__doc__ = "__call__", f"{kind.__qualname__}.__call__", original.__doc__
    names = ("__hash__", "__eq__", "__module__", "__qualname__", "__doc__")
    return type(kind.__name__, (kind,), {name: getattr(kind, name) for name in names} | {"__call__": call})


def _modes(
    module: nn.Module, arguments: list[inspect.Parameter], train: bool
) -> tuple[dict[str, bool], dict[str, bool]]:
    """The fields and the arguments of a call that switch a module between training and evaluation."""
    values = {name: train if in_training else not train for name, in_training in MODES.items()}
    taken = {each.name for each in arguments if each.kind in _NAMED}
    set_fields = {name for name in _modes_of_fields(module) if name not in taken or getattr(module, name) is not None}
    if is_bridge(module):
        return {}, {"nnx_method": functools.partial(_run_nnx, train=train)}
    fields = {name: values[name] for name in set_fields}
    modes = {name: values[name] for name in values if name in taken and name not in set_fields}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in arguments)
    if takes_any and not fields and not modes and not isinstance(module, nn.Sequential):
        modes = {"train": train}
    return fields, modes


def is_bridge(module: nn.Module) -> bool:
    """Whether a module is an nnx module, without importing nnx."""
    return any(base.__module__ == "flax.nnx.bridge.wrappers" for base in type(module).__mro__)


def _run_nnx(module: Any, x: Any, *, train: bool, **keywords: Any) -> Any:
    """Calls an nnx module in training or evaluation mode."""
    (module.train if train else module.eval)()
    taken = {each.name for each in inspect.signature(type(module).__call__).parameters.values() if each.kind in _NAMED}
    modes = {name: train if in_training else not train for name, in_training in MODES.items() if name in taken}
    return module(x, **{**modes, **keywords})


@contextlib.contextmanager
def _train_passed(module: nn.Module, train: bool) -> Iterator[None]:
    """Within the block, the layers of an `nn.Sequential`, also of nested ones, receive the training mode."""

    def add_modes(
        method: Any, args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
    ) -> Any:
        layer = context.module
        own = context.method_name == "__call__" and not isinstance(layer, nn.Sequential)
        if own and isinstance(layer.parent, nn.Sequential):
            arguments = list(inspect.signature(type(layer).__call__).parameters.values())[1:]
            kwargs = {**_modes(layer, arguments, train)[1], **kwargs}
        return method(*args, **kwargs)

    with nn.intercept_methods(add_modes) if isinstance(module, nn.Sequential) else contextlib.nullcontext():
        yield
