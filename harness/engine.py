"""The seam between engines and the rest: what an engine takes, and what it gives back.

An engine turns a graph into C sources for one board. Everything behind the sources (build, run,
measure, report) is the same for all engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from tinyhil.harness.boards import Board
from tinyhil.harness.model.graph import DType, Graph
from tinyhil.results.record import EngineId


@dataclass(frozen=True)
class Options:
    """What the user may ask of an engine. Part of the firmware's identity.

    `prefer`: "speed", "ram" or "flash". `float_io`: a float network input is quantised on the
    device, not on the host. `disabled`: names of optimisations that are turned off (ablation).
    """

    prefer: str = "speed"
    float_io: bool = False
    disabled: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Port:
    """A network input or output as the firmware sees it. `scale`/`zero_point` are 0 for float32."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    nbytes: int
    scale: float = 0.0
    zero_point: int = 0


@dataclass(frozen=True)
class Layer:
    """One step of the network as the firmware runs it; `symbol` is the C function whose entry marks it.

    `traffic`: bytes that it cannot avoid moving (inputs + constants + outputs), None if unknown.
    """

    name: str
    op: str
    symbol: str
    macs: int
    kernel: str = ""
    traffic: int | None = None


@dataclass(frozen=True)
class Buffer:
    """A planned piece of the arena, alive from layer `first` to layer `last` inclusive.

    `role` is one of input, activation, output, scratch. `offset` and `size` in bytes.
    """

    name: str
    offset: int
    size: int
    first: int
    last: int
    role: str


@dataclass(frozen=True)
class Sources:
    """C sources of one network by one engine; deterministic: same graph, board, options → same text.

    `files` maps relative names to text; every .c among them is compiled. They must define
    `const struct th_network th_network` (firmware_templates/runtime/tinyhil_network.h).
    `arena` is the planned arena in bytes (exactly the bytes that will be touched), None where the
    engine cannot say; up to `guard` bytes at its end are only read, by loads wider than their data.
    `elf` is a finished program with tinyhil's runtime in it, instead of `files`:
    nothing is compiled then. `place`: which network of `files` the rest speaks of, where they hold
    several.
    """

    engine: str
    version: str
    network: str
    files: Mapping[str, str]
    layers: tuple[Layer, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    arena: int | None
    buffers: tuple[Buffer, ...] = ()
    includes: tuple[Path, ...] = ()
    libraries: tuple[Path, ...] = ()
    defines: tuple[str, ...] = ()
    cflags: tuple[str, ...] = ("-O2",)
    notes: Mapping[str, str] = field(default_factory=dict)
    elf: Path | None = None
    place: int = 0
    guard: int = 0


class Engine(Protocol):
    """Turns a graph into C. Raises UnsupportedOperator or DoesNotFit before anything is built."""

    name: str

    def generate(self, graph: Graph, board: Board, options: Options) -> Sources:
        """The network as C for `board`."""
        ...


@runtime_checkable
class Identified(Protocol):
    """An engine that stands for others: its rows bear the name of whoever made the network's code."""

    def identity(self, graph: Graph) -> EngineId:
        """Name and version of the network's rows, also of failed ones. Never raises."""
        ...
