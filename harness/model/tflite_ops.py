"""The operators of a .tflite file as operator specs: options read, masks and SAME/VALID resolved,
types and shapes checked. Messages here are without place; the reader puts it in front."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import tflite

from tinyhil.errors import MalformedModel, UnsupportedOperator
from tinyhil.harness.model.graph import (
    Activation,
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    Dequantize,
    DType,
    FullyConnected,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    OpSpec,
    Pad,
    Pads,
    Quantize,
    Relu,
    Reshape,
    ResizeNearestNeighbor,
    Softmax,
    StridedSlice,
    Tensor,
    Transpose,
)  # fmt: skip
from tinyhil.harness.model.shapes import same_pads

T = TypeVar("T")

MAX_WINDOW = 4096  # kernel, stride or dilation; also keeps the arithmetic of shapes small

_ACTIVATIONS = {
    tflite.ActivationFunctionType.NONE: Activation.NONE,
    tflite.ActivationFunctionType.RELU: Activation.RELU,
    tflite.ActivationFunctionType.RELU6: Activation.RELU6,
    tflite.ActivationFunctionType.RELU_N1_TO_1: Activation.RELU_N1_TO_1,
}


@dataclass(frozen=True)
class Context:
    """What is known of an operator when its options are read."""

    where: str
    kind: str
    raw: Any
    inputs: tuple[Tensor | None, ...]
    output: Tensor

    def input(self, index: int) -> Tensor:
        """Input `index`; MalformedModel where it is absent."""
        if index >= len(self.inputs) or (tensor := self.inputs[index]) is None:
            raise MalformedModel(f"input {index} is missing.")
        return tensor

    def options(self, cls: type[T], kind: int) -> T | None:
        """The operator's option table, None where it has none (all defaults)."""
        table = self.raw.BuiltinOptions()
        if table is None or self.raw.BuiltinOptionsType() == 0:
            return None
        if self.raw.BuiltinOptionsType() != kind:
            raise MalformedModel("its options are those of another operator.")
        options = cls()
        options.Init(table.Bytes, table.Pos)  # type: ignore[attr-defined]
        return options

    def required(self, cls: type[T], kind: int) -> T:
        """The operator's option table; MalformedModel without one."""
        if (options := self.options(cls, kind)) is None:
            raise MalformedModel("its options are missing.")
        return options

    def constant(self, index: int, what: str, limit: int = 64) -> list[int]:
        """A small constant integer input as a flat list."""
        tensor = self.input(index)
        if tensor.data is None:
            raise UnsupportedOperator(
                f"its {what} are computed at run time; supported are constants. "
                "Convert the network with fixed shapes."
            )
        if tensor.dtype not in (DType.INT32, DType.INT64, DType.INT8) or tensor.elements > limit:
            raise MalformedModel(f"its {what} are {tensor.elements} values of {tensor.dtype}.")
        return [int(v) for v in tensor.data.reshape(-1).tolist()]


def _activation(value: int) -> Activation:
    if value not in _ACTIVATIONS:
        raise UnsupportedOperator(f"fused activation number {value}; supported are {', '.join(Activation)}.")
    return _ACTIVATIONS[value]


def _image(tensor: Tensor) -> tuple[int, int]:
    if len(tensor.shape) != 4 or tensor.shape[0] != 1:
        raise UnsupportedOperator(
            f"its input has shape {list(tensor.shape)}; supported are images [1, H, W, C]. "
            "Convert the network with batch size 1."
        )
    return tensor.shape[1], tensor.shape[2]


def _window(h: int, w: int, what: str) -> tuple[int, int]:
    if not (1 <= h <= MAX_WINDOW and 1 <= w <= MAX_WINDOW):
        raise MalformedModel(f"{what} of {h}×{w}; each must be 1 to {MAX_WINDOW}.")
    return h, w


def _pads(padding: int, image: tuple[int, int], kernel: tuple[int, int], strides: tuple[int, int],
          dilations: tuple[int, int] = (1, 1)) -> Pads:  # fmt: skip
    if padding == tflite.Padding.SAME:
        return same_pads(image, kernel, strides, dilations)
    if padding == tflite.Padding.VALID:
        return (0, 0, 0, 0)
    raise MalformedModel(f"padding number {padding}; SAME is 0 and VALID is 1.")


def _weights(c: Context) -> Tensor:
    weights = c.input(1)
    if weights.data is None:
        raise UnsupportedOperator("its weights are computed at run time; supported are constants.")
    return weights


def _conv(c: Context) -> tuple[OpSpec, int]:
    o = c.required(tflite.Conv2DOptions, tflite.BuiltinOptions.Conv2DOptions)
    w = _weights(c)
    image = _image(c.input(0))
    if len(w.shape) != 4:
        raise MalformedModel(f"its weights have shape {list(w.shape)}; OHWI has four dimensions.")
    if w.shape[3] != c.input(0).shape[3] and c.input(0).shape[3] % w.shape[3] == 0:
        raise UnsupportedOperator("grouped convolution; supported are dense and depthwise.")
    kernel = _window(w.shape[1], w.shape[2], "kernel")
    strides = _window(o.StrideH(), o.StrideW(), "stride")
    dilations = _window(o.DilationHFactor(), o.DilationWFactor(), "dilation")
    pads = _pads(o.Padding(), image, kernel, strides, dilations)
    return Conv2D(strides, dilations, pads, _activation(o.FusedActivationFunction())), 3


