"""Which template computes an operator that is not a convolution, and with which values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Op,
    Pad,
    Quantize,
    Relu,
    ResizeNearestNeighbor,
    Softmax,
    StridedSlice,
    Tensor,
    Transpose,
)
from tinyhil.harness.tinyengine.ctext import c_float, c_times
from tinyhil.harness.tinyengine.overlap import gap_of, window_starts
from tinyhil.harness.tinyengine.work import GraphWork


@dataclass(frozen=True)
class Parts:
    """A template, its values, the overlap gaps per pointer, bytes of constants, estimated instructions."""

    template: str
    values: Mapping[str, Any]
    gaps: tuple[int | None, ...]
    constant_bytes: int = 0
    instructions: int = 0


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
        case Add() | Mul():
            return _binary(graph, op)
        case AveragePool2D() | MaxPool2D() as spec:
            return _pool(graph, op, spec)
        case Logistic() | Relu() | Quantize() | Dequantize():
            return _unary(graph, op)
        case Softmax():
            return _softmax(graph, op)
        case Mean() as spec:
            return _mean(graph, op, spec)
        case Pad() as spec:
            return _pad(graph, op, spec)
        case Concatenation() as spec:
            return _concat(graph, op, spec)
        case Transpose() | StridedSlice() | ResizeNearestNeighbor():
            return _move(graph, op)
        case _:
            raise UnsupportedOperator(f"{op.kind} has no kernel")


def _tensors(graph: Graph, op: Op) -> tuple[Tensor, Tensor]:
    return graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _strides(shape: Sequence[int]) -> list[int]:
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return strides


def _index(strides: Sequence[int], letter: str = "i") -> str:
    terms = [f"{letter}{i}" + (f" * {s}" if s != 1 else "") for i, s in enumerate(strides) if s]
    return " + ".join(terms) or "0"


def _broadcast(shape: Sequence[int], out: Sequence[int]) -> list[int]:
    """Strides of a tensor along the output's dimensions, 0 where it repeats."""
    full = [1] * (len(out) - len(shape)) + list(shape)
    return [s if n > 1 else 0 for n, s in zip(full, _strides(full), strict=True)]


