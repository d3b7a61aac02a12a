"""What loops read from flash through a cache: bytes that fit are read once, others in every round.

The caches of an STM32's flash hold little: beside a Cortex-M4, 1 KB of code and 256 bytes of constants. A
micro-kernel one word larger than that is read again in every round, and takes a quarter longer. So a plan's
run time cannot be told without them. A loop here is what is read in one round; the cache drops what was used
longest ago, so a loop that is too large finds nothing of the round before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tinyhil.harness.boards import Board
from tinyhil.harness.targets.recorder import cache_models

LINE = 32  # bytes
PLENTY = 1 << 40


@dataclass(frozen=True)
class Caches:
    """Bytes of the caches for code and for constants in flash. A board without them has more than enough:
    then everything counts once."""

    code: int
    constants: int


def caches_of(board: Board) -> Caches:
    """The core's own caches, or those of the flash's accelerator."""
    code, constants = (PLENTY if model is None else model.size for model in cache_models(board))
    return Caches(code, constants)


@dataclass(frozen=True)
class Loop:
    """`rounds` rounds, each of which reads `own` bytes and then runs the loops in `inner`. There are
    `alike` such loops one after the other, each over bytes of its own."""

    rounds: float
    own: float
    inner: tuple[Loop, ...] = ()
    alike: float = 1

    @property
    def each(self) -> float:
        """Different bytes that one of them reads."""
        return self.own + sum(loop.size for loop in self.inner)

    @property
    def size(self) -> float:
        """Different bytes that all of them read."""
        return self.alike * self.each


def lines_read(loops: Iterable[Loop], cache: float) -> float:
    """Cache lines that `loops` read in all, each of them alone."""
    return sum(_bytes_read(loop, cache, 1.0) for loop in loops) / LINE


def _bytes_read(loop: Loop, cache: float, entries: float) -> float:
    """Of a loop that is entered `entries` times, with other things in the cache each time."""
    entries *= loop.alike
    if loop.each <= cache:
        return entries * loop.each
    rounds = entries * loop.rounds
    return rounds * loop.own + sum(_bytes_read(inner, cache, rounds) for inner in loop.inner)
