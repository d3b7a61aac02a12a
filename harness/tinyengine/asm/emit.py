"""Assembler text: instructions in order, counted while they are written, wrapped as naked C functions.

A naked function keeps GCC out of the body but leaves sections, symbols and Thumb bits to it, so a helper
file is one plain C file. Labels are numeric and local. Registers follow the procedure call standard:
r0-r3 are the first arguments, the fifth lies on the stack, r4-r11 and lr are saved by `enter`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from tinyhil.harness.tinyengine.asm.interleave import interleave

SAVED = 36  # bytes of r4-r11 and lr on the stack
# what the assembler would shorten to 16 bits where it can
_NARROW = {"add", "asr", "bne", "cmp", "ldm", "ldr", "ldrsb", "mov", "stm", "str", "strb", "sub", "subs"}


@dataclass
class Asm:
    """Instructions of one function. `taken` counts those written since the last `lap`."""

    lines: list[str] = field(default_factory=list)
    taken: int = 0
    total: int = 0
    straight: list[tuple[int, int]] = field(default_factory=list)

    def op(self, *instructions: str) -> None:
        """Append instructions, one string each."""
        for text in instructions:
            self.lines.append(text)
            self.taken += 1
            self.total += 1

    def in_any_order(self, body: Asm) -> None:
        """Append instructions without flags or branches, whose order only registers decide."""
        self.straight.append((len(self.lines), len(self.lines) + len(body.lines)))
        self.op(*body.lines)

    def append(self, part: Asm) -> None:
        """Append what was written apart."""
        self.straight += [
            (len(self.lines) + first, len(self.lines) + after) for first, after in part.straight
        ]
        self.op(*part.lines)

    def load_words(self, registers: Sequence[str], stream: str = "r1") -> None:
        """The next words of a stream."""
        if len(registers) == 1:
            self.op(f"ldr {registers[0]}, [{stream}], #4")
        elif len(registers) == 2:
            self.op(f"ldrd {registers[0]}, {registers[1]}, [{stream}], #8")
        else:
            self.op(f"ldm {stream}!, {{{', '.join(registers)}}}")

    def label(self, number: int) -> None:
        """A local label; branch to it with `1b` or `1f`."""
        self.lines.append(f"{number}:")

    def lap(self) -> int:
        """Instructions since the last call."""
        taken, self.taken = self.taken, 0
        return taken

    def enter(self, frame: int) -> None:
        """Save the callee's registers and make room for `frame` bytes."""
        self.op("push {r4-r11, lr}", f"sub sp, #{frame}")

    def leave(self, frame: int) -> None:
        """Undo `enter` and return."""
        self.op(f"add sp, #{frame}", "pop {r4-r11, pc}")

    def add(self, register: str, value: int, temporary: str, source: str | None = None) -> None:
        """register = source + value for any constant; `temporary` is used beyond 12 bits."""
        source = source or register
        if value == 0 and source == register:
            return
        if -4096 < value < 4096:
            self.op(f"{'add' if value >= 0 else 'sub'} {register}, {source}, #{abs(value)}")
            return
        self.load_constant(temporary, abs(value))
        self.op(f"{'add' if value >= 0 else 'sub'} {register}, {source}, {temporary}")

    def load_constant(self, register: str, value: int) -> None:
        """register = an unsigned 32-bit constant."""
        self.op(f"movw {register}, #{value & 0xFFFF}")
        if value >> 16:
            self.op(f"movt {register}, #{value >> 16}")

    def function(
        self, name: str, parameters: Sequence[str], comment: Sequence[str], core: str, result: str = "void"
    ) -> str:
        """The C definition of the whole as a naked function. For Cortex-M7 straight-line code is put in
        order. Cortex-M4 fetches words: there all instructions are 32 bits wide and lie on words, or it
        would stall at each that does not."""
        lines = list(self.lines)
        if core == "cortex-m7":
            for first, after in self.straight:
                lines[first:after] = interleave(tuple(lines[first:after]))
        elif core == "cortex-m4":
            lines = [".balign 4", *map(_wide, lines)]
        body = "\n".join(f'        "{line}\\n\\t"' for line in lines)
        arguments = ", ".join(f"{p} __attribute__((unused))" for p in parameters)
        about = "\n".join(f" * {line}" if line else " *" for line in comment).replace(" * ", "/* ", 1)
        return (
            f"{about} */\n__attribute__((naked, noinline)) {result} {name}({arguments})\n{{\n"
            f"    __asm__ volatile(\n{body}\n    );\n}}\n"
        )

    @property
    def code_bytes(self) -> int:
        """Flash of the code, at most: all but a few of these instructions are four bytes long."""
        return 4 * self.total


def _wide(line: str) -> str:
    mnemonic, _, operands = line.partition(" ")
    return f"{mnemonic}.w {operands}" if mnemonic in _NARROW else line


@cache
def c_file(name: str) -> str:
    """A C file or header that lies beside the generators, as it is."""
    return (resources.files("tinyhil.harness.tinyengine.asm") / "c" / name).read_text()
