"""Weights of an int8 network brought down to four or two bits per weight, layer by layer.

The result is another network: a .tflite file whose weights lie on a coarser grid, and whose outputs are
its own. Four bits are stored as TFLite's INT4, two bits as int8 values from -2 to 1, which TFLite knows no
type for. Scales are chosen per output channel for the least squared error; biases follow the scales.
Activations keep theirs: nothing is trained or calibrated again.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyhil.errors import UsageError
from tinyhil.harness.model.graph import (
    Conv2D,
    DepthwiseConv2D,
    DType,
    FullyConnected,
    Graph,
    Op,
    Quantization,
    Tensor,
)  # fmt: skip

WIDTHS = (2, 4, 8)
_CLIPS = np.linspace(0.2, 1.0, 41)  # parts of a channel's largest weight that the grid may reach to


def weighted_layers(graph: Graph) -> dict[str, int]:
    """Name -> operator of every layer with int8 weights, in order: conv0, dw1, conv2, fc3."""
    names: dict[str, int] = {}
    for index, op in enumerate(graph.ops):
        kind = _kind(op)
        if kind and graph.tensors[op.inputs[1]].data is not None:
            names[f"{kind}{len(names)}"] = index
    return names


def _kind(op: Op) -> str:
    match op.spec:
        case Conv2D():
            return "conv"
        case DepthwiseConv2D():
            return "dw"
        case FullyConnected():
            return "fc"
    return ""


def parse_bits(text: str, graph: Graph) -> dict[str, int]:
    """`conv0:8,dw*:4,*:2` as bits per layer name; the first pattern that fits counts, 8 where none does.

    UsageError for what is no such text, or names no layer.
    """
    rules: list[tuple[str, int]] = []
    names = weighted_layers(graph)
    for part in filter(None, (p.strip() for p in text.split(","))):
        pattern, _, bits = part.rpartition(":")
        if not pattern or bits not in {str(w) for w in WIDTHS}:
            raise UsageError(f"{part!r} is not NAME:BITS with 2, 4 or 8 bits, as in conv0:8,dw*:4,*:2")
        if not fnmatch.filter(names, pattern):
            raise UsageError(f"no layer is called {pattern!r}; there are {', '.join(names)}")
        rules.append((pattern, int(bits)))
    return {
        name: next((bits for pattern, bits in rules if fnmatch.fnmatchcase(name, pattern)), 8)
        for name in names
    }


def requantise(graph: Graph, bits: Mapping[str, int]) -> Graph:
    """`graph` with the weights of the named layers on a grid of so many bits; 8 leaves a layer alone.

    Weights that several layers share get a copy for each. The result has no file.
    """
    tensors, ops = list(graph.tensors), list(graph.ops)
    names = weighted_layers(graph)
    for name, width in bits.items():
        if width == 8:
            continue
        index = names[name]
        op = ops[index]
        weights, ratio = _coarser(tensors[op.inputs[1]], width, _axis(op))
        inputs = list(op.inputs)
        inputs[1] = len(tensors)
        tensors.append(weights)
        if len(inputs) > 2 and inputs[2] >= 0:
            inputs[2] = len(tensors)
            tensors.append(_bias(tensors[op.inputs[2]], ratio))
        ops[index] = replace(op, inputs=tuple(inputs))
    return _without_unused(replace(graph, tensors=tuple(tensors), ops=tuple(ops), sha256="", file=b""))


def _without_unused(graph: Graph) -> Graph:
    """`graph` without the tensors that nobody reads or writes any more: they would fill its file."""
    seen = {i for op in graph.ops for i in (*op.inputs, *op.outputs)} | {*graph.inputs, *graph.outputs}
    kept = sorted(seen - {-1})
    at = {-1: -1} | {old: new for new, old in enumerate(kept)}

    def moved(indices: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(at[i] for i in indices)

    return replace(
        graph,
        tensors=tuple(graph.tensors[i] for i in kept),
        ops=tuple(replace(op, inputs=moved(op.inputs), outputs=moved(op.outputs)) for op in graph.ops),
        inputs=moved(graph.inputs),
        outputs=moved(graph.outputs),
    )


def _axis(op: Op) -> int:
    return 3 if isinstance(op.spec, DepthwiseConv2D) else 0


def _coarser(tensor: Tensor, bits: int, axis: int) -> tuple[Tensor, npt.NDArray[np.float64]]:
    """The tensor on a grid of `bits` bits, and new scale / old scale per output channel."""
    assert tensor.data is not None
    assert tensor.quant is not None
    rows = np.moveaxis(tensor.data.astype(np.float64), axis, 0).reshape(tensor.shape[axis], -1)
    low, high = (-2, 1) if bits == 2 else (-(1 << bits - 1) + 1, (1 << bits - 1) - 1)
    ratio = _best_steps(rows if tensor.quant.per_channel else rows.reshape(1, -1), low, high)
    old = np.array(tensor.quant.scale, np.float64)
    scale = (old * ratio).astype(np.float32).astype(np.float64)
    ratio = np.broadcast_to(scale / old, (tensor.shape[axis],))
    shape = [1] * len(tensor.shape)
    shape[axis] = -1
    values = np.clip(np.rint(tensor.data.astype(np.float64) / ratio.reshape(shape)), low, high).astype(
        np.int8
    )
    values.setflags(write=False)
    quant = Quantization(tuple(map(float, scale)), tensor.quant.zero_point, tensor.quant.axis)
    dtype = DType.INT4 if bits == 4 else DType.INT8
    return replace(tensor, name=f"{tensor.name}/w{bits}", dtype=dtype, quant=quant, data=values), ratio


def _best_steps(rows: npt.NDArray[np.float64], low: int, high: int) -> npt.NDArray[np.float64]:
    """Per row the grid's step that gives the least squared error; 1 for a row of zeros."""
    reach = np.maximum(np.abs(rows).max(axis=1), 1.0)
    best, step = np.full(len(rows), np.inf), np.ones(len(rows))
    for clip in _CLIPS:
        candidate = reach * clip / high
        grid = np.clip(np.rint(rows / candidate[:, None]), low, high) * candidate[:, None]
        error = np.square(grid - rows).sum(axis=1)
        step = np.where(error < best, candidate, step)
        best = np.minimum(best, error)
    return step


