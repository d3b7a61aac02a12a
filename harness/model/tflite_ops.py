"""The operators of a .tflite file as operator specs: options read, masks and SAME/VALID resolved,
types and shapes checked. Messages here are without place; the reader puts it in front."""

from __future__ import annotations

from collections.abc import Callable

import tflite

from tinyhil.errors import MalformedModel, UnsupportedOperator
from tinyhil.harness.model.graph import (
    Activation,
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    Dequantize,
    FullyConnected,
    HardSwish,
    LeakyRelu,
    Logistic,
    Maximum,
    MaxPool2D,
    Mean,
    Minimum,
    Mul,
    OpSpec,
    Pads,
    Prelu,
    Quantize,
    Relu,
    Softmax,
    Sub,
    Tanh,
    Tensor,
)  # fmt: skip
from tinyhil.harness.model.shapes import same_pads
from tinyhil.harness.model.tflite_context import Context, fused, image_size, window
from tinyhil.harness.model.tflite_expand import EXPANSIONS
from tinyhil.harness.model.tflite_moves import MOVES


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
    image = image_size(c.input(0))
    if len(w.shape) != 4:
        raise MalformedModel(f"its weights have shape {list(w.shape)}; OHWI has four dimensions.")
    if w.shape[3] != c.input(0).shape[3] and c.input(0).shape[3] % w.shape[3] == 0:
        raise UnsupportedOperator("grouped convolution; supported are dense and depthwise.")
    kernel = window(w.shape[1], w.shape[2], "kernel")
    strides = window(o.StrideH(), o.StrideW(), "stride")
    dilations = window(o.DilationHFactor(), o.DilationWFactor(), "dilation")
    pads = _pads(o.Padding(), image, kernel, strides, dilations)
    return Conv2D(strides, dilations, pads, fused(o.FusedActivationFunction())), 3


def _depthwise(c: Context) -> tuple[OpSpec, int]:
    o = c.required(tflite.DepthwiseConv2DOptions, tflite.BuiltinOptions.DepthwiseConv2DOptions)
    w = _weights(c)
    image = image_size(c.input(0))
    if len(w.shape) != 4:
        raise MalformedModel(f"its weights have shape {list(w.shape)}; 1HWC has four dimensions.")
    kernel = window(w.shape[1], w.shape[2], "kernel")
    strides = window(o.StrideH(), o.StrideW(), "stride")
    dilations = window(o.DilationHFactor(), o.DilationWFactor(), "dilation")
    # Old converters leave the multiplier out; the weights' shape says it anyway.
    multiplier = o.DepthMultiplier() or w.shape[3] // c.input(0).shape[3]
    if multiplier < 1:
        raise MalformedModel(f"depth multiplier {multiplier}.")
    pads = _pads(o.Padding(), image, kernel, strides, dilations)
    activation = fused(o.FusedActivationFunction())
    return DepthwiseConv2D(multiplier, strides, dilations, pads, activation), 3


def _fully_connected(c: Context) -> tuple[OpSpec, int]:
    o = c.required(tflite.FullyConnectedOptions, tflite.BuiltinOptions.FullyConnectedOptions)
    if o.WeightsFormat() != tflite.FullyConnectedOptionsWeightsFormat.DEFAULT:
        raise UnsupportedOperator("shuffled weights; supported is the default format.")
    _weights(c)
    return FullyConnected(fused(o.FusedActivationFunction()), bool(o.KeepNumDims())), 3


def _add(c: Context) -> tuple[OpSpec, int]:
    o = c.options(tflite.AddOptions, tflite.BuiltinOptions.AddOptions)
    return Add(fused(o.FusedActivationFunction()) if o else Activation.NONE), 2


def _mul(c: Context) -> tuple[OpSpec, int]:
    o = c.options(tflite.MulOptions, tflite.BuiltinOptions.MulOptions)
    return Mul(fused(o.FusedActivationFunction()) if o else Activation.NONE), 2


def _sub(c: Context) -> tuple[OpSpec, int]:
    o = c.options(tflite.SubOptions, tflite.BuiltinOptions.SubOptions)
    return Sub(fused(o.FusedActivationFunction()) if o else Activation.NONE), 2


