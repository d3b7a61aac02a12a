"""What a micro-kernel of depthwise convolutions over planes depends on, and its weights in that order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.post import Post, as_int32, offset, words
from tinyhil.harness.tinyengine.asm.requant import Recipe

BIAS, CONSTANTS, SHIFT, END, ROW_END, OUT, FRAME = 0, 8, 16, 20, 24, 28, 32  # on the stack, in bytes


@dataclass(frozen=True)
class Taps:
    """How one row of `width` taps is split: pairs (t, t+2) and single taps."""

    width: int

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Taps that one SMLAD takes."""
        full = [(g + i, g + i + 2) for g in range(0, self.width // 4 * 4, 4) for i in (0, 1)]
        rest = self.width // 4 * 4
        return (*full, *([(rest, rest + 2)] if self.width % 4 == 3 else []))

    @property
    def singles(self) -> tuple[int, ...]:
        """Taps on their own."""
        rest = self.width // 4 * 4
        return {0: (), 1: (rest,), 2: (rest, rest + 1), 3: (rest + 1,)}[self.width % 4]


@dataclass(frozen=True)
class TileShape:
    """`row_bytes` of the padded plane; `pixel_stride` bytes between outputs of a row; output rows follow each
    other without a gap."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    row_bytes: int
    out_width: int
    pixel_stride: int
    post: Post
    core: str

    @cached_property
    def taps(self) -> Taps:
        """The split of a row."""
        return Taps(self.kernel[1])

    @property
    def row_words(self) -> int:
        """Words of weights of one row."""
        return len(self.taps.pairs) + (len(self.taps.singles) + 1) // 2

    @property
    def all_words(self) -> int:
        """Words of weights of all rows together."""
        kh = self.kernel[0]
        return kh * len(self.taps.pairs) + (kh * len(self.taps.singles) + 1) // 2

    @cached_property
    def resident(self) -> bool:
        """All weights stay in registers."""
        return self.all_words <= 5 and self.kernel[1] <= 3 and self.strides[1] <= 2

    @property
    def possible(self) -> bool:
        """Weights of a row and all offsets fit the instructions."""
        rows = self.kernel[0] + self.strides[0]
        reach = rows * self.row_bytes + 4 * self.strides[1] + self.kernel[1] + 4
        return self.row_words <= 4 and self.strides[1] <= 4 and reach < 4096 and 4 * self.pixel_stride < 4096

    @property
    def stream_words(self) -> int:
        """Words of one channel."""
        weights = self.all_words if self.resident else self.kernel[0] * self.row_words
        return weights + 1 + self.post.constants


def pack_channel(
    tile: TileShape, weights: npt.NDArray[np.int8], bias: int, recipe: Recipe, channel: int
) -> npt.NDArray[np.int32]:
    """The stream of one channel; `weights` [kernel height, kernel width]."""
    lanes = (weights.astype(np.int64) << 8) & 0xFFFF
    pairs = [[int(row[a] | row[b] << 16) for a, b in tile.taps.pairs] for row in lanes]
    singles = [[int(row[t]) for t in tile.taps.singles] for row in lanes]
    start = 256 * bias + offset(recipe, channel)
    after = words(recipe, channel, tile.post)
    if tile.resident:
        flat = [w for row in singles for w in row]
        return as_int32([*(w for row in pairs for w in row), *_two_by_two(flat), start, *after])
    rows = [w for p, s in zip(pairs, singles, strict=True) for w in (*p, *_two_by_two(s))]
    return as_int32([start, *rows, *after])


def _two_by_two(lanes: list[int]) -> list[int]:
    padded = [*lanes, *([0] if len(lanes) % 2 else [])]
    return [low | high << 16 for low, high in zip(padded[::2], padded[1::2], strict=True)]
