"""The recorder's trace as data. The text format is described in docs/timing.md."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinyhil.errors import UsageError

Counts = NDArray[np.int64]

#: Columns of `Segment.ran` after the block id; each region adds `REGION_COLUMNS`.
BLOCK_COLUMNS = ("executed", "mispredicted", "icache_misses", "unaligned")
REGION_COLUMNS = ("accesses", "load_misses", "store_misses", "writebacks")
#: Of one block; the emulators end theirs long before.
MAX_INSTRUCTIONS = 4096
_MAGIC = "tinyhil-trace 1"


@dataclass(frozen=True)
class CacheModel:
    """A cache to simulate: bytes, ways, bytes per line. `size` 0 is "switched off"."""

    size: int
    ways: int
    line: int = 32
    replacement: Literal["rr", "lru"] = "rr"

    def __str__(self) -> str:
        return f"{self.size}:{self.ways}:{self.line}:{self.replacement}"


@dataclass(frozen=True)
class Block:
    """A run of instructions as QEMU translated it; `code` is its machine code, or empty ("-")."""

    address: int
    instructions: int
    code: bytes = field(repr=False)


@dataclass(frozen=True, eq=False)
class Segment:
    """What ran from one mark to the next.

    `mark`: the function entry that began it, 0 for the reset. `instructions`: exact count.
    `ran`: int64 (blocks, 1 + 4 + 4·regions): block id, `BLOCK_COLUMNS`, then `REGION_COLUMNS` per
    region. `edges`: int64 (steps, 3): block id left, block id entered, times.
    """

    index: int
    mark: int
    instructions: int
    ran: Counts = field(repr=False)
    edges: Counts = field(repr=False)


@dataclass(frozen=True)
class Trace:
    """A whole run. `settings` are the recorder's arguments, `regions` its data regions in order."""

    blocks: tuple[Block, ...] = field(repr=False)
    segments: tuple[Segment, ...]
    regions: Mapping[str, tuple[int, int]]
    settings: Mapping[str, str]

    @property
    def has_edges(self) -> bool:
        """Steps between blocks and mispredictions were recorded."""
        return self.settings.get("edges", "0") != "0"

    def starting_at(self, mark: int) -> tuple[Segment, ...]:
        """The segments that began when the function at `mark` was entered (Thumb bit ignored)."""
        return tuple(segment for segment in self.segments if segment.mark == mark & ~1)


def parse(path: Path) -> Trace:
    """Reads a trace file, plain or gzipped; UsageError says which line is wrong, or that it is cut short."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode("ascii")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a tinyhil trace: it is not text") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(f"{path} is gzipped, but damaged: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read the trace {path}: {error.strerror}") from error
    return parse_text(text, str(path))


def _grouped(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, start=2):
        words = line.split()
        if words:
            yield number, words


def parse_text(text: str, name: str = "trace") -> Trace:
    """Reads a trace from its text; `name` is for the messages."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != _MAGIC:
        raise UsageError(f"{name} is not a tinyhil trace: its first line must be {_MAGIC!r}")
    if lines[-1].strip() != "end":
        raise UsageError(f"{name} is cut short: the last line is not 'end'. Was the emulator killed?")
    settings: dict[str, str] = {}
    regions: dict[str, tuple[int, int]] = {}
    blocks: dict[int, Block] = {}
    heads: list[tuple[int, int, int]] = []
    ran: list[list[list[str]]] = []
    edges: list[list[list[str]]] = []
    where = "one of its tables"
    try:
        for number, words in _grouped(lines[1:-1]):
            where = f"line {number}"
            kind = words[0]
            if kind == "ran":
                ran[-1].append(words[1:])
            elif kind == "edge":
                edges[-1].append(words[1:])
            elif kind == "block":
                code = b"" if words[4] == "-" else bytes.fromhex(words[4])
                blocks[int(words[1])] = block = Block(int(words[2], 16), int(words[3]), code)
                if len(code) % 2 or block.address % 2 or not 0 < block.instructions <= MAX_INSTRUCTIONS:
                    raise ValueError("no Thumb code")
            elif kind == "segment":
                heads.append((int(words[1]), int(words[2], 16), int(words[3])))
                ran.append([])
                edges.append([])
            elif kind == "with":
                key, _, value = words[1].partition("=")
                if key == "region":
                    region, low, high = value.split(":")
                    regions[region] = int(low, 16), int(high, 16)
                else:
                    settings[key] = value
            else:
                raise ValueError(f"unknown word {kind!r}")
        where = "one of its tables"
        ids = {block_id: place for place, block_id in enumerate(sorted(blocks))}
        width = 1 + len(BLOCK_COLUMNS) + len(REGION_COLUMNS) * len(regions)
        segments = []
        for head, ran_rows, edge_rows in zip(heads, ran, edges, strict=True):
            segments.append(Segment(*head, _table(ran_rows, width, 1, ids), _table(edge_rows, 3, 2, ids)))
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise UsageError(f"{name}: {where} is damaged ({error})") from error
    return Trace(tuple(blocks[i] for i in sorted(blocks)), tuple(segments), regions, settings)


def _table(rows: list[list[str]], width: int, id_columns: int, ids: Mapping[int, int]) -> Counts:
    """Rows of numbers as an array; its first columns, block ids, become places in `Trace.blocks`."""
    table = np.array(rows, dtype=np.int64).reshape(len(rows), width)
    if (table < 0).any():
        raise ValueError("a negative count")
    for column in range(id_columns):
        table[:, column] = [ids[block_id] for block_id in table[:, column].tolist()]
    return table
