"""Depthwise convolutions on their own, HWC to HWC: four channels of some output rows at a time.

The input rows of four channels are brought into rows of 16-bit pairs in scratch, zero points around them;
then the micro-kernel computes these channels. So the scratch is that of four channels, and the rows that
two tiles share are brought there twice. A tile reads its input only while it is computed: what comes after
it may already be overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.emit import c_file
from tinyhil.harness.tinyengine.asm.pair_rows import PairRows
from tinyhil.harness.tinyengine.asm.pair_tile import PairTile, pack_channel
from tinyhil.harness.tinyengine.asm.post import Post
from tinyhil.harness.tinyengine.asm.requant import Recipe, choose, live_bias, reach_of
from tinyhil.harness.tinyengine.ctext import render, safe_comment
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.work import DepthwiseWork, Work

_GROUP = 4  # channels at a time


@lru_cache(maxsize=1024)
def recipe_of(work: DepthwiseWork) -> Recipe | None:
    """The cheapest proven requantisation of all channels."""
    flat = work.weights.reshape(-1, work.weights.shape[2]).T
    return choose(work.requant, reach_of(flat, work.folded_bias))


@lru_cache(maxsize=1024)
def _parts_of(work: DepthwiseWork, recipe: Recipe, core: str) -> tuple[PairRows, PairTile]:
    """What fills the rows, and what computes from them."""
    post, y = Post.of(recipe), work.y
    width, left = work.x.width, work.pads[2]
    tile = PairTile(work.kernel, work.strides, 0, width, left, y.width, y.channels, post, core)
    rows = PairRows(width, work.x.channels, tile.stored_left, tile.words, core)
    return rows, replace(tile, row_bytes=rows.row_bytes)


@dataclass(frozen=True, eq=False)
class DepthwiseCandidate:
    """One depthwise convolution, `rows` output rows at a time."""

    work: DepthwiseWork
    recipe: Recipe
    core: str
    rows: int

    @property
    def kernel(self) -> str:
        """How many rows at a time."""
        return f"dw pairs x{self.rows}"

    @property
    def _sort(self) -> PairRows:
        return _parts_of(self.work, self.recipe, self.core)[0]

    @property
    def _tile(self) -> PairTile:
        return _parts_of(self.work, self.recipe, self.core)[1]

    def _needed(self, rows: int) -> int:
        """Input rows that `rows` output rows need, those of the border included."""
        return (rows - 1) * self.work.strides[0] + self.work.kernel[0]

    def _tiles(self) -> Iterable[tuple[int, int, int]]:
        """Of every tile its output rows, and its first input row and the one behind its last."""
        w = self.work
        for row in range(0, w.y.height, self.rows):
            count = min(self.rows, w.y.height - row)
            top = row * w.strides[0] - w.pads[0]
            yield count, max(0, top), min(w.x.height, top + self._needed(count))

    @property
    def scratch(self) -> int:
        """The rows of four channels."""
        return self._needed(self.rows) * self._sort.row_bytes

    @cached_property
    def gaps(self) -> tuple[int | None, ...]:
        """All channels of a tile are read before the next tile is begun, but while it writes."""
        w, done, gap = self.work, 0, -self.work.x.nbytes
        for count, first, _ in self._tiles():
            done += count
            gap = max(gap, done * w.y.width * w.y.channels - first * w.x.width * w.x.channels)
        return (gap,)

    # -- cost

    @property
    def shared(self) -> Mapping[str, int]:
        """Code that other layers may use too."""
        return {f"{part.name}.c": part.code_bytes for part in (self._sort, self._tile)}

    @property
    def flash(self) -> int:
        """Weights, constants and the layer's own loops."""
        return 4 * self._tile.stream_words * self.work.y.channels + (150 if self._several else 100)

    @property
    def _several(self) -> bool:
        return self.rows < self.work.y.height

    @cached_property
    def instructions(self) -> int:
        """Counted on the generated parts; the loops around them by estimate."""
        groups = self.work.y.channels // _GROUP
        total = 40 + self._needed(self.rows) * (8 + 3 * self._sort.right // 4)
        for count, first, after in self._tiles():
            padded = self._needed(count) - (after - first)
            total += 20 + padded * 3 * self._sort.row_bytes // 4
            total += groups * (16 + self._sort.instructions(after - first) + self._tile.instructions(count))
        return total

    # -- code

    @cached_property
    def stream(self) -> npt.NDArray[np.int32]:
        """Packed weights and constants."""
        w = self.work
        bias = live_bias(w.weights.reshape(-1, w.weights.shape[2]).T, w.folded_bias)
        channels = range(w.y.channels)
        zero = w.x.zero_point
        parts = [
            pack_channel(self._tile, w.weights[:, :, c], int(bias[c]), zero, self.recipe, c) for c in channels
        ]
        return np.concatenate(parts)

    def emit(self, symbol: str) -> Code:
        """The layer's function; its parts come as helper files."""
        files = {f"{part.name}.c": part.text() for part in (self._sort, self._tile)}
        files["th_asm.h"] = c_file("th_asm.h")
        if self.core == "native":
            files |= {name: c_file(name) for name in ("th_twin.h", "th_twin.c")}
        return Code(self._definition(symbol), files, ('"th_asm.h"',))

    def _definition(self, symbol: str) -> str:
        w, x, y = self.work, self.work.x, self.work.y
        last = y.height % self.rows or self.rows
        below = (y.height - last) * w.strides[0] - w.pads[0] + self._needed(last) - x.height
        return render(
            "depthwise_pairs.c.j2",
            symbol=symbol,
            comment=safe_comment(
                f"Depthwise {w.kernel[0]}x{w.kernel[1]}, stride {w.strides[0]}x{w.strides[1]}: "
                f"{x.height}x{x.width}x{x.channels} -> {y.height}x{y.width}x{y.channels}"
            ),
            stream=self.stream,
            sort=self._sort,
            tile=self._tile,
            rows=self.rows,
            needed=self._needed(self.rows),
            bottom=max(0, below),
            right=self._sort.right,
            row_bytes=self._sort.row_bytes,
            zero_pair=(x.zero_point & 0xFFFF) * 0x10001,
            zero_pixel=(x.zero_point & 0xFF) * 0x01010101,
            words=self._tile.stream_words,
            channels=x.channels,
            height=x.height,
            width=x.width,
            out_height=y.height,
            out_width=y.width,
            kernel_height=w.kernel[0],
            stride=w.strides[0],
            pad_top=w.pads[0],
        )


@dataclass(frozen=True)
class Depthwise:
    """Depthwise convolutions over rows of 16-bit pairs, where nothing computes these rows."""

    name: str = "depthwise"

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """One per height of tile."""
        if len(chain) != 1 or not isinstance(chain[0], DepthwiseWork):
            return
        work = chain[0]
        if work.dilations != (1, 1) or work.multiplier != 1 or work.x.channels % _GROUP:
            return
        if not target.dsp and target.core != "native":
            return
        if max(work.pads[:2]) >= work.kernel[0]:  # windows without any pixel
            return
        recipe = recipe_of(work)
        if recipe is None or not all(part.possible for part in _parts_of(work, recipe, target.core)):
            return
        height = work.y.height
        for rows in (*(t for t in (1, 2, 3, 4, 6, 8, 12, 16, 24) if t < height), height):
            candidate = DepthwiseCandidate(work, recipe, target.core, rows)
            if candidate.scratch <= target.scratch_limit:
                yield candidate
