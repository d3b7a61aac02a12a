"""Network inputs and outputs: float32 ports become int8, the host converts."""

from __future__ import annotations

from dataclasses import replace

from tinyhil.harness.model.graph import Dequantize, DType, Graph, Quantize
from tinyhil.harness.tinyengine.passes.edit import consumers, producers


def strip_float_io(graph: Graph) -> Graph:
    """A leading Quantize and a trailing Dequantize go; the port is the int8 tensor behind or before it."""
    users, makers = consumers(graph), producers(graph)
    gone: set[int] = set()
    inputs = list(graph.inputs)
    for position, tensor in enumerate(graph.inputs):
        reading = users.get(tensor, [])
        if graph.tensors[tensor].dtype is not DType.FLOAT32 or len(reading) != 1 or tensor in graph.outputs:
            continue
        op = graph.ops[reading[0]]
        if isinstance(op.spec, Quantize) and op.outputs[0] not in graph.outputs:
            inputs[position] = op.outputs[0]
            gone.add(reading[0])
    outputs = list(graph.outputs)
    for position, tensor in enumerate(graph.outputs):
        maker = makers.get(tensor)
        if maker is None or tensor in users or graph.outputs.count(tensor) > 1:
            continue
        op = graph.ops[maker]
        source = op.inputs[0]
        if (
            isinstance(op.spec, Dequantize)
            and source not in inputs
            and source not in outputs
            and graph.tensors[source].data is None
        ):
            outputs[position] = source
            gone.add(maker)
    ops = tuple(op for index, op in enumerate(graph.ops) if index not in gone)
    return replace(graph, ops=ops, inputs=tuple(inputs), outputs=tuple(outputs))
