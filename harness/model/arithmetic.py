"""The integer constants of every operator, as TFLM derives them from scales and zero points.

This is their one home: the reference interpreter and every code generator take them from here, so
nobody rounds a multiplier in a second way. All names are TFLM's. Offsets are added: `input_offset` is
minus the input's zero point, `output_offset` is the output's zero point. Sources: the `*_common.cc`
files of TFLM's kernels and TFLite's `kernels/kernel_util.cc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tinyhil.errors import MalformedModel
from tinyhil.harness.model.fixed_point import (
    quantize_multiplier,
)  # fmt: skip
from tinyhil.harness.model.graph import (
    Activation,
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    Dequantize,
    DType,
    FullyConnected,
    Graph,
    HardSwish,
    LeakyRelu,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Op,
    Pad,
    Prelu,
    Quantize,
    Relu,
    Softmax,
    Sub,
    Tanh,
    Tensor,
)  # fmt: skip
from tinyhil.harness.model.tables import (
    QMAX,
    QMIN,
    SoftmaxParams,
    TableParams,
    single_quotient,
    softmax_params,
    table_params,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ConvParams:
    """Conv2D, DepthwiseConv2D, FullyConnected.

    acc = bias + Σ w · (x + input_offset);  y = clamp(requantize(acc) + output_offset, min, max), where
    `multiplier` and `shift` are int32 arrays with one value per output channel (shift > 0 is to the left).
    """

    input_offset: int
    output_offset: int
    multiplier: npt.NDArray[np.int32]
    shift: npt.NDArray[np.int32]
    activation_min: int
    activation_max: int


@dataclass(frozen=True)
class AddParams:
    """y = rescale_out(rescale_1((x1 + offset1) << left_shift) ± rescale_2(…)) + output_offset, clamped."""

    left_shift: int
    input1_offset: int
    input1_multiplier: int
    input1_shift: int
    input2_offset: int
    input2_multiplier: int
    input2_shift: int
    output_offset: int
    output_multiplier: int
    output_shift: int
    activation_min: int
    activation_max: int


@dataclass(frozen=True)
class MulParams:
    """y = clamp(requantize((x1 + offset1) · (x2 + offset2)) + output_offset, min, max)."""

    input1_offset: int
    input2_offset: int
    output_offset: int
    multiplier: int
    shift: int
    activation_min: int
    activation_max: int


@dataclass(frozen=True)
class RescaleParams:
    """Quantize int8 → int8, Relu and Mean: y = clamp(requantize(s + count · input_offset) + output_offset,
    min, max), where s is the input (count 1) or, for Mean, the sum of `count` inputs."""

    input_offset: int
    output_offset: int
    multiplier: int
    shift: int
    activation_min: int
    activation_max: int
    count: int = 1


@dataclass(frozen=True)
class PreluParams:
    """y = requantize(x + offset) where that is not negative, and below requantize((x + offset) · (alpha +
    alpha_offset)) by the second pair; then + output_offset, clamped to int8."""

    input_offset: int
    alpha_offset: int
    output_offset: int
    above: tuple[int, int]
    below: tuple[int, int]


@dataclass(frozen=True)
class ClampParams:
    """Pools, Relu6, ReluN1To1: y is clamped to [activation_min, activation_max]."""

    activation_min: int
    activation_max: int


@dataclass(frozen=True)
class PadParams:
    """The int8 value that Pad writes."""

    value: int


@dataclass(frozen=True)
class AffineParams:
    """Quantize from float32 and Dequantize: real = scale · (q - zero_point); scale is a float32."""

    scale: float
    zero_point: int


OpParams: TypeAlias = (
    ConvParams | AddParams | MulParams | PreluParams | RescaleParams | ClampParams | PadParams | AffineParams
    | SoftmaxParams | TableParams
)  # fmt: skip


def activation_range(activation: Activation, output: Tensor) -> tuple[int, int]:
    """The clamp [min, max] of a fused activation in the output's int8 values."""

    def quantized(real: float) -> int:
        steps = single_quotient(real, output.scale)
        if not abs(steps) < 1 << 31:
            raise MalformedModel(
                f"the scale {output.scale:.3g} of {output.name} is too small for {activation}."
            )
        return output.zero_point + int(np.sign(steps) * floor(abs(steps) + 0.5))

    match activation:
        case Activation.RELU:
            return max(QMIN, quantized(0.0)), QMAX
        case Activation.RELU6:
            return max(QMIN, quantized(0.0)), min(QMAX, quantized(6.0))
        case Activation.RELU_N1_TO_1:
            return max(QMIN, quantized(-1.0)), min(QMAX, quantized(1.0))
        case Activation.NONE:
            return QMIN, QMAX


