"""A graph as an ONNX file's bytes: checked, with a description of its inputs and outputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnjax.exporting.onnx.graph import Graph, Node, Value

# Of 2022: ONNX 1.13, onnxruntime 1.14. IR 8 is the form of files of that time.
OPSET, IR_VERSION = 18, 8
# More bytes than a file of protobuf may have.
MOST_BYTES = 2**31 - 1


def as_model(
    graph: Graph,
    images: Value,
    outputs: Mapping[str, Value],
    batch: str,
    metadata: Mapping[str, str],
    producer: tuple[str, str],
) -> Any:
    """An `onnx.ModelProto`, which the checker of ONNX has passed.

    Args:
      graph: the graph, in which every output has its name.
      images: the input.
      outputs: the outputs by name.
      batch: the name of the open axis.
      metadata: texts by key ("metadata_props").
      producer: the name and version of the program that writes the file.

    Raises:
      ValueError: the model is larger than an ONNX file can be.
    """
    import onnx
    from onnx import helper, numpy_helper

    def described(name: str, value: Value) -> Any:
        sizes = [size if isinstance(size, int) else batch if size == graph.batch else str(size) for size in value.shape]
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), sizes)

    used = {name for node in graph.nodes for name in node.inputs}
    constants = {name: array for name, array in graph.constants.items() if name in used}
    if sum(array.nbytes for array in constants.values()) > MOST_BYTES:
        raise ValueError("ONNX: the weights are more than 2 GiB, which one file cannot hold: export to .safetensors")
    proto = helper.make_graph(
        [_node(node) for node in graph.nodes],
        "prediction",
        [described(graph.input, images)],
        [described(name, value) for name, value in outputs.items()],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=producer[0],
        producer_version=producer[1],
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model


def _node(node: Node) -> Any:
    from onnx import helper

    attributes = {
        key: helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else _plain(value)
        for key, value in node.attributes.items()
    }
    return helper.make_node(node.operator, node.inputs, node.outputs, name=node.outputs[0], **attributes)


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [int(item) for item in value]
    return int(value) if isinstance(value, np.integer) else value
