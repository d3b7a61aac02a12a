"""Which chain of steps runs on which kernel: the cheapest choice whose memory stays within a budget.

Memory is judged layer by layer: what lives across it, its input and output joined as far as they may
overlap, and its scratch. The fullest layer is a lower bound of the arena; the planner then places the
buffers. Under a budget the choice is a shortest path over the positions between steps, since each
chain's cost depends on nothing but the chain.

Cost is instructions plus flash at an exchange rate (PER_BYTE). The cheapest choice that the board's RAM
allows is found first; then the smallest budget is taken that needs few more instructions (SLACK).

Scratch follows from the budget: a layer that leaves more of the arena free may take more columns at a
time (the model-adaptive scheduling of MCUNet, section 3.2, with every buffer in the equation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tinyhil.harness.tinyengine.kernel import Candidate, Kernel, Target
from tinyhil.harness.tinyengine.lowering import Program, Step
from tinyhil.harness.tinyengine.schedule import Choice, chain_inputs
from tinyhil.harness.tinyengine.work import AddWork, Work

MAX_CHAIN = 4


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
    result: list[list[Option]] = []
    for first in range(len(program.steps)):
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
                    # shared code is charged in full: what several layers share is a welcome surplus
                    flash = c.flash + sum(c.shared.values())
                    here.append(Option(first, after, c, memory, c.instructions, flash, c.scratch))
        result.append(here)
    return result


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
        for option in table[first]:
            rest = best[option.after]
            if rest is None or option.memory > budget:
                continue
            cost = option.instructions + per_byte * option.flash
            total = (cost + rest[0], option.scratch + rest[1])
            here = best[first]
            if here is None or total < here:
                best[first], taken[first] = total, option
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


PER_BYTE = {"speed": 8, "ram": 8, "flash": 60}  # instructions that a byte of flash is worth
SLACK = {"speed": 1.02, "ram": 1.30, "flash": 1.30}  # instructions that a smaller arena is worth


def choose(
    program: Program,
    kernels: Sequence[Kernel],
    target: Target,
    prefer: str,
    budget: int,
    fusion: bool = True,
) -> list[Choice]:
    """One candidate for every step. Where nothing fits `budget` bytes, the choice that needs least."""
    table = options(program, kernels, target, MAX_CHAIN if fusion else 1)
    per_byte = PER_BYTE[prefer]
    levels = sorted({o.memory for here in table for o in here})
    best = shortest(table, budget, per_byte)
    most = None if best is None else SLACK[prefer] * _instructions(best)
    low, high = 0, len(levels) - 1
    while low < high:  # the smallest budget that is good enough
        middle = (low + high) // 2
        path = shortest(table, levels[middle], per_byte)
        if path is None or (most is not None and _instructions(path) > most):
            low = middle + 1
        else:
            high = middle
    path = shortest(table, levels[low], per_byte) if levels else []
    assert path is not None
    return [Choice(tuple(range(o.first, o.after)), o.candidate) for o in path]


def _instructions(path: Sequence[Option]) -> int:
    return sum(o.instructions for o in path)
