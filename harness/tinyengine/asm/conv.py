"""Convolutions of any kernel, stride and padding as blocks of pixels times pairs of channels.

Pixels are taken in strips: their windows are widened into scratch once, then the micro-kernel runs over
all channels. A 1x1 convolution, or one without padding, reads its input directly. With padding, a band
of input rows is copied into scratch between borders of zero points first, so that no window needs a
test. Pixels that do not fill a block of four go to a smaller variant of the micro-kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tinyhil.harness.tinyengine.asm.conv_code import definition
from tinyhil.harness.tinyengine.asm.conv_layout import ConvLayout
from tinyhil.harness.tinyengine.asm.emit import c_file
from tinyhil.harness.tinyengine.asm.expand import pair_order
from tinyhil.harness.tinyengine.asm.gemm_stream import recipe_of, stream_words
from tinyhil.harness.tinyengine.asm.requant import Recipe
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.work import ConvWork, Work

_STRIPS = (512, 3072, 12288)  # bytes of widened activations that candidates offer


@dataclass(frozen=True, eq=False)
class ConvCandidate:
    """One convolution, HWC to HWC: what it costs."""

    layout: ConvLayout
    kernel: str = "gemm"

    @property
    def scratch(self) -> int:
        """Widened pixels, their windows, the band of padded rows."""
        return self.layout.strip_bytes + self.layout.table_bytes + self.layout.copy_bytes

    @property
    def shared(self) -> Mapping[str, int]:
        """Code that other layers may use too."""
        parts = {name: size for g in self.layout.gemms for name, size in g.shared.items()}
        if 4 in self.layout.blocks:
            parts |= self.layout.expand.shared
        return {**parts, "th_expand.c": 200}

    @property
    def flash(self) -> int:
        """Weights, constants and the layer's own loops."""
        pairs, channels = self.layout.order.shape[0], self.layout.work.y.channels
        return 4 * stream_words(pairs, channels, self.layout.recipe) + 160

    @cached_property
    def instructions(self) -> int:
        """Counted on the generated code; loops in C by estimate."""
        total = 40
        for chunk in self.layout.chunks:
            total += self._copy_instructions()
            total += sum(self._strip_instructions(pixels) for pixels in self.layout.strip_sizes(chunk))
        return total + (self.layout.work.y.pixels * 6 if not self.layout.linear else 0)

    def _strip_instructions(self, pixels: int) -> int:
        layout, (blocks, rest) = self.layout, divmod(pixels, 4)
        pairs, odd = divmod(layout.work.y.channels, 2)
        total = 30
        for size, count in ((4, blocks), (rest, 1)):
            if not size or not count:
                continue
            total += layout.expand.instructions(count) if size == 4 else 7 * size * layout.rows * layout.run
            total += layout.gemm(size, 2).instructions(count, pairs) if pairs else 0
            total += layout.gemm(size, 1).instructions(count, 1) if odd else 0
        return total

    def _copy_instructions(self) -> int:
        return self.layout.band_rows * (30 + self.layout.source_stride * 3 // 4) if self.layout.band else 0

    @property
    def gaps(self) -> tuple[int | None, ...]:
        """A strip, or a band, is read completely before its outputs are written."""
        w, gap, done = self.layout.work, 0, 0
        in_row = w.x.width * w.x.channels
        for index, chunk in enumerate(self.layout.chunks):
            sizes = self.layout.strip_sizes(chunk)
            for position, pixels in enumerate(sizes):
                done += pixels
                if self.layout.band:  # the next band is read after this one's last strip
                    band = index + (position == len(sizes) - 1)
                    start = max(0, band * self.layout.band * w.strides[0] - w.pads[0]) * in_row
                else:
                    y, x = divmod(done, w.y.width)
                    column = x * w.strides[1] * w.x.channels if self.layout.rows == 1 else 0
                    start = y * w.strides[0] * in_row + column
                if done < w.y.pixels:
                    gap = max(gap, done * w.y.channels - start)
        return (gap,)

    def emit(self, symbol: str) -> Code:
        """The layer's function; micro-kernels come as helper files."""
        files = {name: text for g in self.layout.gemms for name, text in g.files().items()}
        files |= {name: c_file(name) for name in ("th_asm.h", "th_expand.c")}
        if 4 in self.layout.blocks:
            files |= self.layout.expand.files(self.layout.core)
        if self.layout.core == "native":
            files |= {name: c_file(name) for name in ("th_twin.h", "th_twin.c")}
        return Code(definition(self.layout, symbol), files, ('"th_asm.h"', "<string.h>"))


@dataclass(frozen=True)
class Convolution:
    """Convolutions and fully-connected layers as blocks of 4 pixels x 2 channels."""

    name: str = "gemm"

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """One candidate per size of strip, where a recipe is proven and strides fit the instructions."""
        if len(chain) != 1 or not isinstance(chain[0], ConvWork):
            return
        if not target.dsp and target.core != "native":
            return
        work = chain[0]
        recipe = recipe_of(work)
        if recipe is None:
            return
        seen = set()
        for budget in _STRIPS:
            candidate = plan(work, recipe, target, budget)
            key = (candidate.layout.strip, candidate.layout.band)
            if candidate.scratch <= target.scratch_limit and key not in seen:
                seen.add(key)
                yield candidate


def plan(work: ConvWork, recipe: Recipe, target: Target, budget: int) -> ConvCandidate:
    """The candidate whose strip takes about `budget` bytes (at least one block)."""
    kh, kw = work.kernel
    pairs = pair_order(kh, kw * work.x.channels).shape[0]
    strip = max(4, budget // (4 * pairs) // 4 * 4)
    band = 0
    if any(work.pads):
        # whole blocks if possible: rows until their pixels are a multiple of four, or fill the strip
        whole = next(r for r in (1, 2, 4) if r * work.y.width % 4 == 0)
        band = min(work.y.height, max(whole, strip // work.y.width // whole * whole))
        while band > whole and ((band - 1) * work.strides[0] + kh) * work.x.width * work.x.channels > budget:
            band -= whole
    pixels = (band * work.y.width if band else work.y.pixels) + 3
    strip = max(4, min(strip, pixels // 4 * 4))
    return ConvCandidate(ConvLayout(work, recipe, target.core, strip, band, target.compact))
