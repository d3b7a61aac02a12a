"""The code of one tile of outputs of a depthwise convolution over planes: see depthwise_tile.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tinyhil.harness.tinyengine.asm.depthwise_shape import BIAS, CONSTANTS, OUT, SHIFT, TileShape
from tinyhil.harness.tinyengine.asm.emit import Asm


@lru_cache(maxsize=512)
def tile_of(shape: TileShape, rows: int, columns: int, inside: bool) -> Asm:
    """rows x columns outputs from r0 on; `inside`: from two pixels behind it on."""
    return _Tile(shape).code(rows, columns, inside)


@dataclass(frozen=True)
class _Mul:
    """One multiplication of a row: data value `index` (a pixel, or a pair from it) times a weight."""

    index: int
    tap: int
    column: int
    pair: bool


@dataclass(frozen=True)
class _Tile:
    """Writes a tile's instructions; sums are in r4-r7, weights from r8 on, pixels in what is left."""

    shape: TileShape

    def code(self, rows: int, columns: int, inside: bool) -> Asm:
        """See `tile_of`."""
        a = Asm()
        accs = [[f"r{4 + r * columns + c}" for c in range(columns)] for r in range(rows)]
        last = accs[-1][-1]
        started: set[str] = set()
        body = Asm()
        body.op(f"ldr {last}, [sp, #{BIAS}]" if self.shape.resident else f"ldr {last}, [r1], #4")
        for input_row in range((rows - 1) * self.shape.strides[0] + self.shape.kernel[0]):
            uses = [
                (input_row - r * self.shape.strides[0], accs[r])
                for r in range(rows)
                if 0 <= input_row - r * self.shape.strides[0] < self.shape.kernel[0]
            ]
            self._input_row(body, input_row, uses, columns, last, started, inside)
        everything = {r for row in accs for r in row}
        if started != everything:
            raise AssertionError("the bias register was overwritten before every sum had started")
        if self.shape.post.clamps:  # comparisons set flags
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
        if not self.shape.resident:
            registers = ", ".join(f"r{8 + i}" for i in range(self.shape.row_words))
            a.op(f"ldm r1!, {{{registers}}}" if self.shape.row_words > 1 else f"ldr {registers}, [r1], #4")
        pool = ["r2", "r3", "r12", "lr"]
        if self.shape.resident:  # in turns, so that a row can be widened while the one before is multiplied
            pool = (["r1", "r2", "r3"], ["r3", "r1", "r2"], ["r2", "r3", "r1"])[row % 3]
        muls = self._multiplications(columns)
        indices = {(m.index, m.pair) for m in muls}
        address = row * self.shape.row_bytes
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
            base = c * self.shape.strides[1]
            found += [_Mul(base + t, i, c, True) for i, (t, _) in enumerate(self.shape.taps.pairs)]
            found += [_Mul(base + t, i, c, False) for i, t in enumerate(self.shape.taps.singles)]
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
        kh, pairs, singles = self.shape.kernel[0], len(self.shape.taps.pairs), len(self.shape.taps.singles)
        if m.pair:
            return f"r{8 + (row * pairs if self.shape.resident else 0) + m.tap}", ""
        first = kh * pairs if self.shape.resident else pairs
        place = (row * singles if self.shape.resident else 0) + m.tap
        return f"r{8 + first + place // 2}", "bt"[place % 2]

    def _finish(self, a: Asm, accs: list[list[str]], columns: int) -> None:
        """Requantise and store; the output pointer moves on by `columns` pixels."""
        every = [r for row in accs for r in row]
        if self.shape.resident:
            a.op(f"ldrd r1, r2, [sp, #{CONSTANTS}]")
            constants, out, spare = ("r1", "r2", "r3"), "lr", "r3"
            if self.shape.post.shift is None:
                a.op(f"ldr r3, [sp, #{SHIFT}]")
        else:
            registers = ["r8", "r9", "r10"][: self.shape.post.constants]
            a.op(f"ldm r1!, {{{', '.join(registers)}}}", f"ldr r2, [sp, #{OUT}]")
            a.add("r1", -4 * self.shape.stream_words, "r3")
            constants, out, spare = ("r8", "r9", "r10"), "r2", "r3"
        if self.shape.post.kind == "rounded":
            for r in every:
                a.op(f"asr {r}, {r}, #8")
        self.shape.post.finish(a, every, *constants)
        row_stride = self.shape.out_width * self.shape.pixel_stride
        for index, row in enumerate(accs):
            base, at = out, index * row_stride
            if at + (columns - 1) * self.shape.pixel_stride > 4095:
                a.add(spare, at, spare, out)
                base, at = spare, 0
            for c, r in enumerate(row):
                self.shape.post.saturate(a, r)
                a.op(f"strb {r}, [{base}, #{at + c * self.shape.pixel_stride}]")
        a.add(out, columns * self.shape.pixel_stride, spare)
        if not self.shape.resident:
            a.op(f"str {out}, [sp, #{OUT}]")
