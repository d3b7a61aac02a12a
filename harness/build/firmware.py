"""One ELF, and what can be known about it without running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Sources


@dataclass(frozen=True)
class Symbol:
    """A linker symbol: address (Thumb bit cleared) and size in bytes."""

    address: int
    size: int


@dataclass(frozen=True)
class Firmware:
    """A built program. `id` is the hash of everything that went into it, and is compiled into it.

    `flash` is text + rodata + the load image of .data; `static_ram` is .data + .bss of the network
    and the C library, without arena and without the harness's own `instrumentation` bytes.
    `emulated` tells which of the board's two memory maps the ELF was linked for.
    """

    id: str
    elf: Path
    board: Board
    emulated: bool
    sources: Sources
    flash: int
    static_ram: int
    instrumentation: int
    sections: Mapping[str, int]
    symbols: Mapping[str, Symbol]
    compiler: str
    flags: str
