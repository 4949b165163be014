"""Reading a compiled program: XLA's text of the instructions that a device executes."""

import collections
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# Instructions that move no data.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id", "while", "call",
    "conditional", "opt-barrier",
}  # fmt: skip
# Computations that a device does not execute instruction by instruction: the content of fusions and reductions.
_INNER = re.compile(r"(?:calls|to_apply|select|scatter)=%?([\w.\-]+)")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?[\]})]) ([a-z][a-z0-9\-]*)\((.*)$")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+(?:e\d+m\d+\w*)?)\[([\d,]*)\](\{[^}]*\})?")
_OPERAND = re.compile(r"%([\w.\-]+)")
_ON_CHIP = re.compile(r"S\([1-9]\d*\)")  # a memory space of a TPU other than its main memory


class Instruction(NamedTuple):
    """An instruction of a compiled program.

    Attributes:
      computation: the name of the computation that contains the instruction.
      name: the name of its result.
      shape: the text of the result's type: "f32[8,128]{1,0}", or a tuple of these.
      opcode: the operation: "convolution", "all-reduce-start".
      rest: the text after the opcode: operands and attributes.
    """

    computation: str
    name: str
    shape: str
    opcode: str
    rest: str

    @property
    def operands(self) -> list[str]:
        """The names of the operands."""
        return _OPERAND.findall(_parenthesized(self.rest))


def instructions(text: str) -> Iterator[Instruction]:
    """The instructions of a program, computation by computation."""
    computation = ""
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            computation = found[1]
        elif found := _INSTRUCTION.match(line):
            yield Instruction(computation, *found.groups())


def _parenthesized(text: str) -> str:
    """The text up to the parenthesis that closes an open one."""
    depth = 1
    for place, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return text[:place]
    return text


def array_bytes(shape: str, on_chip: bool = True) -> int:
    """The bytes of all arrays in the text of a type.

    >>> array_bytes("(f32[8,128]{1,0}, bf16[4]{0:T(128)S(1)})"), array_bytes("(f32[8,128]{1,0}, bf16[4]{0:T(128)S(1)})", on_chip=False)
    (4104, 4096)

    Args:
      shape: the text of the type.
      on_chip: whether arrays in a TPU's on-chip memory are counted too.
    """
    return sum(
        math.prod(map(int, filter(None, sizes.split(",")))) * _bits(kind) // 8
        for kind, sizes, layout in _ARRAY.findall(shape)
        if on_chip or not _ON_CHIP.search(layout)
    )


def _bits(kind: str) -> int:
    return 8 if kind == "pred" else int(re.findall(r"\d+", kind)[0])


def collectives(text: str, together: int) -> dict[str, dict[str, int]]:
    """The collective operations of a program by kind: their number, and the bytes of the arrays that they combine.

    Args:
      text: the text of the compiled program.
      together: the number of devices, by which the result of an all-gather is larger than what a device contributes.
    """
    found = list(instructions(text))
    shapes = {(one.computation, one.name): one.shape for one in found}
    counted: dict[str, dict[str, int]] = collections.defaultdict(lambda: {"number": 0, "bytes": 0})
    for one in found:
        kind = one.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            operands = sum(array_bytes(shapes.get((one.computation, name), "")) for name in one.operands)
            counted[kind]["number"] += 1
            counted[kind]["bytes"] += operands * (together if kind == "all-gather" else 1)
    return dict(counted)


def traffic(text: str) -> int:
    """The bytes that a program's kernels read from and write to a device's memory: operands and results of each.

    Loops are counted once. Arrays that XLA keeps in a TPU's on-chip memory are not counted.
    """
    found = list(instructions(text))
    shapes = {(one.computation, one.name): one.shape for one in found}
    inner = {name for one in found for name in _INNER.findall(one.rest) if one.opcode != "call"}
    total = 0
    for one in found:
        if one.computation in inner or one.opcode in _FREE or one.opcode.endswith(("-done", "-update")):
            continue
        read = sum(array_bytes(shapes.get((one.computation, name), ""), on_chip=False) for name in set(one.operands))
        total += read + array_bytes(one.shape, on_chip=False)
    return total


def opcodes(text: str) -> Mapping[str, int]:
    """The number of instructions of each operation; custom calls by their target, as "custom-call:__cudnn$convForward"."""
    counted: collections.Counter[str] = collections.Counter()
    for one in instructions(text):
        target = re.search(r'custom_call_target="([^"]+)"', one.rest)
        counted[f"custom-call:{target[1]}" if target else one.opcode] += 1
    return counted


def counted(text: str, arrays: Collection[int]) -> dict[str, int]:
    """The numbers of what makes a network's program slow, and of the arrays that it updates in place.

    Args:
      text: the text of the compiled program.
      arrays: the numbers of values of the network's own arrays; transposes of other sizes are of maps.

    Returns:
      `convolutions`, and those of them with a float32 operand (`float32_convolutions`); `map_transposes`; `scatters`; `loops`; and
      `aliased`, the number of results that share an argument's memory.
    """
    found = list(instructions(text))
    shapes = {(one.computation, one.name): one.shape for one in found}
    convolutions = [one for one in found if one.opcode == "convolution" or "__cudnn$conv" in one.rest]
    inputs = [[shapes.get((one.computation, name), "") for name in one.operands[:2]] for one in convolutions]
    opcode = collections.Counter(one.opcode for one in found)
    return {
        "convolutions": len(convolutions),
        "float32_convolutions": sum(any(re.search(r"\bf32\[", shape) for shape in both) for both in inputs),
        "map_transposes": sum(one.opcode == "transpose" and _values(one.shape) not in arrays for one in found),
        "scatters": opcode["scatter"],
        "loops": opcode["while"],
        "aliased": len(re.findall(r"(?:may|must)-alias", text.partition("\n")[0])),
    }


def _values(shape: str) -> int:
    """The number of values of an array, from the text of its type."""
    return sum(math.prod(map(int, filter(None, sizes.split(",")))) for _, sizes, _ in _ARRAY.findall(shape))
