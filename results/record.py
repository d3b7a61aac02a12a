"""One measurement as data: the record that is stored, exported and compared (schema tinyhil/1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tinyhil.errors import StoreError

SCHEMA = "tinyhil/1"


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
    """One layer; the fields that this kind of target cannot give are None."""

    name: str
    op: str
    macs: int
    instructions: int | None = None
    cycles: int | None = None
    cycles_est: Estimate | None = None


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


@dataclass(frozen=True)
class Measurement:
    """One network by one engine on one board.

    `mode`: hardware, qemu, unicorn, renode or native. `kind`: measured (cycles), counted
    (instructions) or estimated. `samples` are raw counts of every timed inference. `provenance`
    holds what the number depends on: compiler, flags, git state, plan hash, probe, emulator.
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
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """The inverse of `to_json`; StoreError on another schema or a missing field."""
        if data.get("schema") != SCHEMA:
            raise StoreError(f"record has schema {data.get('schema')!r}; this version reads {SCHEMA!r}")
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        try:
            return cls(
                **{
                    **values,
                    "model": Model(**values["model"]),
                    "engine": EngineId(**values["engine"]),
                    "cycles_est": _optional(Estimate, values.get("cycles_est")),
                    "peak_ram": _optional(PeakRam, values.get("peak_ram")),
                    "correct": _optional(Correctness, values.get("correct")),
                    "error": _optional(Failure, values.get("error")),
                    "layers": tuple(_layer(item) for item in values.get("layers", ())),
                    "memory": tuple(PlannedBuffer(**item) for item in values.get("memory", ())),
                    "samples": tuple(values.get("samples", ())),
                }
            )
        except (KeyError, TypeError) as error:
            raise StoreError(f"record is damaged: {error!r}") from error


def _optional(kind: type[Any], data: Mapping[str, Any] | None) -> Any:
    return None if data is None else kind(**data)


def _layer(data: Mapping[str, Any]) -> LayerResult:
    return LayerResult(**{**data, "cycles_est": _optional(Estimate, data.get("cycles_est"))})
