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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.emit import Asm
from tinyhil.harness.tinyengine.asm.post import Post, as_int32, offset, words
from tinyhil.harness.tinyengine.asm.requant import Recipe

_PARAMETERS = ("const int8_t *plane", "const int32_t *stream", "int8_t *out")
_BIAS, _CONSTANTS, _SHIFT, _END, _ROW_END, _OUT, _FRAME = 0, 8, 16, 20, 24, 28, 32


@dataclass(frozen=True)
class Taps:
    """How one row of `width` taps is split: pairs (t, t+2) and single taps."""

    width: int

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Taps that one SMLAD takes."""
        full = [(g + i, g + i + 2) for g in range(0, self.width // 4 * 4, 4) for i in (0, 1)]
        rest = self.width // 4 * 4
        return (*full, *([(rest, rest + 2)] if self.width % 4 == 3 else []))

    @property
    def singles(self) -> tuple[int, ...]:
        """Taps on their own."""
        rest = self.width // 4 * 4
        return {0: (), 1: (rest,), 2: (rest, rest + 1), 3: (rest + 1,)}[self.width % 4]


@dataclass(frozen=True)
class _Mul:
    """One multiplication of a row: data value `index` (a pixel, or a pair from it) times a weight."""

    index: int
    tap: int
    column: int
    pair: bool


@dataclass(frozen=True)
class DepthwiseTile:
    """One variant. `row_bytes` of the padded plane; `pixel_stride` bytes between outputs of a row;
    output rows follow each other without a gap."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    row_bytes: int
    out_height: int
    out_width: int
    pixel_stride: int
    post: Post
    core: str

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

    @cached_property
    def taps(self) -> Taps:
        """The split of a row."""
        return Taps(self.kernel[1])

    @property
    def _row_words(self) -> int:
        return len(self.taps.pairs) + (len(self.taps.singles) + 1) // 2

    @property
    def _all_words(self) -> int:
        kh = self.kernel[0]
        return kh * len(self.taps.pairs) + (kh * len(self.taps.singles) + 1) // 2

    @cached_property
    def resident(self) -> bool:
        """All weights stay in registers."""
        return self._all_words <= 5 and self.kernel[1] <= 3 and self.strides[1] <= 2

    @property
    def possible(self) -> bool:
        """Weights of a row and all offsets fit the instructions."""
        rows = self.kernel[0] + self.strides[0]
        reach = rows * self.row_bytes + 4 * self.strides[1] + self.kernel[1] + 4
        return self._row_words <= 4 and self.strides[1] <= 4 and reach < 4096 and 4 * self.pixel_stride < 4096

    @property
    def stream_words(self) -> int:
        """Words of one channel."""
        weights = self._all_words if self.resident else self.kernel[0] * self._row_words
        return weights + 1 + self.post.constants

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
        a.enter(_FRAME)
        if self.resident:
            a.op(f"ldm r1!, {{{', '.join(f'r{8 + i}' for i in range(self._all_words))}}}")
            constants = ["r4", "r5", "r6", "r7"][: 1 + self.post.constants]
            a.op(f"ldm r1, {{{', '.join(constants)}}}", f"str r4, [sp, #{_BIAS}]")
            a.op(f"strd r5, r6, [sp, #{_CONSTANTS}]")
            if self.post.shift is None:
                a.op(f"str r7, [sp, #{_SHIFT}]")
            a.op("mov lr, r2")
        else:
            a.op(f"str r2, [sp, #{_OUT}]")
        rows = 2 if self.resident else 1
        turns, rest = divmod(self.out_height, rows)
        executed = 0
        if turns:
            step = rows * self.strides[0] * self.row_bytes
            if turns > 1:
                a.add("r3", turns * step, "r3", "r0")
                a.op(f"str r3, [sp, #{_ROW_END}]")
            executed += a.lap()
            a.label(1)
            executed += turns * self._row_of_tiles(a, rows, step, 2)
            if turns > 1:
                a.op(f"ldr r3, [sp, #{_ROW_END}]", "cmp r0, r3", "bne 1b")
            executed += turns * a.lap()
        if rest:
            executed += self._row_of_tiles(a, 1, 0, 4)
        a.leave(_FRAME)
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
            a.op(f"str r3, [sp, #{_END}]")
            count += a.lap()
            a.label(label)
        if turns:
            self._tiles(a, rows, columns, wide)
            if turns > 1 or rest or step:
                a.add("r0", advance, "r3")
            if turns > 1:
                a.op(f"ldr r3, [sp, #{_END}]", "cmp r0, r3", f"bne {label}b")
            count += turns * a.lap()
        self._tiles(a, rows, columns, rest)
        if step:
            a.add("r0", step - turns * advance, "r3")
            if rows == 2:
                self._skip_row(a)
        return count + a.lap()

    def _tiles(self, a: Asm, rows: int, columns: int, count: int) -> None:
        """Neighbouring tiles from r0 on, `count` output columns; the second one starts inside a word."""
        shape = replace(self, out_height=1)  # however many rows follow, a tile's code is the same
        for first in range(0, count, columns):
            a.append(_tile(shape, rows, min(columns, count - first), first > 0))

    def _skip_row(self, a: Asm) -> None:
        a.add("lr", self.out_width * self.pixel_stride, "r3")

    def tile(self, rows: int, columns: int, inside: bool) -> Asm:
        """rows x columns outputs from r0 on; `inside`: from two pixels behind it on."""
        a = Asm()
        accs = [[f"r{4 + r * columns + c}" for c in range(columns)] for r in range(rows)]
        last = accs[-1][-1]
        started: set[str] = set()
        body = Asm()
        body.op(f"ldr {last}, [sp, #{_BIAS}]" if self.resident else f"ldr {last}, [r1], #4")
        for input_row in range((rows - 1) * self.strides[0] + self.kernel[0]):
            uses = [
                (input_row - r * self.strides[0], accs[r])
                for r in range(rows)
                if 0 <= input_row - r * self.strides[0] < self.kernel[0]
            ]
            self._input_row(body, input_row, uses, columns, last, started, inside)
        everything = {r for row in accs for r in row}
        if started != everything:
            raise AssertionError("the bias register was overwritten before every sum had started")
        if self.post.clamps:  # comparisons set flags
            a.in_any_order(body)
            self._finish(a, accs, columns)
        else:
            self._finish(body, accs, columns)
            a.in_any_order(body)
        return a

    def _input_row(
        self,
        a: Asm,
        row: int,
        uses: Sequence[tuple[int, Sequence[str]]],
        columns: int,
        last: str,
        started: set[str],
        inside: bool,
    ) -> None:
        """Widen one row of input and multiply it with every weight row that wants it."""
        if not self.resident:
            registers = ", ".join(f"r{8 + i}" for i in range(self._row_words))
            a.op(f"ldm r1!, {{{registers}}}" if self._row_words > 1 else f"ldr {registers}, [r1], #4")
        pool = ["r2", "r3", "r12", "lr"]
        if self.resident:  # in turns, so that a row can be widened while the one before is multiplied
            pool = (["r1", "r2", "r3"], ["r3", "r1", "r2"], ["r2", "r3", "r1"])[row % 3]
        muls = self._multiplications(columns)
        indices = {(m.index, m.pair) for m in muls}
        address = row * self.row_bytes
        if inside:
            self._inside(a, address, pool, muls, uses, last, started)
            return
        free = list(pool)
        even, odd = self._load(a, 0, address, free, indices)
        for group in range(0, max(m.index for m in muls) + 1, 4):
            # singles of the upper halves come before PKHBT overwrites them
            for value, phase in ((even, 0), (odd, 1)):
                for m in [m for m in muls if m.pair and m.index == group + phase]:
                    self._multiply(a, "smlad", m, value, uses, last, started)
                for m in [m for m in muls if not m.pair and m.index in (group + phase, group + phase + 2)]:
                    self._multiply(a, "tb"[m.index == group + phase], m, value, uses, last, started)
            crossed = [p for p in (2, 3) if (group + p, True) in indices]
            more = max(m.index for m in muls) >= group + 4 or crossed
            if not more:
                break
            keep = {2: even, 3: odd}
            for phase, value in ((2, even), (3, odd)):
                if phase not in crossed and value:
                    free.append(value)
            next_even, next_odd = self._load(a, group + 4, address, free, indices)
            for phase, following in ((2, next_even), (3, next_odd)):
                if phase in crossed:
                    value = keep[phase]
                    a.op(f"pkhbt {value}, {following}, {value}")
                    for m in [m for m in muls if m.pair and m.index == group + phase]:
                        self._multiply(a, "smladx", m, value, uses, last, started)
                    free.append(value)
            even, odd = next_even, next_odd

    def _inside(
        self,
        a: Asm,
        address: int,
        pool: Sequence[str],
        muls: Sequence[_Mul],
        uses: Sequence[tuple[int, Sequence[str]]],
        last: str,
        started: set[str],
    ) -> None:
        """A row whose pixels start in the middle of a word: PKHBT of two words gives them with the halves
        exchanged, (a2, a0) and (a3, a1) after SXTB16."""
        even, odd, _ = pool
        a.op(f"ldr {even}, [r0, #{address}]")
        if max(m.index + 2 * m.pair for m in muls) > 1:
            a.op(f"ldr {odd}, [r0, #{address + 4}]", f"pkhbt {even}, {odd}, {even}")
        a.op(f"sxtb16 {odd}, {even}, ror #8", f"sxtb16 {even}, {even}")
        for value, phase in ((even, 0), (odd, 1)):
            for m in [m for m in muls if m.pair and m.index == phase]:
                self._multiply(a, "smladx", m, value, uses, last, started)
            for m in [m for m in muls if not m.pair and m.index % 2 == phase]:
                self._multiply(a, "bt"[m.index < 2], m, value, uses, last, started)

    def _load(
        self, a: Asm, group: int, address: int, free: list[str], indices: set[tuple[int, bool]]
    ) -> tuple[str, str]:
        """Registers with (a[group], a[group+2]) and (a[group+1], a[group+3]), as far as they are needed."""

        def needed(phase: int) -> tuple[bool, bool]:
            first = group + phase
            low = (first, True) in indices or (first, False) in indices or (first - 2, True) in indices
            high = (first, True) in indices or (first + 2, False) in indices or (first + 2, True) in indices
            return low, high

        (even_low, even_high), (odd_low, odd_high) = needed(0), needed(1)
        want_even, want_odd = even_low or even_high, odd_low or odd_high
        if want_even and not even_high and not want_odd:
            even = free.pop(0)
            a.op(f"ldrsb {even}, [r0, #{address + group}]")
            return even, ""
        if not want_even and want_odd and not odd_high:
            odd = free.pop(0)
            a.op(f"ldrsb {odd}, [r0, #{address + group + 1}]")
            return "", odd
        word = free.pop(0)
        a.op(f"ldr {word}, [r0, #{address + group}]")
        odd = ""
        if want_odd:
            odd = free.pop(0) if want_even else word
            a.op(f"sxtb16 {odd}, {word}, ror #8")
        if want_even:
            a.op(f"sxtb16 {word}, {word}")
        return (word if want_even else ""), odd

    def _multiplications(self, columns: int) -> list[_Mul]:
        """All multiplications of one row of taps, as (data index, tap, output column)."""
        found = []
        for c in range(columns):
            base = c * self.strides[1]
            found += [_Mul(base + t, i, c, True) for i, (t, _) in enumerate(self.taps.pairs)]
            found += [_Mul(base + t, i, c, False) for i, t in enumerate(self.taps.singles)]
        return found

    def _multiply(
        self,
        a: Asm,
        how: str,
        m: _Mul,
        value: str,
        uses: Sequence[tuple[int, Sequence[str]]],
        last: str,
        started: set[str],
    ) -> None:
        for weight_row, accs in uses:
            acc = accs[m.column]
            if acc == last and not started.issuperset(r for r in self._live(uses, last)):
                raise AssertionError("the last sum would start before the others")
            addend = acc if acc in started else last
            started.add(acc)
            register, half = self._weight(weight_row, m)
            instruction = how if m.pair else f"smla{how}{half}"
            a.op(f"{instruction} {acc}, {value}, {register}, {addend}")

    def _live(self, uses: Sequence[tuple[int, Sequence[str]]], last: str) -> set[str]:
        """Every other sum of the rows in use."""
        return {r for _, accs in uses for r in accs} - {last}

    def _weight(self, row: int, m: _Mul) -> tuple[str, str]:
        """Register, and half for a single tap."""
        kh, pairs, singles = self.kernel[0], len(self.taps.pairs), len(self.taps.singles)
        if m.pair:
            return f"r{8 + (row * pairs if self.resident else 0) + m.tap}", ""
        first = kh * pairs if self.resident else pairs
        place = (row * singles if self.resident else 0) + m.tap
        return f"r{8 + first + place // 2}", "bt"[place % 2]

    def _finish(self, a: Asm, accs: list[list[str]], columns: int) -> None:
        """Requantise and store; the output pointer moves on by `columns` pixels."""
        every = [r for row in accs for r in row]
        if self.resident:
            a.op(f"ldrd r1, r2, [sp, #{_CONSTANTS}]")
            constants, out, spare = ("r1", "r2", "r3"), "lr", "r3"
            if self.post.shift is None:
                a.op(f"ldr r3, [sp, #{_SHIFT}]")
        else:
            registers = ["r8", "r9", "r10"][: self.post.constants]
            a.op(f"ldm r1!, {{{', '.join(registers)}}}", f"ldr r2, [sp, #{_OUT}]")
            a.add("r1", -4 * self.stream_words, "r3")
            constants, out, spare = ("r8", "r9", "r10"), "r2", "r3"
        if self.post.kind == "rounded":
            for r in every:
                a.op(f"asr {r}, {r}, #8")
        self.post.finish(a, every, *constants)
        row_stride = self.out_width * self.pixel_stride
        for index, row in enumerate(accs):
            base, at = out, index * row_stride
            if at + (columns - 1) * self.pixel_stride > 4095:
                a.add(spare, at, spare, out)
                base, at = spare, 0
            for c, r in enumerate(row):
                self.post.saturate(a, r)
                a.op(f"strb {r}, [{base}, #{at + c * self.pixel_stride}]")
        a.add(out, columns * self.pixel_stride, spare)
        if not self.resident:
            a.op(f"str {out}, [sp, #{_OUT}]")


