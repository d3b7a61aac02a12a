"""Which chain of steps runs on which kernel: the cheapest choice whose memory stays within a budget.

Memory is judged layer by layer: what lives across it, its input and output joined as far as they may
overlap, and its scratch. The fullest layer is a lower bound of the arena; the planner then places the
buffers. Under a budget the choice is a shortest path over the positions between steps, since each
chain's cost depends on nothing but the chain.

Cost is instructions plus flash at an exchange rate (PER_BYTE). Code that several layers share counts once:
its bytes are split among those that use it in the choice before, a few times over (`share`). The cheapest
choice that the board's RAM allows sets the scale, then smaller budgets are tried. Cost is weighed against
memory (RAM_WEIGHT); `ram` then takes the smallest budget whose instructions stay within RAM_SLACK of that.

Scratch follows from the budget: a layer that leaves more of the arena free may take more columns at a
time (the model-adaptive scheduling of MCUNet, section 3.2, with every buffer in the equation).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinyhil.harness.tinyengine.chains import chain_works, is_chain, joins, surroundings
from tinyhil.harness.tinyengine.kernel import Candidate, Kernel, Target
from tinyhil.harness.tinyengine.lowering import Program
from tinyhil.harness.tinyengine.schedule import Choice

MAX_CHAIN, LONGEST = 4, 8  # steps that are fused: by default, and where memory matters most


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


def lifetimes(program: Program) -> dict[int, tuple[int, int]]:
    """Root tensor -> (step that writes it, -1 for inputs; last step that reads it, past the end for
    network outputs)."""
    born = dict.fromkeys(program.graph.inputs, -1)
    dies = dict.fromkeys(program.graph.inputs, 0)
    for index, step in enumerate(program.steps):
        born[step.output] = index
        dies[step.output] = index
        for tensor in step.inputs:
            dies[tensor] = index
    for tensor in program.graph.outputs:
        dies[program.root[tensor]] = len(program.steps)
    return {t: (born[t], dies[t]) for t in born}


def options(
    program: Program, kernels: Sequence[Kernel], target: Target, longest: int = MAX_CHAIN
) -> list[list[Option]]:
    """Per step, every candidate of every chain of at most `longest` steps that starts there."""
    lives = lifetimes(program)
    return [
        options_at(program, lives, first, kernels, target, longest) for first in range(len(program.steps))
    ]


def options_at(
    program: Program,
    lives: dict[int, tuple[int, int]],
    first: int,
    kernels: Sequence[Kernel],
    target: Target,
    longest: int = MAX_CHAIN,
) -> list[Option]:
    """Every candidate of every chain that starts at step `first`; `lives` are the program's lifetimes."""
    here: list[Option] = []
    for after in range(first + 1, min(first + longest, len(program.steps)) + 1):
        if not is_chain(program, lives, first, after):
            break
        here += options_of(program, lives, first, after, kernels, target)
    return here


def options_of(
    program: Program,
    lives: dict[int, tuple[int, int]],
    first: int,
    after: int,
    kernels: Sequence[Kernel],
    target: Target,
) -> list[Option]:
    """Every candidate of the chain of the steps [first, after)."""
    steps = program.steps[first:after]
    if not joins(steps):
        return []
    works, around = chain_works(steps), surroundings(program, lives, first, after)
    found: list[Option] = []
    for kernel in kernels:
        for c in kernel.candidates(works, target):
            flash = c.flash + sum(c.shared.values())  # in full, until it is known who shares it
            found.append(Option(first, after, c, around.memory(c), c.instructions, flash, c.scratch))
    return found


def shortest(table: Sequence[Sequence[Option]], budget: int, per_byte: int) -> list[Option] | None:
    """The cheapest chain of options from the first step to the last within `budget` bytes of RAM, where
    a byte of flash counts as much as `per_byte` instructions."""
    return Paths(table, costs_of(table, per_byte)).within(budget)


Costs = list[list[int]]  # of each option of a table, in instructions
_NONE = 1 << 62  # what a path costs where there is none


