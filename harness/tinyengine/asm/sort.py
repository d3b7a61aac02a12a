"""Pixels to planes: what a depthwise convolution does with its input rows first.

Squares of 4 pixels x 4 channels are transposed in registers. PKHBT and PKHTB bring pixels 0, 2 and 1, 3
together by half-words; exchanging the odd bytes of one with the even bytes of the other is one masked
exclusive or. A square takes 20 instructions for 16 bytes. Columns behind the last square are stored byte
by byte. One piece of code serves rows of any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tinyhil.harness.tinyengine.asm.emit import SAVED, Asm, c_file

_NAME = "th_sort"
_PARAMETERS = (
    "const int8_t *from",
    "int8_t *to",
    "uint32_t channels",
    "uint32_t plane",
    "const int8_t *last",
    "uint32_t squares",
    "uint32_t columns",
)
_FROM, _FRAME = 0, 8
_LAST, _SQUARES, _COLUMNS = (_FRAME + SAVED + at for at in (0, 4, 8))  # on the caller's stack
PROTOTYPE = f"void {_NAME}({', '.join(_PARAMETERS)});"


@dataclass(frozen=True)
class Sort:
    """One row of `width` pixels of `channels` bytes into planes."""

    width: int
    channels: int
    core: str

    def call(self, source: str, to: str, plane: int) -> list[str]:
        """C statements that sort one row; channel c goes to to + c * plane."""
        groups, rest = divmod(self.channels, 4)
        lines = []
        if groups:
            squares, columns = divmod(self.width, 4)
            sizes = f"{self.channels}, {plane}, {source} + {4 * groups}, {squares}, {columns}"
            lines.append(f"{_NAME}({source}, {to}, {sizes});")
        if rest:
            sizes = f"{self.width}, {self.channels}, {plane}, {rest}"
            lines.append(f"{_NAME}_rest({source} + {4 * groups}, {to} + {4 * groups * plane}, {sizes});")
        return lines

    def files(self) -> dict[str, str]:
        """The files that define it, by name: assembler, or the twin where the core is the host."""
        files = {name: c_file(name) for name in ("th_asm.h", "th_sort_rest.c")}
        if self.core == "native":
            sizes = "4 * squares + columns, channels, plane, (uint32_t)(last - from)"
            body = f"{PROTOTYPE[:-1]}\n{{\n    {_NAME}_rest(from, to, {sizes});\n}}\n"
        else:
            comment = (
                "Rows of pixels to planes: see sort.py.",
                "r0 pixels, r1 planes, r2 and r12 one and three pixels, r3 and lr one and three planes.",
            )
            body = _assembled()[0].function(_NAME, _PARAMETERS, comment, self.core)
        return {**files, f"{_NAME}.c": f'#include "th_asm.h"\n\n{PROTOTYPE}\n\n{body}'}

    @property
    def shared(self) -> dict[str, int]:
        """Bytes of code in each of the files."""
        return {"th_sort_rest.c": 60, f"{_NAME}.c": _assembled()[0].code_bytes}

    @property
    def instructions(self) -> int:
        """For one row; the last channels by estimate."""
        _, once, group, square, column = _assembled()
        groups, rest = divmod(self.channels, 4)
        squares, columns = divmod(self.width, 4)
        total = once + groups * (group + squares * square + columns * column) if groups else 0
        return total + rest * (8 + 5 * self.width)


@cache
def _assembled() -> tuple[Asm, int, int, int, int]:
    """The code, and instructions (once, per group of channels, per square, per column)."""
    a = Asm()
    a.enter(_FRAME)
    a.op(f"strd r0, r1, [sp, #{_FROM}]", "add r12, r2, r2, lsl #1", "add lr, r3, r3, lsl #1")
    a.op("mov r8, #0x00FF00FF")
    once = a.lap() + 5
    a.label(1)
    each = []
    for size, label, part in ((_SQUARES, 2, _square()), (_COLUMNS, 4, _column())):
        a.op(f"ldr r11, [sp, #{size}]", "cmp r11, #0", f"beq {label + 1}f")
        a.label(label)
        start = a.total
        a.in_any_order(part)
        a.op("subs r11, #1", f"bne {label}b")
        each.append(a.total - start)
        a.label(label + 1)
    body = Asm()
    body.op(f"ldrd r0, r1, [sp, #{_FROM}]", "add r0, #4", "add r1, r1, r3, lsl #2")
    body.op(f"strd r0, r1, [sp, #{_FROM}]", f"ldr r4, [sp, #{_LAST}]")
    a.in_any_order(body)
    a.op("cmp r0, r4", "bne 1b")
    group = a.lap() - sum(each)
    a.leave(_FRAME)
    return a, once, group, each[0], each[1]


def _square() -> Asm:
    a = Asm()
    a.op("ldr r4, [r0]", "ldr r5, [r0, r2]", "ldr r6, [r0, r2, lsl #1]", "ldr r7, [r0, r12]")
    a.op("add r0, r0, r2, lsl #2")
    a.op("pkhbt r9, r4, r6, lsl #16", "pkhtb r4, r6, r4, asr #16")
    a.op("pkhbt r10, r5, r7, lsl #16", "pkhtb r5, r7, r5, asr #16")
    for even, odd, spare in (("r9", "r10", "r6"), ("r4", "r5", "r7")):
        a.op(f"eor {spare}, {odd}, {even}, lsr #8", f"and {spare}, {spare}, r8")
        a.op(f"eor {odd}, {odd}, {spare}", f"eor {even}, {even}, {spare}, lsl #8")
    a.op("str r9, [r1]", "str r10, [r1, r3]", "str r4, [r1, r3, lsl #1]", "str r5, [r1, lr]", "add r1, #4")
    return a


def _column() -> Asm:
    a = Asm()
    a.op("ldr r4, [r0]", "add r0, r0, r2", "lsr r5, r4, #8", "lsr r6, r4, #16", "lsr r7, r4, #24")
    a.op("strb r4, [r1]", "strb r5, [r1, r3]", "strb r6, [r1, r3, lsl #1]", "strb r7, [r1, lr]")
    a.op("add r1, #1")
    return a
