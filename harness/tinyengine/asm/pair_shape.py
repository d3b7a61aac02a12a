"""What a micro-kernel over rows of 16-bit pairs depends on, the order of its weights, and what its two forms
have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.emit import Asm
from tinyhil.harness.tinyengine.asm.pair_rows import QUAD
from tinyhil.harness.tinyengine.asm.pair_taps import Lanes, Use, lanes_of, uses_of
from tinyhil.harness.tinyengine.asm.post import Post, as_int32, offset, words
from tinyhil.harness.tinyengine.asm.requant import Recipe

# Places on the stack, in bytes
BIAS, SHIFT, CONSTANTS, IN, OUT, END, LAST = 0, 4, 8, 16, 20, 24, 28
STREAM, TURN_END, TO, EDGES, FRAME = 32, 36, 40, 48, 56
# Registers that nothing has a fixed use for
POOL = ("r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")
LONG, TURN = 16, 8  # rows with more outputs than that are a loop, so many outputs in each turn
TILE = 4  # outputs at a time where weights are read row by row
REACH, STEP = 4095, 255  # of a load or store from its base, and of one that moves the base behind it


def place(word: int) -> int:
    """Bytes from a row's start to a word of its first channel."""
    return word // 2 * QUAD + word % 2 * 4


@dataclass(frozen=True)
class PairShape:
    """`row_bytes` from row to row of `width` pixels with `left` zero points in front of them; `pixel_stride`
    bytes between outputs of a row; output rows follow each other without a gap."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    row_bytes: int
    width: int
    left: int
    out_width: int
    pixel_stride: int
    post: Post
    core: str

    @property
    def stored_left(self) -> int:
        """Zero points that are stored in front of a row."""
        return self.left - self.shift

    @property
    def words(self) -> int:
        """Words of a row that are read."""
        return self._spanned - self.edge

    @cached_property
    def _spanned(self) -> int:
        columns = range(max(0, self.out_width - 2), self.out_width)
        return max(use.word for c in columns for use in self.uses(c)) + 1

    @cached_property
    def shift(self) -> int:
        """1 where the first window of a row starts one pixel in front of what is stored, in padding."""
        return int(self.resident and self.left % 2 == 1 and self.kernel[1] == 3 and self.out_width > 1)

    @cached_property
    def edge(self) -> bool:
        """The last word is padding, and gives the last tap to the last output and nothing else."""
        last = self._spanned - 1
        if not self.resident or 2 * last < self.stored_left + self.width:
            return False
        columns = range(max(0, self.out_width - 4), self.out_width)
        found = [(c, use.taps) for c in columns for use in self.uses(c) if use.word == last]
        return found == [(self.out_width - 1, (self.kernel[1] - 1,))] and self.kernel[1] > 1

    def uses(self, column: int) -> Sequence[Use]:
        """What a row gives to one output."""
        return uses_of(self.kernel[1], self.strides[1], self.shift, column)

    @cached_property
    def all_lanes(self) -> Lanes:
        """The weights of the whole kernel."""
        return lanes_of(*self.kernel, self.strides[1], self.shift, self.out_width)

    @cached_property
    def row_lanes(self) -> Lanes:
        """The weights of one row of the kernel."""
        return lanes_of(1, self.kernel[1], self.strides[1], 0, self.out_width)

    @cached_property
    def live(self) -> int:
        """Sums under way at a time, a power of two."""
        by_word: dict[int, list[int]] = {}
        for column in range(min(self.out_width, TURN)):
            for use in uses_of(self.kernel[1], self.strides[1], 0, column):
                by_word.setdefault(use.word, []).append(column)
        most = max(max(c) - min(c) + 1 for c in by_word.values())
        return 1 << (most - 1).bit_length()

    @cached_property
    def resident(self) -> bool:
        """All weights stay in registers, and one row of outputs is computed in one pass."""
        loops = self.out_width > LONG  # whose turns only know sums that the word before began
        lanes = lanes_of(*self.kernel, self.strides[1], 0, self.out_width)
        fits = len(lanes.words) + self.live <= len(POOL)
        return fits and not (loops and self.kernel[1] > 3)

    @property
    def constants_resident(self) -> bool:
        """The bias and the constants of the requantisation, too."""
        return len(self.all_lanes.words) + self.live + 3 <= len(POOL)

    @property
    def possible(self) -> bool:
        """Weights of a row fit the registers, and all loads reach from one base."""
        span = place(self.words if self.out_width <= LONG else min(self.words, 3 * TURN))
        rows = self.kernel[0] - 1 if self.resident else 1
        fits = self.resident or len(self.row_lanes.words) <= len(POOL) - TILE
        return fits and self.strides[1] <= 2 and rows * self.row_bytes + span <= REACH

    @property
    def stream_words(self) -> int:
        """Words of one channel."""
        rows = 1 if self.resident else self.kernel[0]
        lanes = self.all_lanes if self.resident else self.row_lanes
        return rows * len(lanes.words) + 1 + self.post.constants + self.shift + self.edge


def multiply(use: Use, half: int, total: str, value: str, weight: str, addend: str) -> str:
    """One multiplication of a word of pixels."""
    if len(use.taps) == 2:
        return f"smlad {total}, {value}, {weight}, {addend}"
    return f"smla{'bt'[use.high]}{'bt'[half]} {total}, {value}, {weight}, {addend}"


def requantise(post: Post, a: Asm, registers: Sequence[str], multiplier: str, addend: str) -> None:
    """Sums to what is shifted by a shift that is not the same for all channels, or saturated."""
    if post.kind == "rounded":
        a.op(*(f"asr {r}, {r}, #8" for r in registers))
    unshifted = replace(post, shift=post.shift or 0)
    unshifted.finish(a, registers, multiplier, addend, "")


def pack_channel(
    tile: PairShape, weights: npt.NDArray[np.int8], bias: int, zero: int, recipe: Recipe, channel: int
) -> npt.NDArray[np.int32]:
    """The stream of one channel; `weights` [kernel height, kernel width], `zero` the input's zero point."""
    lanes = (weights.astype(np.int64) << 8) & 0xFFFF

    def row(number: int, part: Lanes) -> list[int]:
        values = [
            [0 if tap is None else int(lanes[tap[0] + number, tap[1]]) for tap in w] for w in part.words
        ]
        return [low | high << 16 for low, high in values]

    start = 256 * bias + offset(recipe, channel)
    after = words(recipe, channel, tile.post)
    if tile.resident:
        outside = [*([0] if tile.shift else []), *([-1] if tile.edge else [])]  # columns of taps
        edges = [start + 256 * zero * int(weights[:, t].sum(dtype=np.int64)) for t in outside]
        return as_int32([*row(0, tile.all_lanes), start, *after, *edges])
    every = [w for number in range(tile.kernel[0]) for w in row(number, tile.row_lanes)]
    return as_int32([start, *every, *after])
