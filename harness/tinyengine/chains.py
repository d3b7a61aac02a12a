"""Steps that may run as one layer, and what lives in memory meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tinyhil.harness.tinyengine.kernel import Candidate
from tinyhil.harness.tinyengine.lowering import Program, Step
from tinyhil.harness.tinyengine.schedule import chain_inputs
from tinyhil.harness.tinyengine.work import AddWork, Work


def is_chain(program: Program, lives: dict[int, tuple[int, int]], first: int, after: int) -> bool:
    """Each step but the last is read by the next step alone."""
    for index in range(first, after - 1):
        output = program.steps[index].output
        if lives[output][1] != index + 1 or output not in program.steps[index + 1].inputs:
            return False
    return True


@dataclass(frozen=True)
class Surroundings:
    """What lives while a chain runs as one layer. `alive`: bytes of all its tensors, inputs and `output`
    among them; `dying`: inputs that nobody needs after it, as their pointers' positions and bytes."""

    alive: int
    output: int
    dying: tuple[tuple[tuple[int, ...], int], ...]

    def memory(self, candidate: Candidate) -> int:
        """Bytes alive while `candidate` runs the chain, overlaps and scratch included."""
        gaps, saved = candidate.gaps, 0
        for positions, size in self.dying:
            known = [gap for gap in (gaps[p] for p in positions) if gap is not None]
            if len(known) == len(positions):
                together = max(self.output, max(0, *known) + size)
                saved = max(saved, self.output + size - together)
        return self.alive + candidate.scratch - saved


def surroundings(program: Program, lives: dict[int, tuple[int, int]], first: int, after: int) -> Surroundings:
    """Of the steps [first, after)."""
    steps = program.steps[first:after]
    inside = {s.output for s in steps[:-1]}
    inputs, output = chain_inputs(steps), program.nbytes(steps[-1].output)
    alive = (program.nbytes(t) for t, (b, d) in lives.items() if b < first <= d and t not in inside)
    dying = (
        (tuple(p for p, t in enumerate(inputs) if t == tensor), program.nbytes(tensor))
        for tensor in dict.fromkeys(inputs)
        if lives[tensor][1] < after
    )
    return Surroundings(sum(alive) + output, output, tuple(dying))


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


def joins(steps: Sequence[Step]) -> bool:
    """Works of a chain name no tensors: the second input of an Add must be the chain's own input, or it
    comes as a further pointer; an Add that reads its chain's result twice is left alone."""
    return all(s.inputs.count(before.output) == 1 for before, s in pairwise(steps))