def conv_params(graph: Graph, op: Op) -> ConvParams:
    """Constants of a Conv2D, DepthwiseConv2D or FullyConnected."""
    assert isinstance(op.spec, Conv2D | DepthwiseConv2D | FullyConnected)
    x, w, out = graph.tensors[op.inputs[0]], graph.tensors[op.inputs[1]], graph.tensors[op.outputs[0]]
    assert w.quant is not None
    channels = w.shape[3 if isinstance(op.spec, DepthwiseConv2D) else 0]
    if isinstance(op.spec, FullyConnected) and not w.quant.per_channel:
        # TFLM multiplies these two scales in single precision, and only here.
        with np.errstate(over="ignore", under="ignore"):
            reals = [float(np.float32(x.scale) * np.float32(w.scale)) / out.scale]
    else:
        reals = [x.scale * scale / out.scale for scale in w.quant.scale]
    pairs = [quantize_multiplier(real) for real in reals]
    if len(pairs) == 1:
        pairs = pairs * channels
    low, high = activation_range(op.spec.activation, out)
    return ConvParams(
        input_offset=-x.zero_point,
        output_offset=out.zero_point,
        multiplier=np.array([m for m, _ in pairs], np.int32),
        shift=np.array([s for _, s in pairs], np.int32),
        activation_min=low,
        activation_max=high,
    )


def add_params(graph: Graph, op: Op) -> AddParams:
    """Constants of an Add or Sub."""
    assert isinstance(op.spec, Add | Sub)
    a, b, out = (graph.tensors[i] for i in (*op.inputs, *op.outputs))
    left_shift = 20
    twice_max = 2 * max(a.scale, b.scale)
    m1, s1 = quantize_multiplier(a.scale / twice_max)
    m2, s2 = quantize_multiplier(b.scale / twice_max)
    m3, s3 = quantize_multiplier(twice_max / ((1 << left_shift) * out.scale))
    if s3 > 0:
        raise MalformedModel(f"the scale of {out.name} is over 2^19 times smaller than those of the addends.")
    low, high = activation_range(op.spec.activation, out)
    return AddParams(
        left_shift, -a.zero_point, m1, s1, -b.zero_point, m2, s2, out.zero_point, m3, s3, low, high
    )


def mul_params(graph: Graph, op: Op) -> MulParams:
    """Constants of a Mul."""
    assert isinstance(op.spec, Mul)
    a, b, out = (graph.tensors[i] for i in (*op.inputs, *op.outputs))
    multiplier, shift = quantize_multiplier(a.scale * b.scale / out.scale)
    low, high = activation_range(op.spec.activation, out)
    return MulParams(-a.zero_point, -b.zero_point, out.zero_point, multiplier, shift, low, high)


def prelu_params(graph: Graph, op: Op) -> PreluParams:
    """Constants of a Prelu."""
    assert isinstance(op.spec, Prelu)
    x, alpha, out = (graph.tensors[i] for i in (*op.inputs, *op.outputs))
    above, below = (
        quantize_multiplier(x.scale / out.scale),
        quantize_multiplier(x.scale * alpha.scale / out.scale),
    )
    return PreluParams(-x.zero_point, -alpha.zero_point, out.zero_point, above, below)


def rescale_params(graph: Graph, op: Op) -> RescaleParams:
    """Constants of a Relu, of a Mean, or of a Quantize from int8."""
    assert isinstance(op.spec, Relu | Mean | Quantize)
    x, out = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    low, high = (0, 255) if out.dtype is DType.UINT8 else (QMIN, QMAX)
    count = 1
    if isinstance(op.spec, Relu):
        real = single_quotient(x.scale, out.scale)
        low = max(QMIN, out.zero_point)
    else:
        real = x.scale / out.scale
    multiplier, shift = quantize_multiplier(real)
    if isinstance(op.spec, Mean):
        count = prod(x.shape[axis] for axis in op.spec.axes)
        down = min(count.bit_length() - 1, 32, 31 + shift)
        multiplier, shift = (multiplier << down) // count, shift - down
    return RescaleParams(-x.zero_point, out.zero_point, multiplier, shift, low, high, count)


def op_params(graph: Graph, op: Op) -> OpParams | None:
    """The integer constants of any operator; None where it only moves bytes.

    MalformedModel where scales and zero points lead beyond 32-bit arithmetic.
    """
    x, out = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    match op.spec:
        case Conv2D() | DepthwiseConv2D() | FullyConnected():
            return conv_params(graph, op)
        case Add() | Sub():
            return add_params(graph, op)
        case Mul():
            return mul_params(graph, op)
        case Prelu():
            return prelu_params(graph, op)
        case AveragePool2D() | MaxPool2D():
            return ClampParams(*activation_range(op.spec.activation, out))
        case Relu(activation) if activation is not Activation.RELU:
            return ClampParams(*activation_range(activation, out))
        case Quantize() if x.dtype is DType.FLOAT32:
            return AffineParams(out.scale, out.zero_point)
        case Relu() | Mean() | Quantize():
            return rescale_params(graph, op)
        case Dequantize():
            return AffineParams(x.scale, x.zero_point)
        case Pad(value=value):
            return PadParams(out.zero_point if value is None else value)
        case Softmax():
            return softmax_params(graph, op)
        case Logistic() | Tanh() | HardSwish() | LeakyRelu():
            return table_params(graph, op)
        case _:
            return None
