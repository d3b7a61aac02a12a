"""Places buffers with lifetimes into one arena, as low as possible.

A pure core: `plan` takes requests (size, first and last step of life) and overlaps (pairs that may share
bytes if one starts far enough below the other) and returns offsets with a proven lower bound. When the
bound is met the placement is optimal, and the result says so. Two arguments give the bound: the fullest
step, and chains of overlaps that a smaller arena would force.

Method: buffers are placed one after the other at the lowest feasible offset; the order decides. The
search starts from the orders that are known to be good (by size, by pressure of the fullest step) and
goes on with seeded swaps of that order until the bound is met or its fixed number of tries is used up,
so that the result depends on nothing but the input.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

ALIGN = 8
NEAR, FEW = 16, 12  # alignment alone often keeps a plan this many bytes above the bound: then few tries do


@dataclass(frozen=True)
class Request:
    """A buffer: `size` in bytes, alive from step `first` to step `last` inclusive."""

    name: str
    size: int
    first: int
    last: int
    align: int = 1


@dataclass(frozen=True)
class Overlap:
    """Request `output` may share bytes with request `dying` if offset(output) + gap <= offset(dying)."""

    output: int
    dying: int
    gap: int


@dataclass(frozen=True)
class Placement:
    """Offsets per request, the arena's size, and a bound below which no placement can go, in bytes."""

    offsets: tuple[int, ...]
    arena: int
    lower_bound: int

    @property
    def optimal(self) -> bool:
        """Proven: the arena equals the bound."""
        return self.arena == self.lower_bound


def _union(output: int, dying: int, gap: int) -> int:
    """Least bytes that two buffers of these sizes take together under their gap."""
    return min(output + dying, max(output, max(gap, 0) + dying))


def _alive(requests: Sequence[Request], step: int) -> set[int]:
    return {i for i, r in enumerate(requests) if r.first <= step <= r.last}


def _least(requests: Sequence[Request], overlaps: Sequence[Overlap], alive: set[int], apart: int = -1) -> int:
    """What `alive` takes together at best; overlap number `apart` is not used."""
    savings: dict[int, int] = {}
    for number, o in enumerate(overlaps):
        if number != apart and o.output in alive and o.dying in alive:
            a, b = requests[o.output].size, requests[o.dying].size
            savings[o.output] = savings.get(o.output, 0) + a + b - _union(a, b, o.gap)
    saved = sum(min(s, requests[i].size) for i, s in savings.items())
    return sum(requests[i].size for i in alive) - saved


def lower_bound(requests: Sequence[Request], overlaps: Sequence[Overlap]) -> int:
    """The fullest step: all that is alive, less what overlapping can save at best."""
    steps = {r.first for r in requests} | {r.last for r in requests}
    return max((_least(requests, overlaps, _alive(requests, step)) for step in steps), default=0)


def none_below(requests: Sequence[Request], overlaps: Sequence[Overlap], arena: int) -> bool:
    """Proves that no placement smaller than `arena` exists; False if this argument does not decide.

    In a smaller arena some pairs must overlap, for apart they would not fit beside what else is alive.
    Each forces offset(dying) >= offset(output) + gap. Followed from layer to layer these differences
    add up, and the top of some buffer cannot lie below `arena`.
    """
    forced: dict[int, list[tuple[int, int]]] = {}
    for number, o in enumerate(overlaps):
        alive = _alive(requests, requests[o.output].first)
        if _least(requests, overlaps, alive, number) >= arena:
            forced.setdefault(o.output, []).append((o.dying, o.gap))
    least = [0] * len(requests)
    # a dying buffer is older than the output over it: youngest first settles every chain
    for i in sorted(range(len(requests)), key=lambda i: -requests[i].first):
        for dying, gap in forced.get(i, ()):
            needed = least[i] + gap
            needed += -needed % requests[dying].align
            least[dying] = max(least[dying], needed)
    return any(at + r.size >= arena for at, r in zip(least, requests, strict=True))


