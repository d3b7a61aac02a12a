"""The reference interpreter: TFLM's reference kernels in NumPy, bit for bit, for any graph.

Sums are made in float64 or int32 with room to spare, so they are exact; everything after the sum is the
arithmetic of `fixed_point`. Speed comes from matrix products over rows of patches, a few MB at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinyhil.errors import UsageError
from tinyhil.harness.model.arithmetic import (
    AddParams,
    AffineParams,
    ClampParams,
    ConvParams,
    MulParams,
    PadParams,
    PreluParams,
    RescaleParams,
    op_params,
)  # fmt: skip
from tinyhil.harness.model.fixed_point import (
    Ints,
    as_ints,
    multiply_by_quantized_multiplier,
    reciprocal,
    round_half_away,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
    wrap32,
)  # fmt: skip
from tinyhil.harness.model.graph import (
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    Dequantize,
    FullyConnected,
    Graph,
    Maximum,
    MaxPool2D,
    Mean,
    Minimum,
    Mul,
    Op,
    Pad,
    Pads,
    Prelu,
    Quantize,
    Relu,
    Reshape,
    ResizeBilinear,
    ResizeNearestNeighbor,
    Softmax,
    StridedSlice,
    Sub,
    Tensor,
    Transpose,
)  # fmt: skip
from tinyhil.harness.model.tables import SoftmaxParams, TableParams

Array: TypeAlias = npt.NDArray[Any]

PATCH_ELEMENTS = 1 << 20  # float64 values of one matrix product's left side: 8 MB


class Interpreter:
    """One network, its integer constants worked out once; call it with one array per network input."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.params = [op_params(graph, op) for op in graph.ops]

    def __call__(self, *inputs: Array) -> list[Array]:
        """The network's outputs. UsageError where an input's shape or dtype is not the tensor's."""
        values = self.trace(inputs)
        return [values[i] for i in self.graph.outputs]

    def trace(self, inputs: Sequence[Array]) -> dict[int, Array]:
        """Every tensor's value, by its index in `graph.tensors`; constants among them."""
        graph = self.graph
        if len(inputs) != len(graph.inputs):
            raise UsageError(f"{graph.name} takes {len(graph.inputs)} inputs, {len(inputs)} were given.")
        values: dict[int, Array] = {i: t.data for i, t in enumerate(graph.tensors) if t.data is not None}
        for index, array in zip(graph.inputs, inputs, strict=True):
            tensor = graph.tensors[index]
            if array.shape != tensor.shape or array.dtype != tensor.dtype.numpy:
                raise UsageError(
                    f"input {tensor.name} of {graph.name} is {tensor.dtype} {list(tensor.shape)}, "
                    f"given was {array.dtype} {list(array.shape)}."
                )
            values[index] = array
        for op, params in zip(graph.ops, self.params, strict=True):
            out = graph.tensors[op.outputs[0]]
            result = _compute(op, [values[i] for i in op.inputs if i >= 0], out, params)
            values[op.outputs[0]] = np.ascontiguousarray(result, out.dtype.numpy).reshape(out.shape)
        return values


