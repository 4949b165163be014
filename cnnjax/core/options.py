"""Declaring and checking the options of a component.

A section of the config is a frozen dataclass; a component chosen by name is a Flax module (a model) or a function (an
optimiser, a schedule, a loss). Options are declared in plain Python, by a type and a default. `Annotated` adds the meaning
and, where the type is not enough, a check::

    batch_size: Annotated[int, "examples per step, over all devices", positive] = 128

A check takes a value and returns None if the value is valid, else a phrase that says what was expected.
"""

import contextlib
import dataclasses
import difflib
import functools
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

# The default of an option that must be set.
REQUIRED = dataclasses.MISSING

# Fields of a model that are not options, because Flax, the precision or the data determine them.
_GIVEN_MODULE = frozenset({"parent", "name", "dtype", "num_classes"})
_GIVEN_FUNCTION = frozenset({"dtype", "num_classes"})


class RunPath:
    """Marks an option as the directory of a run: `teacher: Annotated[str, cnnjax.RunPath, "the run to learn from"]`.

    The path is made absolute when the config is resolved. The fingerprint of that run's checkpoints is recorded in
    `environment.json` and compared when the training is resumed.
    """


class Traceable:
    """Marks a numeric option that JAX may trace: `gamma: Annotated[float, cnnjax.Traceable, "..."] = 2.0`.

    Trials that differ only in traceable options can be trained as one program (`cnnjax.ablate` with `vmap` or `devices`).
    Python code may test a traceable option only with `known_zero`. The dropout rates of a model need no mark: they are
    recognised by their names.
    """


class TrainedAlone:
    """Marks an option whose trials are trained alone, never with others as one program, unless it has its default."""


@dataclasses.dataclass(frozen=True)
class Option:
    """One field of the config.

    Attributes:
      name: the option's name.
      type: the option's type.
      default: the default value, or `REQUIRED`.
      meaning: a phrase for help texts.
      check: the option's check, None for none.
      is_run: whether the option is the directory of a run (`RunPath`).
      traceable: whether JAX may trace the option (`Traceable`).
      trained_alone: whether a trial that sets the option is trained alone (`TrainedAlone`).
    """

    name: str
    type: Any
    default: Any
    meaning: str = ""
    check: Callable[[Any], str | None] | None = None
    is_run: bool = False
    traceable: bool = False
    trained_alone: bool = False


def positive(value: float) -> str | None:
    """A check that a number is greater than zero."""
    return None if value > 0 and _held(value) else f"a number above 0{_limits(value)}"


def not_negative(value: float) -> str | None:
    """A check that a number is zero or greater."""
    return None if value >= 0 and _held(value) else f"0 or more{_limits(value)}"


def all_positive(values: tuple[float, ...]) -> str | None:
    """A check that all numbers are greater than zero."""
    return next((f"numbers above 0{_limits(value)}" for value in values if positive(value) is not None), None)


def fraction(value: float) -> str | None:
    """A check that a number is at least 0 and less than 1, in float32 too, where 0.99999999 is 1."""
    return None if value >= 0 and _held(value) and np.float32(value) < 1 else "a number from 0 up to, not including, 1"


def between(low: float, high: float) -> Callable[[float], str | None]:
    """Makes a check that a number lies between two others, both included.

    >>> between(0, 180)(181), between(0, 180)(180)
    ('0 to 180', None)
    """
    return lambda value: None if low <= value <= high and _held(value) else f"{low:,} to {high:,}"


# The range of numbers in a compiled program: float32 without subnormal numbers, which XLA treats as 0, and int32.
_LEAST, _GREATEST, _GREATEST_INT = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max), 2**31 - 1


def _held(value: float) -> bool:
    """Whether a number can be represented in a compiled program, without becoming infinite or zero."""
    if isinstance(value, int):
        return abs(value) <= _GREATEST_INT
    return value == 0 or _LEAST <= abs(value) <= _GREATEST


def _limits(value: float) -> str:
    if _held(value) or value < 0:
        return ""
    return (
        f", at most {_GREATEST_INT:,}"
        if isinstance(value, int)
        else f", finite in float32 ({_LEAST:.2g} to {_GREATEST:.2g})"
    )


def declared(component: Callable[..., Any]) -> dict[str, Option]:
    """The options of a component, by name: the fields of a dataclass or the arguments of a function.

    These are not options:
    - positional arguments without a default, which the caller passes (logits, total steps);
    - arguments that the framework sets (`num_classes` and `dtype` of a model);
    - functions, modules and arrays, which cannot be written as text.

    A dataclass field or keyword-only argument without a default must be set. A value set by a `functools.partial` becomes the
    default.
    """
    if isinstance(component, functools.partial):
        options = declared(component.func)
        preset = {name: value for name, value in component.keywords.items() if name in options}
        return options | {name: dataclasses.replace(options[name], default=value) for name, value in preset.items()}
    if dataclasses.is_dataclass(component):
        defaults = {field.name: field.default for field in dataclasses.fields(component) if _is_option(field)}
        made = {field.name for field in dataclasses.fields(component) if field.default_factory is not REQUIRED}
        given = _GIVEN_MODULE if "parent" in defaults else frozenset()
        defaults = {name: default for name, default in defaults.items() if name not in made}
    else:
        given = _GIVEN_FUNCTION
        defaults = {
            parameter.name: REQUIRED if parameter.default is parameter.empty else parameter.default
            for parameter in inspect.signature(component).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY
            or (parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is not parameter.empty)
        }
    hints = _hints(component)
    options = {name: _option(name, hints.get(name), default) for name, default in defaults.items() if name not in given}
    return {name: option for name, option in options.items() if _is_plain(option)}