def costs_of(
    table: Sequence[Sequence[Option]], per_byte: int, users: Mapping[str, int] | None = None
) -> Costs:
    """What each option costs. Shared code counts in full, or is split among its `users` where there are
    several: file name -> how many."""
    costs = [[o.instructions + per_byte * o.flash for o in here] for here in table]
    if users:
        for here, row in zip(table, costs, strict=True):
            for at, option in enumerate(here):
                for name, size in option.candidate.shared.items():
                    if name in users:
                        row[at] -= per_byte * (size - size // users[name])
    return costs


class Paths:
    """The cheapest chains of options within budgets that are asked for in falling order.

    A smaller budget makes nothing cheaper, so a step whose option still fits and leads to an unchanged rest
    keeps it; only the others are worked out again.
    """

    def __init__(self, table: Sequence[Sequence[Option]], costs: Costs) -> None:
        # Tuples, as this is what planning spends its time on: memory, after, cost, scratch, place.
        self._rows = [
            [(o.memory, o.after, row[at], o.scratch, at) for at, o in enumerate(here)]
            for here, row in zip(table, costs, strict=True)
        ]
        self._table = table
        self._best = [(_NONE, 0)] * len(table) + [(0, 0)]  # cost, then scratch
        self._taken = [-1] * len(table)
        self._budget: int | None = None

    @property
    def cost(self) -> int:
        """What the path found last costs."""
        return self._best[0][0]

    def within(self, budget: int) -> list[Option] | None:
        """The cheapest path within `budget` bytes of RAM, of equals the one with the least scratch; None if
        there is none. No budget may be larger than the one before."""
        assert self._budget is None or budget <= self._budget
        begun, self._budget = self._budget is not None, budget
        best, taken, count = self._best, self._taken, len(self._table)
        changed = [False] * (count + 1)
        for first in range(count - 1, -1, -1):
            row = self._rows[first]
            if begun and (had := taken[first]) >= 0 and row[had][0] <= budget and not changed[row[had][1]]:
                continue
            least, narrow, found = _NONE, 0, -1
            for memory, after, cost, scratch, at in row:
                if memory <= budget:
                    rest, beside = best[after]
                    total = cost + rest
                    if total < least or (total == least and scratch + beside < narrow):
                        least, narrow, found = total, scratch + beside, at
            changed[first] = (least, narrow) != best[first]
            best[first], taken[first] = (least, narrow), found
        if best[0][0] == _NONE:
            return None
        path: list[Option] = []
        while (first := path[-1].after if path else 0) < count:
            path.append(self._table[first][taken[first]])
        return path


PER_BYTE = {"speed": 16, "ram": 16, "flash": 60}  # instructions that a byte of flash is worth
RAM_SLACK = 1.30  # `ram`: at most this many times the instructions of `speed`
RAM_WEIGHT = 0.03  # `speed`, `flash`: twice the smallest memory must save three percent of the cost
_ROUNDS = 4  # of choosing anew with the code of the choice before shared
_STEP = 1.08  # budgets that are looked at grow by this factor


def choose(
    program: Program,
    kernels: Sequence[Kernel],
    target: Target,
    prefer: str,
    budget: int,
    fusion: bool = True,
) -> list[Choice]:
    """One candidate for every step. Where nothing fits `budget` bytes, the choice that needs least."""
    return alternatives(program, kernels, target, prefer, budget, fusion)[0]


def alternatives(
    program: Program,
    kernels: Sequence[Kernel],
    target: Target,
    prefer: str,
    budget: int,
    fusion: bool = True,
) -> list[list[Choice]]:
    """The best choice, and for `ram` a few more: what a choice needs is known to the byte only when its
    buffers are placed, so the smallest of these plans is to be taken."""
    longest = (LONGEST if prefer == "ram" else MAX_CHAIN) if fusion else 1
    return choices_of(options(program, kernels, target, longest), prefer, budget)


def choices_of(table: Sequence[Sequence[Option]], prefer: str, budget: int) -> list[list[Choice]]:
    """`alternatives`, of the options of each step."""
    if not table:
        return [[]]
    costs, path = share(table, prefer, budget)
    paths = [path]
    if prefer == "ram":
        most = RAM_SLACK * _instructions(path)
        least = _smallest(table, costs, least_memory(table), most)
        if least is not None:
            level = max(o.memory for o in least)
            wider = (Paths(table, costs).within(int(level * f)) for f in (1.02, 1.04, 1.07, 1.1))
            paths = [least, *(p for p in wider if p is not None and _instructions(p) <= most), *paths]
            paths = list({tuple(map(id, path)): path for path in paths}.values())  # each once
    return [[Choice(tuple(range(o.first, o.after)), o.candidate) for o in path] for path in paths]


def share(table: Sequence[Sequence[Option]], prefer: str, budget: int) -> tuple[Costs, list[Option]]:
    """What the options cost if code is charged by how many layers of a good choice use it; that choice."""
    per_byte, smallest = PER_BYTE[prefer], least_memory(table)
    found: tuple[int, Costs, list[Option]] | None = None
    several: dict[str, int] = {}
    for _ in range(_ROUNDS):
        costs = costs_of(table, per_byte, several)
        path = _balanced(Paths(table, costs), max(budget, smallest), smallest)
        code = {name: size for o in path for name, size in o.candidate.shared.items()}
        cost = _instructions(path) + per_byte * (sum(o.candidate.flash for o in path) + sum(code.values()))
        if found is not None and cost >= found[0]:
            break
        found = cost, costs, path
        users = Counter(name for o in path for name in o.candidate.shared)
        split, several = several, {name: count for name, count in users.items() if count > 1}
        if several == split:  # the same costs would give the same path
            break
    assert found is not None
    return found[1:]


def _smallest(
    table: Sequence[Sequence[Option]], costs: Costs, smallest: int, most: float
) -> list[Option] | None:
    """The path of the smallest budget whose instructions stay within `most`."""
    levels = sorted({o.memory for here in table for o in here if o.memory >= smallest})
    found: list[Option] | None = None
    low, high = 0, len(levels)
    while low < high:  # instructions fall as the budget grows
        middle = (low + high) // 2
        path = Paths(table, costs).within(levels[middle])
        if path is not None and _instructions(path) <= most:
            found, high = path, middle
        else:
            low = middle + 1
    return found


def _balanced(paths: Paths, budget: int, smallest: int) -> list[Option]:
    """The path with the best trade between cost and memory, over budgets that grow by _STEP up to `budget`;
    of equals the cheapest, then the smallest."""
    path = paths.within(budget)
    assert path is not None
    chosen, cost, most = path, paths.cost, max(o.memory for o in path)
    levels, level = [], float(smallest)
    while level < most:
        levels.append(int(level))
        level *= _STEP
    dearest = least = 1 + RAM_WEIGHT * most / smallest  # the scores of `chosen`, and of the first path
    while levels:  # downwards: a path is the cheapest for every budget from what it needs up
        if paths.cost / cost + RAM_WEIGHT * smallest / smallest > least:  # costs only grow from here
            break
        path = paths.within(levels[-1])
        assert path is not None
        needed = max(o.memory for o in path)
        score = paths.cost / cost + RAM_WEIGHT * needed / smallest
        if score < least or (score == least and least < dearest):
            chosen, least = path, score
        while levels and levels[-1] >= needed:
            levels.pop()
    return chosen


def least_memory(table: Sequence[Sequence[Option]]) -> int:
    """The smallest budget for which any choice exists."""
    best = [1 << 62] * len(table) + [0]
    for first in range(len(table) - 1, -1, -1):
        best[first] = min((max(o.memory, best[o.after]) for o in table[first]), default=1 << 62)
    return best[0]


def _instructions(path: Sequence[Option]) -> int:
    return sum(o.instructions for o in path)
