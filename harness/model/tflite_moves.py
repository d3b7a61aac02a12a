"""The operators of a .tflite file that move bytes: paddings, joins, slices, splits, resizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tflite

from tinyhil.errors import MalformedModel, UnsupportedOperator
from tinyhil.harness.model.graph import (
    Activation,
    Concatenation,
    DType,
    OpSpec,
    Pad,
    Reshape,
    ResizeBilinear,
    ResizeNearestNeighbor,
    StridedSlice,
    Tensor,
    Transpose,
)  # fmt: skip
from tinyhil.harness.model.tflite_context import MAX_WINDOW, Context, fused, image_size


def _pad(c: Context) -> tuple[OpSpec, int]:
    flat = c.constant(1, "paddings")
    if len(flat) != 2 * len(c.input(0).shape) or not all(0 <= n <= MAX_WINDOW for n in flat):
        raise MalformedModel(f"paddings {flat} for shape {list(c.input(0).shape)}.")
    amounts = tuple(zip(flat[::2], flat[1::2], strict=True))
    value = None
    if len(c.inputs) > 2:
        constant = c.input(2)
        if constant.dtype is not DType.INT8 or constant.quant != c.output.quant:
            raise UnsupportedOperator("its pad value is not quantised like its output.")
        value = c.constant(2, "pad value", limit=1)[0]
        if c.output.quant is not None and value == c.output.quant.zero_point[0]:
            value = None
    return Pad(amounts, value), 1


def _reshape(c: Context) -> tuple[OpSpec, int]:
    return Reshape(), 1  # the output tensor has the shape that the converter worked out


def _concatenation(c: Context) -> tuple[OpSpec, int]:
    o = c.required(tflite.ConcatenationOptions, tflite.BuiltinOptions.ConcatenationOptions)
    rank = len(c.output.shape)
    if not -rank <= o.Axis() < rank:
        raise MalformedModel(f"axis {o.Axis()} of a tensor with {rank} dimensions.")
    activation = fused(o.FusedActivationFunction())
    if activation is not Activation.NONE:
        raise UnsupportedOperator("a fused activation; put it into an operator of its own.")
    return Concatenation(o.Axis() % rank), len(c.inputs)


def _resize(c: Context) -> tuple[OpSpec, int]:
    cls: type[ResizeNearestNeighbor] | type[ResizeBilinear]
    options: Any
    if c.kind == "RESIZE_BILINEAR":
        cls = ResizeBilinear
        options = c.options(tflite.ResizeBilinearOptions, tflite.BuiltinOptions.ResizeBilinearOptions)
    else:
        cls, kind = ResizeNearestNeighbor, tflite.BuiltinOptions.ResizeNearestNeighborOptions
        options = c.options(tflite.ResizeNearestNeighborOptions, kind)
    image_size(c.input(0))
    if c.constant(1, "sizes") != list(c.output.shape[1:3]):
        raise MalformedModel("its size input and the shape of its output differ.")
    if options is None:
        return cls(), 1
    return cls(bool(options.AlignCorners()), bool(options.HalfPixelCenters())), 1


def _transpose(c: Context) -> tuple[OpSpec, int]:
    return Transpose(tuple(c.constant(1, "permutation"))), 1


def _strided_slice(c: Context) -> tuple[OpSpec, int]:
    o = c.required(tflite.StridedSliceOptions, tflite.BuiltinOptions.StridedSliceOptions)
    shape = c.input(0).shape
    if o.EllipsisMask() or o.NewAxisMask() or o.Offset():
        raise UnsupportedOperator(
            "ellipsis, new-axis or offset slices; supported are begin, end and shrink masks."
        )
    begins, ends, steps = (c.constant(i, what) for i, what in ((1, "begins"), (2, "ends"), (3, "strides")))
    if not len(begins) == len(ends) == len(steps) == len(shape) or 0 in steps:
        raise MalformedModel(f"begin {begins}, end {ends}, strides {steps} for shape {list(shape)}.")
    begin, end, shrink = [], [], []
    for axis, (b, e, step, n) in enumerate(zip(begins, ends, steps, shape, strict=True)):
        low, high = (0, n) if step > 0 else (-1, n - 1)  # a backward slice may end before index 0
        first, last = (low, high) if step > 0 else (high, low)
        b = first if o.BeginMask() >> axis & 1 else min(max(b + n if b < 0 else b, low), high)
        e = last if o.EndMask() >> axis & 1 else min(max(e + n if e < 0 else e, low), high)
        if o.ShrinkAxisMask() >> axis & 1:
            if not 0 <= b < n or step < 0:
                raise MalformedModel(f"index {b} of dimension {axis} with {n} elements.")
            e = b + 1
            shrink.append(axis)
        begin.append(b)
        end.append(e)
    return StridedSlice(tuple(begin), tuple(end), tuple(steps), tuple(shrink)), 1


def _slice(c: Context) -> tuple[OpSpec, int]:
    shape, begin, sizes = c.input(0).shape, c.constant(1, "begins"), c.constant(2, "sizes")
    if not len(begin) == len(sizes) == len(shape):
        raise MalformedModel(f"begin {begin}, sizes {sizes} for shape {list(shape)}.")
    end = [n if size == -1 else first + size for first, size, n in zip(begin, sizes, shape, strict=True)]
    if not all(0 <= first < last <= n for first, last, n in zip(begin, end, shape, strict=True)):
        raise MalformedModel(f"begin {begin} and sizes {sizes} lead out of shape {list(shape)}.")
    return StridedSlice(tuple(begin), tuple(end), (1,) * len(shape)), 1


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise MalformedModel(f"axis {axis} of a tensor with {rank} dimensions.")
    return axis % rank


def parts_of(c: Context, outputs: Sequence[Tensor]) -> tuple[int, list[StridedSlice]]:
    """SPLIT, SPLIT_V and UNPACK as slices: which of the operator's inputs is cut up, and the slice that each
    of its outputs is."""
    place = 1 if c.kind == "SPLIT" else 0
    shape = c.input(place).shape
    shrink: tuple[int, ...] = ()
    if c.kind == "UNPACK":
        o = c.required(tflite.UnpackOptions, tflite.BuiltinOptions.UnpackOptions)
        axis = _axis(o.Axis(), len(shape))
        sizes, shrink = [1] * len(outputs), (axis,)
    elif c.kind == "SPLIT":
        axis = _axis(c.constant(0, "axis", limit=1)[0], len(shape))
        sizes = [shape[axis] // len(outputs)] * len(outputs)
    else:
        axis = _axis(c.constant(2, "axis", limit=1)[0], len(shape))
        sizes = c.constant(1, "sizes", limit=MAX_PARTS)
        if sizes.count(-1) == 1:
            sizes[sizes.index(-1)] = shape[axis] - sum(sizes) - 1
    if len(sizes) != len(outputs) or min(sizes) < 1 or sum(sizes) != shape[axis]:
        raise MalformedModel(f"{len(outputs)} outputs from parts of {sizes} of shape {list(shape)}.")
    slices, first = [], 0
    for size in sizes:
        begin, end = [0] * len(shape), list(shape)
        begin[axis], end[axis] = first, first + size
        slices.append(StridedSlice(tuple(begin), tuple(end), (1,) * len(shape), shrink))
        first += size
    return place, slices


def packed(c: Context) -> tuple[int, list[tuple[int, ...]]]:
    """PACK as reshapes and a concatenation: the axis, and the shape of every input with that axis."""
    o = c.required(tflite.PackOptions, tflite.BuiltinOptions.PackOptions)
    axis = _axis(o.Axis(), len(c.output.shape))
    shapes = [c.input(i).shape for i in range(len(c.inputs))]
    return axis, [(*shape[:axis], 1, *shape[axis:]) for shape in shapes]


# Their other inputs say only what the output tensor's shape says too.
SHAPE_ONLY = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})
SPLITS = frozenset({"SPLIT", "SPLIT_V", "UNPACK"})
MAX_PARTS = 256

MOVES: dict[str, Callable[[Context], tuple[OpSpec, int]]] = {
    "PAD": _pad,
    "PADV2": _pad,
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
    "CONCATENATION": _concatenation,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "RESIZE_BILINEAR": _resize,
    "TRANSPOSE": _transpose,
    "STRIDED_SLICE": _strided_slice,
    "SLICE": _slice,
}
"""Operators that become one; those that become several are in tflite_expand.py."""