class _Search:
    """First-fit placement under an order; conflicts and overlaps are looked up once."""

    def __init__(self, requests: Sequence[Request], overlaps: Sequence[Overlap]) -> None:
        self.requests = requests
        self.gap_below: list[dict[int, int]] = [{} for _ in requests]  # output -> {dying: gap}
        self.gap_above: list[dict[int, int]] = [{} for _ in requests]  # dying -> {output: gap}
        for o in overlaps:
            self.gap_below[o.output][o.dying] = o.gap
            self.gap_above[o.dying][o.output] = o.gap
        self.conflicts = [
            [
                j
                for j, other in enumerate(requests)
                if j != i and other.size and r.size and r.first <= other.last and other.first <= r.last
            ]
            for i, r in enumerate(requests)
        ]

    def _allowed(self, i: int, offset: int, placed: dict[int, int]) -> bool:
        size = self.requests[i].size
        for j in self.conflicts[i]:
            at = placed.get(j)
            if at is None or at + self.requests[j].size <= offset or offset + size <= at:
                continue
            gap = self.gap_below[i].get(j)
            if gap is not None and offset + gap <= at:
                continue
            gap = self.gap_above[i].get(j)
            if gap is not None and at + gap <= offset:
                continue
            return False
        return True

    def place(self, order: Sequence[int], limit: int) -> tuple[dict[int, int], int]:
        """Offsets under `order` and the arena; stops early beyond `limit`."""
        placed: dict[int, int] = {}
        arena = 0
        for i in order:
            r = self.requests[i]
            spots = {0}
            for j in self.conflicts[i]:
                if j in placed:
                    spots.add(placed[j] + self.requests[j].size)
                    if j in self.gap_below[i]:
                        spots.add(placed[j] - self.gap_below[i][j])
                    if j in self.gap_above[i]:
                        spots.add(placed[j] + self.gap_above[i][j])
            rounded = {
                s + (-s) % r.align for s in spots if s >= 0
            } | {s - s % r.align for s in spots if s >= 0}  # fmt: skip
            offset = next(s for s in sorted(rounded) if self._allowed(i, s, placed))
            placed[i] = offset
            arena = max(arena, offset + r.size)
            if arena >= limit:
                break
        return placed, arena


def _orders(requests: Sequence[Request], overlaps: Sequence[Overlap]) -> list[list[int]]:
    indices = range(len(requests))
    pressure = [
        sum(r.size for r in requests if r.first <= step <= r.last)
        for step in range(max((r.last for r in requests), default=0) + 1)
    ]

    def peak(i: int) -> int:
        return max(pressure[requests[i].first : requests[i].last + 1])

    return [
        sorted(indices, key=lambda i: (-requests[i].size, requests[i].first, i)),
        sorted(indices, key=lambda i: (-peak(i), -requests[i].size, i)),
        sorted(indices, key=lambda i: (requests[i].first, -requests[i].last, i)),
        sorted(indices, key=lambda i: (-requests[i].last, requests[i].first, i)),
        sorted(indices, key=lambda i: ((requests[i].first - requests[i].last), -requests[i].size, i)),
    ]


def plan(requests: Sequence[Request], overlaps: Sequence[Overlap] = (), tries: int = 400) -> Placement:
    """Offsets for all requests. Deterministic; `tries` bounds the search after the first orders."""
    bound = lower_bound(requests, overlaps)
    if not requests:
        return Placement((), 0, 0)
    search = _Search(requests, overlaps)
    best: dict[int, int] = {}
    best_arena = 1 << 62
    best_order: list[int] = []
    for order in _orders(requests, overlaps):
        placed, arena = search.place(order, best_arena)
        if arena < best_arena:
            best, best_arena, best_order = placed, arena, order
    rng = random.Random(1)
    for attempt in range(tries):
        if best_arena <= bound + (NEAR if attempt >= FEW else 0):
            break
        order = list(best_order)
        top = max(best, key=lambda i: best[i] + requests[i].size)
        for _ in range(rng.randrange(1, 4)):
            if rng.random() < 0.5:  # a buffer that sticks out goes earlier
                at = order.index(top)
                order.insert(rng.randrange(at + 1), order.pop(at))
            else:
                a, b = rng.randrange(len(order)), rng.randrange(len(order))
                order[a], order[b] = order[b], order[a]
        placed, arena = search.place(order, best_arena + 1)
        if len(placed) == len(requests) and arena <= best_arena:
            best, best_arena, best_order = placed, arena, order
    if best_arena > bound and none_below(requests, overlaps, best_arena):
        bound = best_arena
    return Placement(tuple(best[i] for i in range(len(requests))), best_arena, bound)


def pressure(requests: Sequence[Request]) -> list[int]:
    """Bytes alive per step, overlaps not counted."""
    steps = max((r.last for r in requests), default=-1) + 1
    change = [0] * (steps + 1)
    for r in requests:
        change[r.first] += r.size
        change[r.last + 1] -= r.size
    totals = [change[0]]
    for _, here in pairwise(change[:steps]):
        totals.append(totals[-1] + here)
    return totals
