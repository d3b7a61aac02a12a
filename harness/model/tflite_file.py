"""The bytes of a .tflite file from its own terms: subgraphs of tensors and operators with option tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite

from tinyhil.harness.model.graph import DType, Tensor


@dataclass(frozen=True)
class FileOp:
    """One operator as the file has it: built-in code and version, option table and its fields."""

    code: str
    version: int
    table: str
    inputs: list[int]
    outputs: list[int]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FileGraph:
    """One subgraph; `handles`: tensors that stand for variables (type RESOURCE)."""

    name: str
    tensors: Sequence[Tensor]
    ops: Sequence[FileOp]
    inputs: Sequence[int]
    outputs: Sequence[int]
    handles: frozenset[int] = frozenset()


def file_bytes(graphs: Sequence[FileGraph]) -> bytes:
    """The file with these subgraphs, the first of which is the network; the same for the same graphs."""
    constants = [t.data for graph in graphs for t in graph.tensors if t.data is not None]
    b = flatbuffers.Builder(sum(data.nbytes for data in constants) + 4096)
    codes = sorted({(op.code, op.version) for graph in graphs for op in graph.ops})
    buffers = [_table(b, "Buffer")]  # buffer 0 is the empty one, by convention
    subgraphs = [_subgraph(b, graph, codes, buffers) for graph in graphs]
    model = _table(
        b, "Model",
        Version=3, OperatorCodes=_offsets(b, [_code(b, *code) for code in codes]),
        Subgraphs=_offsets(b, subgraphs), Description=b.CreateString("tinyhil"),
        Buffers=_offsets(b, buffers),
    )  # fmt: skip
    b.Finish(model, file_identifier=b"TFL3")
    return bytes(b.Output())


def _subgraph(
    b: flatbuffers.Builder, graph: FileGraph, codes: Sequence[tuple[str, int]], buffers: list[int]
) -> int:
    tensors = []
    for index, tensor in enumerate(graph.tensors):
        buffer = 0
        if tensor.data is not None:
            buffer = len(buffers)
            buffers.append(_table(b, "Buffer", Data=_bytes(b, _packed(tensor))))
        tensors.append(_tensor(b, tensor, buffer, index in graph.handles))
    operators = [_operator(b, op, codes.index((op.code, op.version))) for op in graph.ops]
    return _table(
        b, "SubGraph",
        Tensors=_offsets(b, tensors), Inputs=_ints(b, graph.inputs), Outputs=_ints(b, graph.outputs),
        Operators=_offsets(b, operators), Name=b.CreateString(graph.name),
    )  # fmt: skip


def _operator(b: flatbuffers.Builder, op: FileOp, code: int) -> int:
    options = {k: b.CreateString(v) if isinstance(v, str) else v for k, v in op.options.items()}
    fields: dict[str, Any] = {
        "OpcodeIndex": code, "Inputs": _ints(b, op.inputs), "Outputs": _ints(b, op.outputs),
    }  # fmt: skip
    if op.table:
        fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, op.table)
        fields["BuiltinOptions"] = _table(b, op.table, **options)
    return _table(b, "Operator", **fields)


def _code(b: flatbuffers.Builder, code: str, version: int) -> int:
    number = getattr(tflite.BuiltinOperator, code)
    return _table(
        b, "OperatorCode", DeprecatedBuiltinCode=min(number, 127), BuiltinCode=number, Version=version
    )


def _tensor(b: flatbuffers.Builder, tensor: Tensor, buffer: int, handle: bool) -> int:
    fields: dict[str, Any] = {
        "Shape": _ints(b, tensor.shape),
        "Type": tflite.TensorType.RESOURCE if handle else getattr(tflite.TensorType, tensor.dtype.name),
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
