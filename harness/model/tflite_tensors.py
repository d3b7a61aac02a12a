"""The tensors of a .tflite file: shapes, quantisation and data, each checked before it is believed.

Constants stay views of the file's bytes; only int4 values and data that is not aligned are copied, and
limits on all tensors together keep a hostile file from multiplying what it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite, prod
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from tinyhil.errors import MalformedModel, ModelError, UnsupportedOperator
from tinyhil.harness.model.graph import DType, Quantization, Tensor

MAX_RANK = 6
MAX_SCALES = 1 << 20  # of all tensors together
MAX_CONSTANT = 32 << 20  # bytes of one constant
MAX_TENSOR = 8 << 20  # bytes of one activation: far beyond any microcontroller, harmless to this machine

_DTYPES = {
    tflite.TensorType.INT4: DType.INT4, tflite.TensorType.INT8: DType.INT8,
    tflite.TensorType.INT16: DType.INT16, tflite.TensorType.INT32: DType.INT32,
    tflite.TensorType.INT64: DType.INT64, tflite.TensorType.UINT8: DType.UINT8,
    tflite.TensorType.BOOL: DType.BOOL, tflite.TensorType.FLOAT32: DType.FLOAT32,
}  # fmt: skip
_ZERO_POINTS = {
    DType.INT4: (-8, 7), DType.INT8: (-128, 127), DType.UINT8: (0, 255), DType.INT16: (-32768, 32767),
}  # fmt: skip
_TYPE_NAMES = {v: k for k, v in vars(tflite.TensorType).items() if isinstance(v, int)}


class TensorTable:
    """The tensors of one file, read when somebody asks for them."""

    def __init__(self, view: memoryview, model: Any, subgraph: Any) -> None:
        self.view = view
        self.model = model
        self.subgraph = subgraph
        self.tensors: dict[int, Tensor] = {}
        self.scales = 0
        self.buffers: set[int] = set()  # those in use, and how many bytes they have together
        self.constant_bytes = 0
        self.copies: dict[tuple[int, DType], npt.NDArray[np.generic]] = {}

    def __getitem__(self, index: int) -> Tensor:
        """Tensor `index` of the file, checked."""
        if index not in self.tensors:
            try:
                self.tensors[index] = self._read_tensor(index)
            except ModelError as error:
                raise type(error)(f"{self.label(index)}: {error}") from None
        return self.tensors[index]

    def add(self, tensor: Tensor) -> int:
        """Another tensor beside those of the file; its index."""
        index = max(int(self.subgraph.TensorsLength()), *(i + 1 for i in self.tensors))
        self.tensors[index] = tensor
        return index

    def _read_tensor(self, index: int) -> Tensor:
        raw = self.subgraph.Tensors(index)
        if raw.Type() not in _DTYPES:
            type_name = _TYPE_NAMES.get(raw.Type(), str(raw.Type()))
            raise UnsupportedOperator(f"element type {type_name}; supported are {', '.join(DType)}.")
        if raw.IsVariable() or raw.Sparsity() is not None:
            raise UnsupportedOperator("variable or sparse tensors are not supported; convert without them.")
        dtype = _DTYPES[raw.Type()]
        if raw.ShapeLength() > MAX_RANK:
            raise MalformedModel(f"{raw.ShapeLength()} dimensions; at most {MAX_RANK} make sense.")
        shape = tuple(int(n) for n in vector(raw.ShapeAsNumpy()))
        if min(shape, default=1) < 1:
            raise MalformedModel(f"shape {list(shape)} has an empty or negative dimension.")
        if prod(shape) * dtype.numpy.itemsize > MAX_CONSTANT:
            raise MalformedModel(f"shape {list(shape)} needs more than {MAX_CONSTANT >> 20} MiB.")
        quant = self._read_quant(raw.Quantization(), shape, dtype)
        tensor = Tensor(text(raw.Name()), shape, dtype, quant)
        data = self._read_data(raw.Buffer(), tensor)
        if data is None and tensor.nbytes > MAX_TENSOR:
            raise UnsupportedOperator(
                f"an activation of {tensor.nbytes:,} bytes; the limit is {MAX_TENSOR:,}, "
                "more than any microcontroller has."
            )
        return replace(tensor, data=data)

    def _read_quant(self, raw: Any, shape: tuple[int, ...], dtype: DType) -> Quantization | None:
        if raw is None or raw.ScaleLength() == 0:
            return None
        if raw.DetailsType() != 0:
            raise UnsupportedOperator("custom quantisation; supported is scale and zero point.")
        scales, points = raw.ScaleLength(), raw.ZeroPointLength()
        if scales > 1 and scales not in shape:
            raise MalformedModel(f"{scales} quantisation scales for shape {list(shape)}.")
        if points not in (0, 1, scales):
            raise MalformedModel(f"{points} zero points for {scales} scales.")
        self.scales += scales
        if self.scales > MAX_SCALES:
            raise MalformedModel(f"all tensors together have more than {MAX_SCALES:,} scales.")
        scale = tuple(float(s) for s in vector(raw.ScaleAsNumpy()))
        zero_point = tuple(int(z) for z in vector(raw.ZeroPointAsNumpy())) or (0,)
        if not all(isfinite(s) and s >= 0 for s in scale) or (scales == 1 and scale[0] == 0):
            raise MalformedModel("a quantisation scale is zero, negative or not finite.")
        if dtype in _ZERO_POINTS:
            low, high = _ZERO_POINTS[dtype]
            if min(zero_point) < low or max(zero_point) > high:
                raise MalformedModel(f"a zero point is outside the range of {dtype}.")
        if len(zero_point) != len(scale):
            zero_point = zero_point * len(scale)
        # Bias tensors of some published networks name an axis that they do not have; they have one only.
        axis = raw.QuantizedDimension() if len(shape) > 1 else 0
        if scales > 1 and not (0 <= axis < len(shape) and shape[axis] == scales):
            raise MalformedModel(f"{scales} scales along dimension {axis} of shape {list(shape)}.")
        return Quantization(scale, zero_point, axis if scales > 1 else 0)

    def _read_data(self, buffer: int, tensor: Tensor) -> npt.NDArray[np.generic] | None:
        if buffer >= self.model.BuffersLength():
            raise MalformedModel(f"its buffer number is {buffer}, the file has {self.model.BuffersLength()}.")
        raw = self.model.Buffers(buffer)
        if raw.Offset() > 1 or raw.Size() > 1:
            raise UnsupportedOperator(
                "its data lies outside the flatbuffer; only files up to 2 GB have it inside."
            )
        if raw.DataLength() == 0:
            return None
        octets: npt.NDArray[np.uint8] = raw.DataAsNumpy()
        if buffer not in self.buffers:
            self.buffers.add(buffer)
            self.constant_bytes += octets.nbytes
        if self.constant_bytes > len(self.view):
            raise MalformedModel("all constants together claim more bytes than the file has.")
        if octets.nbytes != tensor.nbytes:
            raise MalformedModel(
                f"shape {list(tensor.shape)} of {tensor.dtype} needs {tensor.nbytes} bytes, "
                f"its data has {octets.nbytes}."
            )
        values = self._values(buffer, octets, tensor).reshape(tensor.shape)
        values.flags.writeable = False
        return values

    def _values(self, buffer: int, octets: npt.NDArray[np.uint8], tensor: Tensor) -> npt.NDArray[np.generic]:
        """A view of the file's bytes; a copy for int4 and for data that is not aligned, at most one."""
        aligned = octets.ctypes.data % tensor.dtype.numpy.alignment == 0
        if tensor.dtype is not DType.INT4 and aligned:
            return octets.view(tensor.dtype.numpy)
        if (buffer, tensor.dtype) not in self.copies:
            self.copies[buffer, tensor.dtype] = (
                unpack_int4(octets, tensor.elements)
                if tensor.dtype is DType.INT4
                else np.frombuffer(octets.tobytes(), tensor.dtype.numpy)
            )
        copy = self.copies[buffer, tensor.dtype]
        if copy.size != tensor.elements:  # int4 with an odd and an even number of elements
            raise MalformedModel(
                f"shape {list(tensor.shape)} differs from another tensor with the same data."
            )
        return copy

    def label(self, index: int) -> str:
        """What messages call it."""
        return f"tensor {index} ({text(self.subgraph.Tensors(index).Name())})"


def unpack_int4(octets: npt.NDArray[np.uint8], elements: int) -> npt.NDArray[np.int8]:
    """Signed 4-bit values, low nibble first, as int8 (a copy: nothing computes on nibbles in place)."""
    nibbles = np.stack([octets & 0x0F, octets >> 4], axis=-1).reshape(-1)[:elements]
    return ((nibbles ^ 8).astype(np.int8) - np.int8(8)).astype(np.int8)


def vector(field: Any) -> Sequence[Any] | npt.NDArray[Any]:
    """The flatbuffers classes give the number 0 for an absent vector."""
    values: Sequence[Any] | npt.NDArray[Any] = () if isinstance(field, int) else field
    return values


def text(raw: bytes | None) -> str:
    """A string of the file, printable and short: it goes into messages and tables."""
    text = str((raw or b"")[:200], "utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)
