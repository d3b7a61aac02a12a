"""The int8 network: tensors with shape, scale and zero point; operators with TFLite semantics.

All activations are NHWC with batch 1, convolution weights are OHWI, depthwise weights 1HWC, as in
TFLite. Padding is always explicit here (SAME and VALID are resolved when a file is read), so that a
PAD operator can be folded into the convolution behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from math import prod

import numpy as np
import numpy.typing as npt

from tinyhil.harness.model.operators import (
    Activation,
    Add,
    AveragePool2D,
    Concatenation,
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
    Tanh,
    Transpose,
)  # fmt: skip


class DType(StrEnum):
    """Element types that occur in int8 networks."""

    INT4 = "int4"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    BOOL = "bool"
    FLOAT32 = "float32"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The NumPy dtype of the unpacked values (int4 is held in int8)."""
        return np.dtype("int8" if self is DType.INT4 else self.value)

    @cached_property
    def bits(self) -> int:
        """Bits that a value takes in memory."""
        return 4 if self is DType.INT4 else 8 * self.numpy.itemsize


@dataclass(frozen=True)
class Quantization:
    """real = scale * (q - zero_point); one pair per tensor, or one per index along `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0

    @property
    def per_channel(self) -> bool:
        """More than one scale."""
        return len(self.scale) > 1


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor. `data` is None for activations; for constants a read-only array of `shape`,
    where possible a view of the file's own bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    quant: Quantization | None = None
    data: npt.NDArray[np.generic] | None = None

    @property
    def elements(self) -> int:
        """Number of values."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in memory (int4 packed two to a byte)."""
        return (self.elements * self.dtype.bits + 7) // 8

    @property
    def scale(self) -> float:
        """The one scale of a per-tensor quantised tensor."""
        assert self.quant is not None, self.name
        assert not self.quant.per_channel, self.name
        return self.quant.scale[0]

    @property
    def zero_point(self) -> int:
        """The one zero point of a per-tensor quantised tensor."""
        assert self.quant is not None, self.name
        assert not self.quant.per_channel, self.name
        return self.quant.zero_point[0]


@dataclass(frozen=True)
class Op:
    """One operator: what it computes (`spec`) and on which tensors (indices into Graph.tensors;
    -1 for an absent optional input, such as a bias)."""

    spec: OpSpec
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def kind(self) -> str:
        """The class name of the spec, e.g. `Conv2D`."""
        return type(self.spec).__name__


@dataclass(frozen=True, eq=False)
class State:
    """What one call of a streaming network leaves to the next: the bytes of output port `output` are to be
    those of input port `input` (positions in Graph.inputs and outputs); `start` [shape] before the first."""

    input: int
    output: int
    start: npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Graph:
    """A network in execution order. `file` and `sha256` are the file it came from, empty if made here; of a
    network with variables, or with batches around a convolution, `file` is the form without them. `states`:
    ports that its caller carries over."""

    name: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    states: tuple[State, ...] = ()
    sha256: str = ""
    file: bytes = field(default=b"", repr=False)

    def macs(self, op: Op) -> int:
        """Multiply-accumulates of one operator; 0 where the field does not count any."""
        out = self.tensors[op.outputs[0]]
        match op.spec:
            case Conv2D():
                return out.elements * prod(self.tensors[op.inputs[1]].shape[1:])
            case DepthwiseConv2D():
                return out.elements * prod(self.tensors[op.inputs[1]].shape[1:3])
            case FullyConnected():
                return out.elements * self.tensors[op.inputs[1]].shape[-1]
            case _:
                return 0

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(self.macs(op) for op in self.ops)

    @property
    def params(self) -> int:
        """Number of weights and biases of convolutions and fully-connected layers."""
        indices = {
            i
            for op in self.ops
            if isinstance(op.spec, Conv2D | DepthwiseConv2D | FullyConnected)
            for i in op.inputs[1:]
            if i >= 0 and self.tensors[i].data is not None
        }
        return sum(self.tensors[i].elements for i in indices)


__all__ = [
    "Activation", "Add", "AveragePool2D", "Concatenation", "Conv2D", "DType", "DepthwiseConv2D",
    "Dequantize", "FullyConnected", "Graph", "HardSwish", "LeakyRelu", "Logistic", "MaxPool2D",
    "Maximum", "Mean", "Minimum", "Mul", "Op", "OpSpec", "Pad", "Pads", "Prelu", "Quantization",
    "Quantize", "Relu", "Reshape", "ResizeBilinear", "ResizeNearestNeighbor", "Softmax", "State",
    "StridedSlice", "Sub", "Tanh", "Tensor", "Transpose",
]  # fmt: skip
