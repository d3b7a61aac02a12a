"""What the templates of plain C share: their values, and loops over dimensions that run on together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyhil.harness.model.graph import Graph, Op, Tensor


@dataclass(frozen=True)
class Parts:
    """A template, its values, the overlap gaps per pointer, bytes of constants, estimated instructions."""

    template: str
    values: Mapping[str, Any]
    gaps: tuple[int | None, ...]
    constant_bytes: int = 0
    instructions: int = 0


def tensors_of(graph: Graph, op: Op) -> tuple[Tensor, Tensor]:
    """First input and output."""
    return graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]


def size_text(shape: Sequence[int]) -> str:
    """As comments show it."""
    return "x".join(map(str, shape))


def strides_of(shape: Sequence[int]) -> list[int]:
    """Elements between neighbours along each dimension."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return strides


def index_text(strides: Sequence[int], letter: str = "i") -> str:
    """C text of an index: loop counters times strides."""
    terms = [f"{letter}{i}" + (f" * {s}" if s != 1 else "") for i, s in enumerate(strides) if s]
    return " + ".join(terms) or "0"


def broadcast_strides(shape: Sequence[int], out: Sequence[int]) -> list[int]:
    """Strides of a tensor along the output's dimensions, 0 where it repeats."""
    full = [1] * (len(out) - len(shape)) + list(shape)
    return [s if n > 1 else 0 for n, s in zip(full, strides_of(full), strict=True)]


def merge(sizes: Sequence[int], rows: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
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
