"""Which template computes an operator that is not a convolution, and with which values."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tinyhil.errors import UnsupportedOperator
from tinyhil.harness.model import arithmetic, reference
from tinyhil.harness.model.graph import (
    Add,
    AveragePool2D,
    Concatenation,
    Dequantize,
    DType,
    Graph,
    HardSwish,
    LeakyRelu,
    Logistic,
    Maximum,
    MaxPool2D,
    Mean,
    Minimum,
    Mul,
    Op,
    Pad,
    Prelu,
    Quantize,
    Relu,
    ResizeBilinear,
    ResizeNearestNeighbor,
    Softmax,
    StridedSlice,
    Sub,
    Tanh,
    Tensor,
    Transpose,
)
from tinyhil.harness.model.tables import QMAX, QMIN, softmax_params
from tinyhil.harness.tinyengine.ctext import c_float
from tinyhil.harness.tinyengine.overlap import gap_of, window_starts
from tinyhil.harness.tinyengine.portable_moves import move_parts
from tinyhil.harness.tinyengine.portable_parts import (
    Parts,
    broadcast_strides,
    index_text,
    merge,
    size_text,
    strides_of,
    tensors_of,
)
from tinyhil.harness.tinyengine.work import GraphWork


def template_of(work: GraphWork) -> Parts:
    """The parts of any operator but convolutions; UnsupportedOperator names what is missing."""
    graph, op = work.graph, work.op
    for index in (*op.inputs, *op.outputs):
        tensor = graph.tensors[index]
        if tensor.dtype is not DType.INT8 and not isinstance(op.spec, Quantize | Dequantize):
            raise UnsupportedOperator(
                f"{op.kind} on {tensor.dtype.value} ({tensor.name!r}); int8 is supported"
            )
    match op.spec:
        case Add() | Sub() | Mul() | Maximum() | Minimum() | Prelu():
            return _binary(graph, op)
        case AveragePool2D() | MaxPool2D() as spec:
            return _pool(graph, op, spec)
        case Logistic() | Tanh() | HardSwish() | LeakyRelu() | Relu() | Quantize() | Dequantize():
            return _unary(graph, op)
        case Softmax():
            return _softmax(graph, op)
        case Mean() as spec:
            return _mean(graph, op, spec)
        case (
            Pad()
            | Concatenation()
            | Transpose()
            | StridedSlice()
            | ResizeNearestNeighbor()
            | ResizeBilinear()
        ):
            return move_parts(graph, op)
        case _:
            raise UnsupportedOperator(f"{op.kind} has no kernel")


def _binary(graph: Graph, op: Op) -> Parts:
    a, b = (graph.tensors[i] for i in op.inputs)
    out = graph.tensors[op.outputs[0]]
    dims, (index_a, index_b) = merge(out.shape, [broadcast_strides(t.shape, out.shape) for t in (a, b)])
    constants = [(n, t.data) for n, t in (("first", a), ("second", b)) if t.data is not None]
    values: dict[str, Any] = {
        "constants": constants,
        "constant_names": tuple(n for n, _ in constants),
        "pointers": 2 - len(constants),
        "dims": [{"size": n} for n in dims],
        "index_a": index_text(index_a),
        "index_b": index_text(index_b),
        "zero_a": a.zero_point,
        "zero_b": b.zero_point,
        "kind": op.kind,
        "comment": f"{op.kind}: {size_text(a.shape)} with {size_text(b.shape)} -> {size_text(out.shape)}.",
    }
    low, high = QMIN, QMAX
    if isinstance(op.spec, Mul):
        m = arithmetic.mul_params(graph, op)
        values["scale"] = (m.multiplier, m.shift)
        low, high = m.activation_min, m.activation_max
    elif isinstance(op.spec, Prelu):
        slope = arithmetic.prelu_params(graph, op)
        values |= {"scale_a": slope.above, "scale": slope.below}
    elif isinstance(op.spec, Add | Sub):
        p = arithmetic.add_params(graph, op)
        values |= {
            "left_shift": p.left_shift,
            "scale_a": (p.input1_multiplier, p.input1_shift),
            "scale_b": (p.input2_multiplier, p.input2_shift),
            "scale": (p.output_multiplier, p.output_shift),
        }
        low, high = p.activation_min, p.activation_max
    values["r"] = {"zero_point": out.zero_point, "low": low, "high": high}
    gaps = tuple(0 if t.elements == out.elements else None for t in (a, b) if t.data is None)
    return Parts(
        "binary.c.j2", values, gaps, sum(t.nbytes for t in (a, b) if t.data is not None), 60 * out.elements
    )


def _pool(graph: Graph, op: Op, spec: AveragePool2D | MaxPool2D) -> Parts:
    x, out = tensors_of(graph, op)
    low, high = arithmetic.activation_range(spec.activation, out)
    window, before, after = (size_text(n) for n in (spec.kernel, x.shape[1:], out.shape[1:]))
    values = {
        "oh": out.shape[1], "ow": out.shape[2], "channels": out.shape[3],
        "ih": x.shape[1], "iw": x.shape[2],
        "kh": spec.kernel[0], "kw": spec.kernel[1], "sh": spec.strides[0], "sw": spec.strides[1],
        "pads": spec.pads, "low": low, "high": high, "average": isinstance(spec, AveragePool2D),
        "comment": f"{op.kind} {window}: {before} -> {after}.",
    }  # fmt: skip
    rows = window_starts(x.shape[1], spec.strides[0], spec.pads[0], out.shape[1])
    columns = window_starts(x.shape[2], spec.strides[1], spec.pads[2], out.shape[2])
    first = ((rows[:, None] * x.shape[2] + columns[None, :]) * x.shape[3]).reshape(-1)
    gap = gap_of(np.arange(1, len(first) + 1, dtype=np.int64) * x.shape[3], first)
    return Parts("pool.c.j2", values, (gap,), 0, 6 * prod(spec.kernel) * out.elements + 20 * out.elements)


def _unary(graph: Graph, op: Op) -> Parts:
    x, out = tensors_of(graph, op)
    comment = f"{op.kind} of {out.elements} values."
    octets = (DType.INT8, DType.UINT8)
    if x.dtype in octets and out.dtype in octets:
        every = np.arange(-128, 128, dtype=np.int8).view(x.dtype.numpy)
        flat = Graph("", (_flat(x, 256), _flat(out, 256)), (Op(op.spec, (0,), (1,)),), (0,), (1,))
        table = reference.run(flat, [every])[0].view(np.int8)
        source = "int8 input, from -128 on." if x.dtype is DType.INT8 else "byte, from 0x80 on."
        values = {"table": table, "count": out.elements, "comment": comment, "source": source}
        return Parts("table.c.j2", values, (0,), 256, 6 * out.elements)
    quantize = isinstance(op.spec, Quantize)
    if (x.dtype, out.dtype) != ((DType.FLOAT32, DType.INT8) if quantize else (DType.INT8, DType.FLOAT32)):
        raise UnsupportedOperator(f"{op.kind} from {x.dtype.value} to {out.dtype.value}")
    q = out if quantize else x
    values = {
        "quantize": quantize, "count": out.elements, "scale": c_float(q.scale),
        "zero_point": q.zero_point, "comment": comment,
    }  # fmt: skip
    # A quantisation reads four bytes before it writes one; the other way the output outruns the input.
    return Parts("float.c.j2", values, (0 if quantize else None,), 0, 40 * out.elements)


def _flat(tensor: Tensor, count: int) -> Tensor:
    return Tensor(tensor.name, (count,), tensor.dtype, tensor.quant)


def _softmax(graph: Graph, op: Op) -> Parts:
    x, out = tensors_of(graph, op)
    depth = x.shape[-1]
    table = softmax_params(graph, op).exp
    values = {
        "table": table, "rows": x.elements // depth, "depth": depth,
        "comment": f"Softmax over {depth} values.",
    }  # fmt: skip
    return Parts("softmax.c.j2", values, (0,), 1024 + 300, 200 + 60 * out.elements)


def _mean(graph: Graph, op: Op, spec: Mean) -> Parts:
    x, out = tensors_of(graph, op)
    p = arithmetic.rescale_params(graph, op)
    strides = strides_of(x.shape)
    kept = [d for d in range(len(x.shape)) if d not in spec.axes]
    sizes, (kept_strides,) = merge([x.shape[d] for d in kept], [[strides[d] for d in kept]])
    reduced_sizes, (reduced,) = merge([x.shape[d] for d in spec.axes], [[strides[d] for d in spec.axes]])
    if len(kept) == 0:
        sizes, kept_strides = [1], [0]
    terms = index_text(kept_strides), index_text(reduced, "j")
    values = {
        "kept": [{"size": n} for n in sizes],
        "reduced": [{"size": n} for n in reduced_sizes],
        "index": " + ".join(term for term in terms if term != "0") or "0",
        "start": p.count * p.input_offset,
        "multiplier": p.multiplier,
        "shift": p.shift,
        "r": {"zero_point": p.output_offset, "low": p.activation_min, "high": p.activation_max},
        "comment": f"Mean of {p.count} values: {size_text(x.shape)} -> {size_text(out.shape)}.",
    }
    first = np.zeros(out.elements, np.int64)
    if kept == list(range(len(kept))):  # the outer dimensions stay: each mean reads its own block
        first = np.arange(out.elements, dtype=np.int64) * p.count
    gap = gap_of(np.arange(1, out.elements + 1, dtype=np.int64), first)
    return Parts("mean.c.j2", values, (gap,), 0, 5 * x.elements + 25 * out.elements)
