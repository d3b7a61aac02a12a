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
from dataclasses import dataclass, replace
from itertools import pairwise

from tinyhil.harness.tinyengine.kernel import Candidate, Kernel, Target
from tinyhil.harness.tinyengine.lowering import Program, Step
from tinyhil.harness.tinyengine.schedule import Choice, chain_inputs
from tinyhil.harness.tinyengine.work import AddWork, Work

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


def is_chain(program: Program, lives: dict[int, tuple[int, int]], first: int, after: int) -> bool:
    """Each step but the last is read by the next step alone."""
    for index in range(first, after - 1):
        output = program.steps[index].output
        if lives[output][1] != index + 1 or output not in program.steps[index + 1].inputs:
            return False
    return True


def memory_of(
    program: Program, lives: dict[int, tuple[int, int]], first: int, after: int, candidate: Candidate
) -> int:
    """Bytes alive while the steps [first, after) run as one layer, overlaps and scratch included."""
    steps = program.steps[first:after]
    inside = {s.output for s in steps[:-1]}
    output = steps[-1].output
    inputs = chain_inputs(steps)
    alive = {t for t, (b, d) in lives.items() if b < first and d >= first and t not in inside}
    total = sum(program.nbytes(t) for t in alive) + program.nbytes(output) + candidate.scratch
    saved = 0
    for tensor in dict.fromkeys(inputs):
        gaps = [g for t, g in zip(inputs, candidate.gaps, strict=True) if t == tensor]
        if lives[tensor][1] >= after or None in gaps:
            continue
        gap = max(g for g in gaps if g is not None)
        a, b = program.nbytes(output), program.nbytes(tensor)
        saved = max(saved, a + b - max(a, max(gap, 0) + b))
    return total - saved


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
        works = chain_works(program.steps[first:after])
        for kernel in kernels:
            if after > first + 1 and not _joins(program.steps[first:after]):
                continue
            for c in kernel.candidates(works, target):
                memory = memory_of(program, lives, first, after, c)
                flash = c.flash + sum(c.shared.values())  # in full, until it is known who shares it
                here.append(Option(first, after, c, memory, c.instructions, flash, c.scratch))
    return here


def chain_works(steps: Sequence[Step]) -> list[Work]:
    """The works of a chain, with each Add turned so that its first operand is what the chain computed."""
    works = [s.work for s in steps]
    for i, (before, step) in enumerate(pairwise(steps), 1):
        work = step.work
        if isinstance(work, AddWork) and step.inputs[0] != before.output:
            works[i] = replace(
                work, x=work.other, other=work.x, x_scale=work.other_scale, other_scale=work.x_scale
            )
    return works


def _joins(steps: Sequence[Step]) -> bool:
    """Works of a chain name no tensors: the second input of an Add must be the chain's own input, or it
    comes as a further pointer; an Add that reads its chain's result twice is left alone."""
    return all(s.inputs.count(before.output) == 1 for before, s in pairwise(steps))


def shortest(table: Sequence[Sequence[Option]], budget: int, per_byte: int) -> list[Option] | None:
    """The cheapest chain of options from the first step to the last within `budget` bytes of RAM, where
    a byte of flash counts as much as `per_byte` instructions."""
    count = len(table)
    best: list[tuple[int, int] | None] = [None] * count + [(0, 0)]
    taken: list[Option | None] = [None] * count
    for first in range(count - 1, -1, -1):
        here = None
        for option in table[first]:
            if option.memory > budget:
                continue
            rest = best[option.after]
            if rest is None:
                continue
            cost = option.instructions + per_byte * option.flash + rest[0]
            if here is None or cost <= here[0]:
                total = (cost, option.scratch + rest[1])
                if here is None or total < here:
                    here, taken[first] = total, option
        best[first] = here
    if best[0] is None:
        return None
    path: list[Option] = []
    at = 0
    while at < count:
        option_at = taken[at]
        assert option_at is not None
        path.append(option_at)
        at = option_at.after
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
    per_byte = PER_BYTE[prefer]
    table, path = share(table, prefer, budget)
    smallest, paths = least_memory(table), [path]
    if prefer == "ram":
        most = RAM_SLACK * _instructions(paths[0])
        least = _smallest(table, per_byte, smallest, most)
        if least is not None:
            level = max(o.memory for o in least)
            wider = (shortest(table, int(level * f), per_byte) for f in (1.02, 1.04, 1.07, 1.1))
            paths = [least, *(p for p in wider if p is not None and _instructions(p) <= most), *paths]
    return [[Choice(tuple(range(o.first, o.after)), o.candidate) for o in path] for path in paths]


