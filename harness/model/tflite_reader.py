"""Reads a .tflite file into a Graph. The file is untrusted: every length, offset, index and shape is
checked before it is used, nothing is allocated on its word, and weights stay views of its bytes.

Only tensors that the network computes with are kept; shapes, axes and paddings that TFLite stores as
tensors end up in the operators. Format: the schema in TensorFlow Lite's `schema.fbs`, version 3.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from tinyhil.errors import MalformedModel, ModelError, UnsupportedOperator
from tinyhil.harness.model.arithmetic import op_params
from tinyhil.harness.model.graph import (
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    DType,
    Graph,
    MaxPool2D,
    Op,
    Quantization,
    Tensor,
)  # fmt: skip
from tinyhil.harness.model.tflite_ops import Context, check_op, parse_spec

MAX_COUNT = 20_000  # tensors or operators; the largest published networks have a few thousand
MAX_OPERANDS = 1024  # inputs of one operator, or of the network
MAX_RANK = 6
MAX_SCALES = 1 << 20  # of all tensors together
# Far beyond any microcontroller, and still harmless to this machine:
MAX_TENSOR = 8 << 20  # bytes of one activation, also of one padded image
MAX_ACTIVATIONS = 256 << 20  # bytes of all activations together
MAX_FILE = 32 << 20
MAX_WORK = 10**10  # multiply-accumulates, or comparisons of pools

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
_OP_NAMES = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}

# What the flatbuffers runtime and NumPy raise when an offset or a length leads out of the file.
_OUT_OF_FILE = (struct.error, IndexError, ValueError, TypeError, OverflowError)


def load_tflite(path: str | Path) -> Graph:
    """Reads the file at `path`. Raises MalformedModel or UnsupportedOperator, and OSError where the
    file cannot be read. `sha256` is that of the file."""
    path = Path(path)
    return read_tflite(path.read_bytes(), path.stem)


def read_tflite(data: bytes | memoryview, name: str) -> Graph:
    """The network in `data`, the bytes of a .tflite file; `name` is what messages and tables call it.

    Raises MalformedModel where the file is broken and UnsupportedOperator where it is sound but uses
    something that tinyhil does not have.
    """
    view = memoryview(data).cast("B").toreadonly()
    if len(view) > MAX_FILE:
        raise UnsupportedOperator(f"{name}: the file has {len(view):,} bytes; the limit is {MAX_FILE:,}.")
    if len(view) < 8:
        raise MalformedModel(
            f"{name}: only {len(view)} bytes, too short for a TFLite model. "
            "Was the copy or the download cut off?"
        )
    if bytes(view[4:8]) != b"TFL3":
        raise MalformedModel(
            f"{name}: not a TFLite model: bytes 4 to 7 are {bytes(view[4:8])!r} instead of b'TFL3'. "
            "Convert the network with the TensorFlow Lite converter first."
        )
    try:
        graph = _Reader(view, name).graph()
    except ModelError as error:
        raise type(error)(f"{name}: {error}") from None
    except _OUT_OF_FILE as error:
        raise MalformedModel(
            f"{name}: an offset or a length in the file leads out of its {len(view):,} bytes ({error}). "
            "The file is truncated or corrupted; copy or convert it again."
        ) from error
    return replace(graph, sha256=hashlib.sha256(view).hexdigest())


class _Reader:
    """One pass over one file. Tensors are looked at only when an operator uses them."""

    def __init__(self, view: memoryview, name: str) -> None:
        self.view = view
        self.name = name
        self.model: Any = tflite.Model.GetRootAs(view, 0)
        if self.model.Version() != 3:
            raise MalformedModel(f"schema version {self.model.Version()}; TFLite models have version 3.")
        if (count := self.model.SubgraphsLength()) != 1:
            if count == 0 or count > MAX_COUNT:
                raise MalformedModel(f"the file says it holds {count} graphs.")
            raise UnsupportedOperator(
                f"{count} subgraphs (control flow); supported is one. "
                "Convert the network without IF, WHILE or CALL."
            )
        self.subgraph: Any = self.model.Subgraphs(0)
        self.tensors: dict[int, Tensor] = {}
        self.known: set[int] = set()  # tensors that have a value at this point of the execution
        self.scales = 0
        self.buffers: set[int] = set()  # those in use, and how many bytes they have together
        self.constant_bytes = 0
        self.copies: dict[tuple[int, DType], npt.NDArray[np.generic]] = {}

    def graph(self) -> Graph:
        """The whole network; tensors renumbered without those that only described other things."""
        self._check_count("tensors", self.subgraph.TensorsLength())
        self._check_count("operators", self.subgraph.OperatorsLength())
        if self.subgraph.OperatorsLength() == 0:
            raise MalformedModel("the network has no operators.")
        inputs = self._indices("the inputs of the network", self.subgraph.InputsAsNumpy())
        outputs = self._indices("the outputs of the network", self.subgraph.OutputsAsNumpy())
        if not inputs or not outputs:
            raise MalformedModel("the network has no input or no output.")
        if len(set(inputs)) != len(inputs):
            raise MalformedModel("the same tensor is listed twice among the network's inputs.")
        for i in inputs:
            if self.tensor(i).data is not None:
                raise MalformedModel(f"network input {self._label(i)} is a constant.")
        self.known.update(inputs)
        ops = [self._op(i) for i in range(self.subgraph.OperatorsLength())]
        for i in outputs:
            if i not in self.known:
                raise MalformedModel(f"network output {self._label(i)} is written by no operator.")
        used = sorted(
            {i for op in ops for i in (*op.inputs, *op.outputs) if i >= 0} | set(inputs) | set(outputs)
        )
        new = {old: n for n, old in enumerate(used)} | {-1: -1}
        graph = Graph(
            name=self.name,
            tensors=tuple(self.tensor(i) for i in used),
            ops=tuple(
                replace(
                    op, inputs=tuple(new[i] for i in op.inputs), outputs=tuple(new[i] for i in op.outputs)
                )
                for op in ops
            ),
            inputs=tuple(new[i] for i in inputs),
            outputs=tuple(new[i] for i in outputs),
        )
        _check_cost(graph)
        return graph

    # -- operators

    def _op(self, number: int) -> Op:
        raw = self.subgraph.Operators(number)
        kind = self._kind(raw)
        where = f"operator {number} ({kind})"
        inputs = self._indices(f"the inputs of {where}", raw.InputsAsNumpy(), optional=True)
        outputs = self._indices(f"the outputs of {where}", raw.OutputsAsNumpy())
        if not inputs or inputs[0] < 0 or len(outputs) != 1:
            raise MalformedModel(f"{where}: has {len(inputs)} inputs and {len(outputs)} outputs.")
        if (lost := next((i for i in inputs if i >= 0 and not self._has_value(i)), None)) is not None:
            raise MalformedModel(
                f"{where}: reads {self._label(lost)}, which nothing has written at this point: the operators "
                "form a cycle, are out of order, or a constant has lost its data."
            )
        out = outputs[0]
        if out in self.known or self.tensor(out).data is not None:
            raise MalformedModel(f"{where}: writes {self._label(out)}, which already has a value.")
        try:
            context = Context(
                where, kind, raw, tuple(None if i < 0 else self.tensor(i) for i in inputs), self.tensor(out)
            )
            spec, used = parse_spec(context)
            operands = tuple(context.inputs[i] if i < len(inputs) else None for i in range(used))
            check_op(context, spec, operands)
        except ModelError as error:
            raise type(error)(f"{where}: {error}") from None
        self.known.add(out)
        return Op(spec, tuple([*inputs, -1][:used]), (out,))

    def _kind(self, raw: Any) -> str:
        index = raw.OpcodeIndex()
        if index >= self.model.OperatorCodesLength():
            raise MalformedModel(f"an operator has code number {index}, the file lists fewer.")
        code = self.model.OperatorCodes(index)
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if builtin == tflite.BuiltinOperator.CUSTOM:
            return f"custom operator {_text(code.CustomCode())}"
        name: str = _OP_NAMES.get(builtin, f"unknown operator code {builtin}")
        return name

    def _has_value(self, index: int) -> bool:
        return index in self.known or self.tensor(index).data is not None

    # -- tensors

    def tensor(self, index: int) -> Tensor:
        """Tensor `index` of the file, checked."""
        if index not in self.tensors:
            try:
                self.tensors[index] = self._read_tensor(index)
            except ModelError as error:
                raise type(error)(f"{self._label(index)}: {error}") from None
        return self.tensors[index]

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
        shape = tuple(int(n) for n in _vector(raw.ShapeAsNumpy()))
        if min(shape, default=1) < 1:
            raise MalformedModel(f"shape {list(shape)} has an empty or negative dimension.")
        if prod(shape) * dtype.numpy.itemsize > MAX_FILE:
            raise MalformedModel(f"shape {list(shape)} needs more than {MAX_FILE >> 20} MiB.")
        quant = self._read_quant(raw.Quantization(), shape, dtype)
        tensor = Tensor(_text(raw.Name()), shape, dtype, quant)
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
        scale = tuple(float(s) for s in _vector(raw.ScaleAsNumpy()))
        zero_point = tuple(int(z) for z in _vector(raw.ZeroPointAsNumpy())) or (0,)
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

    # -- small things

    def _indices(self, what: str, vector: Any, optional: bool = False) -> list[int]:
        indices = _vector(vector)
        if len(indices) > MAX_OPERANDS:
            raise MalformedModel(f"{what}: {len(indices):,} of them.")
        result = [int(i) for i in indices]
        lowest = -1 if optional else 0
        for i in result:
            if not lowest <= i < self.subgraph.TensorsLength():
                raise MalformedModel(
                    f"{what}: tensor {i} does not exist, there are {self.subgraph.TensorsLength()}."
                )
        return result

    def _check_count(self, what: str, count: int) -> None:
        if count > MAX_COUNT:
            raise MalformedModel(
                f"the file says it has {count:,} {what}; more than {MAX_COUNT:,} make no sense."
            )

    def _label(self, index: int) -> str:
        return f"tensor {index} ({_text(self.subgraph.Tensors(index).Name())})"


def _check_cost(graph: Graph) -> None:
    """Refuses what nobody could run, and integer constants beyond 32 bits."""
    if sum(t.nbytes for t in graph.tensors if t.data is None) > MAX_ACTIVATIONS:
        raise UnsupportedOperator(f"all activations together have more than {MAX_ACTIVATIONS:,} bytes.")
    work = 0
    for number, op in enumerate(graph.ops):
        x, out = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
        where = f"operator {number} ({op.kind}), which writes {out.name}"
        work += graph.macs(op) + x.elements + out.elements
        if isinstance(op.spec, AveragePool2D | MaxPool2D):
            work += out.elements * prod(op.spec.kernel)
        if isinstance(op.spec, Conv2D | DepthwiseConv2D | AveragePool2D | MaxPool2D):
            top, bottom, left, right = op.spec.pads
            if (x.shape[1] + top + bottom) * (x.shape[2] + left + right) * x.shape[3] > MAX_TENSOR:
                raise UnsupportedOperator(f"{where}: its padded input has more than {MAX_TENSOR:,} elements.")
        try:
            op_params(graph, op)
        except ModelError as error:
            raise type(error)(f"{where}: {error}") from None
    if work > MAX_WORK:
        raise UnsupportedOperator(f"{work:,} operations in one inference; the limit is {MAX_WORK:,}.")


def unpack_int4(octets: npt.NDArray[np.uint8], elements: int) -> npt.NDArray[np.int8]:
    """Signed 4-bit values, low nibble first, as int8 (a copy: nothing computes on nibbles in place)."""
    nibbles = np.stack([octets & 0x0F, octets >> 4], axis=-1).reshape(-1)[:elements]
    return ((nibbles ^ 8).astype(np.int8) - np.int8(8)).astype(np.int8)


def _vector(vector: Any) -> Sequence[Any] | npt.NDArray[Any]:
    """The flatbuffers classes give the number 0 for an absent vector."""
    values: Sequence[Any] | npt.NDArray[Any] = () if isinstance(vector, int) else vector
    return values


def _text(raw: bytes | None) -> str:
    """A string of the file, printable and short: it goes into messages and tables."""
    text = str((raw or b"")[:200], "utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)