@lru_cache(maxsize=512)
def _tile(shape: DepthwiseTile, rows: int, columns: int, inside: bool) -> Asm:
    return shape.tile(rows, columns, inside)


def pack_channel(
    tile: DepthwiseTile, weights: npt.NDArray[np.int8], bias: int, recipe: Recipe, channel: int
) -> npt.NDArray[np.int32]:
    """The stream of one channel; `weights` [kernel height, kernel width]."""
    lanes = (weights.astype(np.int64) << 8) & 0xFFFF
    pairs = [[int(row[a] | row[b] << 16) for a, b in tile.taps.pairs] for row in lanes]
    singles = [[int(row[t]) for t in tile.taps.singles] for row in lanes]
    start = 256 * bias + offset(recipe, channel)
    after = words(recipe, channel, tile.post)
    if tile.resident:
        flat = [w for row in singles for w in row]
        return as_int32([*(w for row in pairs for w in row), *_two_by_two(flat), start, *after])
    rows = [w for p, s in zip(pairs, singles, strict=True) for w in (*p, *_two_by_two(s))]
    return as_int32([start, *rows, *after])


def _two_by_two(lanes: list[int]) -> list[int]:
    padded = [*lanes, *([0] if len(lanes) % 2 else [])]
    return [low | high << 16 for low, high in zip(padded[::2], padded[1::2], strict=True)]
