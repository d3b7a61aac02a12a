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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.emit import Asm
from tinyhil.harness.tinyengine.asm.pair_rows import QUAD
from tinyhil.harness.tinyengine.asm.pair_taps import Lanes, Use, lanes_of, uses_of
from tinyhil.harness.tinyengine.asm.post import Post, as_int32, offset, words
from tinyhil.harness.tinyengine.asm.requant import Recipe

_PARAMETERS = ("const int8_t *rows", "const int32_t *stream", "int8_t *out", "const int8_t *end")
_BIAS, _SHIFT, _CONSTANTS, _IN, _OUT, _END, _LAST = 0, 4, 8, 16, 20, 24, 28
_STREAM, _TURN_END, _TO, _EDGES, _FRAME = 32, 36, 40, 48, 56
_POOL = ("r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")
_LONG, _TURN = 16, 8  # rows with more outputs than that are a loop, so many outputs in each turn
_TILE = 4  # outputs at a time where weights are read row by row
_REACH, _STEP = 4095, 255  # of a load or store from its base, and of one that moves the base behind it


def _place(word: int) -> int:
    """Bytes from a row's start to a word of its first channel."""
    return word // 2 * QUAD + word % 2 * 4


@dataclass(frozen=True)
class PairTile:
    """One variant. `row_bytes` from row to row of `width` pixels with `left` zero points in front of them;
    `pixel_stride` bytes between outputs of a row; output rows follow each other without a gap."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    row_bytes: int
    width: int
    left: int
    out_width: int
    pixel_stride: int
    post: Post
    core: str

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

    @property
    def stored_left(self) -> int:
        """Zero points that are stored in front of a row."""
        return self.left - self.shift

    @property
    def words(self) -> int:
        """Words of a row that are read."""
        return self._spanned - self.edge

    @cached_property
    def _spanned(self) -> int:
        columns = range(max(0, self.out_width - 2), self.out_width)
        return max(use.word for c in columns for use in self._uses(c)) + 1

    @cached_property
    def shift(self) -> int:
        """1 where the first window of a row starts one pixel in front of what is stored, in padding."""
        return int(self.resident and self.left % 2 == 1 and self.kernel[1] == 3 and self.out_width > 1)

    @cached_property
    def edge(self) -> bool:
        """The last word is padding, and gives the last tap to the last output and nothing else."""
        last = self._spanned - 1
        if not self.resident or 2 * last < self.stored_left + self.width:
            return False
        columns = range(max(0, self.out_width - 4), self.out_width)
        found = [(c, use.taps) for c in columns for use in self._uses(c) if use.word == last]
        return found == [(self.out_width - 1, (self.kernel[1] - 1,))] and self.kernel[1] > 1

    def _uses(self, column: int) -> Sequence[Use]:
        return uses_of(self.kernel[1], self.strides[1], self.shift, column)

    @cached_property
    def all_lanes(self) -> Lanes:
        """The weights of the whole kernel."""
        return lanes_of(*self.kernel, self.strides[1], self.shift, self.out_width)

    @cached_property
    def row_lanes(self) -> Lanes:
        """The weights of one row of the kernel."""
        return lanes_of(1, self.kernel[1], self.strides[1], 0, self.out_width)

    @cached_property
    def _live(self) -> int:
        """Sums under way at a time, a power of two."""
        by_word: dict[int, list[int]] = {}
        for column in range(min(self.out_width, _TURN)):
            for use in uses_of(self.kernel[1], self.strides[1], 0, column):
                by_word.setdefault(use.word, []).append(column)
        most = max(max(c) - min(c) + 1 for c in by_word.values())
        return 1 << (most - 1).bit_length()

    @cached_property
    def resident(self) -> bool:
        """All weights stay in registers, and one row of outputs is computed in one pass."""
        loops = self.out_width > _LONG  # whose turns only know sums that the word before began
        lanes = lanes_of(*self.kernel, self.strides[1], 0, self.out_width)
        fits = len(lanes.words) + self._live <= len(_POOL)
        return fits and not (loops and self.kernel[1] > 3)

    @property
    def _constants_resident(self) -> bool:
        """The bias and the constants of the requantisation, too."""
        return len(self.all_lanes.words) + self._live + 3 <= len(_POOL)

    @property
    def possible(self) -> bool:
        """Weights of a row fit the registers, and all loads reach from one base."""
        span = _place(self.words if self.out_width <= _LONG else min(self.words, 3 * _TURN))
        rows = self.kernel[0] - 1 if self.resident else 1
        fits = self.resident or len(self.row_lanes.words) <= len(_POOL) - _TILE
        return fits and self.strides[1] <= 2 and rows * self.row_bytes + span <= _REACH

    @property
    def stream_words(self) -> int:
        """Words of one channel."""
        rows = 1 if self.resident else self.kernel[0]
        lanes = self.all_lanes if self.resident else self.row_lanes
        return rows * len(lanes.words) + 1 + self.post.constants + self.shift + self.edge

    # -- text

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

    # -- assembler

    @property
    def _code(self) -> tuple[Asm, int, int, int]:
        return _assembled(self)

    def assemble(self) -> tuple[Asm, int, int, int]:
        """The code, and instructions (once, per channel, per output row)."""
        a = Asm()
        a.enter(_FRAME)
        a.op(f"strd r0, r2, [sp, #{_IN}]", f"add r2, r0, #{QUAD}", f"strd r3, r2, [sp, #{_END}]")
        once = a.lap() + 2
        a.label(1)
        if self.resident:
            self._load_channel(a)
        elif self._out == "lr":
            a.op(f"ldr lr, [sp, #{_OUT}]")
        else:
            a.op(f"ldr r2, [sp, #{_OUT}]", f"str r2, [sp, #{_TO}]")
        channel = a.lap()
        a.label(2)
        row = self._row(a) if self.resident else self._row_of_tiles(a)
        a.op(f"ldr r3, [sp, #{_END}]", "cmp r0, r3", "bne 2b")
        row += a.lap()
        a.op(f"ldrd r0, r2, [sp, #{_IN}]", "add r0, #8", "add r2, #1", f"strd r0, r2, [sp, #{_IN}]")
        a.op(f"ldr r1, [sp, #{_STREAM}]" if self.resident else f"add r1, #{4 * self.stream_words}")
        a.op(f"ldrd r2, r3, [sp, #{_END}]", "add r2, #8", f"str r2, [sp, #{_END}]", "cmp r0, r3", "bne 1b")
        channel += a.lap()
        a.leave(_FRAME)
        return a, once, channel, row

    @cached_property
    def _weights(self) -> tuple[str, ...]:
        """The registers of the weights where all are resident."""
        return _POOL[: len(self.all_lanes.words)]

    @cached_property
    def _sums(self) -> tuple[str, ...]:
        return _POOL[-self._live :] if self.resident else _POOL[:_TILE]

    def _load_channel(self, a: Asm) -> None:
        """One channel's constants to their registers, or to the stack."""
        self._load_weights(a)
        if self.shift and self.edge:
            a.op("ldm r1!, {r2, r3}", f"strd r2, r3, [sp, #{_EDGES}]")
        elif self.shift or self.edge:
            a.op("ldr r3, [r1], #4", f"str r3, [sp, #{_EDGES + 4 * self.edge}]")
        a.op(f"str r1, [sp, #{_STREAM}]", f"ldr r2, [sp, #{_OUT}]")

    def _load_weights(self, a: Asm) -> None:
        count = len(self._weights)
        own = 1 + self.post.constants
        if self._constants_resident:
            loaded = _POOL[: count + 3]
            a.op(f"ldm r1!, {{{', '.join(loaded)}}}")
            if self.post.shift is None:
                a.op("ldr r3, [r1], #4", f"str r3, [sp, #{_SHIFT}]")
            return
        a.op(f"ldm r1!, {{{', '.join(self._weights)}}}" if count > 1 else f"ldr {_POOL[0]}, [r1], #4")
        spare = _POOL[count : count + own]
        a.op(f"ldm r1!, {{{', '.join(spare)}}}", f"str {spare[0]}, [sp, #{_BIAS}]")
        a.op(f"strd {spare[1]}, {spare[2]}, [sp, #{_CONSTANTS}]")
        if self.post.shift is None:
            a.op(f"str {spare[3]}, [sp, #{_SHIFT}]")

    # -- all weights in registers

    def _row(self, a: Asm) -> int:
        """One row of outputs; instructions executed."""
        per_turn = _TURN * self.strides[1] // 2  # words
        turns = (self.out_width - 2) // _TURN if self.out_width > _LONG else 0
        advance, count, stored = per_turn // 2 * QUAD, 0, 0
        if turns:
            stored = self._words(a, range(1), -1, 0)
            a.add("r3", turns * advance, "r3", "r0")
            a.op(f"str r3, [sp, #{_TURN_END}]")
            count += a.lap()
            a.label(3)
            after = self._words(a, range(1, 1 + per_turn), -1, stored)
            a.add("r0", advance, "r3")
            a.add("r2", _TURN * self.pixel_stride + stored - after, "r3")
            a.op(f"ldr r3, [sp, #{_TURN_END}]", "cmp r0, r3", "bne 3b")
            count += turns * a.lap()
        rest = self.out_width - turns * _TURN
        span = range(1 if turns else 0, self.words - turns * per_turn)
        stored = self._words(a, span, rest - 1, stored)
        a.add("r0", self.strides[0] * self.row_bytes - turns * advance, "r3")
        a.add("r2", rest * self.pixel_stride - stored, "r3")
        return count + a.lap()

    def _words(self, a: Asm, span: range, last: int, stored: int) -> int:
        """Pass over some words of all kernel rows; `last` is the row's last column, -1 if it is further on.
        r2 points `stored` bytes behind the output of column 0, and then as many as it returns."""
        body, columns = Asm(), self._columns(span, last)
        firsts = {c: uses[0].word for c, uses in columns.items()}
        own = {c: at for c, at in ((0, _EDGES), (last, _EDGES + 4)) if self._is_edge(c, span, last)}
        turn = 0
        for word in span:
            here = [(c, use) for c, uses in columns.items() for use in uses if use.word == word]
            starts = [c for c in columns if firsts[c] == word]
            body.op(*(f"ldr {self._sum(c)}, [sp, #{own[c]}]" for c in starts if c in own))
            waiting = {c for c in starts if c not in own}
            bias = self._bias(body, max(waiting)) if waiting else ""
            for row in range(self.kernel[0] if here else 0):
                value = ("r1", "r3")[turn % 2]
                turn += 1
                body.op(f"ldr {value}, [r0, #{row * self.row_bytes + _place(word)}]")
                for column, use in here:
                    addend = bias if column in waiting else self._sum(column)
                    waiting.discard(column)
                    lane, half = self.all_lanes.find(row, use.taps)
                    body.op(_multiply(use, half, self._sum(column), value, self._weights[lane], addend))
            done = [c for c, uses in columns.items() if uses[-1].word == word]
            if done and self.post.clamps:  # comparisons set flags
                a.in_any_order(body)
                body = Asm()
                stored = self._finish(a, done, stored)
            elif done:
                stored = self._finish(body, done, stored)
        a.in_any_order(body)
        return stored

    def _is_edge(self, column: int, span: range, last: int) -> bool:
        """The column is the first or last of its row, with a bias of its own for a tap that is padding."""
        return (column == 0 and span.start == 0 and self.shift > 0) or (column == last and self.edge)

    def _columns(self, span: range, last: int) -> dict[int, Sequence[Use]]:
        """The uses of every column that reads one of these words, but for padding."""
        found: dict[int, Sequence[Use]] = {}
        stop = last + 1 if last >= 0 else 2 * span.stop + 1
        for column in range(max(0, 2 * span.start // self.strides[1] - self.kernel[1]), stop):
            uses = [use for use in self._uses(column) if use.word >= 0]
            found[column] = uses[:-1] if self.edge and column == last else uses
        return found

    def _bias(self, a: Asm, last: int) -> str:
        """What sums start from: the bias, in the sum that starts last where no register is kept for it."""
        if self._constants_resident:
            return _POOL[len(self._weights)]
        a.op(f"ldr {self._sum(last)}, [sp, #{_BIAS}]")
        return self._sum(last)

    def _sum(self, column: int) -> str:
        return self._sums[column % len(self._sums)]

    def _finish(self, a: Asm, columns: Sequence[int], stored: int) -> int:
        """Requantise and store; r2 stands `stored` bytes behind column 0, and then what it returns."""
        registers = [self._sum(c) for c in columns]
        multiplier, addend = "r1", "r3"
        if self._constants_resident:
            multiplier, addend = _POOL[len(self._weights) + 1 : len(self._weights) + 3]
        else:
            a.op(f"ldrd r1, r3, [sp, #{_CONSTANTS}]")
        self._requantise(a, registers, multiplier, addend)
        if self.post.shift is None:
            a.op(f"ldr r3, [sp, #{_SHIFT}]", *(f"asr {r}, {r}, r3" for r in registers))
        for column, r in zip(columns, registers, strict=True):
            if self.pixel_stride <= _STEP:
                self.post.saturate(a, r)
                a.op(f"strb {r}, [r2], #{self.pixel_stride}")
                stored = (column + 1) * self.pixel_stride
                continue
            if column * self.pixel_stride - stored > _REACH:
                a.add("r2", column * self.pixel_stride - stored, "r3")
                stored = column * self.pixel_stride
            self.post.saturate(a, r)
            a.op(f"strb {r}, [r2, #{column * self.pixel_stride - stored}]")
        return stored

    def _requantise(self, a: Asm, registers: Sequence[str], multiplier: str, addend: str) -> None:
        """Sums to what is shifted by a shift that is not the same for all channels, or saturated."""
        if self.post.kind == "rounded":
            a.op(*(f"asr {r}, {r}, #8" for r in registers))
        unshifted = replace(self.post, shift=self.post.shift or 0)
        unshifted.finish(a, registers, multiplier, addend, "")

    # -- weights row by row

    @property
    def _out(self) -> str:
        """The output pointer: r2 where weights leave no other register, and then it is kept on the stack."""
        return "lr" if _TILE + len(self.row_lanes.words) < len(_POOL) else "r2"

    def _row_of_tiles(self, a: Asm) -> int:
        """One row of outputs; instructions executed."""
        turns, rest = divmod(self.out_width, _TILE)
        advance = _TILE * self.strides[1] // 4 * QUAD
        count = 0
        if turns > 1:
            a.add("r3", turns * advance, "r3", "r0")
            a.op(f"str r3, [sp, #{_TURN_END}]")
            count += a.lap()
            a.label(3)
        if turns:
            self._tile(a, _TILE)
            if turns > 1:
                a.add("r0", advance, "r3")
                a.op(f"ldr r3, [sp, #{_TURN_END}]", "cmp r0, r3", "bne 3b")
            count += turns * a.lap()
        at = advance if turns == 1 else 0
        if rest:
            self._tile(a, rest, at)
        a.add("r0", self.strides[0] * self.row_bytes - (turns * advance if turns > 1 else 0), "r3")
        return count + a.lap()

    def _tile(self, a: Asm, columns: int, at: int = 0) -> None:
        """`columns` outputs of one row, whose words lie `at` bytes behind r0."""
        body, lanes = Asm(), self.row_lanes
        weights = _POOL[_TILE : _TILE + len(lanes.words)]
        values = ("r2", "r3", *(r for r in _POOL[_TILE + len(lanes.words) :] if r != self._out))
        every = ((c, use) for c in range(columns) for use in uses_of(self.kernel[1], self.strides[1], 0, c))
        uses = sorted(every, key=lambda u: (u[1].word, u[0]))
        started: set[int] = set()
        last, turn, moved = columns - 1, 0, 0
        several, span = len(weights) > 1, at + _place(uses[-1][1].word)
        body.op(f"ldr {self._sums[last]}, [r1], #4")
        for row in range(self.kernel[0]):
            if row * self.row_bytes + span - moved > _REACH:
                body.add("r0", row * self.row_bytes - moved, "r2")
                moved = row * self.row_bytes
            body.op(f"ldm r1!, {{{', '.join(weights)}}}" if several else f"ldr {weights[0]}, [r1], #4")
            value, loaded = "", -1
            for column, use in uses:
                if use.word != loaded:
                    value, loaded = values[turn % len(values)], use.word
                    turn += 1
                    body.op(f"ldr {value}, [r0, #{at + row * self.row_bytes + _place(loaded) - moved}]")
                addend = self._sums[column if column in started else last]
                started.add(column)
                lane, half = lanes.find(0, use.taps)
                body.op(_multiply(use, half, self._sums[column], value, weights[lane], addend))
        body.add("r0", -moved, "r2")
        if self.post.clamps:  # comparisons set flags
            a.in_any_order(body)
            self._finish_tile(a, columns)
        else:
            self._finish_tile(body, columns)
            a.in_any_order(body)

    def _finish_tile(self, a: Asm, columns: int) -> None:
        """Requantise and store; the output pointer moves on by `columns` pixels, the stream goes back."""
        constants = ("r8", "r9", "r10")[: self.post.constants]
        a.op(f"ldm r1!, {{{', '.join(constants)}}}")
        out = self._out
        if out == "r2":
            a.op(f"ldr r2, [sp, #{_TO}]")
        a.add("r1", -4 * self.stream_words, "r3")
        registers = self._sums[:columns]
        self._requantise(a, registers, constants[0], constants[1])
        if self.post.shift is None:
            a.op(*(f"asr {r}, {r}, r10" for r in registers))
        base, moved = out, 0
        for column, r in enumerate(registers):
            self.post.saturate(a, r)
            if column * self.pixel_stride - moved > _REACH:
                a.add("r3", column * self.pixel_stride - moved, "r3", base)
                base, moved = "r3", column * self.pixel_stride
            a.op(f"strb {r}, [{base}, #{column * self.pixel_stride - moved}]")
        a.add(out, columns * self.pixel_stride, "r3")
        if out == "r2":
            a.op(f"str r2, [sp, #{_TO}]")


def _multiply(use: Use, half: int, total: str, value: str, weight: str, addend: str) -> str:
    """One multiplication of a word of pixels."""
    if len(use.taps) == 2:
        return f"smlad {total}, {value}, {weight}, {addend}"
    return f"smla{'bt'[use.high]}{'bt'[half]} {total}, {value}, {weight}, {addend}"


def _holder(lanes: Lanes, row: int, tap: int) -> tuple[int, int]:
    """The first word that holds a tap, and the half."""
    return next((i, word.index((row, tap))) for i, word in enumerate(lanes.words) if (row, tap) in word)


@lru_cache(maxsize=512)
def _assembled(tile: PairTile) -> tuple[Asm, int, int, int]:
    return tile.assemble()


def pack_channel(
    tile: PairTile, weights: npt.NDArray[np.int8], bias: int, zero: int, recipe: Recipe, channel: int
) -> npt.NDArray[np.int32]:
    """The stream of one channel; `weights` [kernel height, kernel width], `zero` the input's zero point."""
    lanes = (weights.astype(np.int64) << 8) & 0xFFFF

    def row(number: int, part: Lanes) -> list[int]:
        values = [
            [0 if tap is None else int(lanes[tap[0] + number, tap[1]]) for tap in w] for w in part.words
        ]
        return [low | high << 16 for low, high in values]

    start = 256 * bias + offset(recipe, channel)
    after = words(recipe, channel, tile.post)
    if tile.resident:
        outside = [*([0] if tile.shift else []), *([-1] if tile.edge else [])]  # columns of taps
        edges = [start + 256 * zero * int(weights[:, t].sum(dtype=np.int64)) for t in outside]
        return as_int32([*row(0, tile.all_lanes), start, *after, *edges])
    every = [w for number in range(tile.kernel[0]) for w in row(number, tile.row_lanes)]
    return as_int32([start, *every, *after])
