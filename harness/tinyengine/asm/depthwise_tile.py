"""The micro-kernel of depthwise convolutions: one channel's padded plane in, its outputs out.

A plane is int8, rows `row_bytes` apart, zero points around it. SXTB16 of a word gives the pixels (a0, a2),
of its rotation (a1, a3); PKHBT with the next word's gives (a4, a2) and (a5, a3), which SMLADX multiplies
crosswise. Weights lie in 16-bit lanes as (w0, w2), (w1, w3), ... with what remains taken singly by SMLABB
and its sisters. They are scaled by 256, so that a sum is what the requantisation wants.

Small kernels keep all weights in registers and compute tiles of 2 x 2 outputs: a row of input, once
widened, serves both output rows, and two outputs need one word of it. 3x3, stride 1: per tile 4 loads,
8 SXTB16 and 24 multiplications for 36 MACs. Every other tile starts in the middle of a word: Cortex-M4
loads across words, Cortex-M7 is faster with two aligned loads and PKHBT.

Larger kernels read one row of weights at a time and compute tiles of 1 x 4 outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tinyhil.harness.tinyengine.asm.depthwise_outputs import tile_of
from tinyhil.harness.tinyengine.asm.depthwise_shape import (
    BIAS,
    CONSTANTS,
    END,
    FRAME,
    OUT,
    ROW_END,
    SHIFT,
    TileShape,
)
from tinyhil.harness.tinyengine.asm.emit import Asm

_PARAMETERS = ("const int8_t *plane", "const int32_t *stream", "int8_t *out")


@dataclass(frozen=True)
class DepthwiseTile(TileShape):
    """One variant, for `out_height` rows of outputs."""

    out_height: int

    @property
    def name(self) -> str:
        """Symbol; the same for the same code."""
        (kh, kw), (sh, sw) = self.kernel, self.strides
        return (
            f"th_dw_{kh}x{kw}s{sh}{sw}_{self.row_bytes}_{self.out_height}x{self.out_width}"
            f"_{self.pixel_stride}_{self.post.tag}"
        )

    @property
    def prototype(self) -> str:
        """C declaration."""
        return f"void {self.name}({', '.join(_PARAMETERS)});"

    def text(self) -> str:
        """The file that defines it: assembler, or the call of the twin where the core is the host."""
        if self.core == "native":
            sizes = (
                *self.kernel, *self.strides, self.row_bytes, self.out_height, self.out_width,
                self.pixel_stride, int(self.resident), self.post.c_fields,
            )  # fmt: skip
            return (
                f'#include "th_twin.h"\n\n{self.prototype}\n\n'
                f"void {self.name}({', '.join(_PARAMETERS)})\n{{\n"
                f"    static const struct th_depthwise depthwise = {{{', '.join(map(str, sizes))}}};\n"
                f"    th_depthwise_twin(&depthwise, plane, stream, out);\n}}\n"
            )
        comment = (
            f"Depthwise {self.kernel[0]}x{self.kernel[1]}, one channel: see depthwise_tile.py.",
            "r0 plane, r4-r7 accumulators, r8-r11 (and r12) weights, the rest pixels.",
        )
        body = self._code[0].function(self.name, _PARAMETERS, comment, self.core)
        return f"#include <stdint.h>\n\n{self.prototype}\n\n{body}"

    @property
    def instructions(self) -> int:
        """For one channel."""
        return self._code[1]

    @property
    def code_bytes(self) -> int:
        """Flash of the code."""
        return self._code[0].code_bytes

    # -- assembler

    @cached_property
    def _code(self) -> tuple[Asm, int]:
        """The code and the instructions it executes."""
        a = Asm()
        a.enter(FRAME)
        if self.resident:
            a.op(f"ldm r1!, {{{', '.join(f'r{8 + i}' for i in range(self.all_words))}}}")
            constants = ["r4", "r5", "r6", "r7"][: 1 + self.post.constants]
            a.op(f"ldm r1, {{{', '.join(constants)}}}", f"str r4, [sp, #{BIAS}]")
            a.op(f"strd r5, r6, [sp, #{CONSTANTS}]")
            if self.post.shift is None:
                a.op(f"str r7, [sp, #{SHIFT}]")
            a.op("mov lr, r2")
        else:
            a.op(f"str r2, [sp, #{OUT}]")
        rows = 2 if self.resident else 1
        turns, rest = divmod(self.out_height, rows)
        executed = 0
        if turns:
            step = rows * self.strides[0] * self.row_bytes
            if turns > 1:
                a.add("r3", turns * step, "r3", "r0")
                a.op(f"str r3, [sp, #{ROW_END}]")
            executed += a.lap()
            a.label(1)
            executed += turns * self._row_of_tiles(a, rows, step, 2)
            if turns > 1:
                a.op(f"ldr r3, [sp, #{ROW_END}]", "cmp r0, r3", "bne 1b")
            executed += turns * a.lap()
        if rest:
            executed += self._row_of_tiles(a, 1, 0, 4)
        a.leave(FRAME)
        return a, executed + a.lap()

    @property
    def _aligned(self) -> bool:
        """Every other tile would load words from odd half-words; Cortex-M7 waits three cycles for each."""
        return self.resident and self.strides[1] == 1 and self.core == "cortex-m7"

    def _row_of_tiles(self, a: Asm, rows: int, step: int, label: int) -> int:
        """All tiles over `rows` output rows; then r0 moves on by `step` in all. Instructions executed."""
        columns = 2 if self.resident else 4
        wide = 2 * columns if self._aligned else columns
        turns, rest = divmod(self.out_width, wide)
        advance = wide * self.strides[1]
        count = 0
        if turns > 1:
            a.add("r3", turns * advance, "r3", "r0")
            a.op(f"str r3, [sp, #{END}]")
            count += a.lap()
            a.label(label)
        if turns:
            self._tiles(a, rows, columns, wide)
            if turns > 1 or rest or step:
                a.add("r0", advance, "r3")
            if turns > 1:
                a.op(f"ldr r3, [sp, #{END}]", "cmp r0, r3", f"bne {label}b")
            count += turns * a.lap()
        self._tiles(a, rows, columns, rest)
        if step:
            a.add("r0", step - turns * advance, "r3")
            if rows == 2:
                self._skip_row(a)
        return count + a.lap()

    def _tiles(self, a: Asm, rows: int, columns: int, count: int) -> None:
        """Neighbouring tiles from r0 on, `count` output columns; the second one starts inside a word."""
        shape = TileShape(
            self.kernel, self.strides, self.row_bytes, self.out_width, self.pixel_stride, self.post, self.core
        )
        for first in range(0, count, columns):
            a.append(tile_of(shape, rows, min(columns, count - first), first > 0))

    def _skip_row(self, a: Asm) -> None:
        a.add("lr", self.out_width * self.pixel_stride, "r3")
