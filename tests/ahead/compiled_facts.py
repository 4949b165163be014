"""Facts of compiled training steps, printed as JSON by a process that sees no device: python -m tests.ahead.compiled_facts TARGET NETWORK..."""

import json
import math
import re
import sys

import jax

from cnnjax.ahead import program_text, programs, targets
from cnnjax.ahead.outline import outline
from cnnjax.config import load_config

# The networks at their own sizes, and their batch normalisations: in maps of 2x2 values XLA transposes.
NETWORKS = {
    "lenet5": ((32, 32, 1), 0), "resnet18": ((224, 224, 3), 20), "resnet50": ((224, 224, 3), 53), "googlenet": ((224, 224, 3), 0),
    "vgg16": ((224, 224, 3), 0), "alexnet": ((224, 224, 3), 0),
}  # fmt: skip
_FLOAT32 = re.compile(r"\bf32\[")


def size(shape: str) -> int:
    """The number of values of an array in a program's text, such as `f32[6,5,5,1]{3,2,1,0}`."""
    return math.prod(map(int, re.findall(r"\d+", shape.partition("[")[2].partition("]")[0])))


def facts(name: str, target: targets.Target) -> dict:
    """What the compiled training step of a network, in bfloat16, consists of."""
    shape, _ = NETWORKS[name]
    config = load_config(
        "quickstart", {"model.name": name, "train.batch_size": 16 * target.count, "train.precision": "bfloat16"}
    )
    dataset = outline(config, shape, 10)
    program = programs.lowered(config, target, dataset)["train"]().compile()
    text = program.as_text()
    found = list(program_text.instructions(text))
    shapes = {(one.computation, one.name): one.shape for one in found}
    convolutions = [one for one in found if one.opcode == "convolution" or "__cudnn$conv" in one.rest]
    state = jax.tree.leaves(programs.steps(config, dataset)["train"][1])
    kernels = {leaf.size for leaf in state}
    return {
        "collectives": program_text.collectives(text, target.count),
        "convolutions": len(convolutions),
        "in_float32": [
            one.name for one in convolutions if any(_FLOAT32.search(shapes.get((one.computation, of), "")) for of in one.operands[:2])
        ],
        "opcodes": dict(program_text.opcodes(text)),
        "transposed_maps": [
            f"{one.name} {one.shape}" for one in found
            if one.opcode == "transpose" and size(one.shape) not in kernels
        ],
        "aliased": len(re.findall(r"(?:may|must)-alias", text.partition("\n")[0])),
        "state_arrays": len(state),
        "state_bytes": sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in state),
        "alias_bytes": program.memory_analysis().alias_size_in_bytes,
    }  # fmt: skip


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    json.dump({name: facts(name, targets.parse(sys.argv[1])) for name in sys.argv[2:]}, sys.stdout)
