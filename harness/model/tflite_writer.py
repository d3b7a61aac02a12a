"""Writes a Graph as a .tflite file that TFLite and TFLM run with the same results.

Padding is SAME or VALID there, so any other explicit padding becomes a PAD operator in front. The same
graph gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import tflite

from tinyhil.errors import UnsupportedOperator
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
    Graph,
    HardSwish,
    LeakyRelu,
    Logistic,
    Maximum,
    MaxPool2D,
    Mean,
    Minimum,
    Mul,
    Op,
    Pad,
    Pads,
    Quantization,
    Quantize,
    Relu,
    Reshape,
    ResizeBilinear,
    ResizeNearestNeighbor,
    Softmax,
    StridedSlice,
    Sub,
    Tanh,
    Tensor,
    Transpose,
)  # fmt: skip
from tinyhil.harness.model.shapes import same_pads

# Operator → (built-in code, version of its int8 form, option table)
_CODES = {
    Conv2D: ("CONV_2D", 3, "Conv2DOptions"),
    DepthwiseConv2D: ("DEPTHWISE_CONV_2D", 3, "DepthwiseConv2DOptions"),
    FullyConnected: ("FULLY_CONNECTED", 5, "FullyConnectedOptions"),
    Add: ("ADD", 2, "AddOptions"),
    Sub: ("SUB", 2, "SubOptions"),
    Mul: ("MUL", 2, "MulOptions"),
    Maximum: ("MAXIMUM", 2, "MaximumMinimumOptions"),
    Minimum: ("MINIMUM", 2, "MaximumMinimumOptions"),
    AveragePool2D: ("AVERAGE_POOL_2D", 2, "Pool2DOptions"),
    MaxPool2D: ("MAX_POOL_2D", 2, "Pool2DOptions"),
    Mean: ("MEAN", 2, "ReducerOptions"),
    Pad: ("PAD", 2, "PadOptions"),
    Reshape: ("RESHAPE", 1, "ReshapeOptions"),
    Softmax: ("SOFTMAX", 2, "SoftmaxOptions"),
    Logistic: ("LOGISTIC", 2, ""),
    Tanh: ("TANH", 2, ""),
    HardSwish: ("HARD_SWISH", 1, "HardSwishOptions"),
    LeakyRelu: ("LEAKY_RELU", 2, "LeakyReluOptions"),
    Concatenation: ("CONCATENATION", 2, "ConcatenationOptions"),
    ResizeNearestNeighbor: ("RESIZE_NEAREST_NEIGHBOR", 3, "ResizeNearestNeighborOptions"),
    ResizeBilinear: ("RESIZE_BILINEAR", 3, "ResizeBilinearOptions"),
    Transpose: ("TRANSPOSE", 2, "TransposeOptions"),
    StridedSlice: ("STRIDED_SLICE", 2, "StridedSliceOptions"),
    Quantize: ("QUANTIZE", 1, "QuantizeOptions"),
    Dequantize: ("DEQUANTIZE", 2, "DequantizeOptions"),
}
_RELU_CODES = {
    Activation.RELU: ("RELU", 2),
    Activation.RELU6: ("RELU6", 2),
    Activation.RELU_N1_TO_1: ("RELU_N1_TO_1", 1),
}
_FUSED = {
    Activation.NONE: tflite.ActivationFunctionType.NONE,
    Activation.RELU: tflite.ActivationFunctionType.RELU,
    Activation.RELU6: tflite.ActivationFunctionType.RELU6,
    Activation.RELU_N1_TO_1: tflite.ActivationFunctionType.RELU_N1_TO_1,
}


@dataclass(frozen=True)
class _FileOp:
    """One operator as the file has it."""

    code: str
    version: int
    table: str
    inputs: list[int]
    outputs: list[int]
    options: dict[str, Any]


@dataclass
class _Lowering:
    """From specs to file operators; collects the tensors that TFLite wants beside those of the graph."""

    tensors: list[Tensor]
    ops: list[_FileOp] = field(default_factory=list)

    def constant(self, name: str, values: npt.ArrayLike, dtype: DType = DType.INT32,
                 quant: Quantization | None = None) -> int:  # fmt: skip
        """Adds a constant tensor and gives its index."""
        data = np.asarray(values, dtype.numpy)
        self.tensors.append(Tensor(name, data.shape, dtype, quant, data))
        return len(self.tensors) - 1

    def lower(self, op: Op) -> None:
        """Adds one operator, and a PAD before it where its padding has no name in TFLite."""
        spec, inputs = op.spec, list(op.inputs)
        name = self.tensors[op.outputs[0]].name
        options: dict[str, Any] = {}
        extra: list[int] = []
        if isinstance(spec, Relu):
            code, version = _RELU_CODES[spec.activation]
            self.ops.append(_FileOp(code, version, "", inputs, list(op.outputs), {}))
            return
        code, version, table = _CODES[type(spec)]
        match spec:
            case Conv2D() | DepthwiseConv2D() | AveragePool2D() | MaxPool2D():
                inputs[0], options["Padding"] = self._padding(op)
                options["StrideH"], options["StrideW"] = spec.strides
                options["FusedActivationFunction"] = _FUSED[spec.activation]
                if isinstance(spec, Conv2D | DepthwiseConv2D):
                    options["DilationHFactor"], options["DilationWFactor"] = spec.dilations
                else:
                    options["FilterHeight"], options["FilterWidth"] = spec.kernel
                if isinstance(spec, DepthwiseConv2D):
                    options["DepthMultiplier"] = spec.multiplier
            case FullyConnected():
                options["FusedActivationFunction"] = _FUSED[spec.activation]
                options["KeepNumDims"] = spec.keep_num_dims
            case Add() | Sub() | Mul():
                options["FusedActivationFunction"] = _FUSED[spec.activation]
            case Mean():
                extra = [self.constant(f"{name}/axes", spec.axes)]
                options["KeepDims"] = spec.keep_dims
            case Pad():
                extra = [self.constant(f"{name}/paddings", spec.amounts)]
                if spec.value is not None:
                    code, version, table = "PADV2", 2, "PadV2Options"
                    quant = self.tensors[op.outputs[0]].quant
                    extra.append(self.constant(f"{name}/value", [spec.value], DType.INT8, quant))
            case Reshape():
                extra = [self.constant(f"{name}/shape", self.tensors[op.outputs[0]].shape)]
            case LeakyRelu():
                options["Alpha"] = spec.alpha
            case Softmax():
                options["Beta"] = spec.beta
            case Concatenation():
                options["Axis"] = spec.axis
                options["FusedActivationFunction"] = _FUSED[spec.activation]
            case ResizeNearestNeighbor() | ResizeBilinear():
                extra = [self.constant(f"{name}/size", self.tensors[op.outputs[0]].shape[1:3])]
                options["AlignCorners"] = spec.align_corners
                options["HalfPixelCenters"] = spec.half_pixel_centers
            case Transpose():
                extra = [self.constant(f"{name}/permutation", spec.perm)]
            case StridedSlice():
                extra = [
                    self.constant(f"{name}/{what}", values)
                    for what, values in (("begin", spec.begin), ("end", spec.end), ("strides", spec.strides))
                ]
                # An end of -1 here is "before index 0", in the file it would be the last index.
                options["EndMask"] = sum(1 << i for i, end in enumerate(spec.end) if end < 0)
                options["ShrinkAxisMask"] = sum(1 << i for i in spec.shrink)
            case _:
                pass
        self._bias_scale(spec, inputs)
        # TFLM crashes on a bias that is listed as absent; not listing it means the same.
        listed = [i for i in inputs if i >= 0] + extra
        self.ops.append(_FileOp(code, version, table, listed, list(op.outputs), options))

    def _padding(self, op: Op) -> tuple[int, int]:
        """The operator's first input, padded by a PAD where needed, and its padding as TFLite's number."""
        spec = op.spec
        assert isinstance(spec, Conv2D | DepthwiseConv2D | AveragePool2D | MaxPool2D)
        x = self.tensors[op.inputs[0]]
        if spec.pads == (0, 0, 0, 0):
            return op.inputs[0], tflite.Padding.VALID
        if isinstance(spec, Conv2D | DepthwiseConv2D):
            kernel, dilations = self.tensors[op.inputs[1]].shape[1:3], spec.dilations
        else:
            kernel, dilations = spec.kernel, (1, 1)
        if spec.pads == same_pads(x.shape[1:3], kernel, spec.strides, dilations):
            return op.inputs[0], tflite.Padding.SAME
        if isinstance(spec, AveragePool2D):
            raise UnsupportedOperator(
                f"{self.tensors[op.outputs[0]].name}: an average pool with padding {spec.pads}; "
                "a TFLite file can only say SAME or VALID."
            )
        return self._pad(op, spec.pads, -128 if isinstance(spec, MaxPool2D) else None), tflite.Padding.VALID

    def _pad(self, op: Op, pads: Pads, value: int | None) -> int:
        x = self.tensors[op.inputs[0]]
        top, bottom, left, right = pads
        shape = (1, x.shape[1] + top + bottom, x.shape[2] + left + right, x.shape[3])
        name = f"{self.tensors[op.outputs[0]].name}/padded"
        self.tensors.append(replace(x, name=name, shape=shape, data=None))
        padded = len(self.tensors) - 1
        self.lower(Op(Pad(((0, 0), (top, bottom), (left, right), (0, 0)), value), (op.inputs[0],), (padded,)))
        return padded

    def _bias_scale(self, spec: object, inputs: list[int]) -> None:
        """TFLM compares the bias's scale with that of the product; a bias without one gets it here."""
        if (
            not isinstance(spec, Conv2D | DepthwiseConv2D | FullyConnected)
            or len(inputs) < 3
            or inputs[2] < 0
        ):
            return
        x, w, bias = (self.tensors[i] for i in inputs)
        if bias.quant is None and w.quant is not None:
            scale = tuple(x.scale * s for s in w.quant.scale)
            self.tensors[inputs[2]] = replace(bias, quant=Quantization(scale, (0,) * len(scale)))


