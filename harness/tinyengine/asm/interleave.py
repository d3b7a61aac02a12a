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
    multiplies = [_multiplies(line) for line in lines]
    waiting, behind = _dependences(effects)
    ready, order = [j for j, count in enumerate(waiting) if not count], list[int]()
    while ready:
        turn = bool(order) and not multiplies[order[-1]]
        recent = set[str]().union(*(effects[i][1] for i in order[-2:] if not multiplies[i]))
        best = min(ready, key=lambda j: (multiplies[j] is not turn, not recent.isdisjoint(effects[j][0]), j))
        order.append(best)
        ready.remove(best)
        for j in behind[best]:
            waiting[j] -= 1
            if not waiting[j]:
                ready.append(j)
    return [lines[i] for i in order]


def _dependences(effects: Sequence[tuple[set[str], set[str]]]) -> tuple[list[int], list[list[int]]]:
    """Per instruction, how many it must wait for and which wait for it: the last write of what it reads or
    writes, and the reads of what it writes since then. Earlier ones follow from these."""
    waiting, behind = [0] * len(effects), [list[int]() for _ in effects]
    written: dict[str, int] = {}
    read: dict[str, list[int]] = {}
    for j, (reads, writes) in enumerate(effects):
        before = {written[r] for r in reads | writes if r in written}
        before.update(i for r in writes for i in read.get(r, ()))
        for i in before:
            behind[i].append(j)
        waiting[j] = len(before)
        for r in writes:
            written[r], read[r] = j, []
        for r in reads - writes:
            read.setdefault(r, []).append(j)
    return waiting, behind
