"""Places buffers with lifetimes into one arena, as low as possible.

A pure core: `plan` takes requests (size, first and last step of life) and overlaps (pairs that may share
bytes if one starts far enough below the other) and returns offsets with a proven lower bound. When the
bound is met the placement is optimal, and the result says so.

Buffers are first placed one after the other, each as low as possible, in orders that are known to be
good. The fullest step gives a lower bound: all that is alive, less what overlapping can save at best. If
the two differ, an exact search (placement.py) is asked for an arena of the bound's size, then for sizes in
between: each answer lowers the arena or raises the bound, until they meet or the search's steps are used
up. Nothing depends on a clock.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tinyhil.harness.tinyengine.placement import Conflicts, OutOfSteps, Steps, fit, lowest

STEPS = 400_000  # pairs that the exact search may look at: some tenths of a second
SWAPS = 30_000  # buffers that are placed in swapped orders where that search is too long


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


def _up(size: int, align: int) -> int:
    return -(-size // align) * align


def _alive(requests: Sequence[Request], step: int) -> set[int]:
    return {i for i, r in enumerate(requests) if r.first <= step <= r.last}


def _least(requests: Sequence[Request], overlaps: Sequence[Overlap], alive: set[int]) -> int:
    """What `alive` takes together at best. All offsets are multiples of the least alignment, so whatever
    lies below another buffer takes whole multiples of it: only the highest may end before one."""
    align = min((requests[i].align for i in alive), default=1)
    sizes = {i: _up(requests[i].size, align) for i in alive}
    savings: dict[int, int] = {}
    for o in overlaps:
        if o.output in alive and o.dying in alive:
            a, b = sizes[o.output], sizes[o.dying]
            savings[o.output] = savings.get(o.output, 0) + a + b - _union(a, b, _up(o.gap, align))
    saved = sum(min(s, sizes[i]) for i, s in savings.items())
    ends = max((sizes[i] - requests[i].size for i in alive), default=0)
    return sum(sizes.values()) - saved - ends


def lower_bound(requests: Sequence[Request], overlaps: Sequence[Overlap]) -> int:
    """The fullest step: all that is alive, less what overlapping can save at best."""
    steps = {r.first for r in requests} | {r.last for r in requests}
    return max((_least(requests, overlaps, _alive(requests, step)) for step in steps), default=0)


def conflicts_of(requests: Sequence[Request], overlaps: Sequence[Overlap]) -> Conflicts:
    """Which requests live at the same time, and how far one must lie below the other."""
    below: list[dict[int, int]] = [{} for _ in requests]
    order = sorted(range(len(requests)), key=lambda i: requests[i].first)
    alive: list[int] = []
    for i in order:
        r = requests[i]
        alive = [j for j in alive if requests[j].last >= r.first]
        if r.size:
            for j in alive:
                below[i][j], below[j][i] = r.size, requests[j].size
            alive.append(i)
    for o in overlaps:
        if o.dying in below[o.output]:
            below[o.output][o.dying] = min(below[o.output][o.dying], o.gap)
    return Conflicts([r.size for r in requests], [r.align for r in requests], below)


def _orders(requests: Sequence[Request]) -> Iterator[list[int]]:
    indices = range(len(requests))
    yield sorted(indices, key=lambda i: (-requests[i].size, requests[i].first, i))
    alive = pressure(requests)

    def peak(i: int) -> int:
        return max(alive[requests[i].first : requests[i].last + 1])

    yield sorted(indices, key=lambda i: (-peak(i), -requests[i].size, i))
    yield sorted(indices, key=lambda i: (requests[i].first, -requests[i].last, i))
    yield sorted(indices, key=lambda i: (-requests[i].last, requests[i].first, i))
    yield sorted(indices, key=lambda i: ((requests[i].first - requests[i].last), -requests[i].size, i))


def plan(requests: Sequence[Request], overlaps: Sequence[Overlap] = (), effort: int = STEPS) -> Placement:
    """Offsets for all requests. Deterministic: the search is bounded by `effort` steps, not by time."""
    if not requests:
        return Placement((), 0, 0)
    conflicts, low = conflicts_of(requests, overlaps), lower_bound(requests, overlaps)
    best = _first_try(conflicts, requests, low)
    left, target = effort, low  # the bound is often met
    tried = low - 1  # arenas up to here are excluded, or too hard to decide
    while target < conflicts.arena(best) and left > 0:
        steps = Steps((left + 1) // 2)
        left -= steps.left
        found = None
        try:
            found = fit(conflicts, target, steps)
            left += steps.left
            low = low if found is not None else max(low, target + 1)
        except OutOfSteps:
            best = _swapped(conflicts, best, low, SWAPS * effort // STEPS) if target == low else best
        if found is None:
            tried = target
        else:
            best = found
        target = (tried + conflicts.arena(best) + 1) // 2
    return Placement(tuple(best), conflicts.arena(best), low)


def _first_try(conflicts: Conflicts, requests: Sequence[Request], bound: int) -> list[int]:
    """The best of the usual orders, the first one where one meets the bound."""
    found = []
    for order in _orders(requests):
        found.append(_one_by_one(conflicts, order))
        if conflicts.arena(found[-1]) <= bound:
            break
    return min(found, key=conflicts.arena)


def _swapped(conflicts: Conflicts, best: list[int], bound: int, swaps: int) -> list[int]:
    """Seeded swaps in the order of placing, as long as the arena does not grow."""
    count, rng = len(best), random.Random(1)
    order = sorted(range(count), key=best.__getitem__)
    for _ in range(swaps // count):
        if conflicts.arena(best) <= bound:
            break
        tried = list(order)
        for _ in range(rng.randrange(1, 4)):
            if rng.random() < 0.5:  # a buffer that sticks out goes earlier
                at = tried.index(max(range(count), key=lambda i: best[i] + conflicts.sizes[i]))
                tried.insert(rng.randrange(at + 1), tried.pop(at))
            else:
                a, b = rng.randrange(count), rng.randrange(count)
                tried[a], tried[b] = tried[b], tried[a]
        offsets = _one_by_one(conflicts, tried)
        if conflicts.arena(offsets) <= conflicts.arena(best):
            best, order = offsets, tried
    return best


def _one_by_one(conflicts: Conflicts, order: Sequence[int]) -> list[int]:
    """Each buffer at the lowest offset that those before it leave."""
    placed: dict[int, int] = {}
    for i in order:
        placed[i] = lowest(conflicts, i, placed)
    return [placed[i] for i in range(len(order))]


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
