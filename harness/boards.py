"""Board kinds as data: one `boards/*.toml` each. A new board is a new file, not new code."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tinyhil.errors import UsageError


@dataclass(frozen=True)
class Memory:
    """One memory region: where it starts and how many bytes it has."""

    name: str
    origin: int
    size: int


@dataclass(frozen=True)
class Cache:
    """Geometry of one cache: bytes, ways, bytes per line."""

    size: int
    ways: int
    line: int = 32


@dataclass(frozen=True)
class MemoryMap:
    """Where one ELF lies: on the chip, or on its emulator twin (same sizes, other origins)."""

    flash: Memory
    ram: Memory
    regions: tuple[Memory, ...] = ()

    def region(self, name: str) -> Memory:
        """The region called `name`; KeyError if there is none."""
        return {memory.name: memory for memory in self.regions}[name]


@dataclass(frozen=True)
class Twin:
    """The emulator machine that stands in for the board, restricted to the board's memory sizes."""

    machine: str
    flash_origin: int
    ram_origin: int


@dataclass(frozen=True)
class Board:
    """A kind of target.

    `core` is the GCC name (`cortex-m7`), `fpu` the -mfpu name, `clock_hz` the full-speed core clock.
    `flash` and `ram` are what the linker may use; `regions` names parts of the RAM with their own
    timing (DTCM). `fast` names a region outside `ram` that takes the stack, and the arena where it
    fits beside it. `extra` holds the tables that only one part reads (hal, pyocd, timing, serial).
    """

    name: str
    title: str
    core: str
    fpu: str
    clock_hz: int
    flash: Memory
    ram: Memory
    regions: tuple[Memory, ...] = ()
    icache: Cache | None = None
    dcache: Cache | None = None
    twin: Twin | None = None
    family: str = ""
    fast: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @property
    def is_native(self) -> bool:
        """The host itself: no emulator, no cross compiler."""
        return self.core == "native"

    def memory_map(self, emulated: bool) -> MemoryMap:
        """The memories of the chip, or of its twin: regions inside the RAM move with it, others stay."""
        if not emulated or self.twin is None:
            return MemoryMap(self.flash, self.ram, self.regions)
        shift = self.twin.ram_origin - self.ram.origin
        end = self.ram.origin + self.ram.size
        return MemoryMap(
            Memory("flash", self.twin.flash_origin, self.flash.size),
            Memory("ram", self.twin.ram_origin, self.ram.size),
            tuple(
                Memory(r.name, r.origin + shift if self.ram.origin <= r.origin < end else r.origin, r.size)
                for r in self.regions
            ),
        )


def _memory(name: str, table: Mapping[str, Any]) -> Memory:
    return Memory(name, int(table["origin"]), int(table["size"]))


def _fast(table: Mapping[str, Any]) -> str:
    name = str(table.get("fast", ""))
    if name and name not in table.get("regions", {}):
        raise ValueError(f"fast = {name!r} is not one of its regions")
    return name


def _cache(table: Mapping[str, Any] | None) -> Cache | None:
    return Cache(**table) if table else None


def parse_board(name: str, table: Mapping[str, Any]) -> Board:
    """A board from its TOML table; UsageError names the missing or wrong key."""
    known = {
        "title",
        "core",
        "fpu",
        "clock_hz",
        "family",
        "fast",
        "flash",
        "ram",
        "regions",
        "icache",
        "dcache",
        "twin",
    }
    try:
        twin = table.get("twin")
        return Board(
            name=name,
            title=table["title"],
            core=table["core"],
            fpu=table.get("fpu", ""),
            clock_hz=int(table["clock_hz"]),
            family=table.get("family", ""),
            fast=_fast(table),
            flash=_memory("flash", table["flash"]),
            ram=_memory("ram", table["ram"]),
            regions=tuple(_memory(key, value) for key, value in table.get("regions", {}).items()),
            icache=_cache(table.get("icache")),
            dcache=_cache(table.get("dcache")),
            twin=Twin(**twin) if twin else None,
            extra={key: value for key, value in table.items() if key not in known},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"board {name}: {error!r} in its .toml; docs/boards.md lists the keys") from error


def boards_folder() -> Path:
    """The folder of the board files, in a checkout as in an installed package."""
    return Path(str(resources.files("tinyhil"))) / "boards"


@cache
def all_boards() -> Mapping[str, Board]:
    """Every board kind by name."""
    return {
        path.stem: parse_board(path.stem, _table(path)) for path in sorted(boards_folder().glob("*.toml"))
    }


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"board {path.stem}: {path} is not valid TOML: {error}") from error


def get_board(name: str) -> Board:
    """The board kind called `name`, or that of one's own file where `name` ends in `.toml`; UsageError lists
    the known ones."""
    boards = all_boards()
    if name.endswith(".toml"):
        return _own_board(Path(name), boards)
    try:
        return boards[name]
    except KeyError:
        known = ", ".join(boards)
        raise UsageError(
            f"unknown board {name!r}; known are {known}, or the path of a .toml file of your own"
            " (docs/boards.md: adding one)"
        ) from None


def _own_board(path: Path, known: Mapping[str, Board]) -> Board:
    if not path.is_file():
        raise UsageError(f"{path}: no such board file; the known boards have names: {', '.join(known)}")
    board = parse_board(path.stem, _table(path))
    if known.get(board.name, board) != board:  # their results would look like one board's
        raise UsageError(f"{path}: {board.name} is another board already; give the file a name of its own")
    return board