def _merge(sizes: Sequence[int], rows: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Joins neighbouring dimensions over which all stride lists run on; drops those of size 1."""
    dims: list[int] = []
    merged: list[list[int]] = [[] for _ in rows]
    for d, size in enumerate(sizes):
        if size == 1:
            continue
        here = [row[d] for row in rows]
        if dims and all(m[-1] == s * size for m, s in zip(merged, here, strict=True)):
            dims[-1] *= size
            for m, s in zip(merged, here, strict=True):
                m[-1] = s
        else:
            dims.append(size)
            for m, s in zip(merged, here, strict=True):
                m.append(s)
    if not dims:
        return [1], [[1] for _ in rows]
    return dims, merged


def _binary(graph: Graph, op: Op) -> Parts:
    a, b = (graph.tensors[i] for i in op.inputs)
    out = graph.tensors[op.outputs[0]]
    dims, (index_a, index_b) = _merge(out.shape, [_broadcast(t.shape, out.shape) for t in (a, b)])
    constants = [(n, t.data) for n, t in (("first", a), ("second", b)) if t.data is not None]
    values: dict[str, Any] = {
        "constants": constants,
        "constant_names": tuple(n for n, _ in constants),
        "pointers": 2 - len(constants),
        "dims": [{"size": n} for n in dims],
        "index_a": _index(index_a),
        "index_b": _index(index_b),
        "zero_a": a.zero_point,
        "zero_b": b.zero_point,
        "multiply": isinstance(op.spec, Mul),
        "comment": f"{op.kind}: {_size(a.shape)} with {_size(b.shape)} -> {_size(out.shape)}.",
    }
    if isinstance(op.spec, Mul):
        m = arithmetic.mul_params(graph, op)
        values |= {"scale": (m.multiplier, m.shift)}
        low, high = m.activation_min, m.activation_max
    else:
        p = arithmetic.add_params(graph, op)
        low, high = p.activation_min, p.activation_max
        values |= {
            "left_shift": p.left_shift,
            "scale_a": (p.input1_multiplier, p.input1_shift),
            "scale_b": (p.input2_multiplier, p.input2_shift),
            "scale": (p.output_multiplier, p.output_shift),
        }
    values["r"] = {"zero_point": out.zero_point, "low": low, "high": high}
    gaps = tuple(0 if t.elements == out.elements else None for t in (a, b) if t.data is None)
    return Parts(
        "binary.c.j2", values, gaps, sum(t.nbytes for t in (a, b) if t.data is not None), 60 * out.elements
    )


def _pool(graph: Graph, op: Op, spec: AveragePool2D | MaxPool2D) -> Parts:
    x, out = _tensors(graph, op)
    low, high = arithmetic.activation_range(spec.activation, out)
    values = {
        "oh": out.shape[1], "ow": out.shape[2], "channels": out.shape[3],
        "ih": x.shape[1], "iw": x.shape[2],
        "kh": spec.kernel[0], "kw": spec.kernel[1], "sh": spec.strides[0], "sw": spec.strides[1],
        "pads": spec.pads, "low": low, "high": high, "average": isinstance(spec, AveragePool2D),
        "comment": f"{op.kind} {_size(spec.kernel)}: {_size(x.shape[1:])} -> {_size(out.shape[1:])}.",
    }  # fmt: skip
    rows = window_starts(x.shape[1], spec.strides[0], spec.pads[0], out.shape[1])
    columns = window_starts(x.shape[2], spec.strides[1], spec.pads[2], out.shape[2])
    first = ((rows[:, None] * x.shape[2] + columns[None, :]) * x.shape[3]).reshape(-1)
    gap = gap_of(np.arange(1, len(first) + 1, dtype=np.int64) * x.shape[3], first)
    return Parts("pool.c.j2", values, (gap,), 0, 6 * prod(spec.kernel) * out.elements + 20 * out.elements)


def _unary(graph: Graph, op: Op) -> Parts:
    x, out = _tensors(graph, op)
    comment = f"{op.kind} of {out.elements} values."
    if x.dtype is DType.INT8 and out.dtype is DType.INT8:
        every = np.arange(-128, 128, dtype=np.int8)
        flat = Graph("", (_flat(x, 256), _flat(out, 256)), (Op(op.spec, (0,), (1,)),), (0,), (1,))
        table = reference.run(flat, [every])[0]
        values = {"table": table, "count": out.elements, "comment": comment}
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
    x, out = _tensors(graph, op)
    depth = x.shape[-1]
    table = arithmetic.softmax_params(graph, op).exp
    values = {
        "table": table, "rows": x.elements // depth, "depth": depth,
        "comment": f"Softmax over {depth} values.",
    }  # fmt: skip
    return Parts("softmax.c.j2", values, (0,), 1024 + 300, 200 + 60 * out.elements)


def _mean(graph: Graph, op: Op, spec: Mean) -> Parts:
    x, out = _tensors(graph, op)
    p = arithmetic.rescale_params(graph, op)
    strides = _strides(x.shape)
    kept = [d for d in range(len(x.shape)) if d not in spec.axes]
    sizes, (kept_strides,) = _merge([x.shape[d] for d in kept], [[strides[d] for d in kept]])
    reduced_sizes, (reduced,) = _merge([x.shape[d] for d in spec.axes], [[strides[d] for d in spec.axes]])
    if len(kept) == 0:
        sizes, kept_strides = [1], [0]
    values = {
        "kept": [{"size": n} for n in sizes],
        "reduced": [{"size": n} for n in reduced_sizes],
        "index": " + ".join(t for t in (_index(kept_strides), _index(reduced, "j")) if t != "0") or "0",
        "start": p.count * p.input_offset,
        "multiplier": p.multiplier,
        "shift": p.shift,
        "r": {"zero_point": p.output_offset, "low": p.activation_min, "high": p.activation_max},
        "comment": f"Mean of {p.count} values: {_size(x.shape)} -> {_size(out.shape)}.",
    }
    first = np.zeros(out.elements, np.int64)
    if kept == list(range(len(kept))):  # the outer dimensions stay: each mean reads its own block
        first = np.arange(out.elements, dtype=np.int64) * p.count
    gap = gap_of(np.arange(1, out.elements + 1, dtype=np.int64), first)
    return Parts("mean.c.j2", values, (gap,), 0, 5 * x.elements + 25 * out.elements)


def _pad(graph: Graph, op: Op, spec: Pad) -> Parts:
    x, out = _tensors(graph, op)
    last = max((d for d, (a, b) in enumerate(spec.amounts) if a or b), default=0)
    run = prod(x.shape[last + 1 :])
    strides = _strides(x.shape)
    dims = [
        {"total": out.shape[d], "before": spec.amounts[d][0], "size": x.shape[d], "stride": strides[d]}
        for d in range(last + 1)
        if out.shape[d] > 1
    ]
    inside = []
    for i, v in enumerate(dims):
        inside += [f"i{i} >= {v['before']}"] if v["before"] else []
        inside += [f"i{i} < {v['before'] + v['size']}"] if v["before"] + v["size"] < v["total"] else []
    values = {
        "dims": dims,
        "inside": " && ".join(inside) or "1",
        "index": " + ".join(
            c_times(f"(i{i} - {v['before']})" if v["before"] else f"i{i}", v["stride"])
            for i, v in enumerate(dims)
        )
        or "0",
        "run": run,
        "value": out.zero_point if spec.value is None else spec.value,
        "comment": f"Pad: {_size(x.shape)} -> {_size(out.shape)}.",
    }
    return Parts("pad.c.j2", values, (None,), 0, out.elements + 15 * (out.elements // run))


def _concat(graph: Graph, op: Op, spec: Concatenation) -> Parts:
    out = graph.tensors[op.outputs[0]]
    outer = prod(out.shape[: spec.axis])
    parts = []
    pointers = 0
    for position, index in enumerate(op.inputs):
        tensor = graph.tensors[index]
        source = f"SYMBOL_part{position}" if tensor.data is not None else f"x{pointers}"
        pointers += tensor.data is None
        parts.append({"data": tensor.data, "source": source, "run": tensor.elements // outer})
    values = {
        "parts": parts,
        "outer": outer,
        "pointers": pointers,
        "comment": f"Concatenation -> {_size(out.shape)}.",
    }
    constants = sum(graph.tensors[i].nbytes for i in op.inputs if graph.tensors[i].data is not None)
    return Parts("concat.c.j2", values, (None,) * pointers, constants, out.elements + 20 * outer * len(parts))


def _move(graph: Graph, op: Op) -> Parts:
    """Transpose, slice and resize: the output walks in order, the input index is a sum of terms."""
    x, out = _tensors(graph, op)
    strides = _strides(x.shape)
    tables: list[tuple[str, Any]] = []
    offset = 0
    match op.spec:
        case Transpose(perm):
            sizes, steps = list(out.shape), [strides[d] for d in perm]
        case StridedSlice() as spec:
            sizes = [len(range(b, e, s)) for b, e, s in zip(spec.begin, spec.end, spec.strides, strict=True)]
            steps = [t * s for t, s in zip(strides, spec.strides, strict=True)]
            offset = sum(t * b for t, b in zip(strides, spec.begin, strict=True))
        case ResizeNearestNeighbor() as spec:
            rows = reference.nearest_neighbors(x.shape[1], out.shape[1], spec)
            columns = reference.nearest_neighbors(x.shape[2], out.shape[2], spec)
            tables = [("rows", rows * strides[1]), ("columns", columns * strides[2])]
            values = {
                "tables": tables, "dims": [out.shape[1], out.shape[2]], "run": out.shape[3],
                "index": "SYMBOL_rows[i0] + SYMBOL_columns[i1]",
                "comment": f"Nearest neighbour resize: {_size(x.shape[1:])} -> {_size(out.shape[1:])}.",
            }  # fmt: skip
            constants = 4 * (out.shape[1] + out.shape[2])
            return Parts("copy.c.j2", values, (None,), constants, 2 * out.elements)
        case _:
            raise AssertionError(op.kind)
    dims, (merged,) = _merge(sizes, [steps])
    run = 1
    if merged[-1] == 1:
        run = dims.pop()
        merged.pop()
    index = _index(merged)
    values = {
        "tables": tables, "dims": dims, "run": run,
        "index": f"{offset} + {index}" if offset and index != "0" else str(offset) if offset else index,
        "comment": f"{op.kind}: {_size(x.shape)} -> {_size(out.shape)}.",
    }  # fmt: skip
    return Parts("copy.c.j2", values, (None,), 0, 6 * out.elements)
