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

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.emit import c_file
from tinyhil.harness.tinyengine.asm.expand import Expand, pair_order
from tinyhil.harness.tinyengine.asm.gemm import Gemm, pack, recipe_of, stream_words
from tinyhil.harness.tinyengine.asm.post import Post
from tinyhil.harness.tinyengine.asm.requant import Recipe, live_bias
from tinyhil.harness.tinyengine.ctext import c_array, safe_comment
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.work import ConvWork, Work

_SLACK = 16  # bytes behind the blocks and the band that wide loads may touch
_STRIPS = (512, 3072, 12288)  # bytes of widened activations that candidates offer


@dataclass(frozen=True, eq=False)
class ConvCandidate:
    """One convolution, HWC to HWC. `strip`: pixels widened at a time; `band`: output rows per copy of
    padded input rows, 0 where the input is read directly."""

    work: ConvWork
    recipe: Recipe
    core: str
    strip: int
    band: int
    compact: bool = False
    kernel: str = "gemm"

    # -- geometry

    @property
    def _rows(self) -> int:
        return self.work.kernel[0]

    @property
    def _run(self) -> int:
        return self.work.kernel[1] * self.work.x.channels

    @property
    def _source_stride(self) -> int:
        """Bytes from one input row to the next, as the windows see it."""
        pads = self.work.pads
        return (self.work.x.width + (pads[2] + pads[3] if self.band else 0)) * self.work.x.channels

    @property
    def _band_rows(self) -> int:
        return (self.band - 1) * self.work.strides[0] + self._rows if self.band else 0

    @property
    def _linear(self) -> bool:
        """Neighbouring windows are equally far apart throughout."""
        w = self.work
        return w.strides[1] * w.x.channels * w.y.width == w.strides[0] * self._source_stride

    @property
    def _chunks(self) -> list[int]:
        """Pixels of each band (all pixels where there is none)."""
        y = self.work.y
        if not self.band:
            return [y.pixels]
        return [min(self.band, y.height - r) * y.width for r in range(0, y.height, self.band)]

    @cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """Taps of each pair."""
        return pair_order(self._rows, self._run)

    @cached_property
    def stream(self) -> npt.NDArray[np.int32]:
        """Packed weights and constants."""
        w = self.work.weights.reshape(self.work.weights.shape[0], -1)
        return pack(w, live_bias(w, self.work.folded_bias), self.order, self.recipe)

    # -- parts

    @cached_property
    def expand(self) -> Expand:
        """The widening of four pixels."""
        step = self.work.strides[1] * self.work.x.channels if self._linear else 0
        return Expand(self._rows, self._run, self._source_stride, step)

    def gemm(self, pixels: int, channels: int) -> Gemm:
        """The micro-kernel for a block of that size."""
        pairs, post = self.order.shape[0], Post.common(self.recipe)
        return Gemm(pairs, pixels, channels, post, False, self.core, self.compact)

    @cached_property
    def _blocks(self) -> tuple[int, ...]:
        """Sizes of blocks that occur: 4, and what remains of a band."""
        sizes = {4} if max(self._chunks) >= 4 else set()
        sizes |= {chunk % 4 for chunk in self._chunks} - {0}
        return tuple(sorted(sizes, reverse=True))

    @cached_property
    def _gemms(self) -> tuple[Gemm, ...]:
        channels = self.work.y.channels
        kinds = [*([2] if channels > 1 else []), *([1] if channels % 2 else [])]
        return tuple(self.gemm(pixels, kind) for pixels in self._blocks for kind in kinds)

    # -- cost

    @property
    def _strip_bytes(self) -> int:
        return self.strip * 4 * int(self.order.shape[0]) + _SLACK

    @property
    def _table_bytes(self) -> int:
        return 0 if self._linear else 4 * self.strip

    @property
    def _copy_bytes(self) -> int:
        return (self._band_rows * self._source_stride + _SLACK + 3) // 4 * 4 if self.band else 0

    @property
    def scratch(self) -> int:
        """Widened pixels, their windows, the band of padded rows."""
        return self._strip_bytes + self._table_bytes + self._copy_bytes

    @property
    def shared(self) -> Mapping[str, int]:
        """Code that other layers may use too."""
        parts = {name: size for g in self._gemms for name, size in g.shared.items()}
        if 4 in self._blocks:
            parts |= self.expand.shared
        return {**parts, "th_expand.c": 200}

    @property
    def flash(self) -> int:
        """Weights, constants and the layer's own loops."""
        return 4 * stream_words(self.order.shape[0], self.work.y.channels, self.recipe) + 160

    @cached_property
    def instructions(self) -> int:
        """Counted on the generated code; loops in C by estimate."""
        total = 40
        for chunk in self._chunks:
            total += self._copy_instructions()
            total += sum(self._strip_instructions(pixels) for pixels in self._strip_sizes(chunk))
        return total + (self.work.y.pixels * 6 if not self._linear else 0)

    def _strip_sizes(self, chunk: int) -> list[int]:
        """How many pixels each strip of a chunk has; the last 1 to 3 stand alone."""
        blocks, rest = divmod(chunk, 4)
        whole, part = divmod(4 * blocks, self.strip)
        return [*[self.strip] * whole, *([part] if part else []), *([rest] if rest else [])]

    def _strip_instructions(self, pixels: int) -> int:
        blocks, rest = divmod(pixels, 4)
        pairs, odd = divmod(self.work.y.channels, 2)
        total = 30
        for size, count in ((4, blocks), (rest, 1)):
            if not size or not count:
                continue
            total += self.expand.instructions(count) if size == 4 else 7 * size * self._rows * self._run
            total += self.gemm(size, 2).instructions(count, pairs) if pairs else 0
            total += self.gemm(size, 1).instructions(count, 1) if odd else 0
        return total

    def _copy_instructions(self) -> int:
        return self._band_rows * (30 + self._source_stride * 3 // 4) if self.band else 0

    @property
    def gaps(self) -> tuple[int | None, ...]:
        """A strip, or a band, is read completely before its outputs are written."""
        w, gap, done = self.work, 0, 0
        in_row = w.x.width * w.x.channels
        for index, chunk in enumerate(self._chunks):
            sizes = self._strip_sizes(chunk)
            for position, pixels in enumerate(sizes):
                done += pixels
                if self.band:  # the next band is read after this one's last strip
                    band = index + (position == len(sizes) - 1)
                    start = max(0, band * self.band * w.strides[0] - w.pads[0]) * in_row
                else:
                    y, x = divmod(done, w.y.width)
                    column = x * w.strides[1] * w.x.channels if self._rows == 1 else 0
                    start = y * w.strides[0] * in_row + column
                if done < w.y.pixels:
                    gap = max(gap, done * w.y.channels - start)
        return (gap,)

    # -- code

    def emit(self, symbol: str) -> Code:
        """The layer's function; micro-kernels come as helper files."""
        files = {name: text for g in self._gemms for name, text in g.files().items()}
        files |= {name: c_file(name) for name in ("th_asm.h", "th_expand.c")}
        if 4 in self._blocks:
            files |= self.expand.files(self.core)
        if self.core == "native":
            files |= {name: c_file(name) for name in ("th_twin.h", "th_twin.c")}
        return Code(self._definition(symbol), files, ('"th_asm.h"', "<string.h>"))

    def _definition(self, symbol: str) -> str:
        w = self.work
        kh, kw = w.kernel
        comment = safe_comment(
            f"Convolution {kh}x{kw}, stride {w.strides[0]}x{w.strides[1]}: "
            f"{w.x.height}x{w.x.width}x{w.x.channels} -> {w.y.height}x{w.y.width}x{w.y.channels}"
        )
        lines = [
            f"static const int32_t {symbol}_stream[{self.stream.size}] = {{",
            c_array(self.stream),
            "};",
            "",
            *(g.prototype for g in self._gemms),
            *([self.expand.prototype] if 4 in self._blocks else []),
            "",
            *self._strip_function(symbol),
            "",
            f"/* {comment}. */",
            f"void {symbol}(const int8_t *x, int8_t *y, uint8_t *scratch)",
            "{",
            "    uint32_t *blocks = (uint32_t *)(void *)scratch;",
            *(self._band_body(symbol) if self.band else self._direct_body(symbol)),
            "}",
        ]
        return "\n".join(lines) + "\n"

    def _strip_function(self, symbol: str) -> list[str]:
        """`pixels` outputs from `at` on, `pixels` a multiple of four or less than four."""
        pairs = self.order.shape[0]
        channels, even = self.work.y.channels, self.work.y.channels // 2 * 2
        odd_words = (
            pairs + 1 + Post.common(self.recipe).constants + (Post.common(self.recipe).kind == "proved")
        )
        split = self.stream.size - (odd_words if channels % 2 else 0)
        out = [
            f"static void {symbol}_strip(const int8_t *source, uint32_t at, uint32_t pixels, int8_t *y,",
            "                         uint32_t *blocks)",
            "{",
            f"    const int32_t *stream = {symbol}_stream;",
        ]
        if not self._linear:
            out += [
                f"    uint32_t *windows = blocks + {self._strip_bytes // 4};",
                f"    uint32_t row = at / {self.work.y.width}, column = at % {self.work.y.width};",
                "    for (uint32_t i = 0; i < pixels; i++) {",
                f"        windows[i] = row * {self.work.strides[0] * self._source_stride}u"
                f" + column * {self.work.strides[1] * self.work.x.channels}u;",
                f"        if (++column == {self.work.y.width}) {{",
                "            column = 0;",
                "            row++;",
                "        }",
                "    }",
            ]
        else:
            out += [f"    source += at * {self.work.strides[1] * self.work.x.channels}u;"]
        out += [f"    y += at * {channels}u;"]

        def calls(size: int, end: str) -> list[str]:
            found = []
            if even:
                gemm = self.gemm(size, 2)
                found.append(gemm.call("blocks", "stream", "y", end, f"stream + {split}", channels))
            if channels % 2:
                first, last = f"stream + {split}", f"stream + {self.stream.size}"
                found.append(self.gemm(size, 1).call("blocks", first, f"y + {even}", end, last, channels))
            return found

        for size in self._blocks:
            inner = []
            if size == 4:
                inner.append(f"const uint32_t *end = blocks + pixels * {pairs}u;")
                table = "" if self._linear else ", windows"
                inner.append(f"{self.expand.name}(source, blocks, end{table});")
                inner += calls(4, "end")
                test = "pixels >= 4"
            else:
                step = self.work.strides[1] * self.work.x.channels
                each = [f"source + {i * step if self._linear else f'windows[{i}]'}" for i in range(size)]
                inner.append(f"const int8_t *const rest[{size}] = {{{', '.join(each)}}};")
                inner.append(
                    f"th_expand(blocks, rest, {size}, {self._rows}, {self._run}, {self._source_stride});"
                )
                inner += calls(size, f"blocks + {size * pairs}")
                test = f"pixels == {size}"
            out += [f"    if ({test}) {{", *(f"        {line}" for line in inner), "    }"]
        return [*out, "}"]

    def _strips(self, symbol: str, source: str, count: str, y: str, indent: str) -> list[str]:
        """Calls of the strip function for pixels 0 .. count-1."""
        n = self.strip
        return [
            f"{indent}for (uint32_t at = 0; at < {count};) {{",
            f"{indent}    uint32_t left = {count} - at;",
            f"{indent}    uint32_t pixels = left > {n} ? {n} : left < 4 ? left : left & ~3u;",
            f"{indent}    {symbol}_strip({source}, at, pixels, {y}, blocks);",
            f"{indent}    at += pixels;",
            f"{indent}}}",
        ]

    def _direct_body(self, symbol: str) -> list[str]:
        return self._strips(symbol, "x", f"{self.work.y.pixels}u", "y", "    ")

    def _band_body(self, symbol: str) -> list[str]:
        w = self.work
        top, _, left, right = w.pads
        c = w.x.channels
        band_offset = self._strip_bytes + self._table_bytes
        row_bytes, out_bytes = w.x.width * c, w.y.width * w.y.channels
        return [
            f"    int8_t *band = (int8_t *)scratch + {band_offset};",
            f"    for (int32_t row = 0; row < {w.y.height}; row += {self.band}) {{",
            f"        int32_t below = {w.y.height} - row;",
            f"        uint32_t rows = (uint32_t)(below < {self.band} ? below : {self.band});",
            f"        int32_t first = row * {w.strides[0]} - {top};",
            "        int8_t *to = band;",
            f"        for (int32_t in = first; in < first + {self._band_rows}; in++) {{",
            f"            if (in < 0 || in >= {w.x.height}) {{",
            f"                memset(to, {w.x.zero_point}, {self._source_stride});",
            "            } else {",
            *([f"                memset(to, {w.x.zero_point}, {left * c});"] if left else []),
            f"                memcpy(to + {left * c}, x + in * {row_bytes}, {row_bytes});",
            *(
                [f"                memset(to + {left * c + row_bytes}, {w.x.zero_point}, {right * c});"]
                if right
                else []
            ),
            "            }",
            f"            to += {self._source_stride};",
            "        }",
            *self._strips(symbol, "band", f"rows * {w.y.width}u", f"y + row * {out_bytes}", " " * 8),
            "    }",
        ]  # fmt: skip


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
            key = (candidate.strip, candidate.band)
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
    return ConvCandidate(work, recipe, target.core, strip, band, target.compact)
