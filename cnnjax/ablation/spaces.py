"""The variants of a study: lists of dicts, each with the config fields that a variant sets.

`grid`, `zipped`, `random` and `quasi_random` return such lists, which can be concatenated, filtered and written by hand::

    grid({"optimizer.learning_rate": [0.01, 0.05], "model.name": ["lenet5", "mlp"]})     # 4 variants
    grid({("model.name", "train.batch_size"): [("lenet5", 128), ("mlp", 64)]})           # 2 variants: fields that change together
    random({"optimizer.learning_rate": LogUniform(1e-4, 1.0)}, count=20, seed=0)
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnjax.config import flatten, load_config, parse_value

__all__ = ["Choice", "LogUniform", "Uniform", "Whole", "grid", "quasi_random", "random", "zipped"]

Fields = Mapping[str, Any]  # "section.field" -> value


@dataclasses.dataclass(frozen=True)
class Variant:
    """A variant of a study: its name, and the fields in which it differs from the study's config."""

    name: str
    fields: Fields


# --- distributions --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Uniform:
    """A uniform distribution of numbers from `low` to `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range(self, -math.inf)

    def at(self, share: float) -> float:
        """The quantile of a share of the distribution, rounded to 6 digits.

        >>> Uniform(0.0, 0.5).at(1 / 3)
        0.166667
        """
        return self.rounded(self.low + share * (self.high - self.low))

    def rounded(self, value: float) -> float:
        """A value of the range, rounded to 6 digits to keep the names of variants short."""
        return _rounded(value, self)

    def narrowed(self, value: float, factor: float) -> "Uniform":
        """The part of this range that is `factor` times as wide, around a value."""
        half = factor * (self.high - self.low) / 2
        centre = min(max(value, self.low + half), self.high - half)
        return Uniform(_rounded(centre - half, self), _rounded(centre + half, self))


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """A log-uniform distribution of numbers from `low` to `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range(self, 0)

    def at(self, share: float) -> float:
        """The quantile of a share of the distribution, rounded to 6 digits.

        >>> LogUniform(0.001, 0.1).at(0.5)
        0.01
        """
        return self.rounded(self.low * (self.high / self.low) ** share)

    def rounded(self, value: float) -> float:
        """A value of the range, rounded to 6 digits to keep the names of variants short."""
        return _rounded(value, self)

    def narrowed(self, value: float, factor: float) -> "LogUniform":
        """The part of this range that is `factor` times as wide on a logarithmic scale, around a value."""
        half = (self.high / self.low) ** (factor / 2)
        centre = min(max(value, self.low * half), self.high / half)
        return LogUniform(_rounded(centre / half, self), _rounded(centre * half, self))


@dataclasses.dataclass(frozen=True)
class Whole:
    """A uniform distribution of whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_range(self, -math.inf)
        if self.low != int(self.low) or self.high != int(self.high):
            raise ValueError(f"{self}: expected whole numbers")

    def at(self, share: float) -> int:
        """The quantile of a share of the distribution.

        >>> [Whole(1, 4).at(share) for share in (0.0, 0.25, 0.99)]
        [1, 2, 4]
        """
        return int(self.low + math.floor(share * (self.high - self.low + 1)))

    def rounded(self, value: float) -> int:
        """A value of the range as an int."""
        return int(value)

    def narrowed(self, value: int, factor: float) -> "Whole":
        """The part of this range that is about `factor` times as wide, around a value."""
        half = factor * (self.high - self.low) / 2
        low, high = max(self.low, math.floor(value - half)), min(self.high, math.ceil(value + half))
        return Whole(low, high) if low < high else self


@dataclasses.dataclass(frozen=True)
class Choice:
    """A choice among values that are equally likely."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("Choice: expected at least one value")

    def at(self, share: float) -> Any:
        """The value at a share of the list.

        >>> Choice(("relu", "tanh")).at(0.7)
        'tanh'
        """
        return self.values[math.floor(share * len(self.values))]

    def narrowed(self, value: Any, factor: float) -> "Choice":
        """The choice among about a share `factor` of the values: those nearest to `value` in the list.

        >>> Choice((16, 32, 64, 128, 256)).narrowed(32, 0.5)
        Choice(values=(16, 32, 64))
        """
        count = max(1, math.ceil(factor * len(self.values)))
        first = min(max(self.values.index(value) - count // 2, 0), len(self.values) - count)
        return Choice(self.values[first : first + count])


Distribution = Uniform | LogUniform | Whole | Choice


def _check_range(given: Uniform | LogUniform | Whole, above: float) -> None:
    if not above < given.low < given.high < math.inf:
        limits = "0 < low < high" if above == 0 else "finite numbers, low < high"
        raise ValueError(f"{type(given).__name__}({given.low}, {given.high}): expected {limits}")


def _rounded(value: float, within: Uniform | LogUniform) -> float:
    return float(min(max(float(f"{value:.6g}"), within.low), within.high))


def distribution(field: str, values: Any) -> Distribution:
    """Returns a distribution unchanged and turns a list of values into a `Choice`.

    Raises:
      ValueError: the list is empty.
      TypeError: `values` is neither a distribution nor a list.
    """
    return values if isinstance(values, Distribution) else Choice(tuple(_values(field, values)))


def ends(given: Distribution) -> tuple[Any, ...]:
    """The least and greatest value of a range, or all values of a choice."""
    return given.values if isinstance(given, Choice) else (given.low, given.high)


# --- lists of variants ----------------------------------------------------------------------------------------------


def grid(axes: Mapping[str | tuple[str, ...], Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values; the last field changes fastest.

    Args:
      axes: field -> its values. The fields of a tuple change together; their values are tuples of the same length.

    Raises:
      ValueError: there are no values, or a tuple has another length than its fields.
      TypeError: the values are not a list.

    >>> grid({"seed": [1, 2], ("model.name", "devices"): [("mlp", 1)]})
    [{'seed': 1, 'model.name': 'mlp', 'devices': 1}, {'seed': 2, 'model.name': 'mlp', 'devices': 1}]
    """
    steps = [[_together(fields, value) for value in _values(fields, values)] for fields, values in axes.items()]
    return [joined(parts) for parts in itertools.product(*steps)]


def zipped(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The first values of all fields, the second values of all fields, and so on.

    Raises:
      ValueError: the lists have different lengths.

    >>> zipped({"model.name": ["lenet5", "mlp"], "train.batch_size": [128, 64]})
    [{'model.name': 'lenet5', 'train.batch_size': 128}, {'model.name': 'mlp', 'train.batch_size': 64}]
    """
    lengths = {field: len(_values(field, values)) for field, values in axes.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"zipped: expected lists of one length, got {lengths}")
    return [dict(zip(axes, values, strict=True)) for values in zip(*axes.values(), strict=True)]


def random(space: Mapping[str, Any], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """`count` variants drawn independently from the distribution of each field.

    Args:
      space: field -> a distribution, or a list of equally likely values.
      count: the number of variants.
      seed: the seed; it gives the same variants with every version of NumPy.
    """
    generator = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed])))
    return _placed(space, generator.random_sample((whole_count(count), len(space))))


def quasi_random(
    space: Mapping[str, Any], count: int, seed: int = 0, sequence: Literal["halton", "sobol"] = "halton"
) -> list[dict[str, Any]]:
    """`count` variants that fill the space more evenly than independent draws.

    They are points of a Halton or Sobol' sequence, shifted by a random vector and wrapped around (Cranley and Patterson, SIAM
    Journal on Numerical Analysis 13, 1976).

    Args:
      space: the space, as in `random`.
      count: the number of variants.
      seed: the seed of the random vector.
      sequence: the name of the sequence.
    """
    from scipy.stats import qmc

    if sequence not in ("halton", "sobol"):
        raise ValueError(f"sequence {sequence!r}: expected halton or sobol")
    kinds = {"halton": qmc.Halton, "sobol": qmc.Sobol}
    points = kinds[sequence](len(space), scramble=False)
    if sequence == "sobol":
        shares = points.random_base2(math.ceil(math.log2(whole_count(count))))[:count]
    else:
        shares = points.random(whole_count(count))
    shift = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed]))).random_sample(len(space))
    return _placed(space, (shares + shift) % 1)


def _placed(space: Mapping[str, Any], shares: Float[np.ndarray, "variant field"]) -> list[dict[str, Any]]:
    distributions = {field: distribution(field, values) for field, values in space.items()}
    return [
        {field: given.at(share) for (field, given), share in zip(distributions.items(), row, strict=True)}
        for row in shares.tolist()
    ]


def whole_count(count: int, name: str = "count") -> int:
    """Checks and returns a count.

    Raises:
      ValueError: the count is not a whole number of at least 1.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"{name}={count!r}: expected a whole number of at least 1")
    return count


def _values(fields: str | tuple[str, ...], values: Any) -> Sequence[Any]:
    if isinstance(values, Distribution):
        raise TypeError(
            f"{fields}: {values} is a distribution without a number of values: draw values with "
            "cnnjax.ablation.spaces.random({...}, count=20, seed=0)"
        )
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise TypeError(f"{fields}: expected a list of values, got {values!r}")
    values = list(values)
    if not values:
        raise ValueError(f"{fields}: the list of values is empty")
    return values


def _together(fields: str | tuple[str, ...], value: Any) -> dict[str, Any]:
    if isinstance(fields, str):
        return {fields: value}
    if not isinstance(value, tuple | list) or len(value) != len(fields):
        raise ValueError(f"{', '.join(fields)}: expected {len(fields)} values that go together, got {value!r}")
    return dict(zip(fields, value, strict=True))


def joined(parts: Iterable[Fields]) -> dict[str, Any]:
    """The fields of all parts as one variant.

    Raises:
      ValueError: two parts set the same field.
    """
    fields: dict[str, Any] = {}
    for part in parts:
        if twice := fields.keys() & part.keys():
            raise ValueError(f"{min(twice)} is varied twice")
        fields |= part
    return fields


# --- parsing the command line ---------------------------------------------------------------------------------------


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """Parses FIELD=VALUE,VALUE... with `parse_value`; commas within brackets or quotes do not separate values.

    Raises:
      ValueError: the text has another form.

    >>> parse_axis("model.features=(32,),(64, 32)")
    ('model.features', [(32,), (64, 32)])
    """
    field, equals, values = text.partition("=")
    parts = split_at_commas(values)
    if not field or not equals or not all(parts):
        raise ValueError(f"--vary {text}: expected FIELD=VALUE,VALUE..., such as optimizer.learning_rate=0.01,0.05")
    return field, [parse_value(part) for part in parts]


def parse_range(text: str) -> tuple[str, Any]:
    """Parses FIELD=DISTRIBUTION, with `uniform(0,0.5)`, `log_uniform(1e-4,1)` or `whole(16,256)`, or FIELD=VALUE,VALUE...

    Raises:
      ValueError: the text has another form.

    >>> parse_range("optimizer.learning_rate=log_uniform(1e-4,1)")
    ('optimizer.learning_rate', LogUniform(low=0.0001, high=1))
    """
    field, values = parse_axis(text)
    kinds = {"uniform": Uniform, "log_uniform": LogUniform, "whole": Whole}
    name, bracket, rest = text.partition("=")[2].strip().partition("(")
    if name not in kinds or not bracket:
        return field, values
    limits = [parse_value(part) for part in split_at_commas(rest.removesuffix(")"))]
    if len(limits) != 2 or not all(isinstance(limit, int | float) for limit in limits):
        raise ValueError(f"--vary {text}: expected {name}(LOWEST,HIGHEST), two numbers")
    return field, kinds[name](*limits)


def split_at_commas(text: str) -> list[str]:
    """The parts of a text between commas that are not within brackets or quotes.

    >>> split_at_commas("(1, 2),'a,b',c")
    ['(1, 2)', "'a,b'", 'c']
    """
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        else:
            depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not quote and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


# --- named variants -------------------------------------------------------------------------------------------------


def make_variants(config: ConfigDict, axes: Any) -> list[Variant]:
    """The checked variants of a study, named by the fields in which they differ.

    Args:
      config: the resolved config of the study.
      axes: {field: values} for all combinations (`grid`), a list of {field: value}, or {name: {field: value}}.

    Raises:
      ValueError: a field is unknown, a value is not allowed, two variants are equal, or there are none.
      TypeError: a value has the wrong type, or `axes` has another form.
    """
    named = isinstance(axes, Mapping) and bool(axes) and all(isinstance(fields, Mapping) for fields in axes.values())
    if named:
        fields, names = list(axes.values()), [str(name) for name in axes]
    elif isinstance(axes, Mapping):
        fields, names = grid(axes), None
    elif isinstance(axes, Sequence) and all(isinstance(variant, Mapping) for variant in axes):
        fields, names = [dict(variant) for variant in axes], None
    else:
        raise TypeError(
            f"axes: expected {{field: values}}, a list of {{field: value}} or {{name: {{field: value}}}}, got {axes!r}"
        )
    if not fields:
        raise ValueError("axes: there are no variants to train")
    resolved = [flatten(load_config(config, variant)) for variant in fields]
    for second, values in enumerate(resolved):
        if values in resolved[:second]:
            first = resolved.index(values)
            raise ValueError(
                f"axes: variants {first + 1} and {second + 1} are the same config ({fields[first]}, {fields[second]}): "
                "leave one out"
            )
    return [Variant(name, variant) for name, variant in zip(names or _names(fields, resolved), fields, strict=True)]


def _names(fields: Sequence[Fields], resolved: Sequence[Fields]) -> list[str]:
    """The names of variants, from the fields in which they differ: learning_rate=0.05, batch_size=64."""
    varied = list(dict.fromkeys(path for variant in fields for path in variant))
    differing = [path for path in varied if any(values.get(path) != resolved[0].get(path) for values in resolved)]
    if not differing:
        return [resolved[0]["model.name"]]
    return [variant_name(values, differing) for values in resolved]


def variant_name(fields: Fields, differing: Sequence[str]) -> str:
    """The name of a variant, from its values of the differing fields in their order.

    >>> variant_name({"optimizer.learning_rate": 0.05, "train.epochs": 3}, ["train.epochs", "optimizer.learning_rate"])
    'epochs=3, learning_rate=0.05'
    """
    words = short_names(differing)
    return ", ".join(f"{words[path]}={_shown(fields[path])}" for path in differing if path in fields)


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Short names of fields: the last word, or the section for a component's name, or the whole path if that is ambiguous.

    >>> short_names(["model.name", "optimizer.learning_rate"])
    {'model.name': 'model', 'optimizer.learning_rate': 'learning_rate'}
    """
    words = {path: path.removesuffix(".name") if path.endswith(".name") else path.rpartition(".")[2] for path in paths}
    taken = list(words.values())
    return {path: word if taken.count(word) == 1 else path for path, word in words.items()}


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
