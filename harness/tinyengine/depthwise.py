"""Depthwise convolutions whose input nothing computes on the way: alone, or with the 1x1 that follows.

A tile of output rows at a time, four channels at a time: the input rows of these channels are brought into
rows of 16-bit pairs in scratch, then the micro-kernel computes their outputs. So the scratch is that of four
channels, and the input rows that two tiles share are brought there twice. All channels of a tile are
computed into scratch, then the 1x1 convolution reads them or they are copied: so the output may follow the
dying input closely. Only all rows at once go straight to the output.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.emit import c_file
from tinyhil.harness.tinyengine.asm.pair_rows import PairRows
from tinyhil.harness.tinyengine.asm.pair_shape import pack_channel
from tinyhil.harness.tinyengine.asm.pair_tile import PairTile
from tinyhil.harness.tinyengine.asm.post import Post
from tinyhil.harness.tinyengine.asm.requant import Recipe, live_bias
from tinyhil.harness.tinyengine.ctext import render, safe_comment, stream_text
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.planes import recipe_of
from tinyhil.harness.tinyengine.strips import SLACK, Strip, project_of
from tinyhil.harness.tinyengine.work import ConvWork, DepthwiseWork, Map, Work

_GROUP = 4  # channels at a time
_SAVED, _PRICE = 4, 20  # about a quarter of the instructions is saved, so many must be for a byte of weights
_NAME = "@depthwise@"  # stands for the name of the loops while their text is made


def _up(size: int) -> int:
    return -(-size // 8) * 8


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
    """One depthwise convolution, `rows` output rows at a time; `project` computes the 1x1 after it."""

    work: DepthwiseWork
    recipe: Recipe
    core: str
    rows: int
    project: Strip | None

    @property
    def kernel(self) -> str:
        """What is fused, and how many rows at a time."""
        return f"dw pairs{'+1x1' if self.project else ''} x{self.rows}"

    @property
    def _sort(self) -> PairRows:
        return _parts_of(self.work, self.recipe, self.core)[0]

    @property
    def _tile(self) -> PairTile:
        return _parts_of(self.work, self.recipe, self.core)[1]

    @property
    def _y(self) -> Map:
        return self.project.work.y if self.project else self.work.y

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

    # -- memory

    @property
    def _blocks_at(self) -> int:
        return _up(self._needed(self.rows) * self._sort.row_bytes)

    @property
    def _tile_at(self) -> int:
        return self._blocks_at + (_up(self.project.block_bytes) if self.project else 0)

    @property
    def staged(self) -> bool:
        """A tile is computed into scratch first."""
        return self.project is not None or self.rows < self.work.y.height

    @cached_property
    def scratch(self) -> int:
        """The rows of four channels; for the 1x1 its widened pixels; a tile of all channels."""
        y = self.work.y
        return self._tile_at + (_up(self.rows * y.width * y.channels + SLACK) if self.staged else 0)

    @cached_property
    def gaps(self) -> tuple[int | None, ...]:
        """When a tile is written, the input of all later ones is still needed."""
        x, y, done = self.work.x, self._y, 0
        if not self.staged:
            return (y.nbytes,)
        gap = -x.nbytes
        for count, first, _ in self._tiles():
            if done:
                gap = max(gap, done * y.width * y.channels - first * x.width * x.channels)
            done += count
        return (gap,)

    # -- cost

    @cached_property
    def shared(self) -> Mapping[str, int]:
        """Code that other layers may use too."""
        own = {f"{part.name}.c": part.code_bytes for part in (self._sort, self._tile)}
        loops = {f"{self.kernel}: {self._comment}": 150 if self.rows < self.work.y.height else 100}
        return {**own, **loops, **(self.project.shared if self.project else {})}

    @cached_property
    def flash(self) -> int:
        """Weights, constants and the call of the loops."""
        own = 4 * self._tile.stream_words * self.work.y.channels + 32
        return own + (self.project.flash if self.project else 0)

    @cached_property
    def instructions(self) -> int:
        """Counted on the generated parts; the loops around them by estimate."""
        groups = self.work.y.channels // _GROUP
        total = 50 + self._needed(self.rows) * (8 + 3 * self._sort.right // 4)
        for count, first, after in self._tiles():
            padded = self._needed(count) - (after - first)
            total += 20 + padded * 3 * self._sort.row_bytes // 4
            total += groups * (16 + self._sort.instructions(after - first) + self._tile.instructions(count))
            if self.project:
                total += self.project.instructions(count * self.work.y.width)
            elif self.staged:
                total += 20 + count * self.work.y.width * self.work.y.channels * 5 // 9
        return total

    # -- code

    @cached_property
    def stream(self) -> npt.NDArray[np.int32]:
        """Packed weights and constants."""
        w, zero = self.work, self.work.x.zero_point
        bias = live_bias(w.weights.reshape(-1, w.weights.shape[2]).T, w.folded_bias)
        channels = range(w.y.channels)
        parts = [
            pack_channel(self._tile, w.weights[:, :, c], int(bias[c]), zero, self.recipe, c) for c in channels
        ]
        return np.concatenate(parts)

    @property
    def _comment(self) -> str:
        w, y = self.work, self._y
        last = f", 1x1 -> {y.height}x{y.width}x{y.channels}" if self.project else ""
        return (
            f"{w.x.height}x{w.x.width}x{w.x.channels} -> depthwise {w.kernel[0]}x{w.kernel[1]} stride "
            f"{w.strides[0]} -> {w.y.height}x{w.y.width}x{w.y.channels}{last}."
        )

    def emit(self, symbol: str) -> Code:
        """The layer's data and a call; its loops are a helper file that layers of equal shape share."""
        data = [stream_text(f"{symbol}_depthwise", self.stream)]
        files = {f"{part.name}.c": part.text() for part in (self._sort, self._tile)}
        files["th_asm.h"] = c_file("th_asm.h")
        if self.core == "native":
            files |= {name: c_file(name) for name in ("th_twin.h", "th_twin.c")}
        if self.project:
            data.append(self.project.data(f"{symbol}_project"))
            files |= self.project.files()
        text = self._loops()
        loops = f"th_depthwise_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        definition = render(
            "block_call.c.j2",
            symbol=symbol,
            comment=safe_comment(self._comment),
            loops=loops,
            data=data,
            streams=[f"{symbol}_{name}_stream" for name in ("depthwise", "project")[: len(data)]],
            parameters="const int8_t *x0",
            inputs="x0",
        )
        return Code(definition, {**files, f"{loops}.c": text.replace(_NAME, loops)})

    def _loops(self) -> str:
        """The C file with the function that computes the layer."""
        w, x, y = self.work, self.work.x, self.work.y
        last = y.height % self.rows or self.rows
        below = (y.height - last) * w.strides[0] - w.pads[0] + self._needed(last) - x.height
        project = self.project
        return render(
            "depthwise_pairs.c.j2",
            symbol=_NAME,
            comment=safe_comment(self._comment),
            includes=["<string.h>", *sorted({'"th_asm.h"', *(project.includes() if project else ())})],
            prototypes=[part.prototype for part in (self._sort, self._tile)],
            more=project.prototypes() if project else [],
            project=project.definition(f"{_NAME}_project") if project else "",
            sort=self._sort.name,
            tile=self._tile.name,
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
            out_row_bytes=self._y.width * self._y.channels,
            kernel_height=w.kernel[0],
            stride=w.strides[0],
            pad_top=w.pads[0],
            blocks_at=self._blocks_at,
            tile_at=self._tile_at if self.staged else None,
        )


