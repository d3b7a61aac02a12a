"""Whether a board runs as its file promises: clock, caches, wait states, and counters that count.

A cycle count taken under other conditions is a true number about something else, so it is refused.
"""

from __future__ import annotations

import time
from typing import Protocol

from tinyhil.errors import BenchError
from tinyhil.harness.bench.recovery import Hopeless
from tinyhil.harness.boards import Board
from tinyhil.harness.wire import HelloAnswer

_CYCCNT = 0xE000_1004
_CLOCK_WINDOW = 0.25  # seconds over which the core clock is compared with the host's
_CLOCK_TOLERANCE = 0.02  # an internal oscillator is within 1 %
_COUNTER_TOLERANCE = 0.01  # both count the same clock; only the order of reading them is between


class Readable(Protocol):
    """A connected chip."""

    def read_word(self, address: int) -> int:
        """The 32-bit word at `address`."""
        ...


def check_conditions(hello: HelloAnswer, board: Board) -> None:
    """Hopeless(BenchError), which no recovery mends, unless all that the chip's registers say is what
    boards/*.toml wants. `hello` is from the chip's own firmware, which can read them all."""
    if hello.clock_hz != board.clock_hz:
        raise _wrong(
            board,
            f"runs at {hello.clock_hz} Hz by its clock registers, not at {board.clock_hz}: its clock did not "
            f"start, or the PLL is set wrong. Likely crystal or solder bridges are not as in "
            f"boards/{board.name}.toml, [hal]",
        )
    waits = board.extra.get("hal", {}).get("flash_wait_states")
    if hello.wait_states != waits:
        raise _wrong(
            board,
            f"reads flash with {hello.wait_states} wait states, not with {waits}: FLASH_ACR does not hold "
            f"flash_wait_states of boards/{board.name}.toml, [hal]",
        )
    wanted = (1 if board.icache else 0) | (2 if board.dcache else 0)
    if hello.caches is None or hello.caches & wanted != wanted:
        raise _wrong(board, f"has not all of its caches on (state {hello.caches})")
    cycles, ticks = hello.counters or (0, 0)
    if not ticks or abs(cycles - ticks) > _COUNTER_TOLERANCE * ticks:
        raise _wrong(
            board,
            f"counted {cycles} cycles while SysTick, on the same clock, counted {ticks}: DWT CYCCNT is off, "
            "locked, or stopped by a debugger, so no cycle count can be trusted",
        )


def _wrong(board: Board, words: str) -> Hopeless:
    return Hopeless(BenchError(f"{board.name} {words}"))


def check_clock(chip: Readable, board: Board) -> int:
    """The core clock in Hz, by the cycle counter over the host's time; BenchError if it is not the
    board's. The host may be busy: what a reading took of time counts for the board."""
    before, first = time.monotonic(), chip.read_word(_CYCCNT)
    begin = time.monotonic()
    time.sleep(_CLOCK_WINDOW)
    end, second = time.monotonic(), chip.read_word(_CYCCNT)
    after = time.monotonic()
    cycles = (second - first) & 0xFFFF_FFFF
    slowest, fastest = cycles / (after - before), cycles / (end - begin)
    measured = round(cycles / ((after + end - begin - before) / 2))
    if not slowest / (1 + _CLOCK_TOLERANCE) <= board.clock_hz <= fastest * (1 + _CLOCK_TOLERANCE):
        raise BenchError(
            f"the cycle counter advances at {measured} Hz by the host's clock, but by its registers the chip "
            f"runs at {board.clock_hz} Hz: a wrong crystal, or a PLL that is not what boards/*.toml says"
        )
    return measured
