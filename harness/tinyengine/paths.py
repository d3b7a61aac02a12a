"""The cheapest chain of options from the first step to the last, within a budget of memory: a shortest path.

Planning spends its time here, and the networks of a search are planned by the thousand. So the options of a
step are sorted once (`Row`), and those that no budget would ever take are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tinyhil.harness.tinyengine.kernel import Candidate


@dataclass(frozen=True, eq=False)
class Option:
    """A candidate for the steps [first, after), with the bytes alive while it runs and its costs."""

    first: int
    after: int
    candidate: Candidate
    memory: int
    instructions: int
    flash: int
    scratch: int

    def starting_at(self, first: int) -> Option:
        """The same for as many steps from `first` on."""
        after = first + self.after - self.first
        return Option(first, after, self.candidate, self.memory, self.instructions, self.flash, self.scratch)


Entry = tuple[int, int, int]  # of an option: its key, its place in its row, its memory
Stairs = list[Entry]  # options that lead to one step: each costs more than the one before and needs less

_NONE = 1 << 90  # a key where there is no path
_SCRATCH = 32  # bits of a key below the cost: of equal costs the one with less scratch is better
_MOST = 32  # ways to split shared code that a row remembers


class Row:
    """The options of one step. A byte of flash costs as much as `per_byte` instructions; `least` is the
    smallest memory of an option, by the step that it leads to."""

    def __init__(self, options: Iterable[Option], per_byte: int) -> None:
        self.options = tuple(options)
        self._per_byte = per_byte << _SCRATCH
        self._ends: dict[int, list[Entry]] = defaultdict(list)
        self._sharing: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for place, o in enumerate(self.options):
            same = self._ends[o.after]
            for name, size in o.candidate.shared.items():
                self._sharing[name].append((o.after, len(same), size))
            cost = o.instructions + per_byte * o.flash
            same.append(((cost << _SCRATCH) + o.scratch, place, o.memory))
        self._alone = [(after, _stairs(same)) for after, same in self._ends.items()]
        self._split: dict[tuple[tuple[str, int], ...], list[tuple[int, Stairs]]] = {(): self._alone}
        self.least = [(after, stairs[-1][2]) for after, stairs in self._alone]

    def stairs(self, users: Mapping[str, int]) -> list[tuple[int, Stairs]]:
        """The options by the step that they lead to. Shared code counts in full, or is split among its
        `users` where there are several: file name -> how many."""
        mine = tuple([pair for pair in users.items() if pair[0] in self._sharing])
        if mine not in self._split:
            if len(self._split) > _MOST:
                self._split = {(): self._alone}
            self._split[mine] = self._among(mine)
        return self._split[mine]

    def _among(self, users: Iterable[tuple[str, int]]) -> list[tuple[int, Stairs]]:
        changed: dict[int, list[Entry]] = {}
        for name, count in users:
            for after, at, size in self._sharing[name]:
                if after not in changed:
                    changed[after] = list(self._ends[after])
                same = changed[after]
                key, place, memory = same[at]
                same[at] = key - self._per_byte * (size - size // count), place, memory
        return [
            (after, _stairs(changed[after]) if after in changed else stairs) for after, stairs in self._alone
        ]


def _stairs(entries: Iterable[Entry]) -> Stairs:
    found: Stairs = []
    for entry in sorted(entries):
        if not found or entry[2] < found[-1][2]:
            found.append(entry)
    return found


class Paths:
    """The cheapest chains of options within budgets that are asked for in falling order. `users` is as for
    `Row.stairs`.

    A smaller budget makes nothing cheaper, so a step whose option still fits and leads to an unchanged rest
    keeps it; only the others are worked out again.
    """

    def __init__(self, table: Sequence[Row], users: Mapping[str, int]) -> None:
        self._table = table
        self._stairs = [row.stairs(users) for row in table]
        self._best = [_NONE] * len(table) + [0]  # the sum of the keys up to the end
        self._taken = [(_NONE, 0, 0)] * len(table)  # memory, after, place
        self._budget: int | None = None

    @property
    def cost(self) -> int:
        """What the path found last costs, in instructions."""
        return self._best[0] >> _SCRATCH

    def within(self, budget: int) -> list[Option] | None:
        """The cheapest path within `budget` bytes of RAM, of equals the one with the least scratch; None if
        there is none. No budget may be larger than the one before."""
        assert self._budget is None or budget <= self._budget
        self._budget = budget
        best, taken, count = self._best, self._taken, len(self._table)
        changed = [False] * (count + 1)
        for first in range(count - 1, -1, -1):
            needed, leads, _ = taken[first]
            if needed <= budget and not changed[leads]:
                continue
            least, found = _NONE, (_NONE, 0, 0)
            for after, stairs in self._stairs[first]:
                rest = best[after]
                if rest == _NONE:
                    continue
                for key, place, memory in stairs:
                    if memory <= budget:
                        if key + rest < least:
                            least, found = key + rest, (memory, after, place)
                        break
            changed[first] = least != best[first]
            best[first], taken[first] = least, found
        if best[0] == _NONE:
            return None
        path: list[Option] = []
        while (first := path[-1].after if path else 0) < count:
            path.append(self._table[first].options[taken[first][2]])
        return path


def shortest(table: Sequence[Sequence[Option]], budget: int, per_byte: int) -> list[Option] | None:
    """The cheapest chain of options from the first step to the last within `budget` bytes of RAM, where
    a byte of flash counts as much as `per_byte` instructions."""
    return Paths([Row(here, per_byte) for here in table], {}).within(budget)


def least_memory(table: Sequence[Row]) -> int:
    """The smallest budget for which any choice exists."""
    best = [_NONE] * len(table) + [0]
    for first in range(len(table) - 1, -1, -1):
        best[first] = min((max(memory, best[after]) for after, memory in table[first].least), default=_NONE)
    return best[0]
