"""Shapes: TFLite's padding formula and the output shape of every operator."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

from tinyhil.harness.model.graph import (
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Maximum,
    MaxPool2D,
    Mean,
    Minimum,
    Mul,
    OpSpec,
    Pad,
    Pads,
    Prelu,
    Reshape,
    ResizeBilinear,
    ResizeNearestNeighbor,
    StridedSlice,
    Sub,
    Transpose,
)  # fmt: skip

Shape: TypeAlias = tuple[int, ...]


def same_pads(size: Sequence[int], kernel: Sequence[int], strides: Sequence[int],
              dilations: Sequence[int] = (1, 1)) -> Pads:  # fmt: skip
    """TFLite's SAME padding of an image of `size` (H, W): the odd pixel goes to the bottom and right."""
    pads: list[int] = []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pads += [total // 2, total - total // 2]
    return pads[0], pads[1], pads[2], pads[3]


def window_shape(size: Sequence[int], kernel: Sequence[int], strides: Sequence[int],
                 dilations: Sequence[int], pads: Pads) -> tuple[int, int]:  # fmt: skip
    """Rows and columns that a sliding window gives on an explicitly padded image; 0 where it does not fit."""
    out = [
        max(0, (n + before + after - ((k - 1) * d + 1) + s) // s)
        for n, k, s, d, before, after in zip(
            size, kernel, strides, dilations, (pads[0], pads[2]), (pads[1], pads[3]), strict=True
        )
    ]
    return out[0], out[1]


def broadcast(a: Shape, b: Shape) -> Shape:
    """Shape of an element-wise operator; ValueError where the two do not go together."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    out = []
    for x, y in pairs:
        if x != y and 1 not in (x, y):
            raise ValueError(f"shapes {list(a)} and {list(b)} do not broadcast")
        out.append(y if x == 1 else x)
    return tuple(out)


def slice_lengths(spec: StridedSlice) -> Shape:
    """Number of elements taken along every input dimension."""
    return tuple(
        max(0, -((begin - end) // stride))
        for begin, end, stride in zip(spec.begin, spec.end, spec.strides, strict=True)
    )


def _image(shape: Shape) -> Shape:
    if len(shape) != 4 or shape[0] != 1:
        raise ValueError(f"the input must be an image of shape [1, H, W, C], it is {list(shape)}")
    return shape


def output_shape(spec: OpSpec, shapes: Sequence[Shape], declared: Shape | None = None) -> Shape:
    """Shape of the operator's output from those of its inputs.

    `declared` is the shape that the output claims: Reshape and resizing take theirs from it, and a
    FullyConnected may keep its leading dimensions. ValueError says what does not go together.
    """
    x = shapes[0]
    match spec:
        case Conv2D(strides, dilations, pads):
            _, h, w, ci = _image(x)
            if len(shapes[1]) != 4 or shapes[1][3] != ci:
                raise ValueError(f"weights {list(shapes[1])} do not go with {ci} input channels")
            co, *kernel, _ = shapes[1]
            out: Shape = (1, *window_shape((h, w), kernel, strides, dilations, pads), co)
        case DepthwiseConv2D(multiplier, strides, dilations, pads):
            _, h, w, ci = _image(x)
            if len(shapes[1]) != 4 or shapes[1][0] != 1 or shapes[1][3] != ci * multiplier:
                raise ValueError(
                    f"weights {list(shapes[1])} do not go with {ci} channels and multiplier {multiplier}"
                )
            _, *kernel, co = shapes[1]
            out = (1, *window_shape((h, w), kernel, strides, dilations, pads), co)
        case AveragePool2D(kernel2, strides, pads) | MaxPool2D(kernel2, strides, pads):
            _, h, w, ci = _image(x)
            out = (1, *window_shape((h, w), kernel2, strides, (1, 1), pads), ci)
        case FullyConnected():
            if len(shapes[1]) != 2 or prod(x) % shapes[1][1]:
                raise ValueError(f"weights {list(shapes[1])} do not go with input {list(x)}")
            rows = prod(x) // shapes[1][1]
            out = (rows, shapes[1][0])
            if declared is not None and prod(declared) == prod(out) and declared[-1:] == out[-1:]:
                out = declared
        case Add() | Sub() | Mul() | Maximum() | Minimum() | Prelu():
            out = broadcast(x, shapes[1])
        case Mean(axes, keep_dims):
            if not all(0 <= axis < len(x) for axis in axes):
                raise ValueError(f"axes {list(axes)} are not dimensions of {list(x)}")
            out = tuple(1 if i in axes else n for i, n in enumerate(x) if keep_dims or i not in axes)
        case Pad(amounts):
            if len(amounts) != len(x):
                raise ValueError(f"{len(amounts)} paddings for {len(x)} dimensions")
            if min((min(pair) for pair in amounts), default=0) < 0:
                raise ValueError("a padding is negative")
            out = tuple(n + before + after for n, (before, after) in zip(x, amounts, strict=True))
        case Reshape():
            out = x if declared is None else declared
            if prod(out) != prod(x):
                raise ValueError(f"{list(x)} cannot become {list(out)}: the number of elements differs")
        case Concatenation(axis):
            if not all(
                len(s) == len(x)
                and 0 <= axis < len(s)
                and s[:axis] + s[axis + 1 :] == x[:axis] + x[axis + 1 :]
                for s in shapes
            ):
                raise ValueError(f"shapes {[list(s) for s in shapes]} do not join along axis {axis}")
            out = (*x[:axis], sum(s[axis] for s in shapes), *x[axis + 1 :])
        case ResizeNearestNeighbor() | ResizeBilinear():
            _image(x)
            out = x if declared is None else declared
            if len(out) != 4 or out[0] != 1 or out[3] != x[3]:
                raise ValueError(f"{list(x)} cannot be resized to {list(out)}")
        case Transpose(perm):
            if sorted(perm) != list(range(len(x))):
                raise ValueError(f"{list(perm)} is not a permutation of the dimensions of {list(x)}")
            out = tuple(x[i] for i in perm)
        case StridedSlice(shrink=shrink):
            if len(spec.begin) != len(x):
                raise ValueError(f"{len(spec.begin)} slices for {len(x)} dimensions")
            out = tuple(n for i, n in enumerate(slice_lengths(spec)) if i not in shrink)
        case _:
            out = x
    if min(out, default=1) < 1:
        raise ValueError(f"its output would be empty ({list(out)})")
    return out
