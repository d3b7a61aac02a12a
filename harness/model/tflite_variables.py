"""Variables of streaming networks as what they are between two calls: a state that goes in and comes out.

VAR_HANDLE, READ_VARIABLE and ASSIGN_VARIABLE become network inputs and outputs; what CALL_ONCE assigns before
the first call becomes the state's start. A network without side effects remains, which may be planned, run
and checked like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tflite

from tinyhil.errors import MalformedModel, UnsupportedOperator
from tinyhil.harness.model.graph import DType, State, Tensor

KINDS = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"})


@dataclass(frozen=True)
class RawOp:
    """An operator of the file: what it is called in messages, its kind, its table, its tensors."""

    where: str
    kind: str
    raw: Any
    inputs: list[int]
    outputs: list[int]


@dataclass
class Variables:
    """What the operators of one subgraph do with variables, by the variables' names. Tensor indices are the
    file's. `first`: what the first read gives; `value`: what the variable holds at the end."""

    ops: list[RawOp] = field(default_factory=list)
    first: dict[str, int] = field(default_factory=dict)
    value: dict[str, int] = field(default_factory=dict)
    assigned: dict[str, RawOp] = field(default_factory=dict)
    alias: dict[int, int] = field(default_factory=dict)
    starters: list[int] = field(default_factory=list)

    def resolved(self, indices: Sequence[int]) -> list[int]:
        """The tensors that these are another name of."""
        return [self.alias.get(i, i) for i in indices]


def find_variables(raws: Sequence[RawOp]) -> Variables:
    """The operators without those on variables, and what these do."""
    found = Variables()
    handles: dict[int, str] = {}
    for raw in raws:
        if raw.kind not in KINDS:
            found.ops.append(replace(raw, inputs=found.resolved(raw.inputs)))
        elif raw.kind == "VAR_HANDLE":
            handles[raw.outputs[0]] = _name(raw)
        elif raw.kind == "CALL_ONCE":
            found.starters.append(_options(raw, tflite.CallOnceOptions).InitSubgraphIndex())
        else:
            count = 1 if raw.kind == "READ_VARIABLE" else 2
            if len(raw.inputs) != count or len(raw.outputs) != 2 - count or raw.inputs[0] not in handles:
                raise MalformedModel(
                    f"{raw.where}: its first input is no variable, or an operand is missing."
                )
            name = handles[raw.inputs[0]]
            if raw.kind == "ASSIGN_VARIABLE":
                found.value[name] = found.resolved(raw.inputs[1:])[0]
                found.assigned[name] = raw
            elif name in found.value:
                found.alias[raw.outputs[0]] = found.value[name]
            else:
                found.first[name] = found.value[name] = raw.outputs[0]
    for name, index in found.first.items():
        if name not in found.assigned:
            raise UnsupportedOperator(
                f"variable {name!r} is read (tensor {index}) and never assigned; "
                "make it a constant and convert again."
            )
    return found


def states_of(
    found: Variables,
    tensor: Callable[[int], Tensor],
    inputs: int,
    outputs: int,
    starts: dict[str, Tensor],
) -> tuple[State, ...]:
    """One state per variable that is read before it is written. `tensor` gives a tensor of the file, `inputs`
    and `outputs` count the network's own ports, `starts` are values before the first call by name."""
    states = []
    for place, (name, index) in enumerate(found.first.items()):
        before, after, where = tensor(index), tensor(found.value[name]), found.assigned[name].where
        if before.dtype is not DType.INT8 or before.quant is None:
            raise UnsupportedOperator(
                f"{where}: variable {name!r} holds {before.dtype}; int8 with a scale is supported. "
                "Convert with full-integer quantisation, the state included."
            )
        if (before.shape, before.dtype, before.quant) != (after.shape, after.dtype, after.quant):
            raise MalformedModel(f"{where}: what it assigns differs in shape or scale from what is read.")
        start = starts.get(name)
        values = np.full(before.shape, before.zero_point, np.int8)  # what TFLM starts from
        if start is not None:
            if start.data is None or (start.shape, start.dtype) != (before.shape, before.dtype):
                raise MalformedModel(f"{where}: the start of variable {name!r} differs in shape or type.")
            values = np.array(start.data, np.int8)
        values.flags.writeable = False
        states.append(State(inputs + place, outputs + place, values))
    return tuple(states)


def starts_of(raws: Sequence[RawOp], tensor: Callable[[int], Tensor]) -> dict[str, Tensor]:
    """The constants that a subgraph of CALL_ONCE assigns, by the variables' names."""
    handles: dict[int, str] = {}
    found: dict[str, Tensor] = {}
    for raw in raws:
        if raw.kind == "VAR_HANDLE":
            handles[raw.outputs[0]] = _name(raw)
        elif raw.kind == "ASSIGN_VARIABLE" and len(raw.inputs) == 2 and raw.inputs[0] in handles:
            found[handles[raw.inputs[0]]] = tensor(raw.inputs[1])
        else:
            raise UnsupportedOperator(
                f"{raw.where} before the first call; supported is assigning constants to variables there."
            )
    return found


def _options(raw: RawOp, cls: Any) -> Any:
    table = raw.raw.BuiltinOptions()
    if table is None or raw.raw.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, cls.__name__):
        raise MalformedModel(f"{raw.where}: its options are missing, or those of another operator.")
    options = cls()
    options.Init(table.Bytes, table.Pos)
    return options


def _name(raw: RawOp) -> str:
    if raw.inputs or len(raw.outputs) != 1:
        raise MalformedModel(f"{raw.where}: has {len(raw.inputs)} inputs and {len(raw.outputs)} outputs.")
    options = _options(raw, tflite.VarHandleOptions)
    parts = (options.Container(), options.SharedName())
    return "/".join(str((part or b"")[:200], "utf-8", "replace") for part in parts)