def share(
    table: Sequence[Sequence[Option]], prefer: str, budget: int
) -> tuple[list[list[Option]], list[Option]]:
    """The same options, with shared code charged by how many layers of a good choice use it; that choice."""
    per_byte, smallest = PER_BYTE[prefer], least_memory(table)
    found: tuple[int, list[list[Option]], list[Option]] | None = None
    priced = [list(here) for here in table]
    for _ in range(_ROUNDS):
        best = shortest(priced, max(budget, smallest), per_byte)
        assert best is not None
        path = _balanced(priced, per_byte, smallest, best)
        code = {name: size for o in path for name, size in o.candidate.shared.items()}
        cost = _instructions(path) + per_byte * (sum(o.candidate.flash for o in path) + sum(code.values()))
        if found is not None and cost >= found[0]:
            break
        found = cost, priced, path
        users = Counter(name for o in path for name in o.candidate.shared)
        several = {name for name, count in users.items() if count > 1}
        priced = [
            [
                o if several.isdisjoint(o.candidate.shared) else replace(o, flash=_flash(o.candidate, users))
                for o in here
            ]
            for here in table
        ]
    assert found is not None
    return found[1:]


def _flash(candidate: Candidate, users: Mapping[str, int]) -> int:
    """Bytes that a candidate adds if its shared code is split among all of its users."""
    return candidate.flash + sum(size // max(1, users.get(n, 0)) for n, size in candidate.shared.items())


def _smallest(
    table: Sequence[Sequence[Option]], per_byte: int, smallest: int, most: float
) -> list[Option] | None:
    """The path of the smallest budget whose instructions stay within `most`."""
    levels = sorted({o.memory for here in table for o in here if o.memory >= smallest})
    found: list[Option] | None = None
    low, high = 0, len(levels)
    while low < high:  # instructions fall as the budget grows
        middle = (low + high) // 2
        path = shortest(table, levels[middle], per_byte)
        if path is not None and _instructions(path) <= most:
            found, high = path, middle
        else:
            low = middle + 1
    return found


def _balanced(
    table: Sequence[Sequence[Option]], per_byte: int, smallest: int, best: list[Option]
) -> list[Option]:
    """The path with the best trade between cost and memory, over budgets that grow by _STEP."""
    cost, top = _cost(best, per_byte), max(o.memory for o in best)
    levels, level = [], float(smallest)
    while level < top:
        levels.append(int(level))
        level *= _STEP
    paths: list[list[Option]] = []
    while levels:  # downwards: a path is the cheapest for every budget from what it needs up
        path = shortest(table, levels[-1], per_byte)
        assert path is not None
        paths.insert(0, path)
        needed = max(o.memory for o in path)
        while levels and levels[-1] >= needed:
            levels.pop()

    def score(path: Sequence[Option]) -> float:
        return _cost(path, per_byte) / cost + RAM_WEIGHT * max(o.memory for o in path) / smallest

    return min((best, *paths), key=score)


def least_memory(table: Sequence[Sequence[Option]]) -> int:
    """The smallest budget for which any choice exists."""
    best = [1 << 62] * len(table) + [0]
    for first in range(len(table) - 1, -1, -1):
        best[first] = min((max(o.memory, best[o.after]) for o in table[first]), default=1 << 62)
    return best[0]


def _instructions(path: Sequence[Option]) -> int:
    return sum(o.instructions for o in path)


def _cost(path: Sequence[Option], per_byte: int) -> int:
    return sum(o.instructions + per_byte * o.flash for o in path)
