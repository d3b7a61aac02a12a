"""One measurement as data: the record that is stored, exported and compared (schema tinyhil/1)."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from tinyhil.errors import StoreError

SCHEMA = "tinyhil/1"
MODES = ("hardware", "qemu", "unicorn", "renode", "native")
KINDS = ("measured", "counted", "estimated")


@dataclass(frozen=True)
class Model:
    """The network: name, SHA-256 of its file, MACs of one inference, number of parameters."""

    name: str
    sha256: str
    macs: int
    params: int


@dataclass(frozen=True)
class EngineId:
    """Which engine, and its version (for peers with commit)."""

    name: str
    version: str


@dataclass(frozen=True)
class Estimate:
    """Estimated cycles with their interval and the id of the timing model that made them."""

    value: float
    low: float
    high: float
    model: str


@dataclass(frozen=True)
class PeakRam:
    """Bytes that were really touched: total = static + arena + stack. `planned_arena` is the plan's."""

    total: int
    static: int
    arena: int
    stack: int
    planned_arena: int | None = None


@dataclass(frozen=True)
class Correctness:
    """Comparison with the int8 reference over all inputs; `reference` names who computed it."""

    bit_exact: bool
    max_abs_diff: int
    reference: str
    output_sha256: str


@dataclass(frozen=True)
class LayerResult:
    """One layer; the fields that this kind of target cannot give are None.

    `traffic`: the bytes that it cannot avoid moving (inputs + weights + outputs), for the roofline.
    """

    name: str
    op: str
    macs: int
    instructions: int | None = None
    cycles: int | None = None
    cycles_est: Estimate | None = None
    traffic: int | None = None


@dataclass(frozen=True)
class PlannedBuffer:
    """One planned buffer, for the memory picture: bytes, and first and last layer index."""

    name: str
    offset: int
    size: int
    first: int
    last: int
    role: str


@dataclass(frozen=True)
class Failure:
    """Why there are no numbers: stable code and the message that the user saw."""

    code: str
    message: str

    @property
    def untried(self) -> bool:
        """Whether nothing was tried, since a tool or a library kit is missing: no verdict on the network."""
        return self.code == "MissingTool"


@dataclass(frozen=True)
class Measurement:
    """One network by one engine on one board.

    `mode`: hardware, qemu, unicorn, renode or native. `kind`: measured (cycles), counted
    (instructions) or estimated. `samples` are raw counts of every timed inference. `provenance`
    holds what the number depends on: compiler, flags, git state, plan hash, probe, emulator (the
    words are in provenance.py). `created` is UTC in ISO 8601; the store fills it in.
    """

    model: Model
    engine: EngineId
    board: str
    mode: str
    kind: str
    clock_hz: int
    instructions: int | None = None
    cycles: int | None = None
    cycles_est: Estimate | None = None
    peak_ram: PeakRam | None = None
    flash: int | None = None
    correct: Correctness | None = None
    layers: tuple[LayerResult, ...] = ()
    memory: tuple[PlannedBuffer, ...] = ()
    samples: tuple[int, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    error: Failure | None = None
    created: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, ready for json.dumps."""
        return {"schema": SCHEMA, **asdict(self), "provenance": dict(self.provenance)}

    @classmethod
    def from_json(cls, data: object) -> Measurement:
        """The inverse of `to_json`; unknown fields are ignored, so that a record may grow.

        StoreError names the field that is missing or has the wrong type: records come from files.
        """
        if not isinstance(data, Mapping):
            raise StoreError(f"record is {type(data).__name__}, not an object; is this a tinyhil file?")
        if data.get("schema") != SCHEMA:
            raise StoreError(f"record has schema {data.get('schema')!r}; this version reads {SCHEMA!r}")
        record: Measurement = _decode(cls, data, "record")
        if record.mode not in MODES or record.kind not in KINDS:
            raise StoreError(
                f"record has mode {record.mode!r} and kind {record.kind!r}; expected {MODES}, {KINDS}"
            )
        return record


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _decode(kind: Any, data: object, where: str) -> Any:
    """`data` as a value of type `kind`: dataclasses, optionals, tuples, mappings and scalars."""
    if is_dataclass(kind):
        return _decode_fields(kind, data, where)
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if data is None else _decode(args[0], data, where)
    if origin is tuple and isinstance(data, list | tuple):
        return tuple(_decode(args[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if origin is Mapping and isinstance(data, Mapping):
        return {str(key): _decode(args[1], value, f"{where}.{key}") for key, value in data.items()}
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool) and math.isfinite(data):
        return float(data)
    if isinstance(data, int | str) and type(data) is kind and _is_storable(data):
        return data
    expected = getattr(kind, "__name__", str(kind))
    raise StoreError(f"{where} is {data!r:.60}, not {expected}: the record is damaged or not tinyhil's")


def _is_storable(data: int | str) -> bool:
    """Whether SQLite and UTF-8 can hold it: 64-bit integers, no lone surrogates."""
    if isinstance(data, str):
        return not any("\ud800" <= char <= "\udfff" for char in data)
    return -(2**63) <= data < 2**63


def _decode_fields(kind: Any, data: object, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise StoreError(f"{where} is {data!r:.60}, not an object: the record is damaged or not tinyhil's")
    values = {}
    for entry in fields(kind):
        if entry.name in data:
            values[entry.name] = _decode(_hints(kind)[entry.name], data[entry.name], f"{where}.{entry.name}")
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise StoreError(f"{where}.{entry.name} is missing: the record is damaged or not tinyhil's")
    return kind(**values)
