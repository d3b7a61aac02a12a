"""Tiles of outputs over rows of 16-bit pairs, with weights read row by row: see pair_tile.py."""

from __future__ import annotations

from dataclasses import dataclass

from tinyhil.harness.tinyengine.asm.emit import Asm
from tinyhil.harness.tinyengine.asm.pair_rows import QUAD
from tinyhil.harness.tinyengine.asm.pair_shape import (
    POOL,
    REACH,
    TILE,
    TO,
    TURN_END,
    PairShape,
    multiply,
    place,
    requantise,
)

SUMS = POOL[:TILE]


@dataclass(frozen=True)
class Tiles:
    """Writes the code of one channel; r0 rows, r1 the stream, r4-r7 sums, the rest weights and pixels."""

    shape: PairShape

    @property
    def out(self) -> str:
        """The output pointer: r2 where weights leave no other register, and then it is kept on the stack."""
        return "lr" if TILE + len(self.shape.row_lanes.words) < len(POOL) else "r2"

    def row(self, a: Asm) -> int:
        """One row of outputs; instructions executed."""
        turns, rest = divmod(self.shape.out_width, TILE)
        advance = TILE * self.shape.strides[1] // 4 * QUAD
        count = 0
        if turns > 1:
            a.add("r3", turns * advance, "r3", "r0")
            a.op(f"str r3, [sp, #{TURN_END}]")
            count += a.lap()
            a.label(3)
        if turns:
            self._tile(a, TILE)
            if turns > 1:
                a.add("r0", advance, "r3")
                a.op(f"ldr r3, [sp, #{TURN_END}]", "cmp r0, r3", "bne 3b")
            count += turns * a.lap()
        at = advance if turns == 1 else 0
        if rest:
            self._tile(a, rest, at)
        moved = turns * advance if turns > 1 else 0
        a.add("r0", self.shape.strides[0] * self.shape.row_bytes - moved, "r3")
        return count + a.lap()

    def _tile(self, a: Asm, columns: int, at: int = 0) -> None:
        """`columns` outputs of one row, whose words lie `at` bytes behind r0."""
        body, lanes = Asm(), self.shape.row_lanes
        weights = POOL[TILE : TILE + len(lanes.words)]
        values = ("r2", "r3", *(r for r in POOL[TILE + len(lanes.words) :] if r != self.out))
        every = ((c, use) for c in range(columns) for use in self.shape.uses(c))
        uses = sorted(every, key=lambda u: (u[1].word, u[0]))
        started: set[int] = set()
        last, turn, moved = columns - 1, 0, 0
        several, span = len(weights) > 1, at + place(uses[-1][1].word)
        body.op(f"ldr {SUMS[last]}, [r1], #4")
        for row in range(self.shape.kernel[0]):
            if row * self.shape.row_bytes + span - moved > REACH:
                body.add("r0", row * self.shape.row_bytes - moved, "r2")
                moved = row * self.shape.row_bytes
            body.op(f"ldm r1!, {{{', '.join(weights)}}}" if several else f"ldr {weights[0]}, [r1], #4")
            value, loaded = "", -1
            for column, use in uses:
                if use.word != loaded:
                    value, loaded = values[turn % len(values)], use.word
                    turn += 1
                    body.op(f"ldr {value}, [r0, #{at + row * self.shape.row_bytes + place(loaded) - moved}]")
                addend = SUMS[column if column in started else last]
                started.add(column)
                lane, half = lanes.find(0, use.taps)
                body.op(multiply(use, half, SUMS[column], value, weights[lane], addend))
        body.add("r0", -moved, "r2")
        if self.shape.post.clamps:  # comparisons set flags
            a.in_any_order(body)
            self._finish_tile(a, columns)
        else:
            self._finish_tile(body, columns)
            a.in_any_order(body)

    def _finish_tile(self, a: Asm, columns: int) -> None:
        """Requantise and store; the output pointer moves on by `columns` pixels, the stream goes back."""
        constants = ("r8", "r9", "r10")[: self.shape.post.constants]
        a.op(f"ldm r1!, {{{', '.join(constants)}}}")
        out = self.out
        if out == "r2":
            a.op(f"ldr r2, [sp, #{TO}]")
        a.add("r1", -4 * self.shape.stream_words, "r3")
        registers = SUMS[:columns]
        requantise(self.shape.post, a, registers, constants[0], constants[1])
        if self.shape.post.shift is None:
            a.op(*(f"asr {r}, {r}, r10" for r in registers))
        base, moved = out, 0
        for column, r in enumerate(registers):
            self.shape.post.saturate(a, r)
            if column * self.shape.pixel_stride - moved > REACH:
                a.add("r3", column * self.shape.pixel_stride - moved, "r3", base)
                base, moved = "r3", column * self.shape.pixel_stride
            a.op(f"strb {r}, [{base}, #{column * self.shape.pixel_stride - moved}]")
        a.add(out, columns * self.shape.pixel_stride, "r3")
        if out == "r2":
            a.op(f"str r2, [sp, #{TO}]")