def _bias(tensor: Tensor, ratio: npt.NDArray[np.float64]) -> Tensor:
    """A bias in the new scale of its products."""
    assert tensor.data is not None
    data = (
        np.rint(tensor.data.astype(np.float64).reshape(-1) / ratio)
        .clip(-(1 << 31), (1 << 31) - 1)
        .astype(np.int32)
    )
    data = data.reshape(tensor.shape)
    data.setflags(write=False)
    quant = tensor.quant
    if quant is not None:
        scale = np.broadcast_to(quant.scale, ratio.shape) * ratio
        kept = scale if quant.per_channel else scale[:1]
        quant = replace(quant, scale=tuple(float(np.float32(s)) for s in kept))
    return replace(tensor, name=f"{tensor.name}/w", quant=quant, data=data)


def weight_bytes(graph: Graph, bits: Mapping[str, int]) -> int:
    """Bytes of all weights where each layer takes so many bits; biases and constants come on top."""
    names = weighted_layers(graph)
    return sum((graph.tensors[graph.ops[i].inputs[1]].elements * bits[n] + 7) // 8 for n, i in names.items())


Run = Callable[[Graph], Sequence[npt.NDArray[Any]]]


def assign_bits(graph: Graph, share: float, run: Run, progress: Callable[[str], None]) -> dict[str, int]:
    """Bits per layer whose weights take at most `share` of eight-bit weights, the least sensitive first.

    Each layer is tried alone with four and with two bits; `run` gives a network's outputs on some inputs,
    and what changes in them, squared and added up, is the layer's sensitivity at that width. Then layers
    are narrowed in the order of sensitivity per byte saved. UsageError where two bits everywhere are more
    than asked for.
    """
    names = weighted_layers(graph)
    bits = dict.fromkeys(names, 8)
    limit = share * weight_bytes(graph, bits)
    if weight_bytes(graph, dict.fromkeys(names, 2)) > limit:
        raise UsageError(f"weights cannot shrink to {share:.0%}: two bits everywhere are 25% of eight")
    whole = [a.astype(np.float64) for a in run(graph)]
    harm: dict[tuple[str, int], float] = {}
    for number, name in enumerate(names, 1):
        progress(f"sensitivity of {name} ({number} of {len(names)})")
        for width in (4, 2):
            changed = run(requantise(graph, {name: width}))
            pairs = zip(changed, whole, strict=True)
            harm[name, width] = sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in pairs)
    while weight_bytes(graph, bits) > limit:
        steps = [(name, 4 if width == 8 else 2) for name, width in bits.items() if width > 2]

        def price(step: tuple[str, int]) -> float:
            name, width = step
            elements = graph.tensors[graph.ops[names[name]].inputs[1]].elements
            before = harm[name, 4] if width == 2 else 0.0
            return max(harm[name, width] - before, 0.0) / (elements * (bits[name] - width))

        name, width = min(steps, key=price)
        bits[name] = width
    return bits
