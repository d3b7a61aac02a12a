"""The micro-kernel of depthwise convolutions over rows of 16-bit pairs: four channels, one after the other.

Rows are those of pair_rows.py. A word holds two neighbouring pixels, so one SMLAD takes two taps, and what
SXTB16 does for rows of bytes has been done once for all outputs. Weights lie in 16-bit lanes, scaled by
256, so that a sum is what the requantisation wants.

Small kernels keep all weights in registers and pass over an output row once: each word is loaded once per
kernel row, ends the sums of some outputs and begins those of the next ones. 3x3, stride 2: per output 3
loads, 6 multiplications, 2 instructions of requantisation and a store; every constant has its register.
Padding of one column on the left, or in the last word, is neither stored nor read: there the sums of the
first and the last output of a row start from biases of their own.

Larger kernels read one row of weights at a time and compute tiles of 1 x 4 outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from tinyhil.harness.tinyengine.asm.emit import Asm
from tinyhil.harness.tinyengine.asm.pair_pass import OnePass
from tinyhil.harness.tinyengine.asm.pair_rows import QUAD
from tinyhil.harness.tinyengine.asm.pair_shape import END, FRAME, IN, OUT, STREAM, TO, PairShape
from tinyhil.harness.tinyengine.asm.pair_taps import Lanes
from tinyhil.harness.tinyengine.asm.pair_tiles import Tiles

_PARAMETERS = ("const int8_t *rows", "const int32_t *stream", "int8_t *out", "const int8_t *end")


@dataclass(frozen=True)
class PairTile(PairShape):
    """One variant."""

    @property
    def name(self) -> str:
        """Symbol; the same for the same code."""
        (kh, kw), (sh, sw) = self.kernel, self.strides
        sizes = f"{self.row_bytes}_{self.out_width}{'l' * self.shift}{'r' * self.edge}_{self.pixel_stride}"
        return f"th_dwp_{kh}x{kw}s{sh}{sw}_{sizes}_{self.post.tag}"

    @property
    def prototype(self) -> str:
        """C declaration; `end` is where the row stands that follows the last output row's first one."""
        return f"void {self.name}({', '.join(_PARAMETERS)});"

    def text(self) -> str:
        """The file that defines it: assembler, or the call of the twin where the core is the host."""
        if self.core == "native":
            return self._twin()
        comment = (
            f"Depthwise {self.kernel[0]}x{self.kernel[1]} of four channels: see pair_tile.py.",
            "r0 rows, r2 outputs, the rest weights, constants, sums and pixels.",
        )
        body = self._code[0].function(self.name, _PARAMETERS, comment, self.core)
        return f"#include <stdint.h>\n\n{self.prototype}\n\n{body}"

    def _twin(self) -> str:
        kh, kw = self.kernel
        taps = [self._tap(r, t) for r in range(kh) for t in range(kw)]
        weights = self.stream_words - 1 - self.post.constants - self.shift - self.edge
        bias, first = (weights, 0) if self.resident else (0, 1)
        left_bias = weights + 1 + self.post.constants if self.shift else bias
        sizes = (
            kh, kw, *self.strides, self.row_bytes, self.out_width, self.pixel_stride, bias,
            weights + 1, left_bias, self.stream_words - 1 if self.edge else bias, self.stream_words,
            self.shift, int(self.edge),
        )  # fmt: skip
        places = ", ".join(str(2 * (first + word) + half) for word, half in taps)
        return (
            f'#include "th_twin.h"\n\n{self.prototype}\n\nvoid {self.name}({", ".join(_PARAMETERS)})\n{{\n'
            f"    static const uint16_t taps[{kh * kw}] = {{{places}}};\n"
            f"    static const struct th_pair_tile tile = {{{', '.join(map(str, sizes))}, taps, "
            f"{self.post.c_fields}}};\n    th_pair_tile_twin(&tile, rows, stream, out, end);\n}}\n"
        )

    def _tap(self, row: int, tap: int) -> tuple[int, int]:
        """Word and half of a tap among the weights."""
        if self.resident:
            return _holder(self.all_lanes, row, tap)
        word, half = _holder(self.row_lanes, 0, tap)
        return row * len(self.row_lanes.words) + word, half

    def instructions(self, rows: int) -> int:
        """For four channels of `rows` output rows."""
        _, once, channel, row = self._code
        return once + 4 * (channel + rows * row)

    @property
    def code_bytes(self) -> int:
        """Flash of the code."""
        return self._code[0].code_bytes

    @property
    def _code(self) -> tuple[Asm, int, int, int]:
        return _assembled(self)

    def assemble(self) -> tuple[Asm, int, int, int]:
        """The code, and instructions (once, per channel, per output row)."""
        a, one, tiles = Asm(), OnePass(self), Tiles(self)
        a.enter(FRAME)
        a.op(f"strd r0, r2, [sp, #{IN}]", f"add r2, r0, #{QUAD}", f"strd r3, r2, [sp, #{END}]")
        once = a.lap() + 2
        a.label(1)
        if self.resident:
            one.load_channel(a)
        elif tiles.out == "lr":
            a.op(f"ldr lr, [sp, #{OUT}]")
        else:
            a.op(f"ldr r2, [sp, #{OUT}]", f"str r2, [sp, #{TO}]")
        channel = a.lap()
        a.label(2)
        row = one.row(a) if self.resident else tiles.row(a)
        a.op(f"ldr r3, [sp, #{END}]", "cmp r0, r3", "bne 2b")
        row += a.lap()
        a.op(f"ldrd r0, r2, [sp, #{IN}]", "add r0, #8", "add r2, #1", f"strd r0, r2, [sp, #{IN}]")
        a.op(f"ldr r1, [sp, #{STREAM}]" if self.resident else f"add r1, #{4 * self.stream_words}")
        a.op(f"ldrd r2, r3, [sp, #{END}]", "add r2, #8", f"str r2, [sp, #{END}]", "cmp r0, r3", "bne 1b")
        channel += a.lap()
        a.leave(FRAME)
        return a, once, channel, row


def _holder(lanes: Lanes, row: int, tap: int) -> tuple[int, int]:
    """The first word that holds a tap, and the half."""
    return next((i, word.index((row, tap))) for i, word in enumerate(lanes.words) if (row, tap) in word)


@lru_cache(maxsize=512)
def _assembled(tile: PairTile) -> tuple[Asm, int, int, int]:
    return tile.assemble()
