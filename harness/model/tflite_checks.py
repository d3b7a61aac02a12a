"""What an operator of a .tflite file must satisfy before anyone computes with it: element types,
quantisation, shapes. Messages are without place; the reader puts it in front."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose

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
    Maximum,
    MaxPool2D,
    Minimum,
    Mul,
    OpSpec,
    Pad,
    Prelu,
    Quantize,
    Relu,
    ResizeBilinear,
    Softmax,
    Sub,
    Tanh,
    Tensor,
)  # fmt: skip
from tinyhil.harness.model.shapes import output_shape

_JOINS = Add | Sub | Mul | Maximum | Minimum | Prelu | Concatenation


def check_op(spec: OpSpec, operands: Sequence[Tensor | None], out: Tensor) -> None:
    """Types, quantisation and shapes of one operator; MalformedModel or UnsupportedOperator."""
    x = operands[0]
    if x is None or (isinstance(spec, _JOINS) and None in operands):
        raise MalformedModel("an input is missing.")
    _check_types(spec, operands, out)
    if x.data is not None and not isinstance(spec, _JOINS):
        raise UnsupportedOperator("works on a constant; let the converter fold constants.")
    if isinstance(spec, Conv2D | DepthwiseConv2D | FullyConnected):
        _check_weights(spec, operands[1], operands[2])
    _check_quantization(spec, [t for t in operands if t is not None], out)
    try:
        expected = output_shape(spec, [t.shape for t in operands if t is not None], out.shape)
    except ValueError as error:
        raise MalformedModel(f"{error}.") from None
    if expected != out.shape:
        raise MalformedModel(
            f"its output should have shape {list(expected)}, the file says {list(out.shape)}."
        )


def _check_types(spec: OpSpec, operands: Sequence[Tensor | None], out: Tensor) -> None:
    activations = [
        t for i, t in enumerate(operands)
        if t is not None and (i == 0 or isinstance(spec, _JOINS))
    ]  # fmt: skip
    inputs = {t.dtype for t in activations}
    match spec:
        case Quantize():
            octets = {DType.INT8, DType.UINT8}
            ok = (inputs <= octets and out.dtype in octets) or (
                inputs <= {DType.FLOAT32} and out.dtype is DType.INT8
            )
        case Dequantize():
            ok = inputs <= {DType.INT8} and out.dtype is DType.FLOAT32
        case _:
            ok = inputs <= {DType.INT8} and out.dtype is DType.INT8
    if not ok:
        types = sorted(inputs | {out.dtype})
        if DType.FLOAT32 in types and not isinstance(spec, Quantize | Dequantize):
            raise UnsupportedOperator(
                "works on float32: this is a float network. tinyhil runs int8 networks; quantise it with "
                "the TensorFlow Lite converter (full-integer quantisation, with a representative data set)."
            )
        raise UnsupportedOperator(
            f"works on {' and '.join(types)}; supported is int8 "
            "(QUANTIZE also takes float32, and takes and gives uint8; DEQUANTIZE gives float32). "
            "Convert with int8 or uint8 inputs and outputs."
        )
    for tensor in (*activations, out):
        octet = tensor.dtype in (DType.INT8, DType.UINT8)
        if octet and (tensor.quant is None or tensor.quant.per_channel):
            raise MalformedModel(
                f"tensor {tensor.name} is {tensor.dtype} but has no single scale and zero point."
            )


def _check_weights(spec: OpSpec, weights: Tensor | None, bias: Tensor | None) -> None:
    assert weights is not None
    if weights.dtype not in (DType.INT8, DType.INT4):
        raise UnsupportedOperator(f"its weights are {weights.dtype}; supported are int8 and int4.")
    channel_axis = 3 if isinstance(spec, DepthwiseConv2D) else 0
    quant = weights.quant
    if quant is None:
        raise MalformedModel(f"weights {weights.name} have no scale.")
    if quant.per_channel and quant.axis != channel_axis:
        raise MalformedModel(f"weights {weights.name} have a scale per index of dimension {quant.axis}.")
    if any(quant.zero_point):
        raise UnsupportedOperator(
            "its weights have a zero point; supported are symmetric weights (zero point 0)."
        )
    if bias is not None:
        if bias.data is None:
            raise UnsupportedOperator("its bias is computed at run time; supported are constants.")
        if bias.dtype is not DType.INT32:
            raise UnsupportedOperator(f"its bias is {bias.dtype}; supported is int32.")
        if bias.elements != weights.shape[channel_axis]:
            raise MalformedModel(f"{bias.elements} biases for {weights.shape[channel_axis]} channels.")


def _check_quantization(spec: OpSpec, operands: Sequence[Tensor], out: Tensor) -> None:
    pools = isinstance(spec, AveragePool2D | MaxPool2D | Maximum | Minimum)
    moves = isinstance(spec, Pad | Concatenation | ResizeBilinear)
    clamps = isinstance(spec, Relu) and spec.activation is not Activation.RELU
    copies = pools or moves or clamps
    if copies and not all(_same_quantization(t, out) for t in operands):
        raise UnsupportedOperator(
            "its inputs and its output have different scales or zero points, which TFLite does not "
            "convert here. Put a QUANTIZE operator in front, or convert the network again."
        )
    if isinstance(spec, Tanh) and (out.zero_point != 0 or out.scale != 1 / 128):
        raise UnsupportedOperator("its output must have scale 1/128 and zero point 0, as TFLite fixes it.")
    if isinstance(spec, Softmax | Logistic) and (out.zero_point != -128 or out.scale != 1 / 256):
        raise UnsupportedOperator("its output must have scale 1/256 and zero point -128, as TFLite fixes it.")


def _same_quantization(a: Tensor, b: Tensor) -> bool:
    """Converters round the scales of equal tensors apart by some units in the last place."""
    return a.zero_point == b.zero_point and isclose(a.scale, b.scale, rel_tol=1e-5)