def write_tflite(graph: Graph) -> bytes:
    """The graph as the bytes of a .tflite file (schema version 3).

    Raises UnsupportedOperator for an average pool whose padding is neither SAME nor VALID.
    """
    lowering = _Lowering(list(graph.tensors))
    for op in graph.ops:
        lowering.lower(op)
    constants = [t.data for t in lowering.tensors if t.data is not None]
    b = flatbuffers.Builder(sum(data.nbytes for data in constants) + 4096)
    codes = sorted({(op.code, op.version) for op in lowering.ops})

    buffers = [_table(b, "Buffer")]  # buffer 0 is the empty one, by convention
    tensors = []
    for tensor in lowering.tensors:
        buffer = 0
        if tensor.data is not None:
            buffer = len(buffers)
            buffers.append(_table(b, "Buffer", Data=_bytes(b, _packed(tensor))))
        tensors.append(_tensor(b, tensor, buffer))
    operators = [_operator(b, op, codes.index((op.code, op.version))) for op in lowering.ops]
    subgraph = _table(
        b, "SubGraph",
        Tensors=_offsets(b, tensors), Inputs=_ints(b, graph.inputs), Outputs=_ints(b, graph.outputs),
        Operators=_offsets(b, operators), Name=b.CreateString(graph.name),
    )  # fmt: skip
    model = _table(
        b, "Model",
        Version=3, OperatorCodes=_offsets(b, [_code(b, *code) for code in codes]),
        Subgraphs=_offsets(b, [subgraph]), Description=b.CreateString("tinyhil"),
        Buffers=_offsets(b, buffers),
    )  # fmt: skip
    b.Finish(model, file_identifier=b"TFL3")
    return bytes(b.Output())