def run(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """The network's outputs for `inputs`, one array per network input. UsageError where one does not fit."""
    return Interpreter(graph)(*inputs)


def trace(graph: Graph, inputs: Sequence[Array]) -> dict[int, Array]:
    """Every tensor's value for `inputs`, by its index in `graph.tensors`."""
    return Interpreter(graph).trace(inputs)


def _compute(op: Op, operands: list[Array], out: Tensor, params: object) -> Array:
    x = operands[0]
    match op.spec, params:
        case (Conv2D() | DepthwiseConv2D() | FullyConnected()) as spec, ConvParams() as p:
            if isinstance(spec, Conv2D):
                sums = _conv_sums(x, operands[1], p.input_offset, spec, out.shape)
            elif isinstance(spec, DepthwiseConv2D):
                sums = _depthwise_sums(x, operands[1], p.input_offset, spec, out.shape)
            else:
                matrix = x.reshape(-1, operands[1].shape[1]) + np.float64(p.input_offset)
                sums = (matrix @ operands[1].T.astype(np.float64)).astype(np.int64)
            if len(operands) > 2:
                sums = sums + operands[2].reshape(-1)
            return _rescaled(wrap32(sums), p)
        case (Add() | Sub()) as spec, AddParams() as p:
            return _add(x, operands[1], p, -1 if isinstance(spec, Sub) else 1)
        case Prelu(), PreluParams() as p:
            centred = as_ints(x) + p.input_offset
            slopes = centred * (as_ints(operands[1]) + p.alpha_offset)
            kept = multiply_by_quantized_multiplier(centred, *p.above)
            result = np.where(centred >= 0, kept, multiply_by_quantized_multiplier(slopes, *p.below))
            return as_ints(np.clip(result + p.output_offset, -128, 127))
        case Maximum(), _:
            return np.maximum(x, operands[1])
        case Minimum(), _:
            return np.minimum(x, operands[1])
        case Mul(), MulParams() as p:
            return _rescaled((as_ints(x) + p.input1_offset) * (as_ints(operands[1]) + p.input2_offset), p)
        case AveragePool2D() as spec, ClampParams() as p:
            return _average_pool(x, spec, out.shape, p)
        case MaxPool2D() as spec, ClampParams() as p:
            best = _slide(x[0].astype(np.int16), spec, out.shape, np.maximum, -128)
            return np.clip(best, p.activation_min, p.activation_max)
        case (Relu() | Quantize() | Mean()) as spec, RescaleParams() as p:
            totals = as_ints(x.sum(axis=spec.axes, dtype=np.int64) if isinstance(spec, Mean) else x)
            return _rescaled(totals + p.count * p.input_offset, p)
        case Relu(), ClampParams() as p:
            return np.clip(x, p.activation_min, p.activation_max)
        case Quantize(), AffineParams() as p:
            return _quantized(x, p)
        case Dequantize(), AffineParams() as p:
            with np.errstate(over="ignore"):  # scales near the end of float32
                return (p.scale * (x.astype(np.float64) - p.zero_point)).astype(np.float32)
        case Pad() as spec, PadParams() as p:
            return np.pad(x, spec.amounts, constant_values=p.value)
        case Softmax(), SoftmaxParams() as p:
            return _softmax(x, p)
        case _, TableParams() as p:
            return p.table[x.astype(np.int64) + 128]
        case Reshape(), _:
            return x
        case Concatenation(axis), _:
            return np.concatenate(operands, axis=axis)
        case Transpose(perm), _:
            return x.transpose(perm)
        case StridedSlice() as spec, _:
            return x[tuple(
                slice(b, e if e >= 0 else None, s)
                for b, e, s in zip(spec.begin, spec.end, spec.strides, strict=True)
            )]  # fmt: skip
        case ResizeBilinear() as spec, _:
            return _resize_bilinear(x, out.shape, spec)
        case ResizeNearestNeighbor() as spec, _:
            rows = nearest_neighbors(x.shape[1], out.shape[1], spec)
            columns = nearest_neighbors(x.shape[2], out.shape[2], spec)
            return x[:, rows][:, :, columns]
        case _:
            raise AssertionError(op.kind)


def _rescaled(acc: Ints, p: ConvParams | MulParams | RescaleParams) -> Ints:
    scaled = multiply_by_quantized_multiplier(acc, p.multiplier, p.shift) + p.output_offset
    return np.clip(scaled, p.activation_min, p.activation_max)


def _quantized(x: Array, p: AffineParams) -> Array:
    """float32 to int8. Beyond ±2^31 steps, where C leaves the conversion undefined, this saturates."""
    with np.errstate(over="ignore"):
        steps = round_half_away(np.nan_to_num(x / np.float32(p.scale)))
    return np.clip(np.clip(steps, -1e9, 1e9) + p.zero_point, -128, 127)


def _add(a: Array, b: Array, p: AddParams, sign: int) -> Ints:
    def scaled(x: Array, offset: int, multiplier: int, shift: int) -> Ints:
        return multiply_by_quantized_multiplier((as_ints(x) + offset) << p.left_shift, multiplier, shift)

    total = scaled(a, p.input1_offset, p.input1_multiplier, p.input1_shift) + sign * scaled(
        b, p.input2_offset, p.input2_multiplier, p.input2_shift
    )
    result = multiply_by_quantized_multiplier(total, p.output_multiplier, p.output_shift) + p.output_offset
    return np.clip(result, p.activation_min, p.activation_max)


def _centred(x: Array, input_offset: int, pads: Pads) -> npt.NDArray[np.int16]:
    """The image without its batch dimension, minus the zero point; padding is then 0."""
    top, bottom, left, right = pads
    image = x[0].astype(np.int16) + np.int16(input_offset)
    return np.pad(image, ((top, bottom), (left, right), (0, 0)))


def _conv_sums(x: Array, w: Array, input_offset: int, spec: Conv2D, shape: tuple[int, ...]) -> Ints:
    image = _centred(x, input_offset, spec.pads)
    _, kh, kw, ci = w.shape
    _, rows, columns, co = shape
    (sh, sw), (dh, dw) = spec.strides, spec.dilations
    windows = np.lib.stride_tricks.sliding_window_view(image, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), (0, 1))
    patches = windows[::sh, ::sw, :, ::dh, ::dw].transpose(0, 1, 3, 4, 2)[:rows, :columns]
    weights = w.reshape(co, -1).T.astype(np.float64)
    sums = np.empty((rows, columns, co), np.int64)
    step = max(1, PATCH_ELEMENTS // (columns * kh * kw * ci))
    for row in range(0, rows, step):
        matrix = patches[row : row + step].reshape(-1, kh * kw * ci).astype(np.float64)
        sums[row : row + step] = (matrix @ weights).reshape(-1, columns, co)
    return sums


def _depthwise_sums(
    x: Array, w: Array, input_offset: int, spec: DepthwiseConv2D, shape: tuple[int, ...]
) -> Ints:
    image = np.repeat(_centred(x, input_offset, spec.pads), spec.multiplier, axis=2)
    _, rows, columns, channels = shape
    (sh, sw), (dh, dw) = spec.strides, spec.dilations
    sums = np.zeros((rows, columns, channels), np.int32)
    for i in range(w.shape[1]):
        for j in range(w.shape[2]):
            tap = image[
                i * dh : i * dh + (rows - 1) * sh + 1 : sh, j * dw : j * dw + (columns - 1) * sw + 1 : sw
            ]
            sums += tap * w[0, i, j].astype(np.int32)
    return sums.astype(np.int64)


def _slide(
    image: Array, spec: AveragePool2D | MaxPool2D, shape: tuple[int, ...], merge: np.ufunc, fill: int
) -> Array:
    """Merges every window of an image [H, W, C]: first its rows, then its columns. Padding is `fill`."""
    result = image
    for axis in (0, 1):
        before, after = spec.pads[2 * axis], spec.pads[2 * axis + 1]
        amounts = [(0, 0)] * result.ndim
        amounts[axis] = (before, after)
        padded = np.moveaxis(np.pad(result, amounts, constant_values=fill), axis, 0)
        span = (shape[1 + axis] - 1) * spec.strides[axis] + 1
        merged = padded[: span : spec.strides[axis]]
        for tap in range(1, spec.kernel[axis]):
            merged = merge(merged, padded[tap : tap + span : spec.strides[axis]])
        result = np.moveaxis(merged, 0, axis)
    return result


def _average_pool(x: Array, spec: AveragePool2D, shape: tuple[int, ...], p: ClampParams) -> Ints:
    sums = as_ints(_slide(x[0].astype(np.int32), spec, shape, np.add, 0))
    counts = as_ints(_slide(np.ones((*x.shape[1:3], 1), np.int32), spec, shape, np.add, 0))
    counts = np.maximum(counts, 1)
    means = np.sign(sums) * ((np.abs(sums) + counts // 2) // counts)
    return as_ints(np.clip(means, p.activation_min, p.activation_max))


def _softmax(x: Array, p: SoftmaxParams) -> Ints:
    difference = x.max(axis=-1, keepdims=True).astype(np.int64) - x
    exps = as_ints(p.exp)[difference]
    sums = rounding_divide_by_pot(exps, 12).sum(axis=-1, keepdims=True)
    scale, bits_over_unit = reciprocal(sums, 12)
    scaled = rounding_divide_by_pot(
        saturating_rounding_doubling_high_mul(scale, exps), bits_over_unit + 31 - 8
    )
    return np.where(difference <= -p.diff_min, np.clip(scaled - 128, -128, 127), -128)


def nearest_neighbors(size: int, output_size: int, spec: ResizeNearestNeighbor) -> npt.NDArray[np.int64]:
    """Source index of every output index along one axis; in single precision, as TFLite does it."""
    corners = spec.align_corners and output_size > 1
    scale = (
        np.float32(size - 1) / np.float32(output_size - 1)
        if corners
        else np.float32(size) / np.float32(output_size)
    )
    offset = np.float32(0.5 if spec.half_pixel_centers else 0.0)
    position = (np.arange(output_size, dtype=np.float32) + offset) * scale
    index = round_half_away(position) if spec.align_corners else np.floor(position).astype(np.float64)
    return np.minimum(index.astype(np.int64), size - 1)


def bilinear_neighbors(
    size: int, output_size: int, spec: ResizeBilinear
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Along one axis, for every output index: the two source indices and the second one's weight, of 1024 in
    all; integers as in TFLite's ResizeBilinearInteger."""
    one = 1 << 10
    scale = (one * size + output_size // 2) // output_size
    if spec.align_corners and output_size > 1:
        scale = (one * (size - 1) + (output_size - 1) // 2) // (output_size - 1)
    position = np.arange(output_size, dtype=np.int64) * scale
    if spec.half_pixel_centers:
        position += scale // 2 - one // 2
    low = np.maximum(position // one, 0)
    high = np.minimum(-(-position // one), size - 1)
    return low, np.maximum(high, 0), position - one * low


def _resize_bilinear(x: Array, shape: tuple[int, ...], spec: ResizeBilinear) -> Ints:
    top, bottom, down = bilinear_neighbors(x.shape[1], shape[1], spec)
    left, right, across = bilinear_neighbors(x.shape[2], shape[2], spec)
    wide = as_ints(x)
    rows = wide[:, top] * (1024 - down)[:, None, None] + wide[:, bottom] * down[:, None, None]
    sums = rows[:, :, left] * (1024 - across)[:, None] + rows[:, :, right] * across[:, None]
    rounded: Ints = np.sign(sums) * ((np.abs(sums) + (1 << 19)) >> 20)
    return rounded
