"""Operators that only move bytes: those that move none become reshapes, transposes sink below means."""

from __future__ import annotations

from dataclasses import replace

from tinyhil.harness.model import arithmetic
from tinyhil.harness.model.graph import (
    Activation,
    AveragePool2D,
    Concatenation,
    DType,
    Graph,
    MaxPool2D,
    Mean,
    Op,
    Pad,
    Quantize,
    Relu,
    Reshape,
    ResizeBilinear,
    ResizeNearestNeighbor,
    StridedSlice,
    Tensor,
    Transpose,
)
from tinyhil.harness.tinyengine.passes.edit import consumers, same_values, with_ops


def _moves_nothing(graph: Graph, op: Op) -> bool:
    x, out = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    if x.dtype is not out.dtype or x.elements != out.elements:
        return False
    match op.spec:
        case Transpose(perm):
            order = [d for d in perm if x.shape[d] > 1]
            return order == sorted(order)
        case Pad(amounts=amounts):
            return not any(a or b for a, b in amounts)
        case Concatenation(activation=activation):
            return len(op.inputs) == 1 and activation is Activation.NONE
        case StridedSlice(strides=strides):
            return all(s == 1 or n == 1 for s, n in zip(strides, x.shape, strict=True))
        case ResizeNearestNeighbor() | ResizeBilinear():
            return x.shape == out.shape
        case Quantize():
            return same_values(x, out)
        case Mean():
            return same_values(x, out)  # over dimensions of size 1: the counts agree
        case AveragePool2D() | MaxPool2D() as spec:
            one = spec.kernel == (1, 1) and spec.strides == (1, 1) and not any(spec.pads)
            return one and spec.activation is Activation.NONE
        case Relu(activation) if x.dtype is DType.INT8 and same_values(x, out):
            low, high = arithmetic.activation_range(activation, out)
            return low <= -128 and high >= 127
        case _:
            return False


def drop_noop(graph: Graph) -> Graph:
    """Operators that leave every byte where it is become reshapes, which cost nothing."""
    return with_ops(
        graph,
        (
            replace(op, spec=Reshape(), inputs=op.inputs[:1]) if _moves_nothing(graph, op) else op
            for op in graph.ops
        ),
    )


def sink_transpose(graph: Graph) -> Graph:
    """mean(transpose(x)) becomes transpose(mean(x)): the transpose then moves less, often nothing."""
    changed = True
    while changed:
        graph, changed = _sink_once(graph)
    return graph


def _sink_once(graph: Graph) -> tuple[Graph, bool]:
    users = consumers(graph)
    for index, op in enumerate(graph.ops):
        out = op.outputs[0]
        readers = users.get(out, [])
        if not isinstance(op.spec, Transpose) or len(readers) != 1 or out in graph.outputs:
            continue
        mean = graph.ops[readers[0]]
        moved, x = graph.tensors[out], graph.tensors[op.inputs[0]]
        if not isinstance(mean.spec, Mean) or not same_values(x, moved):
            continue
        perm = op.spec.perm
        axes = tuple(sorted(perm[a] for a in mean.spec.axes))
        kept = [d for d in range(len(perm)) if d not in axes]
        result = graph.tensors[mean.outputs[0]]
        if mean.spec.keep_dims:
            shape = tuple(1 if d in axes else n for d, n in enumerate(x.shape))
            order = perm
        else:
            shape = tuple(x.shape[d] for d in kept)
            order = tuple(kept.index(d) for d in perm if d in kept)
        middle = Tensor(result.name + "_untransposed", shape, result.dtype, result.quant)
        tensors = (*graph.tensors, middle)
        ops = list(graph.ops)
        ops[readers[0]] = Op(Transpose(order), (len(tensors) - 1,), mean.outputs)
        ops[index] = Op(replace(mean.spec, axes=axes), op.inputs, (len(tensors) - 1,))
        return with_ops(graph, ops, tensors), True
    return graph, False
