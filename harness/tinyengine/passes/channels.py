"""Channels that are constant, or that nobody reads, go; what they contribute moves into biases.

Trained networks carry filters that are all zero. Their outputs are constants, known when the code is
generated: a convolution that reads one adds the same number to every sum, which its bias can hold. The
same holds backwards: a channel that meets only zero weights is not needed. Everything is exact integers.

Operators that keep channels apart (depthwise, pools, element-wise) tie the channels of their tensors
together. A channel leaves such a family of tensors as a whole or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import (
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    DType,
    FullyConnected,
    Graph,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Op,
    Quantization,
    Quantize,
    Relu,
    Reshape,
    ResizeNearestNeighbor,
    Tensor,
)
from tinyhil.harness.tinyengine.passes.edit import consumers, with_ops

Values = npt.NDArray[np.int16]  # per channel: the constant, or VARIES
Mask = npt.NDArray[np.bool_]

VARIES = 1000
KEEP_MULTIPLE = 4  # fast kernels read four channels at a time


def drop_channels(graph: Graph) -> Graph:
    """Until nothing changes: each removal may leave other filters without input or reader."""
    for _ in range(8):
        smaller = _drop_once(graph)
        if smaller is graph:
            return graph
        graph = smaller
    return graph


def _keeps_channels(graph: Graph, op: Op) -> bool:
    """Output channel c depends on channel c of the activations alone."""
    x, out = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    if x.dtype is not DType.INT8 or out.dtype is not DType.INT8 or not x.shape or not out.shape:
        return False
    match op.spec:
        case DepthwiseConv2D(multiplier=multiplier):
            return multiplier == 1
        case AveragePool2D() | MaxPool2D() | Relu() | Logistic() | Quantize() | ResizeNearestNeighbor():
            return True
        case Mean(axes=axes):
            return len(x.shape) - 1 not in axes
        case Reshape():
            return x.shape[-1] == out.shape[-1]
        case Add() | Mul():
            a, b = (graph.tensors[i] for i in op.inputs)
            return a.shape == b.shape and a.data is None and b.data is None
        case _:
            return False


def _activations(graph: Graph, op: Op) -> list[int]:
    return [i for i in dict.fromkeys(op.inputs) if i >= 0 and graph.tensors[i].data is None]


@dataclass(frozen=True)
class _Families:
    """`of`: tensor -> family (its smallest tensor); `members`: family -> tensors."""

    of: dict[int, int]
    members: dict[int, list[int]]


def _families(graph: Graph) -> _Families:
    parent: dict[int, int] = {}

    def find(t: int) -> int:
        while parent.setdefault(t, t) != t:
            t = parent[t]
        return t

    for op in graph.ops:
        for tensor in (*_activations(graph, op), *op.outputs):
            find(tensor)
        if _keeps_channels(graph, op):
            for tensor in _activations(graph, op):
                a, b = find(tensor), find(op.outputs[0])
                parent[max(a, b)] = min(a, b)
    of = {t: find(t) for t in parent}
    members: dict[int, list[int]] = {}
    for t, family in sorted(of.items()):
        members.setdefault(family, []).append(t)
    return _Families(of, members)


def _flattened(graph: Graph, users: dict[int, list[int]], tensor: int, op: Op) -> list[int] | None:
    """For a Reshape that flattens HWC: the fully-connected operators behind it, if there is nothing else."""
    out = op.outputs[0]
    x, y = graph.tensors[tensor], graph.tensors[out]
    if not isinstance(op.spec, Reshape) or out in graph.outputs or y.shape[-1] % x.shape[-1]:
        return None
    readers = users.get(out, [])
    dense = all(isinstance(graph.ops[i].spec, FullyConnected) for i in readers)
    return readers if dense else None


def _weights_by_channel(graph: Graph, op: Op, channels: int) -> npt.NDArray[np.int8]:
    """Weights of a Conv2D or FullyConnected as [out, positions, channels]."""
    data = graph.tensors[op.inputs[1]].data
    assert data is not None
    return np.asarray(data, np.int8).reshape(data.shape[0], -1, channels)


def _mixes(graph: Graph, op: Op, channels: int) -> bool:
    """A Conv2D or FullyConnected with constant weights whose depth is a multiple of `channels`."""
    if not isinstance(op.spec, Conv2D | FullyConnected) or graph.tensors[op.inputs[1]].data is None:
        return False
    if len(op.inputs) > 2 and op.inputs[2] >= 0 and graph.tensors[op.inputs[2]].data is None:
        return False
    return graph.tensors[op.inputs[1]].shape[-1] % channels == 0


def constants(graph: Graph) -> dict[int, Values]:
    """Per activation tensor, the value of every channel that is the same for all inputs and positions."""
    known: dict[int, Values] = {}

    def values(t: int) -> Values:
        return known.get(t, np.full(graph.tensors[t].shape[-1:], VARIES, np.int16))

    for op in graph.ops:
        out = graph.tensors[op.outputs[0]]
        acts = _activations(graph, op)
        if out.dtype is not DType.INT8 or not out.shape or not acts:
            continue
        candidate = np.zeros(out.shape[-1], bool)
        x = graph.tensors[acts[0]]
        if _keeps_channels(graph, op):
            candidate[:] = np.all([values(t) != VARIES for t in acts], axis=0)
            if isinstance(op.spec, DepthwiseConv2D):
                data = graph.tensors[op.inputs[1]].data
                candidate |= False if data is None else ~np.any(data, axis=(0, 1, 2))
        elif isinstance(op.spec, Reshape) and x.shape and out.shape[-1] % x.shape[-1] == 0:
            known[op.outputs[0]] = np.tile(values(acts[0]), out.shape[-1] // x.shape[-1])
            continue
        elif isinstance(op.spec, Conv2D | FullyConnected) and x.shape and _mixes(graph, op, x.shape[-1]):
            weights = _weights_by_channel(graph, op, x.shape[-1])
            candidate[:] = ~np.any(weights[:, :, values(acts[0]) == VARIES], axis=(1, 2))
        if not candidate.any():
            continue
        operands = []
        for t in acts:
            tensor, v = graph.tensors[t], values(t)
            filled = np.where(v == VARIES, tensor.zero_point, v).astype(np.int8)
            operands.append(np.ascontiguousarray(np.broadcast_to(filled, tensor.shape)))
        alone = Graph("", graph.tensors, (op,), tuple(acts), op.outputs)
        result = reference.run(alone, operands)[0].reshape(-1, out.shape[-1]).astype(np.int16)
        uniform = candidate & (result == result[0]).all(axis=0)
        known[op.outputs[0]] = np.where(uniform, result[0], np.int16(VARIES))
    return known


def _removable(graph: Graph, families: _Families, known: dict[int, Values]) -> dict[int, Mask]:
    """Family -> which channels every reader can do without."""
    users = consumers(graph)
    makers = {op.outputs[0]: op for op in graph.ops}
    result: dict[int, Mask] = {}
    for family, tensors in families.members.items():
        channels = graph.tensors[family].shape[-1] if graph.tensors[family].shape else 0
        free = np.ones(channels, bool)
        for t in tensors:
            maker = makers.get(t)
            inside = maker is not None and _keeps_channels(graph, maker)
            if maker is None or t in graph.outputs or not (inside or isinstance(maker.spec, Conv2D)):
                free[:] = False
                break
            value = known.get(t, np.full(channels, VARIES, np.int16))
            for index in users.get(t, []):
                op = graph.ops[index]
                if _keeps_channels(graph, op):
                    continue
                behind = _flattened(graph, users, t, op)
                readers = [op] if behind is None else [graph.ops[i] for i in behind]
                for reader in readers:
                    free &= _reader_spares(graph, reader, channels, value)
        if free.sum() > 0 and channels > 1:
            result[family] = _rounded(free)
    return {family: mask for family, mask in result.items() if mask.any()}


def _reader_spares(graph: Graph, op: Op, channels: int, value: Values) -> Mask:
    """Channels that this Conv2D or FullyConnected can do without."""
    if not _mixes(graph, op, channels):
        return np.zeros(channels, bool)
    weights = _weights_by_channel(graph, op, channels)
    unread = ~np.any(weights, axis=(0, 1))
    padded = isinstance(op.spec, Conv2D) and any(op.spec.pads)
    zero_point = graph.tensors[op.inputs[0]].zero_point
    constant = value == zero_point if padded else value != VARIES
    mask: Mask = unread | constant
    return mask


def _rounded(free: Mask) -> Mask:
    """Keeps a multiple of KEEP_MULTIPLE channels, at least one group: spares the last removable ones."""
    kept = len(free) - int(free.sum())
    back = max(-kept % KEEP_MULTIPLE, KEEP_MULTIPLE if kept == 0 else 0)
    mask = free.copy()
    mask[np.flatnonzero(free)[max(int(free.sum()) - back, 0) :]] = False
    return mask


def _sliced(tensor: Tensor, keep: Mask, axis: int) -> Tensor:
    data = None if tensor.data is None else np.compress(keep, tensor.data, axis=axis)
    shape = list(tensor.shape)
    shape[axis] = int(keep.sum())
    quant = tensor.quant
    if quant is not None and quant.per_channel and quant.axis % len(tensor.shape) == axis % len(tensor.shape):
        indices = np.flatnonzero(keep)
        zeros = quant.zero_point
        quant = Quantization(
            tuple(quant.scale[i] for i in indices),
            tuple(zeros[i] for i in indices) if len(zeros) == len(quant.scale) else zeros,
            quant.axis,
        )
        if len(quant.scale) == 1:
            quant = replace(quant, axis=0)
    return replace(tensor, shape=tuple(shape), data=data, quant=quant)


def _drop_once(graph: Graph) -> Graph:
    families = _families(graph)
    known = constants(graph)
    gone = _removable(graph, families, known)
    if not gone:
        return graph
    users = consumers(graph)
    flat = {
        graph.ops[i].outputs[0]: t
        for t in families.of
        for i in users.get(t, [])
        if not _keeps_channels(graph, graph.ops[i]) and _flattened(graph, users, t, graph.ops[i]) is not None
    }
    tensors = list(graph.tensors)

    def add(tensor: Tensor) -> int:
        tensors.append(tensor)
        return len(tensors) - 1

    def dropped(t: int) -> Mask | None:
        return gone.get(families.of[t])

    ops = []
    for op in graph.ops:
        inputs = list(op.inputs)
        x = flat.get(inputs[0], inputs[0])
        lost = dropped(x) if x in families.of else None
        if (
            isinstance(op.spec, Conv2D | FullyConnected)
            and lost is not None
            and not _keeps_channels(graph, op)
        ):
            bias, weights = _without_inputs(graph, op, lost, known.get(x))
            if bias is None:  # it would leave 32 bits: such a network stays as it is
                return graph
            inputs[1] = add(weights)
            inputs[2:] = [add(bias)]
        rows = dropped(op.outputs[0])
        if rows is not None and isinstance(op.spec, Conv2D | DepthwiseConv2D):
            axis = 0 if isinstance(op.spec, Conv2D) else 3
            inputs[1] = add(_sliced(tensors[inputs[1]], ~rows, axis))
            if len(inputs) > 2 and inputs[2] >= 0:
                inputs[2] = add(_sliced(tensors[inputs[2]], ~rows, 0))
        ops.append(replace(op, inputs=tuple(inputs)))
    for family, mask in gone.items():
        for t in families.members[family]:
            tensors[t] = _sliced(tensors[t], ~mask, len(tensors[t].shape) - 1)
    for t, source in flat.items():
        mask_of = dropped(source)
        if mask_of is not None:
            repeats = tensors[t].shape[-1] // len(mask_of)
            tensors[t] = _sliced(tensors[t], np.tile(~mask_of, repeats), len(tensors[t].shape) - 1)
    return with_ops(graph, ops, tensors)


def _without_inputs(graph: Graph, op: Op, lost: Mask, value: Values | None) -> tuple[Tensor | None, Tensor]:
    """Bias and weights of a Conv2D or FullyConnected that no longer reads the `lost` channels."""
    w, x, out = graph.tensors[op.inputs[1]], graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    by_channel = _weights_by_channel(graph, op, len(lost)).astype(np.int64)
    constant = np.zeros(len(lost), np.int64)
    if value is not None:
        fixed = lost & (value != VARIES)
        constant[fixed] = value[fixed].astype(np.int64) - x.zero_point
    total = by_channel.sum(axis=1) @ constant
    old = graph.tensors[op.inputs[2]].data if len(op.inputs) > 2 and op.inputs[2] >= 0 else None
    if old is not None:
        total = total + np.asarray(old, np.int64).reshape(-1)
    repeats = w.shape[-1] // len(lost)
    weights = _sliced(w, np.tile(~lost, repeats), len(w.shape) - 1)
    if np.abs(total).max(initial=0) >= 1 << 31:
        return None, weights
    bias = Tensor(f"{out.name}_bias", total.shape, DType.INT32, None, total.astype(np.int32))
    return bias, weights
