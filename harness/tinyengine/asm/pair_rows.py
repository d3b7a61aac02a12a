"""Pixels to rows of 16-bit pairs: what a depthwise convolution on its own does with its input first.

Four channels at a time. A row is a sequence of quads, 32 bytes each: of four neighbouring pixels, channel by
channel, two words of two pixels. PKHBT and PKHTB of two pixels put channels 0, 1 and 2, 3 together, SXTB16
takes them apart again as 16-bit lanes: 4 loads, 4 packings, 8 extensions and one store of 8 words for 16
bytes. Zero points are written around the pixels where they share a word with one, on the left a quad; the
rest of the border is never written, so it is filled once per layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tinyhil.harness.tinyengine.asm.emit import Asm

QUAD = 32  # bytes of four pixels of four channels
_PARAMETERS = ("const int8_t *x", "int8_t *rows", "const int8_t *end", "uint32_t zero")
_END, _ZERO, _TURN_END, _FRAME = 0, 4, 8, 16
_LONG, _TURN = 8, 4  # rows with more full quads than that are a loop, so many quads in each turn
_PIXELS = ("r2", "r3", "r12", "lr")
_REACH = 4095  # of a load from its base


@dataclass(frozen=True)
class PairRows:
    """Rows of `width` pixels, `channels` bytes apart, behind `left` zero points; `words` pairs are read."""

    width: int
    channels: int
    left: int
    words: int
    core: str

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return (self.words + 1) // 2 * QUAD

    @property
    def written(self) -> int:
        """Words of a row that are written: whole quads, and of the last one perhaps the first half."""
        return min(self.row_bytes // QUAD * 2, max((self.left + self.width + 3) // 4 * 2 - self._half, 2))

    @property
    def _half(self) -> bool:
        """The last quad with pixels has none in its second half."""
        return (self.left + self.width) % 4 in (1, 2)

    @property
    def _unwritten(self) -> int:
        """Bytes at the end of a row that hold quads not written, or written by half."""
        return self.row_bytes - self.written // 2 * QUAD

    @property
    def right(self) -> int:
        """Bytes at the end of a row that must hold zero points before the row is written; some may then be
        overwritten."""
        return self._unwritten if self.words > self.written else 0

    @property
    def possible(self) -> bool:
        """The pixels of a quad can be loaded from one base, and every row begins with some of them."""
        return self.left < 4 and 3 * self.channels <= _REACH

    @property
    def name(self) -> str:
        """Symbol; the same for the same code."""
        return f"th_pairs_{self.width}x{self.channels}_{self.left}_{self.words}"

    @property
    def prototype(self) -> str:
        """C declaration: from the rows' first pixels of four channels, to rows up to `end`; `zero` is four
        zero points."""
        return f"void {self.name}({', '.join(_PARAMETERS)});"

    def text(self) -> str:
        """The file that defines it: assembler, or the call of the twin where the core is the host."""
        head = f'#include "th_asm.h"\n\n{self.prototype}\n\n'
        if self.core == "native":
            fields = f"{self.width}, {self.channels}, {self.left}, {self.row_bytes}, {2 * self.written}"
            return (
                f'#include "th_twin.h"\n\n{self.prototype}\n\n'
                f"void {self.name}({', '.join(_PARAMETERS)})\n{{\n"
                f"    static const struct th_pair_rows shape = {{{fields}}};\n"
                f"    th_pair_rows_twin(&shape, x, rows, end, zero);\n}}\n"
            )
        comment = (
            "Rows of pixels to 16-bit pairs: see pair_rows.py.",
            "r0 pixels, r1 rows, the rest values.",
        )
        return head + self._code[0].function(self.name, _PARAMETERS, comment, self.core)

    @property
    def code_bytes(self) -> int:
        """Flash of the code."""
        return self._code[0].code_bytes

    def instructions(self, rows: int) -> int:
        """For that many rows."""
        return self._code[1] + rows * self._code[2]

    @property
    def _code(self) -> tuple[Asm, int, int]:
        return _assembled(self)

    def assemble(self) -> tuple[Asm, int, int]:
        """The code, and instructions (once, per row)."""
        a = Asm()
        a.enter(_FRAME)
        a.op(f"strd r2, r3, [sp, #{_END}]")
        once = a.lap() + 2
        a.label(1)
        quads = (self.written + 1) // 2
        full = [q for q in range(quads) if None not in self._pixels(q)]
        turns = (len(full) - 1) // _TURN if len(full) > _LONG else 0
        looped = turns * _TURN
        count, moved = 0, 0
        if looped:
            moved = self._quads(a, range(full[0]), 0)
            start = self._pixels(full[0])[0]
            assert start is not None
            a.add("r0", start * self.channels - moved, "r4")
            a.op(f"add r2, r1, #{looped * QUAD}", f"str r2, [sp, #{_TURN_END}]")
            count += a.lap()
            a.label(2)
            base = self._quads(a, range(full[0], full[0] + _TURN), start * self.channels)
            a.add("r0", (start + 4 * _TURN) * self.channels - base, "r4")
            a.op(f"ldr r2, [sp, #{_TURN_END}]", "cmp r1, r2", "bne 2b")
            count += turns * a.lap()
            moved = (start + 4 * looped) * self.channels
        moved = self._quads(a, range(full[0] + looped if looped else 0, quads), moved)
        a.add("r0", self.width * self.channels - moved, "r4")
        a.add("r1", self._unwritten, "r4")
        a.op(f"ldr r2, [sp, #{_END}]", "cmp r1, r2", "bne 1b")
        count += a.lap()
        a.leave(_FRAME)
        return a, once, count

    def _pixels(self, quad: int) -> list[int | None]:
        """The pixels of a quad, None for zero points."""
        found = (4 * quad + i - self.left for i in range(4))
        return [p if 0 <= p < self.width else None for p in found]

    def _quads(self, a: Asm, quads: Sequence[int], moved: int) -> int:
        """Quads one after the other; r0 stands `moved` bytes behind the row's start, then where it says."""
        body = Asm()
        for quad in quads:
            pixels = self._pixels(quad)
            half = 2 * quad + 1 == self.written
            found = [p * self.channels for p in pixels if p is not None]
            if found[-1] - moved > _REACH:
                body.add("r0", found[0] - moved, "r4")
                moved = found[0]
            for register, pixel in zip(_PIXELS[: 2 if half else 4], pixels, strict=False):
                at = f"sp, #{_ZERO}" if pixel is None else f"r0, #{pixel * self.channels - moved}"
                body.op(f"ldr {register}, [{at}]")
            _store(body, half)
        a.in_any_order(body)
        return moved


def _store(a: Asm, half: bool) -> None:
    """The loaded pixels to the words of one quad, or of its first half."""
    a.op("pkhbt r6, r2, r3, lsl #16", "pkhtb r10, r3, r2, asr #16")
    if half:
        a.op("sxtb16 r4, r6", "sxtb16 r6, r6, ror #8", "sxtb16 r8, r10", "sxtb16 r10, r10, ror #8")
        a.op("str r4, [r1]", "str r6, [r1, #8]", "str r8, [r1, #16]", "str r10, [r1, #24]")
        return
    a.op("pkhbt r7, r12, lr, lsl #16", "pkhtb r11, lr, r12, asr #16")
    for own, first, second in ((4, "r6", "r7"), (8, "r10", "r11")):
        a.op(f"sxtb16 r{own}, {first}", f"sxtb16 r{own + 1}, {second}")
        a.op(f"sxtb16 {first}, {first}, ror #8", f"sxtb16 {second}, {second}, ror #8")
    a.op("stm r1!, {r4, r5, r6, r7, r8, r9, r10, r11}")


@lru_cache(maxsize=512)
def _assembled(rows: PairRows) -> tuple[Asm, int, int]:
    return rows.assemble()