def _is_option(field: dataclasses.Field[Any]) -> bool:
    return field.init and field.metadata.get("option", True)


def _hints(component: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(component, include_extras=True)
    except (NameError, TypeError):  # names that exist only for type checkers
        return {}


# Types of values that a config can hold.
_PLAIN = (bool, int, float, str, type(None))


def _is_plain(option: Option) -> bool:
    """Whether an option's values can be written as text."""
    if option.default is REQUIRED:
        return not _has_callable(option.type)
    values = option.default if isinstance(option.default, tuple) else (option.default,)
    return all(isinstance(value, _PLAIN) or _is_nested(value) for value in values) and not _has_callable(option.type)


def _is_nested(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, _PLAIN) or _is_nested(item) for item in value)


def _has_callable(hint: Any) -> bool:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return bool(kinds) and all(map(_has_callable, kinds))
    return typing.get_origin(hint) is Callable or hint is Callable


def _understood(hint: Any) -> bool:
    """Whether `convert` supports a type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType, tuple):
        return all(_understood(argument) for argument in arguments if argument is not Ellipsis)
    return origin is Literal or hint in (*_PLAIN, Any)


def _option(name: str, hint: Any, default: Any) -> Option:
    notes = getattr(hint, "__metadata__", ())
    kind = hint.__origin__ if notes else hint
    if hint is None or not _understood(kind):  # no annotation, or a type of another library: use the default's type
        number = isinstance(default, int | float) and not isinstance(default, bool)
        kind = (
            (float if isinstance(default, float) else int | float)
            if number
            else type(default)
            if isinstance(default, bool | str)
            else Any
        )
    return Option(
        name,
        kind,
        default,
        next((note for note in notes if isinstance(note, str)), ""),
        next((note for note in notes if callable(note) and not isinstance(note, type)), None),
        RunPath in notes,
        Traceable in notes,
        TrainedAlone in notes,
    )


def known_zero(number: Any) -> bool:
    """Whether a number is known to be 0, so that the term it scales can be omitted; False for a number that JAX traces.

    >>> known_zero(0.0), known_zero(0.1)
    (True, False)
    """
    return isinstance(number, int | float) and number == 0


def unknown(kind: str, name: str, choices: Iterable[str], hint: str = "") -> str:
    """An error message for an unknown name, with the nearest known names.

    >>> unknown("model", "lenet", ["lenet5", "mlp"])
    "unknown model 'lenet': did you mean 'lenet5'?"
    """
    choices = list(choices)
    advice = nearest(name, choices) or "choose from " + ", ".join(sorted(choices))
    return f"unknown {kind} {name!r}: {advice}" + (f" {hint}" if hint else "")


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """A question after the names that are nearest to one that does not exist; None where none is near.

    >>> nearest("lenet", ["lenet5", "mlp"]), nearest("vgg", ["lenet5", "mlp"])
    ("did you mean 'lenet5'?", None)
    """
    folded = {choice.lower(): choice for choice in choices}
    near = [folded[match] for match in difflib.get_close_matches(str(name).lower(), folded, n=3, cutoff=0.5)]
    return "did you mean " + " or ".join(repr(choice) for choice in near) + "?" if near else None


def describe(annotation: Any) -> str:
    """A type in words, for error messages: `int | None` -> "a whole number or None"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(repr(argument) for argument in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a tuple, each element {describe(arguments[0])}"
        return "a tuple of " + ", ".join(describe(argument) for argument in arguments)
    words = {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}
    return words.get(annotation, "None" if annotation is type(None) else str(annotation))


def convert(value: Any, annotation: Any) -> Any:
    """Converts `value` to the annotated type if that loses nothing (a list to a tuple, 1 to 1.0).

    Raises:
      TypeError: the value is of another type.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(value, np.generic):
        value = value.item()
    if annotation is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        for argument in arguments:
            try:
                return convert(value, argument)
            except TypeError:
                continue
    elif origin is Literal:
        if value in arguments:
            return value
    elif origin is tuple and isinstance(value, tuple | list):
        wanted = (arguments[0],) * len(value) if arguments[-1] is Ellipsis else arguments
        if len(wanted) == len(value):
            return tuple(convert(item, kind) for item, kind in zip(value, wanted, strict=True))
    elif annotation is type(None):
        if value is None or value == "none":  # the spelling on the command line
            return None
    elif annotation is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):  # 10**400
                return float(value)
    elif annotation is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():  # 1e3 from the command line
            return int(value)
    elif isinstance(annotation, type) and isinstance(value, annotation):
        return value
    raise TypeError(f"expected {describe(annotation)}, got {value!r}")


def checked(path: str, value: Any, field: Option) -> Any:
    """`value` converted to the option's type and checked.

    Raises:
      TypeError: the value is of another type.
      ValueError: the value has the right type but is not allowed.
    """
    try:
        value = convert(value, field.type)
    except TypeError as error:
        raise TypeError(f"config: {path}: {error}" + (f" ({field.meaning})" if field.meaning else "")) from None
    wrong = field.check(value) if field.check and value is not None else None
    if wrong:
        raise ValueError(
            f"config: {path}={value!r}: expected {wrong}" + (f" ({field.meaning})" if field.meaning else "")
        )
    return os.path.abspath(os.path.expanduser(value)) if field.is_run and isinstance(value, str) else value
