"""What the recorder is to simulate for a board: its caches, and the memories behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board, Cache
from tinyhil.harness.targets.recorder.trace import CacheModel


def cache_models(board: Board) -> tuple[CacheModel | None, CacheModel | None]:
    """The instruction and the data cache: the core's own, or the flash accelerator's of `[timing]`."""
    table = board.extra.get("timing", {})
    return (
        _model(board, table.get("icache"), board.icache),
        _model(board, table.get("dcache"), board.dcache),
    )


def _model(board: Board, table: Mapping[str, Any] | None, own: Cache | None) -> CacheModel | None:
    if table is None:
        return CacheModel(own.size, own.ways, own.line) if own else None
    try:
        return CacheModel(
            int(table["size"]), int(table["ways"]), int(table.get("line", 32)), table.get("replacement", "rr")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"board {board.name}: {error!r} in a cache of its [timing] table (docs/timing.md)"
        ) from error


def data_regions(board: Board, *, emulated: bool) -> dict[str, tuple[int, int]]:
    """The ranges behind the data cache: `flash`, and `sram` where the core caches RAM.

    Tightly coupled memory answers at once and is left out. `emulated`: addresses of the emulator
    twin's memory map.
    """
    memories = board.memory_map(emulated)
    low = memories.flash.origin
    regions = {"flash": (low, low + memories.flash.size)}
    if board.dcache is None:
        return regions  # Cortex-M4: only the flash has a cache, RAM answers at once
    start, end = memories.ram.origin, memories.ram.origin + memories.ram.size
    for region in memories.regions:
        if "tcm" in region.name and region.origin <= start < region.origin + region.size:
            start = region.origin + region.size
    regions["sram"] = (start, end)
    return regions


def recorder_options(board: Board, *, emulated: bool = True) -> dict[str, Any]:
    """Keyword arguments of `plugin_argument` that record all that `estimate` needs for the board."""
    icache, dcache = cache_models(board)
    return {
        "edges": True,
        "icache": icache,
        "dcache": dcache,
        "regions": data_regions(board, emulated=emulated),
    }
