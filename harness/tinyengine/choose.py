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
from collections.abc import Iterable, Mapping, Sequence

from tinyhil.harness.tinyengine.chains import chain_works, is_chain, joins, surroundings
from tinyhil.harness.tinyengine.kernel import Kernel, Target
from tinyhil.harness.tinyengine.lowering import Program
from tinyhil.harness.tinyengine.paths import Option, Paths, Row, least_memory
from tinyhil.harness.tinyengine.schedule import Choice

MAX_CHAIN, LONGEST = 4, 8  # steps that are fused: by default, and where memory matters most


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
    return choices_of(rows_of(options(program, kernels, target, longest), prefer), prefer, budget)


def rows_of(table: Iterable[Iterable[Option]], prefer: str) -> list[Row]:
    """The options of each step, with costs."""
    return [Row(here, PER_BYTE[prefer]) for here in table]


def choices_of(table: Sequence[Row], prefer: str, budget: int) -> list[list[Choice]]:
    """`alternatives`, of the options of each step."""
    if not table:
        return [[]]
    users, path = share(table, prefer, budget)
    paths = [path]
    if prefer == "ram":
        most = RAM_SLACK * _instructions(path)
        least = _smallest(table, users, least_memory(table), most)
        if least is not None:
            level = max(o.memory for o in least)
            wider = (Paths(table, users).within(int(level * f)) for f in (1.02, 1.04, 1.07, 1.1))
            paths = [least, *(p for p in wider if p is not None and _instructions(p) <= most), *paths]
            paths = list({tuple(map(id, path)): path for path in paths}.values())  # each once
    return [[Choice(tuple(range(o.first, o.after)), o.candidate) for o in path] for path in paths]


def share(table: Sequence[Row], prefer: str, budget: int) -> tuple[Mapping[str, int], list[Option]]:
    """How many layers of a good choice use each helper, where there are several; and the choice that follows
    when its code is split among them."""
    per_byte, smallest = PER_BYTE[prefer], least_memory(table)
    found: tuple[int, Mapping[str, int], list[Option]] | None = None
    several: dict[str, int] = {}
    for _ in range(_ROUNDS):
        path = _balanced(Paths(table, several), max(budget, smallest), smallest)
        code = {name: size for o in path for name, size in o.candidate.shared.items()}
        cost = _instructions(path) + per_byte * (sum(o.candidate.flash for o in path) + sum(code.values()))
        if found is not None and cost >= found[0]:
            break
        found = cost, several, path
        users = Counter(name for o in path for name in o.candidate.shared)
        split, several = several, {name: count for name, count in sorted(users.items()) if count > 1}
        if several == split:  # the same costs would give the same path
            break
    assert found is not None
    return found[1:]


def _smallest(
    table: Sequence[Row], users: Mapping[str, int], smallest: int, most: float
) -> list[Option] | None:
    """The path of the smallest budget whose instructions stay within `most`."""
    levels = sorted({o.memory for row in table for o in row.options if o.memory >= smallest})
    found: list[Option] | None = None
    low, high = 0, len(levels)
    while low < high:  # instructions fall as the budget grows
        middle = (low + high) // 2
        path = Paths(table, users).within(levels[middle])
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


def _instructions(path: Sequence[Option]) -> int:
    return sum(o.instructions for o in path)
