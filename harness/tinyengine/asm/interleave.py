"""Straight-line code in an order that Cortex-M7 can issue in pairs.

It issues two instructions a cycle, but only one multiplication, and a multiplication only beside
something else. A list scheduler takes the next instruction that is ready, a multiplication and another
kind in turns, never one that needs the result of the two before it if that can be avoided. Registers
keep their names, so what may move how far was decided when they were chosen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_REGISTER = re.compile(r"\b(?:r\d+|lr|sp)\b")


def _effects(line: str) -> tuple[set[str], set[str]]:
    """Registers read and written by a load, an extension, a packing or a multiplication."""
    _, _, operands = line.partition(" ")
    if "{" in operands:  # ldm base!, {list}
        base, _, registers = operands.partition("!")
        return {base}, {base, *_REGISTER.findall(registers)}
    first, _, rest = operands.partition(",")
    reads, writes = set(_REGISTER.findall(rest)), {first}
    if "]," in rest:  # post-indexed
        writes |= set(_REGISTER.findall(rest))
    return reads, writes


def _multiplies(line: str) -> bool:
    return line.startswith("sml")


def interleave(lines: Sequence[str]) -> list[str]:
    """The same instructions, every register's reads and writes in the same order among themselves."""
    effects = [_effects(line) for line in lines]
    before = [
        {
            i
            for i in range(j)
            if effects[i][1] & (effects[j][0] | effects[j][1]) or effects[i][0] & effects[j][1]
        }
        for j in range(len(lines))
    ]
    left, order = list(range(len(lines))), list[int]()
    while left:
        ready = [j for j in left if before[j].issubset(order)]
        turn = bool(order) and not _multiplies(lines[order[-1]])
        recent = set[str]().union(*(effects[i][1] for i in order[-2:] if not _multiplies(lines[i])))
        best = min(ready, key=lambda j: (_multiplies(lines[j]) is not turn, bool(effects[j][0] & recent), j))
        order.append(best)
        left.remove(best)
    return [lines[i] for i in order]