def _leaky_relu(c: Context) -> tuple[OpSpec, int]:
    o = c.required(tflite.LeakyReluOptions, tflite.BuiltinOptions.LeakyReluOptions)
    alpha = float(o.Alpha())
    if not 0 < alpha <= 1e3:
        raise UnsupportedOperator(f"alpha is {alpha:.3g}; supported are slopes above zero.")
    return LeakyRelu(alpha), 1


def _pool(c: Context) -> tuple[OpSpec, int]:
    o = c.required(tflite.Pool2DOptions, tflite.BuiltinOptions.Pool2DOptions)
    kernel = window(o.FilterHeight(), o.FilterWidth(), "window")
    strides = window(o.StrideH(), o.StrideW(), "stride")
    pads = _pads(o.Padding(), image_size(c.input(0)), kernel, strides)
    cls = AveragePool2D if c.kind == "AVERAGE_POOL_2D" else MaxPool2D
    return cls(kernel, strides, pads, fused(o.FusedActivationFunction())), 1


def _mean(c: Context) -> tuple[OpSpec, int]:
    o = c.options(tflite.ReducerOptions, tflite.BuiltinOptions.ReducerOptions)
    rank = len(c.input(0).shape)
    axes = c.constant(1, "axes")
    if not axes or not all(-rank <= axis < rank for axis in axes):
        raise MalformedModel(f"axes {axes} of a tensor with {rank} dimensions.")
    return Mean(tuple(sorted({axis % rank for axis in axes})), bool(o.KeepDims()) if o else False), 1


def _softmax(c: Context) -> tuple[OpSpec, int]:
    o = c.required(tflite.SoftmaxOptions, tflite.BuiltinOptions.SoftmaxOptions)
    beta = float(o.Beta())
    if not 1e-6 <= beta <= 1e6:
        raise MalformedModel(f"beta is {beta}.")
    return Softmax(beta), 1


_PARSERS: dict[str, Callable[[Context], tuple[OpSpec, int]]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _add,
    "SUB": _sub,
    "MUL": _mul,
    "MAXIMUM": lambda c: (Maximum(), 2),
    "MINIMUM": lambda c: (Minimum(), 2),
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "SOFTMAX": _softmax,
    "LOGISTIC": lambda c: (Logistic(), 1),
    "TANH": lambda c: (Tanh(), 1),
    "HARD_SWISH": lambda c: (HardSwish(), 1),
    "LEAKY_RELU": _leaky_relu,
    "PRELU": lambda c: (Prelu(), 2),
    "RELU": lambda c: (Relu(Activation.RELU), 1),
    "RELU6": lambda c: (Relu(Activation.RELU6), 1),
    "RELU_N1_TO_1": lambda c: (Relu(Activation.RELU_N1_TO_1), 1),
    "QUANTIZE": lambda c: (Quantize(), 1),
    "DEQUANTIZE": lambda c: (Dequantize(), 1),
    **MOVES,
}


def parse_spec(c: Context) -> tuple[OpSpec, int]:
    """The operator's spec, and how many of its inputs are operands (the rest went into the spec)."""
    if c.kind not in _PARSERS:
        advice = _INSTEAD.get(c.kind, "Replace the layer by others, or leave it to the host.")
        every = ", ".join([*_PARSERS, *EXPANSIONS])
        raise UnsupportedOperator(f"not supported. {advice} Supported are {every}.")
    return _PARSERS[c.kind](c)


_LSTM = "Recurrent layers are not supported: use a streaming convolution, or unroll it into FULLY_CONNECTED."
_BATCHES = (
    "It is supported around one convolution of stride 1, which it dilates. Give the layer a fixed input size "
    "and convert again, then the convolution itself has the dilation."
)
_INSTEAD = {
    "BATCH_TO_SPACE_ND": _BATCHES,
    "SPACE_TO_BATCH_ND": _BATCHES,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _LSTM,
    "LSTM": _LSTM,
    "WHILE": _LSTM,
    "SVDF": "Use FULLY_CONNECTED or DEPTHWISE_CONV_2D over the frames that are kept.",
    "ARG_MAX": "End the network before it, and take the largest output on the host.",
    "DIV": "Multiply by the constant's inverse: MUL.",
    "SUM": "Use MEAN: it is the sum in another scale.",
}
"""What to do about operators that occur in networks for microcontrollers and are not supported."""
