"""Writes a Graph as a .tflite file that TFLite and TFLM run with the same results.

Padding is SAME or VALID there, so any other explicit padding becomes a PAD operator in front. The same
graph gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

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
    Prelu,
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
from tinyhil.harness.model.tflite_file import FileGraph, FileOp, file_bytes

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
    Prelu: ("PRELU", 1, ""),
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


@dataclass
class _Lowering:
    """From specs to file operators; collects the tensors that TFLite wants beside those of the graph."""

    tensors: list[Tensor]
    ops: list[FileOp] = field(default_factory=list)

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
            self.ops.append(FileOp(code, version, "", inputs, list(op.outputs), {}))
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
        self.ops.append(FileOp(code, version, table, listed, list(op.outputs), options))

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
    """The graph as the bytes of a .tflite file (schema version 3); its states become variables.

    Raises UnsupportedOperator for an average pool whose padding is neither SAME nor VALID.
    """
    lowering = _Lowering(list(graph.tensors))
    for op in graph.ops:
        lowering.lower(op)
    tensors, ops = lowering.tensors, lowering.ops
    inputs, outputs = {s.input for s in graph.states}, {s.output for s in graph.states}
    before = [FileOp("CALL_ONCE", 1, "CallOnceOptions", [], [], {"InitSubgraphIndex": 1})]
    after: list[FileOp] = []
    starts: list[Tensor] = []
    handles: list[int] = []
    for number, state in enumerate(graph.states):
        read, assigned = graph.inputs[state.input], graph.outputs[state.output]
        handles.append(len(tensors))
        tensors.append(Tensor(f"variable{number}", (), DType.INT32))
        names = {"Container": "", "SharedName": f"variable{number}"}
        before.append(FileOp("VAR_HANDLE", 1, "VarHandleOptions", [], handles[-1:], names))
        before.append(FileOp("READ_VARIABLE", 1, "ReadVariableOptions", handles[-1:], [read]))
        after.append(FileOp("ASSIGN_VARIABLE", 1, "AssignVariableOptions", [handles[-1], assigned], []))
        starts.append(replace(tensors[read], name=f"start{number}", data=state.start))
    main = FileGraph(
        graph.name,
        tensors,
        [*before, *ops, *after] if graph.states else ops,
        [t for place, t in enumerate(graph.inputs) if place not in inputs],
        [t for place, t in enumerate(graph.outputs) if place not in outputs],
        frozenset(handles),
    )
    return file_bytes([main, _starter(before, starts)] if graph.states else [main])


def _starter(before: list[FileOp], starts: list[Tensor]) -> FileGraph:
    """The subgraph of CALL_ONCE: assigns every variable its start. Handles are the first tensors."""
    made = [op for op in before if op.code == "VAR_HANDLE"]
    ops = [replace(op, outputs=[n]) for n, op in enumerate(made)]
    starting = [[n, len(starts) + n] for n in range(len(made))]
    ops += [FileOp("ASSIGN_VARIABLE", 1, "AssignVariableOptions", pair, []) for pair in starting]
    handles = [Tensor(f"variable{n}", (), DType.INT32) for n in range(len(made))]
    return FileGraph("start", [*handles, *starts], ops, [], [], frozenset(range(len(made))))
