"""What a board's memories cost: the `[timing]` table of boards/*.toml.

docs/timing.md lists the keys. Penalties are in core cycles at the board's full clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board
from tinyhil.harness.targets.recorder import cache_models

#: With a cache off every access waits: these parts of a line's penalty, since most of a line's time over the
#: bus is its first beat. 0.8 makes CoreMark on an STM32H743 without data cache 2.7 times slower, published is
#: 2.9; 0.6 per fetch of 8 bytes makes it 6 times slower on an STM32F746 without caches, where Dhrystone was
#: published 5 times slower on the same memories (docs/timing.md).
_UNCACHED_DATA, _UNCACHED_FETCH = 0.8, 0.6
_FETCH_BYTES = 8  # of a Cortex-M7: its bus
_KEYS = (
    *("flash_wait_states", "flash_line", "ram_line", "fetch_line", "flash_access", "ram_access"),
    *("fetch_access", "flash_reads_per_line", "fetch_reads_per_line"),
)


@dataclass(frozen=True)
class MemoryTiming:
    """Penalties of one board in the conditions of one run.

    `flash_line`, `ram_line`: cycles per cache line read from flash or from cached RAM. `fetch_line`:
    cycles per line of code that the instruction cache lacks. With that cache off: `flash_access`,
    `ram_access` per load or store, `fetch_access` per fetch of `fetch_bytes`. `corrected`: the part
    of `flash_line` that a rule added for other wait states than the board's. `bus_divider`: core cycles per
    cycle of the memories' bus, where the penalties depend on it. `overrides`: what made this differ from
    the board's file.
    """

    flash_wait_states: int
    flash_line: float
    ram_line: float
    fetch_line: float
    flash_access: float
    ram_access: float
    fetch_access: float
    fetch_bytes: int
    corrected: float = 0.0
    bus_divider: int = 1
    overrides: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The penalties in short, for provenance."""
        values = (self.flash_line, self.ram_line, self.fetch_line)
        return f"ws{self.flash_wait_states}:" + ":".join(f"{value:g}" for value in values)


def memory_timing(
    board: Board, overrides: Mapping[str, float] | None = None, wait_states: int | None = None
) -> MemoryTiming:
    """The board's penalties; `overrides` replaces single keys of its `[timing]` table.

    `wait_states`: those of the run, if they are known. Raises UsageError for a board without the table
    (it has no latency model), and where no rule says what other wait states cost.
    """
    table = board.extra.get("timing")
    if not table:
        raise UsageError(
            f"board {board.name} has no [timing] table, so no latency can be estimated (docs/timing.md)"
        )
    changed = dict(overrides or {})
    unknown = set(changed) - set(_KEYS)
    if unknown:
        raise UsageError(f"no timing value is called {', '.join(sorted(unknown))}; docs/timing.md lists them")
    if wait_states is not None:
        changed.setdefault("flash_wait_states", wait_states)
    try:
        timing = _timing(board, dict(table), changed)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"board {board.name}: {error!r} in its [timing] table; docs/timing.md lists the keys"
        ) from error
    return replace(timing, overrides=tuple(f"{k}={v:g}" for k, v in sorted((overrides or {}).items())))


def _timing(board: Board, table: dict[str, Any], changed: Mapping[str, float]) -> MemoryTiming:
    usual = int(table.get("flash_wait_states", board.extra.get("hal", {}).get("flash_wait_states", 0)))
    waits = int(changed.get("flash_wait_states", usual))
    known = "flash_line" in table and "flash_line" not in changed
    table.update(changed)
    reads = float(table.get("flash_reads_per_line", 1))
    if known and waits != usual:
        if "flash_reads_per_line" not in table:
            raise UsageError(
                f"board {board.name} has flash_line for {usual} wait states and no flash_reads_per_line, so "
                f"nothing says what {waits} wait states cost: --set flash_line=CYCLES, or calibrate there"
            )
        table["flash_line"] = float(table["flash_line"]) + reads * (waits - usual)
    flash_line = float(table.get("flash_line", reads * waits + float(table.get("flash_line_fixed", 0))))
    fetches = float(table["fetch_reads_per_line"]) * waits if "fetch_reads_per_line" in table else flash_line
    fetch_line, ram_line = float(table.get("fetch_line", fetches)), float(table.get("ram_line", 0))
    accelerator = board.icache is None  # in the flash's interface: it is read as wide as it is
    data, fetch = (
        (waits, waits) if accelerator else (_UNCACHED_DATA * flash_line, _UNCACHED_FETCH * fetch_line)
    )
    return MemoryTiming(
        flash_wait_states=waits,
        flash_line=flash_line,
        ram_line=ram_line,
        fetch_line=fetch_line,
        flash_access=float(table.get("flash_access", data)),
        ram_access=float(table.get("ram_access", _UNCACHED_DATA * ram_line)),
        fetch_access=float(table.get("fetch_access", fetch)),
        fetch_bytes=_read_bytes(board, reads) if accelerator else _FETCH_BYTES,
        corrected=abs(reads * (waits - usual)) / flash_line if flash_line else 0.0,
        bus_divider=int(table.get("bus_divider", 1)),
    )


def _read_bytes(board: Board, reads_per_line: float) -> int:
    """The width of one read of the flash."""
    line = cache_models(board)[0]
    return max(4, round((line.line if line else 32) / reads_per_line))
