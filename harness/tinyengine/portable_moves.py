"""Templates and values of the operators that move bytes, or mix neighbours: pads, joins, slices, resizing."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import (
    Concatenation,
    Graph,
    Op,
    Pad,
    ResizeBilinear,
    ResizeNearestNeighbor,
    StridedSlice,
    Transpose,
)
from tinyhil.harness.tinyengine.ctext import c_times
from tinyhil.harness.tinyengine.portable_parts import (
    Parts,
    index_text,
    merge,
    size_text,
    strides_of,
    tensors_of,
)


def move_parts(graph: Graph, op: Op) -> Parts:
    """The parts of any of these operators."""
    match op.spec:
        case Pad() as spec:
            return _pad(graph, op, spec)
        case Concatenation() as spec:
            return _concat(graph, op, spec)
        case ResizeBilinear() as spec:
            return _bilinear(graph, op, spec)
        case _:
            return _move(graph, op)


def _pad(graph: Graph, op: Op, spec: Pad) -> Parts:
    x, out = tensors_of(graph, op)
    last = max((d for d, (a, b) in enumerate(spec.amounts) if a or b), default=0)
    run = prod(x.shape[last + 1 :])
    strides = strides_of(x.shape)
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
        "comment": f"Pad: {size_text(x.shape)} -> {size_text(out.shape)}.",
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
        "comment": f"Concatenation -> {size_text(out.shape)}.",
    }
    constants = sum(graph.tensors[i].nbytes for i in op.inputs if graph.tensors[i].data is not None)
    return Parts("concat.c.j2", values, (None,) * pointers, constants, out.elements + 20 * outer * len(parts))


def _move(graph: Graph, op: Op) -> Parts:
    """Transpose, slice and resize: the output walks in order, the input index is a sum of terms."""
    x, out = tensors_of(graph, op)
    strides = strides_of(x.shape)
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
                "comment": f"Nearest neighbour: {size_text(x.shape[1:])} -> {size_text(out.shape[1:])}.",
            }  # fmt: skip
            constants = 4 * (out.shape[1] + out.shape[2])
            return Parts("copy.c.j2", values, (None,), constants, 2 * out.elements)
        case _:
            raise AssertionError(op.kind)
    dims, (merged,) = merge(sizes, [steps])
    run = 1
    if merged[-1] == 1:
        run = dims.pop()
        merged.pop()
    index = index_text(merged)
    values = {
        "tables": tables, "dims": dims, "run": run,
        "index": f"{offset} + {index}" if offset and index != "0" else str(offset) if offset else index,
        "comment": f"{op.kind}: {size_text(x.shape)} -> {size_text(out.shape)}.",
    }  # fmt: skip
    return Parts("copy.c.j2", values, (None,), 0, 6 * out.elements)


def _bilinear(graph: Graph, op: Op, spec: ResizeBilinear) -> Parts:
    """Rows and columns are tables: offsets of both neighbours, and the second one's weight of 1024."""
    x, out = tensors_of(graph, op)
    strides = strides_of(x.shape)
    tables = {}
    for name, axis in (("rows", 1), ("columns", 2)):
        low, high, weight = reference.bilinear_neighbors(x.shape[axis], out.shape[axis], spec)
        tables[name] = np.stack([low * strides[axis], high * strides[axis], weight], axis=1)
    values = {
        "tables": tables, "height": out.shape[1], "width": out.shape[2], "channels": out.shape[3],
        "comment": f"Bilinear resize: {size_text(x.shape[1:])} -> {size_text(out.shape[1:])}.",
    }  # fmt: skip
    constants = 12 * (out.shape[1] + out.shape[2])
    return Parts("bilinear.c.j2", values, (None,), constants, 20 * out.elements)