@dataclass(frozen=True)
class Depthwise:
    """Depthwise convolutions over rows of 16-bit pairs, alone or before a 1x1; unless `always`, only where
    speed is worth the flash."""

    name: str = "depthwise"
    always: bool = False

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """One per height of tile."""
        work, last = chain[0], chain[1] if len(chain) == 2 else None
        if len(chain) > 2 or not isinstance(work, DepthwiseWork) or not _fits(work, target):
            return
        if len(chain) == 2 and not (isinstance(last, ConvWork) and last.pointwise and last.x == work.y):
            return
        recipe = recipe_of(work)
        if recipe is None or not all(part.possible for part in _parts_of(work, recipe, target.core)):
            return
        if not self.always and not _worth(work, *_parts_of(work, recipe, target.core)):
            return
        height = work.y.height
        for rows in (*(t for t in (1, 2, 3, 4, 6, 8, 12, 16, 24) if t < height), height):
            project = project_of(last, rows, target) if isinstance(last, ConvWork) else None
            if last is not None and project is None:
                return
            candidate = DepthwiseCandidate(work, recipe, target.core, rows, project)
            if candidate.scratch <= target.scratch_limit:
                yield candidate


def _fits(work: DepthwiseWork, target: Target) -> bool:
    """Groups of four channels, and no window without any pixel."""
    whole = work.dilations == (1, 1) and work.multiplier == 1 and work.x.channels % _GROUP == 0
    return whole and max(work.pads[:2]) < work.kernel[0] and (target.dsp or target.core == "native")


def _worth(work: DepthwiseWork, rows: PairRows, tile: PairTile) -> bool:
    """The layer's own code is no larger than its weights as bytes, and these grow little in 16-bit lanes for
    what is saved. Flash is scarcer than the exchange rate of a single layer tells."""
    channels, size = work.y.channels, int(work.weights.size)
    grown = 4 * tile.stream_words * channels - size - 12 * channels
    spent = channels // _GROUP * (rows.instructions(work.x.height) + tile.instructions(work.y.height))
    small = rows.code_bytes + tile.code_bytes <= size
    return tile.resident and small and _SAVED * _PRICE * grown <= spent
