"""What a board's memories cost: the `[timing]` table of boards/*.toml.

docs/timing.md lists the keys. Penalties are in core cycles at the board's full clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board
from tinyhil.harness.targets.recorder import CacheModel, cache_models


@dataclass(frozen=True)
class MemoryTiming:
    """Penalties of one board.

    `flash_line`, `ram_line`: cycles per cache line read from flash or from cached RAM.
    `fetch_line`: cycles per line of code that the instruction cache lacks. `flash_access`,
    `ram_access`: cycles of one access, and of one fetch of 8 bytes, when the cache is off.
    `icache`, `dcache`: what the recorder simulates. `overrides` has the options that made this
    differ from the board's file.
    """

    flash_wait_states: int
    flash_line: float
    ram_line: float
    fetch_line: float
    flash_access: float
    ram_access: float
    icache: CacheModel | None
    dcache: CacheModel | None
    overrides: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The penalties in short, for provenance."""
        values = (self.flash_line, self.ram_line, self.fetch_line)
        return f"ws{self.flash_wait_states}:" + ":".join(f"{value:g}" for value in values)


def memory_timing(board: Board, overrides: Mapping[str, float] | None = None) -> MemoryTiming:
    """The board's penalties; `overrides` replaces single keys of its `[timing]` table.

    Raises UsageError for a board without the table: it has no latency model.
    """
    table = board.extra.get("timing")
    if not table:
        raise UsageError(
            f"board {board.name} has no [timing] table, so no latency can be estimated (docs/timing.md)"
        )
    table = dict(table)
    unknown = set(overrides or {}) - {
        "flash_wait_states",
        "flash_line",
        "ram_line",
        "fetch_line",
        "flash_access",
    }
    unknown -= {"ram_access", "flash_reads_per_line"}
    if unknown:
        raise UsageError(f"no timing value is called {', '.join(sorted(unknown))}; docs/timing.md lists them")
    try:
        table.update(overrides or {})
        waits = int(table.get("flash_wait_states", board.extra.get("hal", {}).get("flash_wait_states", 0)))
        line = float(table.get("flash_reads_per_line", 1)) * waits + float(table.get("flash_line_fixed", 0))
        flash_line = float(table.get("flash_line", line))
        icache, dcache = cache_models(board)
        timing = MemoryTiming(
            flash_wait_states=waits,
            flash_line=flash_line,
            ram_line=float(table.get("ram_line", 0)),
            fetch_line=float(table.get("fetch_line", flash_line)),
            flash_access=float(table.get("flash_access", waits + 3)),
            ram_access=float(table.get("ram_access", 2)),
            icache=icache,
            dcache=dcache,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"board {board.name}: {error!r} in its [timing] table; docs/timing.md lists the keys"
        ) from error
    return replace(timing, overrides=tuple(f"{k}={v:g}" for k, v in sorted((overrides or {}).items())))
