"""An activation of its own becomes the clamp of the operator before it."""

from __future__ import annotations

from dataclasses import replace

from tinyhil.harness.model.graph import (
    Activation,
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    MaxPool2D,
    Mul,
    Relu,
)
from tinyhil.harness.tinyengine.passes.edit import consumers, producers, same_values, with_ops

_CLAMPING = Conv2D | DepthwiseConv2D | FullyConnected | Add | Mul | AveragePool2D | MaxPool2D


def fuse_activation(graph: Graph) -> Graph:
    """Only where nothing is rescaled between the two and nobody else reads the value before the clamp."""
    ops = list(graph.ops)
    users, makers = consumers(graph), producers(graph)
    gone = set()
    for index, relu in enumerate(graph.ops):
        if not isinstance(relu.spec, Relu):
            continue
        x = relu.inputs[0]
        maker = makers.get(x)
        if maker is None or maker in gone or users[x] != [index] or x in graph.outputs:
            continue
        op = ops[maker]
        spec = op.spec
        if (
            isinstance(spec, _CLAMPING)
            and spec.activation is Activation.NONE
            and same_values(graph.tensors[x], graph.tensors[relu.outputs[0]])
        ):
            fused = replace(spec, activation=relu.spec.activation)
            ops[maker] = replace(op, spec=fused, outputs=relu.outputs)
            gone.add(index)
    return with_ops(graph, (op for index, op in enumerate(ops) if index not in gone))
