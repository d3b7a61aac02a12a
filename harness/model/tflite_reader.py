"""Reads a .tflite file into a Graph. The file is untrusted: every length, offset, index and shape is
checked before it is used, nothing is allocated on its word, and weights stay views of its bytes.

Only tensors that the network computes with are kept; shapes, axes and paddings that TFLite stores as
tensors end up in the operators. Format: the schema in TensorFlow Lite's `schema.fbs`, version 3.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import tflite

from tinyhil.errors import MalformedModel, ModelError, UnsupportedOperator
from tinyhil.harness.model.arithmetic import op_params
from tinyhil.harness.model.graph import (
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    Graph,
    MaxPool2D,
    Op,
    Tensor,
)  # fmt: skip
from tinyhil.harness.model.tflite_batches import Dilated, dilated_ops, find_dilated
from tinyhil.harness.model.tflite_checks import check_op
from tinyhil.harness.model.tflite_context import Context
from tinyhil.harness.model.tflite_expand import EXPANSIONS, Expansion
from tinyhil.harness.model.tflite_moves import SHAPE_ONLY, SPLITS
from tinyhil.harness.model.tflite_ops import parse_spec
from tinyhil.harness.model.tflite_tensors import MAX_TENSOR, TensorTable, text, vector
from tinyhil.harness.model.tflite_variables import RawOp, find_variables, starts_of, states_of
from tinyhil.harness.model.tflite_writer import write_tflite

MAX_COUNT = 4096  # tensors or operators; networks for microcontrollers have a few hundred
MAX_OPERANDS = 1024  # inputs of one operator, or of the network
# Far beyond any microcontroller, and still harmless to this machine:
MAX_ACTIVATIONS = 256 << 20  # bytes of all activations together
MAX_FILE = 32 << 20
MAX_WORK = 10**10  # multiply-accumulates, or comparisons of pools

_OP_NAMES = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}

# What the flatbuffers runtime and NumPy raise when an offset or a length leads out of the file.
_OUT_OF_FILE = (struct.error, IndexError, ValueError, TypeError, OverflowError)


def load_tflite(path: str | Path) -> Graph:
    """Reads the file at `path`. Raises MalformedModel or UnsupportedOperator, and OSError where the
    file cannot be read. `sha256` is that of the file."""
    path = Path(path)
    if (size := path.stat().st_size) > MAX_FILE:
        raise UnsupportedOperator(f"{path.stem}: the file has {size:,} bytes; the limit is {MAX_FILE:,}.")
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
        reader = _Reader(view, name)
        graph = reader.graph()
    except ModelError as error:
        raise type(error)(f"{name}: {error}") from None
    except _OUT_OF_FILE as error:
        raise MalformedModel(
            f"{name}: an offset or a length in the file leads out of its {len(view):,} bytes ({error}). "
            "The file is truncated or corrupted; copy or convert it again."
        ) from error
    file = write_tflite(replace(graph, states=())) if graph.states or reader.rewritten else bytes(view)
    return replace(graph, sha256=hashlib.sha256(view).hexdigest(), file=file)


class _Reader:
    """One pass over one file. Tensors are looked at only when an operator uses them."""

    def __init__(self, view: memoryview, name: str, number: int = 0) -> None:
        self.view = view
        self.name = name
        self.model: Any = tflite.Model.GetRootAs(view, 0)
        if self.model.Version() != 3:
            raise MalformedModel(f"schema version {self.model.Version()}; TFLite models have version 3.")
        if not 1 <= (count := self.model.SubgraphsLength()) <= MAX_COUNT:
            raise MalformedModel(f"the file says it holds {count} graphs.")
        self.subgraph: Any = self.model.Subgraphs(number)
        self.tensors = TensorTable(view, self.model, self.subgraph)
        self.rewritten = False  # TFLM would not compute the file's own form in the same way every time
        self.known: set[int] = set()  # tensors that have a value at this point of the execution

    def graph(self) -> Graph:
        """The whole network; tensors renumbered without those that only described other things."""
        self._check_count("tensors", self.subgraph.TensorsLength())
        self._check_count("operators", self.subgraph.OperatorsLength())
        if self.subgraph.OperatorsLength() == 0:
            raise MalformedModel("the network has no operators.")
        inputs = self._indices("the inputs of the network", self.subgraph.InputsAsNumpy())
        outputs = self._indices("the outputs of the network", self.subgraph.OutputsAsNumpy())
        raws = [self._raw_op(number) for number in range(self.subgraph.OperatorsLength())]
        variables = find_variables(raws)
        if not variables.starters and self.model.SubgraphsLength() > 1:
            raise UnsupportedOperator(
                f"{self.model.SubgraphsLength()} subgraphs (control flow); supported is one. "
                "Convert the network without IF, WHILE or CALL."
            )
        starts = {k: t for number in variables.starters for k, t in self._starts(number).items()}
        states = states_of(variables, self.tensors.__getitem__, len(inputs), len(outputs), starts)
        inputs += variables.first.values()
        outputs = variables.resolved(outputs) + [variables.value[name] for name in variables.first]
        if not inputs or not outputs:
            raise MalformedModel("the network has no input or no output.")
        if len(set(inputs)) != len(inputs):
            raise MalformedModel("the same tensor is listed twice among the network's inputs.")
        for i in inputs:
            if self.tensors[i].data is not None:
                raise MalformedModel(f"network input {self.tensors.label(i)} is a constant.")
        self.known.update(inputs)
        live = find_dilated(self._live_operators(variables.ops, inputs, outputs), outputs)
        self.rewritten = any(isinstance(raw, Dilated) for raw in live)
        ops = [op for raw in live for op in self._ops(raw)]
        for i in outputs:
            if i not in self.known:
                raise MalformedModel(f"network output {self.tensors.label(i)} is written by no operator.")
        used = sorted(
            {i for op in ops for i in (*op.inputs, *op.outputs) if i >= 0} | set(inputs) | set(outputs)
        )
        new = {old: n for n, old in enumerate(used)} | {-1: -1}
        graph = Graph(
            name=self.name,
            tensors=tuple(self.tensors[i] for i in used),
            ops=tuple(
                replace(
                    op, inputs=tuple(new[i] for i in op.inputs), outputs=tuple(new[i] for i in op.outputs)
                )
                for op in ops
            ),
            inputs=tuple(new[i] for i in inputs),
            outputs=tuple(new[i] for i in outputs),
            states=states,
        )
        _check_cost(graph)
        return graph

    # -- operators

    def _starts(self, number: int) -> dict[str, Tensor]:
        """What subgraph `number` assigns to variables before the first call."""
        if not 0 < number < self.model.SubgraphsLength():
            raise MalformedModel(
                f"CALL_ONCE names subgraph {number}, there are {self.model.SubgraphsLength()}."
            )
        other = _Reader(self.view, self.name, number)
        other._check_count("operators", other.subgraph.OperatorsLength())
        raws = [other._raw_op(at) for at in range(other.subgraph.OperatorsLength())]
        return starts_of(raws, other.tensors.__getitem__)

    def _live_operators(self, raws: list[RawOp], inputs: list[int], outputs: list[int]) -> list[RawOp]:
        """The operators that the outputs depend on, in order. Converters leave others behind: those that
        work out the shape of a RESHAPE, which its output tensor has anyway."""
        written = set(inputs)
        for raw in raws:
            for out in raw.outputs:
                if out in written:
                    raise MalformedModel(
                        f"{raw.where}: writes {self.tensors.label(out)}, which already has a value."
                    )
                written.add(out)
        needed = set(outputs)
        live = []
        for raw in reversed(raws):
            if needed.intersection(raw.outputs):
                live.append(raw)
                needed.update(raw.inputs)
        return live[::-1]

    def _raw_op(self, number: int) -> RawOp:
        raw = self.subgraph.Operators(number)
        kind = self._kind(raw)
        where = f"operator {number} ({kind})"
        inputs = self._indices(f"the inputs of {where}", raw.InputsAsNumpy(), optional=True)
        outputs = self._indices(f"the outputs of {where}", raw.OutputsAsNumpy())
        if outputs and kind != "VAR_HANDLE":
            where += f", which writes {self.tensors.label(outputs[0])}"
        if kind in SHAPE_ONLY:
            inputs = inputs[:1]
        return RawOp(where, kind, raw, inputs, outputs)

    def _ops(self, op: RawOp | Dilated) -> list[Op]:
        """One operator of the file as those of the graph: mostly one."""
        first, last = (op.first, op.last) if isinstance(op, Dilated) else (op, op)
        where, inputs, outputs = last.where, first.inputs, last.outputs
        if not inputs or inputs[0] < 0 or not outputs or (len(outputs) != 1 and last.kind not in SPLITS):
            raise MalformedModel(f"{where}: has {len(inputs)} inputs and {len(outputs)} outputs.")
        if (lost := next((i for i in inputs if i >= 0 and not self._has_value(i)), None)) is not None:
            raise MalformedModel(
                f"{where}: reads {self.tensors.label(lost)}, which nothing has written at this point: "
                "the operators form a cycle, are out of order, or a constant has lost its data."
            )
        for out in outputs:
            if self.tensors[out].data is not None:
                raise MalformedModel(f"{where}: writes {self.tensors.label(out)}, which is a constant.")
        try:
            if isinstance(op, Dilated):
                found = dilated_ops(op, self._context, self.tensors.add)
            elif expand := EXPANSIONS.get(op.kind):
                tensors = [self.tensors[i] for i in outputs]
                expansion = Expansion(self._context(op), inputs, outputs, tensors, self.tensors.add)
                expand(expansion)
                found = expansion.ops
            else:
                spec, used = parse_spec(self._context(op))
                found = [Op(spec, tuple([*inputs, *[-1] * used][:used]), (outputs[0],))]
            for each in found:
                parts = [None if i < 0 else self.tensors[i] for i in each.inputs]
                check_op(each.spec, parts, self.tensors[each.outputs[0]])
        except ModelError as error:
            raise type(error)(f"{where}: {error}") from None
        self.known.update(outputs)
        return found

    def _context(self, op: RawOp) -> Context:
        operands = tuple(None if i < 0 else self.tensors[i] for i in op.inputs)
        return Context(op.where, op.kind, op.raw, operands, self.tensors[op.outputs[0]])

    def _kind(self, raw: Any) -> str:
        index = raw.OpcodeIndex()
        if index >= self.model.OperatorCodesLength():
            raise MalformedModel(f"an operator has code number {index}, the file lists fewer.")
        code = self.model.OperatorCodes(index)
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if builtin == tflite.BuiltinOperator.CUSTOM:
            return f"custom operator {text(code.CustomCode())}"
        name: str = _OP_NAMES.get(builtin, f"unknown operator code {builtin}")
        return name

    def _has_value(self, index: int) -> bool:
        return index in self.known or self.tensors[index].data is not None

    # -- small things

    def _indices(self, what: str, field: Any, optional: bool = False) -> list[int]:
        indices = vector(field)
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
            raise MalformedModel(f"the file says it has {count:,} {what}; the limit is {MAX_COUNT:,}.")


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