def _operator(b: flatbuffers.Builder, op: _FileOp, code: int) -> int:
    fields: dict[str, Any] = {
        "OpcodeIndex": code, "Inputs": _ints(b, op.inputs), "Outputs": _ints(b, op.outputs),
    }  # fmt: skip
    if op.table:
        fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, op.table)
        fields["BuiltinOptions"] = _table(b, op.table, **op.options)
    return _table(b, "Operator", **fields)


def _code(b: flatbuffers.Builder, code: str, version: int) -> int:
    number = getattr(tflite.BuiltinOperator, code)
    return _table(
        b, "OperatorCode", DeprecatedBuiltinCode=min(number, 127), BuiltinCode=number, Version=version
    )


def _tensor(b: flatbuffers.Builder, tensor: Tensor, buffer: int) -> int:
    fields: dict[str, Any] = {
        "Shape": _ints(b, tensor.shape),
        "Type": getattr(tflite.TensorType, tensor.dtype.name),
        "Buffer": buffer,
        "Name": b.CreateString(tensor.name),
    }
    if (quant := tensor.quant) is not None:
        fields["Quantization"] = _table(
            b, "QuantizationParameters",
            Scale=b.CreateNumpyVector(np.array(quant.scale, np.float32)),
            ZeroPoint=b.CreateNumpyVector(np.array(quant.zero_point, np.int64)),
            QuantizedDimension=quant.axis,
        )  # fmt: skip
    return _table(b, "Tensor", **fields)


def _packed(tensor: Tensor) -> bytes:
    """The tensor's bytes as the file has them: little-endian, int4 two to a byte, low nibble first."""
    assert tensor.data is not None
    if tensor.dtype is not DType.INT4:
        return tensor.data.astype(tensor.dtype.numpy.newbyteorder("<")).tobytes()
    nibbles = np.zeros(2 * tensor.nbytes, np.uint8)
    nibbles[: tensor.elements] = tensor.data.reshape(-1).astype(np.uint8) & 0x0F
    return (nibbles[::2] | nibbles[1::2] << 4).astype(np.uint8).tobytes()


def _table(b: flatbuffers.Builder, table: str, **fields: Any) -> int:
    """One table of the schema by the names of its fields; what they point to is written before."""
    getattr(tflite, f"{table}Start")(b)
    for name, value in fields.items():
        getattr(tflite, f"{table}Add{name}")(b, value)
    return int(getattr(tflite, f"{table}End")(b))


def _bytes(b: flatbuffers.Builder, data: bytes) -> int:
    b.Prep(16, len(data))  # kernels may load whole vectors from here
    return int(b.CreateByteVector(data))


def _ints(b: flatbuffers.Builder, values: Iterable[int]) -> int:
    return int(b.CreateNumpyVector(np.array(tuple(values), np.int32)))


def _offsets(b: flatbuffers.Builder, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())
