"""What all passes need: who uses a tensor, rewiring, removing what nobody uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import Graph, Op, Tensor


def consumers(graph: Graph) -> dict[int, list[int]]:
    """Tensor -> the operators (indices) that read it, once each."""
    users: dict[int, list[int]] = {}
    for index, op in enumerate(graph.ops):
        for tensor in dict.fromkeys(op.inputs):
            if tensor >= 0:
                users.setdefault(tensor, []).append(index)
    return users


def producers(graph: Graph) -> dict[int, int]:
    """Tensor -> the operator that writes it."""
    return {tensor: index for index, op in enumerate(graph.ops) for tensor in op.outputs}


def with_ops(graph: Graph, ops: Iterable[Op], tensors: Sequence[Tensor] | None = None) -> Graph:
    """The same graph with other operators, and other tensors if given."""
    return replace(graph, ops=tuple(ops), tensors=graph.tensors if tensors is None else tuple(tensors))


def rewire(op: Op, swap: Mapping[int, int]) -> Op:
    """`op` reading other tensors."""
    return replace(op, inputs=tuple(swap.get(i, i) for i in op.inputs))


def same_values(a: Tensor, b: Tensor) -> bool:
    """The same int8 value means the same real number in both."""
    return a.dtype is b.dtype and a.quant is not None and a.quant == b.quant


def drop_unused(graph: Graph) -> Graph:
    """Operators whose results nobody reads go."""
    wanted = set(graph.outputs)
    kept: list[Op] = []
    for op in reversed(graph.ops):
        if wanted.intersection(op.outputs):
            kept.append(op)
            wanted.update(op.inputs)
    return with_ops(graph, reversed(kept))


def fold_constants(graph: Graph) -> Graph:
    """Operators on constants alone are computed now."""
    tensors = list(graph.tensors)
    ops = []
    for op in graph.ops:
        inputs = [i for i in op.inputs if i >= 0]
        out = op.outputs[0]
        if any(tensors[i].data is None for i in inputs) or out in graph.outputs:
            ops.append(op)
            continue
        alone = Graph("", tuple(tensors), (op,), (), (out,))
        value = reference.run(alone, [])[0]
        value.setflags(write=False)
        tensors[out] = replace(tensors[out], data=value)
    return with_ops(graph, ops, tensors)
