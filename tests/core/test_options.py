import dataclasses
from typing import Annotated, Literal

import flax.linen as nn
import pytest

from cnnjax.core.options import (
    REQUIRED,
    between,
    checked,
    convert,
    declared,
    describe,
    fraction,
    not_negative,
    positive,
    unknown,
)


@dataclasses.dataclass(frozen=True)
class Section:
    name: str = "digits"
    size: Annotated[tuple[int, int] | None, "height and width", lambda size: "two" if 0 in size else None] = None
    required: int = dataclasses.field(kw_only=True)


class Module(nn.Module):
    num_classes: int
    width: Annotated[int, "of the layer", positive] = 3
    dtype: type = float


def component(rate, total, *, momentum: Annotated[float, "kept", fraction] = 0.9, needed: int):
    return rate, total, momentum, needed


def test_the_options_of_a_dataclass_a_module_and_a_function_are_what_can_be_set():
    assert list(declared(Section)) == ["name", "size", "required"]
    assert declared(Section)["required"].default is REQUIRED
    assert list(declared(Module)) == ["width"]
    assert list(declared(component)) == ["momentum", "needed"]
    option = declared(component)["momentum"]
    assert (option.type, option.default, option.meaning, option.check) == (float, 0.9, "kept", fraction)


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, float, 1.0),
        (1e3, int, 1000),
        ([2, 3], tuple[int, ...], (2, 3)),
        ((2, 3), tuple[int, int] | None, (2, 3)),
        (None, tuple[int, int] | None, None),
        ("max", Literal["max", "average"], "max"),
        (True, bool, True),
    ],
)
def test_convert_changes_the_type_where_nothing_is_lost(value, annotation, expected):
    result = convert(value, annotation)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, int),
        (1.5, int),
        ("1", int),
        ("fast", float),
        (1, bool),
        (1, str),
        ((1,), tuple[int, int]),
        ((1, "a"), tuple[int, ...]),
        ("mean", Literal["max"]),
        (None, int),
    ],
)
def test_convert_refuses_other_types(value, annotation):
    with pytest.raises(TypeError, match="expected"):
        convert(value, annotation)


def test_a_wrong_value_is_named_with_what_was_expected():
    size = declared(Section)["size"]
    with pytest.raises(
        TypeError, match=r"config: dataset.size: expected a tuple of a whole number, a whole number or None"
    ):
        checked("dataset.size", "big", size)
    with pytest.raises(ValueError, match=r"dataset.size=\(0, 3\): expected two \(height and width\)"):
        checked("dataset.size", (0, 3), size)
    assert checked("dataset.size", None, size) is None


def test_checks_say_what_would_be_right():
    assert positive(1) is None and "above 0" in positive(0)
    assert not_negative(0) is None and "0 or more" in not_negative(-1e-9)
    assert fraction(0) is None and fraction(0.99) is None and "up to" in fraction(1)
    assert "above 0" in positive(float("nan"))


def test_numbers_are_checked_as_a_compiled_program_holds_them():
    for check in (positive, not_negative):
        assert "finite in float32 (1.2e-38 to 3.4e+38)" in check(1e39) and check(3.4e38) is None
        assert "finite in float32" in check(1e-40) and check(1.2e-38) is None  # which XLA takes for 0
        assert "at most 2,147,483,647" in check(2**31) and check(2**31 - 1) is None
    assert fraction(1 - 1e-7) is None and "up to" in fraction(1 - 1e-9)
    assert between(-2, 2)(2) is None and between(-2, 2)(2.1) == "-2 to 2" == between(-2, 2)(float("nan"))
    with pytest.raises(TypeError, match="expected a number, got 1000"):
        convert(10**400, float)


def test_unknown_names_the_nearest_or_all():
    assert "did you mean 'LeNet'" in unknown("model", "lenet5", ["LeNet", "vgg"])
    assert unknown("model", "zzz", ["b", "a"]) == "unknown model 'zzz': choose from a, b"


def test_types_are_described_in_words():
    assert describe(tuple[int, ...] | None) == "a tuple, each element a whole number or None"
    assert describe(Literal["a", "b"]) == "one of 'a', 'b'"
