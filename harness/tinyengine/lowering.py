"""Graph -> steps: each operator becomes a `Work` with integer constants.

Reshapes move no byte: they become aliases, tensors that share one buffer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tinyhil.errors import UnsupportedOperator
from tinyhil.harness.model import arithmetic
from tinyhil.harness.model.graph import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    DType,
    FullyConnected,
    Graph,
    Op,
    Reshape,
    Tensor,
)
from tinyhil.harness.tinyengine.fields import bits_of
from tinyhil.harness.tinyengine.work import (
    AddWork,
    ConvWork,
    DepthwiseWork,
    GraphWork,
    Int8Array,
    Int32Array,
    Map,
    Requant,
    Work,
)


@dataclass(frozen=True, eq=False)
class Step:
    """One operator to run: `op` is its place in the graph; `inputs` are its activation inputs and
    `output` its result, as roots of their aliases (tensor indices)."""

    op: int
    kind: str
    label: str
    work: Work
    inputs: tuple[int, ...]
    output: int
    macs: int


@dataclass(frozen=True, eq=False)
class Program:
    """A graph in steps. `root` maps every activation tensor to the one whose buffer it shares."""

    graph: Graph
    steps: tuple[Step, ...]
    root: dict[int, int]

    def nbytes(self, tensor: int) -> int:
        """Bytes of a tensor's buffer."""
        return self.graph.tensors[tensor].nbytes


def _map(tensor: Tensor) -> Map:
    shape = tensor.shape
    if len(shape) == 4 and shape[0] == 1:
        return Map(shape[1], shape[2], shape[3], tensor.zero_point)
    raise UnsupportedOperator(f"tensor {tensor.name!r} has shape {shape}; batch 1 and four dimensions needed")


def _constant(graph: Graph, op: Op, position: int, what: str) -> Tensor:
    tensor = graph.tensors[op.inputs[position]]
    if tensor.data is None:
        raise UnsupportedOperator(
            f"{op.kind} with {what} computed at run time (tensor {tensor.name!r}); a constant is needed"
        )
    return tensor


def _bias(graph: Graph, op: Op, channels: int) -> Int32Array:
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return np.zeros(channels, np.int32)
    data = _constant(graph, op, 2, "a bias").data
    assert data is not None
    if data.dtype != np.int32:
        raise UnsupportedOperator(f"{op.kind} with a bias of {data.dtype}; int32 is supported")
    return np.asarray(data, np.int32).reshape(-1)


def _weights(tensor: Tensor) -> Int8Array:
    if tensor.dtype not in (DType.INT8, DType.INT4) or tensor.data is None:
        raise UnsupportedOperator(
            f"weights {tensor.name!r} of {tensor.dtype.value}; int8 and int4 are supported"
        )
    if tensor.quant is not None and any(tensor.quant.zero_point):
        raise UnsupportedOperator(
            f"weights {tensor.name!r} with a zero point; symmetric weights are supported"
        )
    return np.asarray(tensor.data, np.int8)


def _requant(graph: Graph, op: Op) -> Requant:
    p = arithmetic.conv_params(graph, op)
    return Requant(p.multiplier, p.shift, p.output_offset, p.activation_min, p.activation_max)


def _conv(graph: Graph, op: Op, spec: Conv2D) -> ConvWork:
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    w = _constant(graph, op, 1, "weights")
    weights, channels = _weights(w), y.shape[3]
    if weights.shape[3] != x.shape[3]:
        raise UnsupportedOperator(f"grouped convolution ({x.shape[3]} channels into {weights.shape[3]})")
    return ConvWork(
        _map(x), _map(y), weights, _bias(graph, op, channels), _requant(graph, op),
        spec.strides, spec.dilations, spec.pads, bits_of(weights),
    )  # fmt: skip


def _depthwise(graph: Graph, op: Op, spec: DepthwiseConv2D) -> DepthwiseWork:
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    w = _constant(graph, op, 1, "weights")
    weights, channels = _weights(w), y.shape[3]
    return DepthwiseWork(
        _map(x), _map(y), weights.reshape(weights.shape[1:]), _bias(graph, op, channels),
        _requant(graph, op), spec.multiplier, spec.strides, spec.dilations, spec.pads, bits_of(weights),
    )  # fmt: skip


def _dense(graph: Graph, op: Op) -> ConvWork:
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    w = _constant(graph, op, 1, "weights")
    weights = _weights(w)
    channels, depth = weights.shape
    rows = x.elements // depth
    return ConvWork(
        Map(1, rows, depth, x.zero_point), Map(1, rows, channels, y.zero_point),
        weights.reshape(channels, 1, 1, depth), _bias(graph, op, channels),
        _requant(graph, op), weight_bits=bits_of(weights),
    )  # fmt: skip


def _add(graph: Graph, op: Op) -> AddWork | GraphWork:
    a, b = (graph.tensors[i] for i in op.inputs)
    y = graph.tensors[op.outputs[0]]
    if a.shape != b.shape or a.data is not None or b.data is not None:
        return GraphWork(graph, op)
    n = a.elements
    p = arithmetic.add_params(graph, op)
    maps = [
        _map(t) if len(t.shape) == 4 and t.shape[0] == 1 else Map(1, 1, n, t.zero_point) for t in (a, b, y)
    ]
    return AddWork(
        maps[0], maps[1], maps[2], p.left_shift,
        (p.input1_multiplier, p.input1_shift), (p.input2_multiplier, p.input2_shift),
        (p.output_multiplier, p.output_shift), p.activation_min, p.activation_max,
    )  # fmt: skip


def to_work(graph: Graph, op: Op) -> Work:
    """The integer form of one operator; UnsupportedOperator says what about it is not supported."""
    match op.spec:
        case Conv2D() as spec:
            return _conv(graph, op, spec)
        case DepthwiseConv2D() as spec:
            return _depthwise(graph, op, spec)
        case FullyConnected():
            return _dense(graph, op)
        case Add():
            return _add(graph, op)
        case _:
            return GraphWork(graph, op)


def _label(graph: Graph, op: Op) -> str:
    y = graph.tensors[op.outputs[0]].shape
    size = "x".join(str(n) for n in (y[1:] if len(y) > 1 else y))
    if isinstance(op.spec, Conv2D | DepthwiseConv2D):
        w = graph.tensors[op.inputs[1]].shape
        return f"{op.kind} {w[1]}x{w[2]} s{op.spec.strides[0]} -> {size}"
    return f"{op.kind} -> {size}"


def lower(graph: Graph, low_bits: bool = True) -> Program:
    """The steps of `graph` in its order; without `low_bits` all weights take a byte in flash."""
    root: dict[int, int] = {tensor: tensor for tensor in graph.inputs}
    steps: list[Step] = []
    for index, op in enumerate(graph.ops):
        sources = tuple(
            root[i]
            for i in dict.fromkeys(op.inputs) if i >= 0 and graph.tensors[i].data is None
        )  # fmt: skip
        if not sources:
            raise UnsupportedOperator(f"{op.kind} (operator {index}) has only constant inputs")
        out = op.outputs[0]
        if isinstance(op.spec, Reshape):
            root[out] = sources[0]
            continue
        root[out] = out
        activations = tuple(root[i] for i in op.inputs if i >= 0 and graph.tensors[i].data is None)
        work = to_work(graph, op)
        if not low_bits and isinstance(work, ConvWork | DepthwiseWork):
            work = replace(work, weight_bits=8)
        steps.append(Step(index, op.kind, _label(graph, op), work, activations, out, graph.macs(op)))
    return Program(graph, tuple(steps), root)
