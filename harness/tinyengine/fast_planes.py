"""Planes of a depthwise convolution for the generated micro-kernel, one channel at a time.

Weights lie in flash as the micro-kernel reads them, or packed; then the C text unpacks a channel first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.depthwise_shape import pack_channel
from tinyhil.harness.tinyengine.asm.depthwise_tile import DepthwiseTile
from tinyhil.harness.tinyengine.asm.emit import c_file
from tinyhil.harness.tinyengine.asm.post import Post
from tinyhil.harness.tinyengine.asm.requant import Recipe, live_bias
from tinyhil.harness.tinyengine.ctext import static_text, stream_text
from tinyhil.harness.tinyengine.work import DepthwiseWork


def plane_rows(work: DepthwiseWork, tile: int) -> int:
    """Plane rows that `tile` output rows need."""
    return (tile - 1) * work.strides[0] + work.kernel[0]


def roundest(least: int, most: int) -> int:
    """The multiple of the largest power of two in [least, most]."""
    step = 1
    while -(-least // (2 * step)) * 2 * step <= most and step < 1 << 31:
        step *= 2
    return -(-least // step) * step


@cache
def _tile_cost(tile: DepthwiseTile) -> tuple[int, int]:
    """Instructions per channel, bytes of code."""
    return tile.instructions, tile.code_bytes


@dataclass(frozen=True, eq=False)
class FastPlanes:
    """The generated micro-kernel, one channel at a time.

    It wants weights in 16-bit lanes, more than twice their size for 7x7. With fewer `bits` flash holds them
    packed, two lane words of bytes in one word, or four of four bits, or eight of two; a channel is
    unpacked onto the stack right before it is computed.
    """

    work: DepthwiseWork
    tile: int
    recipe: Recipe
    core: str
    bits: int

    @property
    def packed(self) -> bool:
        """Weights are unpacked before they are multiplied."""
        return self.bits < 16

    @property
    def rows(self) -> int:
        """Plane rows in memory at a time."""
        return plane_rows(self.work, self.tile)

    @property
    def row_stride(self) -> int:
        """Bytes of one padded row."""
        return (self.work.x.width + self.work.pads[2] + self.work.pads[3] + 3) // 4 * 4

    @property
    def plane_bytes(self) -> int:
        """Bytes of one plane."""
        return self.rows * self.row_stride

    @cached_property
    def _variants(self) -> dict[int, DepthwiseTile]:
        """The micro-kernel per number of output rows: a whole tile, and the last one."""
        height = self.work.y.height
        return {
            rows: DepthwiseTile(
                self.work.kernel, self.work.strides, self.row_stride, self.work.y.width,
                self.work.y.channels, Post.of(self.recipe), self.core, rows,
            )
            for rows in (self.tile, height % self.tile or self.tile)
        }  # fmt: skip

    @property
    def possible(self) -> bool:
        """The micro-kernel can address its inputs and outputs."""
        return all(v.possible for v in self._variants.values())

    @property
    def _lanes(self) -> int:
        """Words of weights in the stream of one channel; a bias and the constants come beside them."""
        return self._variants[self.tile].stream_words - self._constants

    @property
    def _constants(self) -> int:
        return 1 + Post.of(self.recipe).constants

    @property
    def _first_lane(self) -> int:
        return 0 if self._variants[self.tile].resident else 1

    @property
    def _words(self) -> int:
        """Words of one channel in flash."""
        if not self.packed:
            return self._lanes + self._constants
        return -(-self._lanes // self._per_word) + self._constants - (self._common_addend is not None)

    @property
    def _per_word(self) -> int:
        """Lane words in a packed word."""
        return 16 // self.bits

    @property
    def _addends(self) -> npt.NDArray[np.int64]:
        """The addend of each channel: the word behind bias and multiplier."""
        return self.recipe.addend

    @cached_property
    def _common_addend(self) -> int | None:
        """Where all addends lie within a byte of each other (as proven recipes do), the byte of the last
        packed word that no tap uses can hold the difference to this one: the roundest that serves, so that
        layers of a shape, whose addends differ by little, share their loops."""
        low, high = int(self._addends.min()), int(self._addends.max())
        tile = self._variants[self.tile]
        singles = len(tile.taps.singles) * (tile.kernel[0] if tile.resident else 1)
        spare = tile.kernel[1] % 2 == 1 and self.bits == 8 and (self._lanes % 2 == 1 or singles % 2 == 1)
        return roundest(high - 127, low + 128) if spare and high - low < 256 else None

    @cached_property
    def _stream(self) -> npt.NDArray[np.int32]:
        """All channels, [channels * words]."""
        w = self.work
        bias = live_bias(w.weights.reshape(-1, w.weights.shape[2]).T, w.folded_bias)
        first = self._variants[self.tile]
        parts = [
            pack_channel(first, w.weights[:, :, c], int(bias[c]), self.recipe, c)
            for c in range(w.weights.shape[2])
        ]
        if self.packed:
            parts = [self._pack(c, part) for c, part in enumerate(parts)]
        return np.concatenate(parts)

    def _pack(self, channel: int, stream: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Lane words hold their weights in bytes 1 and 3; the last of a word keeps its place, those before
        it lie lower. Fields of less than a byte are moved up by half their range: none is negative then."""
        start, lanes, bits = self._first_lane, self._lanes, self.bits
        words = np.append(
            stream[start : start + lanes].view(np.uint32), np.zeros(-lanes % self._per_word, np.uint32)
        )
        if bits < 8:
            words = (words ^ np.uint32(0x01000100 << bits - 1)) & np.uint32(0x01000100 * ((1 << bits) - 1))
        columns = words.reshape(-1, self._per_word).T
        moved = [
            c >> np.uint32(s) if s >= 0 else c << np.uint32(-s)
            for c, s in zip(columns, self._down, strict=True)
        ]
        pairs = np.bitwise_or.reduce(np.stack(moved), axis=0)
        after = stream[start + lanes :]
        if self._common_addend is not None:
            difference = int(self._addends[channel]) - self._common_addend
            pairs[-1] |= np.uint32((difference & 0xFF) << 24)
            after = np.delete(after, 2 - start)
        return np.concatenate([pairs.view(np.int32), stream[:start], after])

    @property
    def flash(self) -> int:
        """Weights, constants and the loop over channels."""
        return 4 * self._words * self.work.y.channels + (200 if self.packed else 60)

    @property
    def shared(self) -> Mapping[str, int]:
        """The micro-kernels."""
        return {f"{v.name}.c": _tile_cost(v)[1] for v in self._variants.values()}

    def instructions(self, rows: int) -> int:
        """One call for `rows` output rows of all channels."""
        unpack = (14 + self._lanes * (7 if self.bits < 8 else 4)) if self.packed else 0
        return 10 + self.work.y.channels * (9 + unpack + _tile_cost(self._variants[rows])[0])

    def files(self) -> dict[str, str]:
        """The micro-kernels."""
        files = {f"{v.name}.c": v.text() for v in self._variants.values()}
        files["th_asm.h"] = c_file("th_asm.h")
        if self.bits < 8:
            files["nn_low_bits.h"] = static_text("nn_low_bits.h")
        if self.core == "native":
            files |= {name: c_file(name) for name in ("th_twin.h", "th_twin.c")}
        return files

    def includes(self) -> tuple[str, ...]:
        """Headers."""
        return ('"nn_low_bits.h"', '"th_asm.h"') if self.bits < 8 else ('"th_asm.h"',)

    def prototypes(self) -> list[str]:
        """The micro-kernels."""
        return [v.prototype for v in self._variants.values()]

    def data(self, name: str) -> str:
        """C text of the stream."""
        return stream_text(name, self._stream)

    def definition(self, name: str) -> str:
        """`static void NAME(const int8_t *planes, int32_t rows, int8_t *y, const int32_t *stream)`."""
        c, m = self.work.y.channels, self.work.multiplier
        plane = f"planes + c{'' if m == 1 else f' / {m}'} * {self.plane_bytes}"
        stream = "lanes" if self.packed else f"stream + c * {self._words}"

        def call(rows: int) -> str:
            return f"{self._variants[rows].name}({plane}, {stream}, y + c);"

        *short, whole = sorted(self._variants)
        lines = [f"    for (int32_t c = 0; c < {c}; c++) {{"]
        if self.packed:
            lines += self._unpack()
        if short:
            lines += [f"        if (rows == {whole}) {{", f"            {call(whole)}", "        } else {"]
            lines += [f"            {call(short[0])}", "        }"]
        else:
            lines += [f"        {call(whole)}"]
        return "\n".join(
            [
                f"static void {name}(const int8_t *planes, int32_t rows, int8_t *y, const int32_t *stream)",
                "{",
                *([] if short else ["    (void)rows; /* always the same */"]),
                *(["    const int32_t *packed = stream;"] if self.packed else []),
                *([f"    int32_t lanes[{self._lanes + self._constants}];", ""] if self.packed else []),
                *lines,
                "    }",
                "}",
                "",
            ]
        )

    @property
    def _down(self) -> list[int]:
        """By how many bits each lane word of a packed word lies lower than where it is multiplied."""
        return [8 - self.bits * i for i in range(self._per_word)]

    def _lane(self, word: str, number: int) -> str:
        """C text: lane word `number` of a packed word."""
        down = self._down[number]
        moved = f"(uint32_t){word}" + (f" << {down}" if down > 0 else f" >> {-down}" if down else "")
        return (
            f"(int32_t)({moved} & 0xFF00FF00u)" if self.bits == 8 else f"nn_high_lanes({moved}, {self.bits})"
        )

    def _unpack(self) -> list[str]:
        """C text: the stream of one channel from its packed form, `packed` moves on."""
        first, each = self._first_lane, self._per_word
        whole, rest = divmod(self._lanes, each)
        pairs = whole + (rest > 0)
        lines = ["#pragma GCC unroll 4"] if whole > 1 and each == 2 else []
        lines += [f"        for (int32_t i = 0; i < {whole}; i++) {{ /* {each} lane words */"]
        lines += [
            f"            lanes[{first + n} + {each} * i] = {self._lane('packed[i]', n)};"
            for n in range(each)
        ]
        lines += ["        }"]
        for n in range(rest):
            lines += [f"        lanes[{first + whole * each + n}] = {self._lane(f'packed[{whole}]', n)};"]
        at = pairs
        for i in range(self._constants):
            to = i if i < first else self._lanes + i
            if i == 2 and self._common_addend is not None:
                addend = f"{self._common_addend} + (packed[{pairs - 1}] >> 24)"
                lines += [f"        lanes[{to}] = {addend}; /* its difference is in a spare byte */"]
                continue
            lines += [f"        lanes[{to}] = packed[{at}];"]
            at += 1
        return [*lines, f"        packed += {self._words};"]
