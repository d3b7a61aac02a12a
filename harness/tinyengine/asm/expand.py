"""Activations widened for the micro-kernel: int8 windows to blocks [pair][pixel] of 16-bit pairs.

SXTB16 takes bytes 0 and 2 of a word, and after a rotation bytes 1 and 3; the weights are packed in that
order, so widening 16 values takes four loads, eight SXTB16 and one store of eight words. A window is
`rows` runs of `run` contiguous bytes, `row_stride` apart. Where `run` is not a multiple of four, the last
load reads up to three bytes beyond it, which no weight uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.emit import SAVED, Asm

_UNROLL = 12  # words that are unrolled: 13 instructions each
_POINTERS = ("r0", "r3", "r12", "lr")
_TABLE, _BLOCKS_END, _ROW_COUNT, _WORD_COUNT, _SOURCE = 0, 4, 8, 12, 16
_STEP, _TURNS, _REST, _ROWS, _BETWEEN, _FRAME = 20, 24, 28, 32, 36, 40  # struct th_expand_shape


def pair_order(rows: int, run: int) -> npt.NDArray[np.intp]:
    """Which taps, counted row by row, stand in the halves of each pair: [pairs, 2], -1 for none."""
    firsts = [k for word in range(0, run, 4) for k in (word, word + 1) if k < run]
    order = [(row * run + k, row * run + k + 2 if k + 2 < run else -1) for row in range(rows) for k in firsts]
    return np.array(order, np.intp).reshape(-1, 2)


@cache
def _assembled(expand: Expand) -> tuple[Asm, tuple[int, int]]:
    return expand.assemble()


@dataclass(frozen=True)
class Expand:
    """Blocks of four pixels from windows. `step` is the distance of neighbouring windows in bytes where
    it is constant (then `source` is the first window), 0 where a table holds their offsets from it."""

    rows: int
    run: int
    row_stride: int
    step: int

    @property
    def name(self) -> str:
        """Symbol; the same for the same code."""
        return f"th_expand_{self.rows}x{self.run}_{self._stride}_{self.step}"

    @property
    def _stride(self) -> int:
        return self.row_stride if self.rows > 1 else 0

    @property
    def words(self) -> int:
        """Loads of one run."""
        return (self.run + 3) // 4

    @property
    def parameters(self) -> tuple[str, ...]:
        """C parameters."""
        windows = () if self.step else ("const uint32_t *windows",)
        return "const int8_t *source", "uint32_t *blocks", "const uint32_t *blocks_end", *windows

    @property
    def prototype(self) -> str:
        """C declaration."""
        return f"void {self.name}({', '.join(self.parameters)});"

    @property
    def turn(self) -> int:
        """Words per turn where the code is shared by windows of any size, 0 where it is this size's own."""
        if self.run % 4 or self.rows * self.words <= 6:
            return 0
        return next((u for u in (6, 5, 4) if self.words % u == 0), 0)

    @property
    def shared_name(self) -> str:
        """Symbol of the code that runs of any length share."""
        return f"th_expand_u{self.turn}{'r' if self.rows > 1 else ''}{'' if self.step else 't'}"

    def files(self, core: str) -> dict[str, str]:
        """The files that define it, by name."""
        own, head = f"{self.name}.c", f'#include "th_asm.h"\n\n{self.prototype}\n\n'
        if core == "native":
            return {own: head + self._twin()}
        comment = (
            ("Runs" if self.turn else f"{self.rows} x {self.run} bytes")
            + " of four pixels to 16-bit pairs: see expand.py.",
            "r0, r3, r12, lr windows, r2 blocks, r4-r11 values.",
        )
        asm = _assembled(self)[0]
        if not self.turn:
            return {own: head + asm.function(self.name, self.parameters, comment, core)}
        parameters = (*self.parameters, "const struct th_expand_shape *shape")
        prototype = f"void {self.shared_name}({', '.join(parameters)});"
        between = self.row_stride - 4 * self.words if self.rows > 1 else 0
        rest = self.step - self._travelled
        table = "" if self.step else "windows, "
        shape = (self.step, self.words // self.turn, rest, self.rows, between)
        return {
            f"{self.shared_name}.c": f'#include "th_asm.h"\n\n{prototype}\n\n'
            + asm.function(self.shared_name, parameters, comment, core),
            own: f"{head}{prototype}\n\nvoid {self.name}({', '.join(self.parameters)})\n{{\n"
            f"    static const struct th_expand_shape shape = {{{', '.join(map(str, shape))}}};\n"
            f"    {self.shared_name}(source, blocks, blocks_end, {table}&shape);\n}}\n",
        }

    @property
    def shared(self) -> dict[str, int]:
        """Bytes of code in each of the files."""
        code = _assembled(self)[0].code_bytes
        if not self.turn:
            return {f"{self.name}.c": code}
        return {f"{self.shared_name}.c": code, f"{self.name}.c": 28}

    def instructions(self, blocks: int) -> int:
        """For that many blocks."""
        fixed, per_block = _assembled(self)[1]
        return fixed + blocks * per_block

    def _twin(self) -> str:
        window = "source + i * STEP" if self.step else "source + windows[i]"
        pairs = pair_order(self.rows, self.run).shape[0]
        step = f"    enum {{ STEP = {self.step} }};\n" if self.step else ""
        advance = "source += 4 * STEP;" if self.step else "windows += 4;"
        return (
            f"void {self.name}({', '.join(self.parameters)})\n{{\n"
            f"{step}"
            f"    for (; blocks != blocks_end; blocks += {4 * pairs}) {{\n"
            f"        const int8_t *four[4];\n"
            f"        for (int i = 0; i < 4; i++) {{\n            four[i] = {window};\n        }}\n"
            f"        th_expand(blocks, four, 4, {self.rows}, {self.run}, {self._stride});\n"
            f"        {advance}\n    }}\n}}\n"
        )

    def assemble(self) -> tuple[Asm, tuple[int, int]]:
        """The code, and instructions (once, per block). Frame: table, blocks' end, row and word counters,
        source; then struct th_expand_shape."""
        a = Asm()
        a.enter(_FRAME)
        a.op(f"str r2, [sp, #{_BLOCKS_END}]", "mov r2, r1")
        if not self.step:
            a.op(f"str r3, [sp, #{_TABLE}]", f"str r0, [sp, #{_SOURCE}]")
        if self.turn:
            if not self.step:
                a.op(f"ldr r3, [sp, #{_FRAME + SAVED}]")
            a.op("ldm r3, {r4-r8}", f"add r3, sp, #{_STEP}", "stm r3, {r4-r8}")
        fixed = a.lap() + (8 if self.turn else 2)
        a.label(1)
        if not self.step:
            a.op(f"ldr r1, [sp, #{_TABLE}]", "ldm r1!, {r0, r3, r12, lr}", f"str r1, [sp, #{_TABLE}]")
            a.op(f"ldr r1, [sp, #{_SOURCE}]", *(f"add {pointer}, r1" for pointer in _POINTERS))
        elif self.turn:
            a.op(f"ldr r4, [sp, #{_STEP}]")
            a.op(*(f"add {pointer}, {before}, r4" for before, pointer in pairwise(_POINTERS)))
        else:
            for before, pointer in pairwise(_POINTERS):
                a.add(pointer, self.step, "r4", before)
        per_block = a.lap() + (self._rows_of_any_size(a) if self.turn else self._rows(a))
        if self.step and self.turn:
            a.op(f"ldr r4, [sp, #{_REST}]", "add r0, lr, r4")
        elif self.step:  # the last pointer has moved to the end of its window
            a.add("r0", self.step - self._travelled, "r4", "lr")
        a.op(f"ldr r1, [sp, #{_BLOCKS_END}]", "cmp r2, r1", "bne 1b")
        per_block += a.lap()
        a.leave(_FRAME)
        return a, (fixed, per_block)

    def _rows_of_any_size(self, a: Asm) -> int:
        """All rows of four windows, sizes from the shape; instructions executed."""
        count = 0
        if self.rows > 1:
            a.op(f"ldr r4, [sp, #{_ROWS}]", f"str r4, [sp, #{_ROW_COUNT}]")
            count += a.lap()
            a.label(2)
        a.op(f"ldr r4, [sp, #{_TURNS}]", f"str r4, [sp, #{_WORD_COUNT}]")
        each = a.lap()
        a.label(3)
        for _ in range(self.turn):
            self._word(a, pairs=2)
        a.op(f"ldr r4, [sp, #{_WORD_COUNT}]", "subs r4, #1", f"str r4, [sp, #{_WORD_COUNT}]", "bne 3b")
        each += a.lap() * (self.words // self.turn)
        if self.rows > 1:
            a.op(f"ldr r4, [sp, #{_BETWEEN}]", *(f"add {pointer}, r4" for pointer in _POINTERS))
            a.op(f"ldr r4, [sp, #{_ROW_COUNT}]", "subs r4, #1", f"str r4, [sp, #{_ROW_COUNT}]", "bne 2b")
        return count + self.rows * (each + a.lap())

    @property
    def _travelled(self) -> int:
        """How far a pointer is moved by one window."""
        return self.rows * self.row_stride if self.rows > 1 else 4 * self.words

    def _rows(self, a: Asm) -> int:
        if self.rows * self.words <= _UNROLL:
            count = 0
            for _ in range(self.rows):
                count += self._row(a)
            return count
        if self.rows == 1:
            return self._row(a)
        a.op(f"mov r4, #{self.rows}", f"str r4, [sp, #{_ROW_COUNT}]")
        count = a.lap()
        a.label(2)
        count += self.rows * self._row(a)
        a.op(f"ldr r4, [sp, #{_ROW_COUNT}]", "subs r4, #1", f"str r4, [sp, #{_ROW_COUNT}]", "bne 2b")
        return count + self.rows * a.lap()

    def _row(self, a: Asm) -> int:
        """One run of all four windows; instructions executed."""
        full = self.run % 4 != 1  # else the last word holds one value, one pair
        turns, unroll, rest = 0, 0, self.words
        if self.words > _UNROLL:
            unroll = next((u for u in range(_UNROLL, 5, -1) if self.words % u == (not full)), 8)
            turns, rest = divmod(self.words, unroll)
            if rest == 0 and not full:
                turns, rest = turns - 1, unroll
        count = 0
        if turns:
            a.op(f"mov r4, #{turns}", f"str r4, [sp, #{_WORD_COUNT}]")
            count += a.lap()
            a.label(3)
            for _ in range(unroll):
                self._word(a, pairs=2)
            a.op(f"ldr r4, [sp, #{_WORD_COUNT}]", "subs r4, #1", f"str r4, [sp, #{_WORD_COUNT}]", "bne 3b")
            count += turns * a.lap()
        for word in range(rest):
            self._word(a, pairs=2 if full or word < rest - 1 else 1)
        if self.rows > 1:
            for pointer in _POINTERS:
                a.add(pointer, self.row_stride - 4 * self.words, "r4")
        return count + a.lap()

    def _word(self, a: Asm, pairs: int) -> None:
        values = ("r8", "r9", "r10", "r11")
        for i, (pointer, value) in enumerate(zip(_POINTERS, values, strict=True)):
            a.op(f"ldr {value}, [{pointer}], #4")
            if i:
                a.op(f"sxtb16 r{3 + i}, {values[i - 1]}")
        a.op("sxtb16 r7, r11")
        if pairs == 1:
            a.op("stm r2!, {r4-r7}")
            return
        for value in values:
            a.op(f"sxtb16 {value}, {value}, ror #8")
        a.op("stm r2!, {r4-r11}")