def _depthwise(c: Context) -> tuple[OpSpec, int]:
    o = c.required(tflite.DepthwiseConv2DOptions, tflite.BuiltinOptions.DepthwiseConv2DOptions)
    w = _weights(c)
    image = _image(c.input(0))
    if len(w.shape) != 4:
        raise MalformedModel(f"its weights have shape {list(w.shape)}; 1HWC has four dimensions.")
    kernel = _window(w.shape[1], w.shape[2], "kernel")
    strides = _window(o.StrideH(), o.StrideW(), "stride")
    dilations = _window(o.DilationHFactor(), o.DilationWFactor(), "dilation")
    # Old converters leave the multiplier out; the weights' shape says it anyway.
    multiplier = o.DepthMultiplier() or w.shape[3] // c.input(0).shape[3]
    if multiplier < 1:
        raise MalformedModel(f"depth multiplier {multiplier}.")
    pads = _pads(o.Padding(), image, kernel, strides, dilations)
    activation = _activation(o.FusedActivationFunction())
    return DepthwiseConv2D(multiplier, strides, dilations, pads, activation), 3


def _fully_connected(c: Context) -> tuple[OpSpec, int]:
    o = c.required(tflite.FullyConnectedOptions, tflite.BuiltinOptions.FullyConnectedOptions)
    if o.WeightsFormat() != tflite.FullyConnectedOptionsWeightsFormat.DEFAULT:
        raise UnsupportedOperator("shuffled weights; supported is the default format.")
    _weights(c)
    return FullyConnected(_activation(o.FusedActivationFunction()), bool(o.KeepNumDims())), 3


def _add(c: Context) -> tuple[OpSpec, int]:
    o = c.options(tflite.AddOptions, tflite.BuiltinOptions.AddOptions)
    return Add(_activation(o.FusedActivationFunction()) if o else Activation.NONE), 2


def _mul(c: Context) -> tuple[OpSpec, int]:
    o = c.options(tflite.MulOptions, tflite.BuiltinOptions.MulOptions)
    return Mul(_activation(o.FusedActivationFunction()) if o else Activation.NONE), 2


def _pool(c: Context) -> tuple[OpSpec, int]:
    o = c.required(tflite.Pool2DOptions, tflite.BuiltinOptions.Pool2DOptions)
    kernel = _window(o.FilterHeight(), o.FilterWidth(), "window")
    strides = _window(o.StrideH(), o.StrideW(), "stride")
    pads = _pads(o.Padding(), _image(c.input(0)), kernel, strides)
    cls = AveragePool2D if c.kind == "AVERAGE_POOL_2D" else MaxPool2D
    return cls(kernel, strides, pads, _activation(o.FusedActivationFunction())), 1


def _mean(c: Context) -> tuple[OpSpec, int]:
    o = c.options(tflite.ReducerOptions, tflite.BuiltinOptions.ReducerOptions)
    rank = len(c.input(0).shape)
    axes = c.constant(1, "axes")
    if not axes or not all(-rank <= axis < rank for axis in axes):
        raise MalformedModel(f"axes {axes} of a tensor with {rank} dimensions.")
    return Mean(tuple(sorted({axis % rank for axis in axes})), bool(o.KeepDims()) if o else False), 1


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


def _softmax(c: Context) -> tuple[OpSpec, int]:
    o = c.required(tflite.SoftmaxOptions, tflite.BuiltinOptions.SoftmaxOptions)
    beta = float(o.Beta())
    if not 1e-6 <= beta <= 1e6:
        raise MalformedModel(f"beta is {beta}.")
    return Softmax(beta), 1


def _concatenation(c: Context) -> tuple[OpSpec, int]:
    o = c.required(tflite.ConcatenationOptions, tflite.BuiltinOptions.ConcatenationOptions)
    rank = len(c.output.shape)
    if not -rank <= o.Axis() < rank:
        raise MalformedModel(f"axis {o.Axis()} of a tensor with {rank} dimensions.")
    activation = _activation(o.FusedActivationFunction())
    if activation is not Activation.NONE:
        raise UnsupportedOperator("a fused activation; put it into an operator of its own.")
    return Concatenation(o.Axis() % rank), len(c.inputs)


def _resize(c: Context) -> tuple[OpSpec, int]:
    o = c.options(tflite.ResizeNearestNeighborOptions, tflite.BuiltinOptions.ResizeNearestNeighborOptions)
    _image(c.input(0))
    if c.constant(1, "sizes") != list(c.output.shape[1:3]):
        raise MalformedModel("its size input and the shape of its output differ.")
    if o is None:
        return ResizeNearestNeighbor(), 1
    return ResizeNearestNeighbor(bool(o.AlignCorners()), bool(o.HalfPixelCenters())), 1


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


# Their other inputs say only what the output tensor's shape says too.
SHAPE_ONLY = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})

_PARSERS: dict[str, Callable[[Context], tuple[OpSpec, int]]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _add,
    "MUL": _mul,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "PAD": _pad,
    "PADV2": _pad,
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
    "SOFTMAX": _softmax,
    "LOGISTIC": lambda c: (Logistic(), 1),
    "RELU": lambda c: (Relu(Activation.RELU), 1),
    "RELU6": lambda c: (Relu(Activation.RELU6), 1),
    "RELU_N1_TO_1": lambda c: (Relu(Activation.RELU_N1_TO_1), 1),
    "CONCATENATION": _concatenation,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "TRANSPOSE": _transpose,
    "STRIDED_SLICE": _strided_slice,
    "QUANTIZE": lambda c: (Quantize(), 1),
    "DEQUANTIZE": lambda c: (Dequantize(), 1),
}


def parse_spec(c: Context) -> tuple[OpSpec, int]:
    """The operator's spec, and how many of its inputs are operands (the rest went into the spec)."""
    if c.kind not in _PARSERS:
        raise UnsupportedOperator(f"not supported. Supported are {', '.join(_PARSERS)}.")
    return _PARSERS[c.kind](c)
