"""Whether buffers fit an arena of a given size: an exact search over who lies below whom.

Two buffers that live at the same time leave two choices: the first lies below the second, or the second
below the first, at least a `distance` of bytes apart (the lower one's size; less where an output may lie
over its dying input). Each choice is one linear constraint between two offsets, so every offset has a
least and a greatest value; a choice that these rule out decides its pair. The search decides pairs that
the least offsets violate, until none is left or no choice is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


class OutOfSteps(Exception):
    """The search has used up its steps: neither found nor excluded."""


@dataclass
class Steps:
    """How many pairs may still be looked at. A count, not a clock: the answer must not depend on load."""

    left: int

    def take(self, count: int) -> None:
        """OutOfSteps when none are left."""
        self.left -= count
        if self.left < 0:
            raise OutOfSteps


@dataclass(frozen=True)
class Conflicts:
    """`sizes` and `aligns` in bytes; `below[i][j]`: how far offset i must lie below offset j if i is the
    lower one of two buffers that live at the same time."""

    sizes: Sequence[int]
    aligns: Sequence[int]
    below: Sequence[dict[int, int]] = field(repr=False)

    def arena(self, offsets: Sequence[int]) -> int:
        """Bytes up to the end of the highest buffer."""
        return max(at + size for at, size in zip(offsets, self.sizes, strict=True))


def fit(conflicts: Conflicts, arena: int, steps: Steps) -> list[int] | None:
    """Offsets in an arena of that many bytes; None if there are none, which is a proof."""
    sizes, aligns, below = conflicts.sizes, conflicts.aligns, conflicts.below
    if any(size > arena for size in sizes):
        return None
    core, easy = _core(conflicts, arena)
    least, most = [0] * len(sizes), [(arena - s) // a * a for s, a in zip(sizes, aligns, strict=True)]
    pairs = [(i, j) for i in core for j in below[i] if i < j and j in core]
    found = _Search(conflicts, core, pairs, steps).solve(least, most)
    if found is None:
        return None
    placed = {i: found[i] for i in core}
    for i in reversed(easy):  # there is always room: see _core
        placed[i] = lowest(conflicts, i, placed)
    return [placed[i] for i in range(len(sizes))]


def lowest(conflicts: Conflicts, i: int, placed: dict[int, int]) -> int:
    """The lowest offset of buffer i beside those that are placed already."""
    align, mine = conflicts.aligns[i], conflicts.below[i]
    blocked = []  # (from, to): offsets of i in between are taken
    for j, distance in mine.items():
        if j in placed:
            blocked.append((placed[j] - distance, placed[j] + conflicts.below[j][i]))
    at = 0
    for low, high in sorted(blocked):
        if low < at < high:
            at = high + -high % align
    return at


def _core(conflicts: Conflicts, arena: int) -> tuple[set[int], list[int]]:
    """What is hard to place, and the rest in the order in which it was set aside: wherever the others
    lie, they cannot block every offset of a buffer that is set aside."""
    sizes, aligns, below = conflicts.sizes, conflicts.aligns, conflicts.below

    def blocks(i: int, j: int) -> int:  # offsets of i that j can block
        return max(0, -(-(below[i][j] + below[j][i] - 1) // aligns[i]))

    core, easy = set(range(len(sizes))), list[int]()
    room = [(arena - s) // a + 1 for s, a in zip(sizes, aligns, strict=True)]
    blocked = [sum(blocks(i, j) for j in below[i]) for i in range(len(sizes))]
    waiting = [i for i in core if blocked[i] < room[i]]
    while waiting:
        i = waiting.pop()
        core.discard(i)
        easy.append(i)
        for j in below[i]:
            if j in core:
                was = blocked[j] < room[j]
                blocked[j] -= blocks(j, i)
                if not was and blocked[j] < room[j]:
                    waiting.append(j)
    return core, easy


class _Search:
    def __init__(
        self, conflicts: Conflicts, core: set[int], pairs: Sequence[tuple[int, int]], steps: Steps
    ) -> None:
        self.below, self.aligns = conflicts.below, conflicts.aligns
        self.pairs, self.steps = pairs, steps
        self.others = {i: [j for j in conflicts.below[i] if j in core] for i in core}

    def solve(self, least: list[int], most: list[int]) -> list[int] | None:
        """Depth first, without recursion: networks may have many pairs."""
        if not self._narrow(least, most, set(), list(self.others)):
            return None
        stack = [(least, most, set[tuple[int, int]]())]
        while stack:
            least, most, decided = stack.pop()
            pair = self._violated(least, most)
            if pair is None:
                return least
            for lower, upper in pair:  # the more promising one is on top
                tried = (list(least), list(most), decided | {(lower, upper)})
                if self._narrow(*tried, [lower, upper]):
                    stack.append(tried)
        return None

    def _violated(
        self, least: Sequence[int], most: Sequence[int]
    ) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Of the pairs that overlap at their least offsets, the one with the least freedom, as its two
        orders, the tighter one first."""
        self.steps.take(len(self.pairs))
        tightest, found = 1 << 62, None
        for i, j in self.pairs:
            up, down = least[i] + self.below[i][j], least[j] + self.below[j][i]
            if up <= least[j] or down <= least[i]:
                continue
            first, second = most[j] - up, most[i] - down
            if min(first, second) < tightest:
                tightest = min(first, second)
                found = ((i, j), (j, i)) if first < second else ((j, i), (i, j))
        return found

    def _narrow(
        self, least: list[int], most: list[int], decided: set[tuple[int, int]], changed: list[int]
    ) -> bool:
        """Tightens offsets in place until nothing follows any more; False if some offset has no value."""
        below, aligns = self.below, self.aligns
        waiting = dict.fromkeys(changed)
        while waiting:
            i = next(iter(waiting))
            del waiting[i]
            others = self.others[i]
            self.steps.take(len(others))
            for j in others:
                up, down = below[i][j], below[j][i]
                under = least[i] + up <= most[j] and (j, i) not in decided
                over = least[j] + down <= most[i] and (i, j) not in decided
                if under and over:
                    continue
                if not under and not over:
                    return False
                low, high, distance = (i, j, up) if under else (j, i, down)
                bottom = least[low] + distance
                bottom += -bottom % aligns[high]
                top = most[high] - distance
                top -= top % aligns[low]
                if bottom > least[high]:
                    least[high] = bottom
                    waiting[high] = None
                if top < most[low]:
                    most[low] = top
                    waiting[low] = None
                if least[high] > most[high] or least[low] > most[low]:
                    return False
        return True
