"""Steps -> layers with one kernel each, and every buffer's place in the arena.

A schedule is all that the code generator needs: which candidate computes which steps, and where its
inputs, output and scratch lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyhil.harness.engine import Buffer
from tinyhil.harness.tinyengine.kernel import Candidate
from tinyhil.harness.tinyengine.lowering import Program, Step
from tinyhil.harness.tinyengine.planner import STEPS, Overlap, Placement, Request, lower_bound, plan

SCRATCH_ALIGN = 8
TENSOR_ALIGN = 4
GUARD = 24  # a layer's scratch ends in bytes that wide loads may read: 16, rounded up to its alignment


@dataclass(frozen=True, eq=False)
class Choice:
    """A chain of consecutive steps (indices into Program.steps) and the candidate that computes it."""

    steps: tuple[int, ...]
    candidate: Candidate


@dataclass(frozen=True, eq=False)
class Layer:
    """One C function to be: `inputs` and `output` are root tensors."""

    choice: Choice
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be placed: tensors first (`tensors[i]` is request i), then scratch (layer -> request)."""

    layers: tuple[Layer, ...]
    tensors: tuple[int, ...]
    scratch: dict[int, int]
    requests: tuple[Request, ...]
    overlaps: tuple[Overlap, ...]

    def solve(self, effort: int = STEPS) -> Placement:
        """The offsets of all requests, with at most so many steps of search."""
        return plan(self.requests, self.overlaps, effort)


@dataclass(frozen=True, eq=False)
class Schedule:
    """Layers in order; offsets of root tensors and of each layer's scratch (-1: none), in bytes."""

    program: Program
    layers: tuple[Layer, ...]
    tensor_offsets: dict[int, int]
    scratch_offsets: tuple[int, ...]
    placement: Placement
    buffers: tuple[Buffer, ...]
    problem: Problem

    @property
    def arena(self) -> int:
        """Bytes of the arena."""
        return self.placement.arena

    @property
    def scratch_tail(self) -> int:
        """Bytes at the arena's end that nothing but scratch covers."""
        return self.arena - max((b.offset + b.size for b in self.buffers if b.role != "scratch"), default=0)

    @property
    def guard(self) -> int:
        """Bytes at the arena's end that a layer may read and none writes: the end of scratch buffers."""
        return min(GUARD, self.scratch_tail)

    @property
    def instructions(self) -> int:
        """Estimated instructions of one inference."""
        return sum(layer.choice.candidate.instructions for layer in self.layers)


def chain_inputs(steps: Sequence[Step]) -> tuple[int, ...]:
    """What a chain reads: the first step's inputs, then what later ones need from outside the chain."""
    inputs = list(steps[0].inputs)
    made = {steps[0].output}
    for step in steps[1:]:
        inputs += [tensor for tensor in step.inputs if tensor not in made]
        made.add(step.output)
    return tuple(inputs)


def _problem(program: Program, choices: Sequence[Choice], overlap: bool) -> Problem:
    layers = []
    for choice in choices:
        steps = [program.steps[i] for i in choice.steps]
        layers.append(Layer(choice, chain_inputs(steps), steps[-1].output))
    end = max(len(layers) - 1, 0)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for tensor in program.graph.inputs:
        first[tensor] = last[tensor] = 0
    for position, layer in enumerate(layers):
        first[layer.output] = position
        last[layer.output] = position
        for tensor in layer.inputs:
            last[tensor] = position
    for tensor in program.graph.outputs:
        root = program.root[tensor]
        first.setdefault(root, 0)
        last[root] = end
    tensors = sorted(first)
    slot = {tensor: i for i, tensor in enumerate(tensors)}
    requests = [Request(f"t{t}", program.nbytes(t), first[t], last[t], TENSOR_ALIGN) for t in tensors]
    overlaps = []
    scratch: dict[int, int] = {}
    outputs = {program.root[t] for t in program.graph.outputs}
    for position, layer in enumerate(layers):
        candidate = layer.choice.candidate
        if candidate.scratch:
            scratch[position] = len(requests)
            requests.append(Request(f"s{position}", candidate.scratch, position, position, SCRATCH_ALIGN))
        for tensor in dict.fromkeys(layer.inputs):
            gaps = [g for t, g in zip(layer.inputs, candidate.gaps, strict=True) if t == tensor]
            if last[tensor] != position or tensor in outputs or None in gaps:
                continue
            overlaps.append(Overlap(slot[layer.output], slot[tensor], max(g for g in gaps if g is not None)))
    return Problem(
        tuple(layers), tuple(tensors), scratch, tuple(requests), tuple(overlaps) if overlap else ()
    )


def arrange(program: Program, choices: Sequence[Choice], overlap: bool = True) -> Schedule:
    """Places everything. `overlap` False keeps outputs off their dying inputs (for ablation)."""
    problem = _problem(program, choices, overlap)
    return placed(program, problem, problem.solve())


def arena_of(program: Program, choices: Sequence[Choice], overlap: bool = True) -> int:
    """Bytes of the arena that `arrange` would need, and nothing else."""
    return _problem(program, choices, overlap).solve().arena


def arrange_smallest(program: Program, plans: Sequence[Sequence[Choice]], overlap: bool = True) -> Schedule:
    """The plan with the smallest arena, the first of several. Those whose lower bound rules them out are
    not placed; several share half of the steps of search, then the best of them gets all."""
    problems = [_problem(program, choices, overlap) for choices in plans]
    if len(problems) == 1:
        return placed(program, problems[0], problems[0].solve())
    bounds = [lower_bound(p.requests, p.overlaps) for p in problems]
    best: tuple[int, int, Placement] | None = None
    for number in sorted(range(len(problems)), key=lambda n: (bounds[n], n)):
        if best is not None and (bounds[number], number) >= best[:2]:
            continue
        placement = problems[number].solve(STEPS // (2 * len(problems)))
        found = (placement.arena, number, placement)
        if best is None or found[:2] < best[:2]:
            best = found
    assert best is not None
    _, number, placement = best
    if not placement.optimal:
        again = problems[number].solve()
        placement = again if again.arena < placement.arena else placement
    return placed(program, problems[number], placement)


def placed(program: Program, problem: Problem, placement: Placement) -> Schedule:
    """The schedule under these offsets."""
    requests, at = problem.requests, placement.offsets
    inputs, outputs = set(program.graph.inputs), {program.root[t] for t in program.graph.outputs}
    buffers = []
    for slot, tensor in enumerate(problem.tensors):
        r = requests[slot]
        role = "input" if tensor in inputs else "output" if tensor in outputs else "activation"
        buffers.append(Buffer(f"tensor {tensor}", at[slot], r.size, r.first, r.last, role))
    for position, slot in problem.scratch.items():
        size = requests[slot].size
        buffers.append(Buffer(f"scratch {position}", at[slot], size, position, position, "scratch"))
    return Schedule(
        program,
        problem.layers,
        {tensor: at[slot] for slot, tensor in enumerate(problem.tensors)},
        tuple(at[problem.scratch[p]] if p in problem.scratch else -1 for p in range(len(problem.layers))),
        placement,
        tuple(buffers),
        problem,
    )
