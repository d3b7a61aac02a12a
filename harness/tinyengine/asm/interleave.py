"""Straight-line code in an order that Cortex-M7 can issue in pairs.

It issues two instructions a cycle, in order. One of them may multiply, one may store, two may load where
they read different halves of a double word; extensions, saturations and packings must come first of a
pair. A list scheduler fills cycle after cycle with the two ready instructions that most of the rest waits
for. Registers keep their names, so what may move how far was decided when they were chosen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

_REGISTER = re.compile(r"\b(?:r\d+|lr|sp)\b")
_PLACE = re.compile(r"\[(\w+)(?:, #(\d+))?\]$")
Kind = Literal["multiply", "first", "shift", "load", "store", "alone", "plain"]
_FIRST = {"ssat", "bfi", "pkhbt", "pkhtb", "sxtb16", "sxtab16"}  # those that must be the first of a pair
_NEVER = {
    ("multiply", "multiply"), ("multiply", "store"), ("store", "multiply"), ("store", "store"),
    ("shift", "shift"), ("first", "shift"),
}  # fmt: skip
# Cycles until a result can be used: by whatever takes it late, and by what takes it early (shifters,
# extensions, addresses). A sum that a multiplication adds to may come later than its factors.
_LATE = {"multiply": 2, "first": 1, "shift": 1, "load": 1, "store": 1, "alone": 1, "plain": 1}
_FACTOR_AFTER_LOAD = 2


@dataclass(frozen=True)
class _Instruction:
    """What the scheduler knows of one instruction that neither reads nor sets flags. Memory is left out:
    what is loaded must not be what is stored."""

    kind: Kind
    reads: frozenset[str]
    writes: frozenset[str]
    addend: str  # of a multiplication
    base: str  # of an address that is written back
    bank: tuple[str, int] | None  # of a load: its base, and which half of a double word
    holds: int = 1  # cycles until another can issue


@lru_cache(maxsize=4096)
def _parse(line: str) -> _Instruction:
    name, _, operands = line.partition(" ")
    if "{" in operands:  # ldm base!, {list}, or stm
        base, _, registers = operands.partition("!" if "!" in operands else ",")
        names = frozenset(_REGISTER.findall(registers))
        moved: frozenset[str] = frozenset({base} if "!" in operands else ())
        holds = (len(names) + 1) // 2
        if name == "stm":
            return _Instruction("alone", names | {base}, moved, "", base, None, holds)
        return _Instruction("alone", frozenset({base}), names | moved, "", base, None, holds)
    places = operands.split(", ")
    results = 0 if name.startswith("str") else 2 if name == "ldrd" else 1
    writes, reads = set(places[:results]), set(_REGISTER.findall(" ".join(places[results:])))
    if name == "bfi" or len(places) == results + (name in ("add", "sub")):  # bfi, and add r0, r1
        reads |= writes
    base = ""
    if "]," in operands:  # post-indexed
        base = operands.partition("[")[2].partition("]")[0]
        writes.add(base)
    multiplies = name.startswith(("sml", "smm"))
    kind: Kind = "plain"
    if multiplies:
        kind = "multiply"
    elif name in _FIRST:
        kind = "first"
    elif name in ("ldrd", "strd"):
        kind = "alone"
    elif name.startswith(("ldr", "str")):
        kind = "load" if name.startswith("ldr") else "store"
    elif "#" in places[-1] and places[-1].startswith(("lsl", "asr", "lsr")):
        kind = "shift"
    place = _PLACE.search(operands) if kind == "load" else None
    bank = (place[1], int(place[2] or 0) >> 2 & 1) if place else None
    addend = places[-1] if multiplies else ""
    return _Instruction(kind, frozenset(reads), frozenset(writes), addend, base, bank)


def _latency(before: _Instruction, after: _Instruction, register: str) -> int:
    """Cycles from `before`, which writes `register`, until `after` can read it."""
    if register == before.base:
        return before.holds
    late = _LATE[before.kind] + before.holds - 1
    if after.kind == "multiply":
        if register == after.addend and before.kind == "multiply":
            return 1
        return _FACTOR_AFTER_LOAD if before.kind == "load" and register != after.addend else late
    early = after.kind in ("first", "shift") or (after.kind in ("load", "store") and register in ("r0", "r1"))
    return late + early


def _pairs(older: _Instruction, younger: _Instruction) -> bool:
    if "alone" in (older.kind, younger.kind) or younger.kind == "first":
        return False
    if older.kind == younger.kind == "load":
        a, b = older.bank, younger.bank
        return a is not None and b is not None and a[0] == b[0] and a[1] != b[1]
    return (older.kind, younger.kind) not in _NEVER


@lru_cache(maxsize=1024)
def interleave(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The same instructions, every register's reads and writes in the same order among themselves."""
    code = [_parse(line) for line in lines]
    behind = _dependences(code)
    urgency = [0] * len(code)  # cycles from here to the end, at least
    for j in range(len(code) - 1, -1, -1):
        urgency[j] = max((cycles + urgency[k] for k, cycles in behind[j].items()), default=0)
    waiting = [0] * len(code)
    for after in behind:
        for k in after:
            waiting[k] += 1
    earliest = [0] * len(code)
    ready = [j for j, count in enumerate(waiting) if not count]
    order: list[int] = []
    cycle = 0

    def freed(i: int) -> list[int]:
        """What could be the second of a pair behind `i`: it writes what only `i` had still to read."""
        return [k for k, cycles in behind[i].items() if cycles == 0 and waiting[k] == 1]

    while ready:
        now = sorted((j for j in ready if earliest[j] <= cycle), key=lambda j: (-urgency[j], j))
        issue = cycle
        for chosen in _cycle(code, now, freed, earliest, cycle):
            order.append(chosen)
            ready.remove(chosen)
            cycle += code[chosen].holds - 1
            for k, cycles in behind[chosen].items():
                waiting[k] -= 1
                earliest[k] = max(earliest[k], issue + cycles)
                if not waiting[k]:
                    ready.append(k)
        cycle += 1
    return tuple(lines[i] for i in order)


def _cycle(
    code: Sequence[_Instruction],
    now: Sequence[int],
    freed: Callable[[int], list[int]],
    earliest: Sequence[int],
    cycle: int,
) -> tuple[int, ...]:
    """The instructions of one cycle, from those that could issue, the most urgent first."""
    for place, one in enumerate(now):
        for other in now[place + 1 :]:
            if _pairs(code[one], code[other]):
                return one, other
            if _pairs(code[other], code[one]):
                return other, one
        for other in freed(one):
            if earliest[other] <= cycle and _pairs(code[one], code[other]):
                return one, other
        if place == 0 and code[one].kind == "alone":
            break
    return tuple(now[:1])


def _dependences(code: Sequence[_Instruction]) -> list[dict[int, int]]:
    """Per instruction, which wait for it and for how many cycles: those that read what it wrote last, that
    write it again, or that write what it reads. Others follow from these."""
    behind: list[dict[int, int]] = [{} for _ in code]
    written: dict[str, int] = {}
    read: dict[str, list[int]] = {}
    for j, this in enumerate(code):
        for r in this.reads | this.writes:
            if r in written:
                i = written[r]
                cycles = _latency(code[i], this, r) if r in this.reads else 1
                behind[i][j] = max(behind[i].get(j, 0), cycles)
        for r in this.writes:
            for i in read.get(r, ()):
                behind[i].setdefault(j, 0)
        for r in this.writes:
            written[r], read[r] = j, []
        for r in this.reads - this.writes:
            read.setdefault(r, []).append(j)
    return behind
