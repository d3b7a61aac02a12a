"""Safe distances: with its output exactly `gap` bytes below its dying input, every kernel still computes
the right bytes, whatever its shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from engine_checks import RunC
from engine_networks import Builder
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_blocks import assert_exact, sources_of

from tinyhil.harness.model.graph import Activation, Graph
from tinyhil.harness.tinyengine.chains import chain_works
from tinyhil.harness.tinyengine.kernel import Candidate, Target
from tinyhil.harness.tinyengine.kernels import all_kernels
from tinyhil.harness.tinyengine.lowering import Program, lower
from tinyhil.harness.tinyengine.overlap import gap_of, pixel_gap, row_gap
from tinyhil.harness.tinyengine.pipeline import Pipeline
from tinyhil.harness.tinyengine.planner import Placement
from tinyhil.harness.tinyengine.schedule import Choice, Problem, Schedule, arrange, placed
from tinyhil.harness.tinyengine.work import ConvWork, DepthwiseWork

TARGET = Target("native")
KINDS = ("conv", "depthwise", "add", "pool", "table", "chain")


@st.composite
def small_graphs(draw: st.DrawFn, kind: str) -> Graph:
    """One operator (or a chain of some), with odd sizes."""
    b = Builder(
        (1, draw(st.integers(1, 9)), draw(st.integers(2, 9)), draw(st.integers(1, 9))),
        draw(st.integers(0, 1 << 20)),
        draw(st.sampled_from([-128, -7, 127])),
    )
    k = draw(st.sampled_from([1, 3, 5]))
    stride = draw(st.sampled_from([1, 1, 2]))
    pads = (k // 2,) * 4
    if kind == "conv":
        b.conv(draw(st.integers(1, 20)), (k, k), (stride, stride), pads)
    elif kind == "depthwise":
        b.depthwise((3, 3), (stride, stride), (1, 1, 1, 1), draw(st.sampled_from([1, 1, 2, 3])))
    elif kind == "add":
        start = b.last
        b.conv(b.shape()[3], activation=Activation.NONE, zero_point=5)
        b.add(start)
    elif kind == "pool":
        b.pool(draw(st.booleans()), size=2 if b.shape()[1] > 1 else 1, stride=draw(st.sampled_from([1, 2])))
    elif kind == "table":
        b.relu(Activation.RELU6)
    else:
        b.conv(draw(st.integers(1, 9)), (k, k), (stride, stride), pads)
        b.depthwise((3, 3), pads=(1, 1, 1, 1))
        b.conv(draw(st.integers(1, 12)), activation=Activation.NONE)
    return b.graph()


def candidates(program: Program) -> Sequence[Candidate]:
    """All that computes the whole program as one layer."""
    works = chain_works(program.steps)
    kernels = [Pipeline("always", (1, 2), always=True), *all_kernels(frozenset())]
    return [c for kernel in kernels for c in kernel.candidates(works, TARGET)]


def at_its_gap(program: Program, candidate: Candidate) -> Schedule:
    """The input above the output by the gap and not a byte more; the scratch behind both."""
    schedule = arrange(program, [Choice(tuple(range(len(program.steps))), candidate)])
    problem: Problem = schedule.problem
    (overlap,) = problem.overlaps
    offsets = [0] * len(problem.requests)
    offsets[overlap.output], offsets[overlap.dying] = max(-overlap.gap, 0), max(overlap.gap, 0)
    end = max(offsets[i] + problem.requests[i].size for i in range(len(problem.tensors)))
    for slot in problem.scratch.values():
        offsets[slot] = end + -end % problem.requests[slot].align
        end = offsets[slot] + problem.requests[slot].size
    return placed(program, problem, Placement(tuple(offsets), end, 0))


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # every try compiles: no shrinking
)
@given(data=st.data())
def test_an_output_may_lie_at_its_gap(kind: str, run_c: RunC, data: st.DataObject) -> None:
    graph = data.draw(small_graphs(kind))
    program = lower(graph)
    usable = [c for c in candidates(program) if c.gaps[0] is not None]
    if usable and len({t for step in program.steps for t in step.inputs if t in graph.inputs}) == 1:
        schedule = at_its_gap(program, data.draw(st.sampled_from(usable)))
        assert_exact(sources_of(schedule, graph, poison=False), graph, run_c)


def reads_and_writes(work: ConvWork | DepthwiseWork, rows: int | None) -> tuple[list[int], list[int]]:
    """Step by step: the lowest input byte read, and the output bytes written by then. A step is a pixel, or
    as many `rows`."""
    first, written = [], []
    for row in range(work.y.height):
        for column in range(work.y.width):
            top = min(max(row * work.strides[0] - work.pads[0], 0), work.x.height - 1)
            left = min(max(column * work.strides[1] - work.pads[2], 0), work.x.width - 1)
            if rows is None:
                first.append((top * work.x.width + left) * work.x.channels)
                written.append((row * work.y.width + column + 1) * work.y.channels)
    if rows is not None:
        for row in range(0, work.y.height, rows):
            top = min(max(row * work.strides[0] - work.pads[0], 0), work.x.height - 1)
            first.append(top * work.x.width * work.x.channels)
            written.append(min(row + rows, work.y.height) * work.y.width * work.y.channels)
    return first, written


@settings(max_examples=60)
@given(small_graphs("conv"), st.sampled_from([None, 1, 2, 3]))
def test_a_gap_is_the_smallest_distance_at_which_no_write_meets_a_later_read(
    graph: Graph, rows: int | None
) -> None:
    work = lower(graph).steps[0].work
    assert isinstance(work, ConvWork)
    first, written = reads_and_writes(work, rows)

    def safe(gap: int) -> bool:  # output starts `gap` bytes below the input
        return all(
            written[step] - gap <= first[later]
            for step in range(len(first))
            for later in range(step, len(first))
        )

    gap = pixel_gap(work) if rows is None else row_gap(work, rows)
    assert safe(gap)
    assert not safe(gap - 1)


def test_a_gap_follows_from_the_order_of_accesses() -> None:
    assert gap_of(np.array([4, 8, 12]), np.array([0, 0, 8])) == 8
    assert gap_of(np.array([1, 2, 3]), np.array([3, 4, 5])) == -2
