"""One pass over a row of 16-bit pairs, with all weights in registers: see pair_tile.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tinyhil.harness.tinyengine.asm.emit import Asm
from tinyhil.harness.tinyengine.asm.pair_rows import QUAD
from tinyhil.harness.tinyengine.asm.pair_shape import (
    BIAS,
    CONSTANTS,
    EDGES,
    LONG,
    OUT,
    POOL,
    REACH,
    SHIFT,
    STEP,
    STREAM,
    TURN,
    TURN_END,
    PairShape,
    multiply,
    place,
    requantise,
)
from tinyhil.harness.tinyengine.asm.pair_taps import Use


@dataclass(frozen=True)
class OnePass:
    """Writes the code of one channel; r0 rows, r2 outputs, r1 and r3 pixels, the rest weights and sums."""

    shape: PairShape

    @cached_property
    def _weights(self) -> tuple[str, ...]:
        """The registers of the weights where all are resident."""
        return POOL[: len(self.shape.all_lanes.words)]

    @cached_property
    def _sums(self) -> tuple[str, ...]:
        return POOL[-self.shape.live :]

    def load_channel(self, a: Asm) -> None:
        """One channel's constants to their registers, or to the stack."""
        self._load_weights(a)
        if self.shape.shift and self.shape.edge:
            a.op("ldm r1!, {r2, r3}", f"strd r2, r3, [sp, #{EDGES}]")
        elif self.shape.shift or self.shape.edge:
            a.op("ldr r3, [r1], #4", f"str r3, [sp, #{EDGES + 4 * self.shape.edge}]")
        a.op(f"str r1, [sp, #{STREAM}]", f"ldr r2, [sp, #{OUT}]")

    def _load_weights(self, a: Asm) -> None:
        count = len(self._weights)
        own = 1 + self.shape.post.constants
        if self.shape.constants_resident:
            loaded = POOL[: count + 3]
            a.op(f"ldm r1!, {{{', '.join(loaded)}}}")
            if self.shape.post.shift is None:
                a.op("ldr r3, [r1], #4", f"str r3, [sp, #{SHIFT}]")
            return
        a.op(f"ldm r1!, {{{', '.join(self._weights)}}}" if count > 1 else f"ldr {POOL[0]}, [r1], #4")
        spare = POOL[count : count + own]
        a.op(f"ldm r1!, {{{', '.join(spare)}}}", f"str {spare[0]}, [sp, #{BIAS}]")
        a.op(f"strd {spare[1]}, {spare[2]}, [sp, #{CONSTANTS}]")
        if self.shape.post.shift is None:
            a.op(f"str {spare[3]}, [sp, #{SHIFT}]")

    def row(self, a: Asm) -> int:
        """One row of outputs; instructions executed."""
        per_turn = TURN * self.shape.strides[1] // 2  # words
        turns = (self.shape.out_width - 2) // TURN if self.shape.out_width > LONG else 0
        advance, count, stored = per_turn // 2 * QUAD, 0, 0
        if turns:
            stored = self._words(a, range(1), -1, 0)
            a.add("r3", turns * advance, "r3", "r0")
            a.op(f"str r3, [sp, #{TURN_END}]")
            count += a.lap()
            a.label(3)
            after = self._words(a, range(1, 1 + per_turn), -1, stored)
            a.add("r0", advance, "r3")
            a.add("r2", TURN * self.shape.pixel_stride + stored - after, "r3")
            a.op(f"ldr r3, [sp, #{TURN_END}]", "cmp r0, r3", "bne 3b")
            count += turns * a.lap()
        rest = self.shape.out_width - turns * TURN
        span = range(1 if turns else 0, self.shape.words - turns * per_turn)
        stored = self._words(a, span, rest - 1, stored)
        a.add("r0", self.shape.strides[0] * self.shape.row_bytes - turns * advance, "r3")
        a.add("r2", rest * self.shape.pixel_stride - stored, "r3")
        return count + a.lap()

    def _words(self, a: Asm, span: range, last: int, stored: int) -> int:
        """Pass over some words of all kernel rows; `last` is the row's last column, -1 if it is further on.
        r2 points `stored` bytes behind the output of column 0, and then as many as it returns."""
        body, columns = Asm(), self._columns(span, last)
        firsts = {c: uses[0].word for c, uses in columns.items()}
        own = {c: at for c, at in ((0, EDGES), (last, EDGES + 4)) if self._is_edge(c, span, last)}
        turn = 0
        for word in span:
            here = [(c, use) for c, uses in columns.items() for use in uses if use.word == word]
            starts = [c for c in columns if firsts[c] == word]
            body.op(*(f"ldr {self._sum(c)}, [sp, #{own[c]}]" for c in starts if c in own))
            waiting = {c for c in starts if c not in own}
            bias = self._bias(body, max(waiting)) if waiting else ""
            for row in range(self.shape.kernel[0] if here else 0):
                value = ("r1", "r3")[turn % 2]
                turn += 1
                body.op(f"ldr {value}, [r0, #{row * self.shape.row_bytes + place(word)}]")
                for column, use in here:
                    addend = bias if column in waiting else self._sum(column)
                    waiting.discard(column)
                    lane, half = self.shape.all_lanes.find(row, use.taps)
                    body.op(multiply(use, half, self._sum(column), value, self._weights[lane], addend))
            done = [c for c, uses in columns.items() if uses[-1].word == word]
            if done and self.shape.post.clamps:  # comparisons set flags
                a.in_any_order(body)
                body = Asm()
                stored = self._finish(a, done, stored)
            elif done:
                stored = self._finish(body, done, stored)
        a.in_any_order(body)
        return stored

    def _is_edge(self, column: int, span: range, last: int) -> bool:
        """The column is the first or last of its row, with a bias of its own for a tap that is padding."""
        first = column == 0 and span.start == 0 and self.shape.shift > 0
        return first or (column == last and self.shape.edge)

    def _columns(self, span: range, last: int) -> dict[int, Sequence[Use]]:
        """The uses of every column that reads one of these words, but for padding."""
        found: dict[int, Sequence[Use]] = {}
        stop = last + 1 if last >= 0 else 2 * span.stop + 1
        for column in range(max(0, 2 * span.start // self.shape.strides[1] - self.shape.kernel[1]), stop):
            uses = [use for use in self.shape.uses(column) if use.word >= 0]
            found[column] = uses[:-1] if self.shape.edge and column == last else uses
        return found

    def _bias(self, a: Asm, last: int) -> str:
        """What sums start from: the bias, in the sum that starts last where no register is kept for it."""
        if self.shape.constants_resident:
            return POOL[len(self._weights)]
        a.op(f"ldr {self._sum(last)}, [sp, #{BIAS}]")
        return self._sum(last)

    def _sum(self, column: int) -> str:
        return self._sums[column % len(self._sums)]

    def _finish(self, a: Asm, columns: Sequence[int], stored: int) -> int:
        """Requantise and store; r2 stands `stored` bytes behind column 0, and then what it returns."""
        registers = [self._sum(c) for c in columns]
        multiplier, addend = "r1", "r3"
        if self.shape.constants_resident:
            multiplier, addend = POOL[len(self._weights) + 1 : len(self._weights) + 3]
        else:
            a.op(f"ldrd r1, r3, [sp, #{CONSTANTS}]")
        requantise(self.shape.post, a, registers, multiplier, addend)
        if self.shape.post.shift is None:
            a.op(f"ldr r3, [sp, #{SHIFT}]", *(f"asr {r}, {r}, r3" for r in registers))
        for column, r in zip(columns, registers, strict=True):
            if self.shape.pixel_stride <= STEP:
                self.shape.post.saturate(a, r)
                a.op(f"strb {r}, [r2], #{self.shape.pixel_stride}")
                stored = (column + 1) * self.shape.pixel_stride
                continue
            if column * self.shape.pixel_stride - stored > REACH:
                a.add("r2", column * self.shape.pixel_stride - stored, "r3")
                stored = column * self.shape.pixel_stride
            self.shape.post.saturate(a, r)
            a.op(f"strb {r}, [r2, #{column * self.shape.pixel_stride - stored}]")
        return stored
