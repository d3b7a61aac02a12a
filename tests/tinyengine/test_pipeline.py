"""Chains computed row by row or in patches: exact at any size, over the dying input, and smaller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from engine_checks import RunC
from engine_networks import Builder
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_blocks import assert_exact, sources_of

from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.model.graph import Activation, Graph
from tinyhil.harness.tinyengine import schedule_graph
from tinyhil.harness.tinyengine.chains import chain_works
from tinyhil.harness.tinyengine.columns import columns_of
from tinyhil.harness.tinyengine.kernel import Target
from tinyhil.harness.tinyengine.lowering import lower
from tinyhil.harness.tinyengine.pipeline import PATCHES, PIPELINE, Pipeline
from tinyhil.harness.tinyengine.schedule import Choice, Schedule, arrange
from tinyhil.harness.tinyengine.work import ConvWork, DepthwiseWork

NATIVE = Target("native")


def fused(graph: Graph, kernel: Pipeline) -> Sequence[Schedule]:
    """The whole graph as one layer, once per candidate."""
    program = lower(graph)
    steps = tuple(range(len(program.steps)))
    works = chain_works(program.steps)
    return [
        arrange(program, [Choice(steps, c)])
        for c in replace(kernel, always=True).candidates(works, Target("native"))
    ]


@st.composite
def chains(draw: st.DrawFn) -> Graph:
    """Two to five convolutions and depthwise convolutions with odd sizes, strides and paddings."""
    b = Builder(
        (1, draw(st.integers(3, 17)), draw(st.integers(3, 17)), draw(st.integers(1, 6))),
        draw(st.integers(0, 1 << 20)),
        draw(st.sampled_from([-128, -7, 127])),
    )
    for _ in range(draw(st.integers(2, 5))):
        _, height, width, _ = b.shape()
        zero_point = draw(st.sampled_from([-128, 3]))
        activation = draw(st.sampled_from([Activation.NONE, Activation.RELU6]))
        k = draw(st.sampled_from([1, 3, 3, 5]))
        stride = draw(st.sampled_from([1, 1, 2, 3]))
        half = k // 2
        pads = draw(st.sampled_from([(half,) * 4, (0, half, 0, half)])) if k > 1 else (0, 0, 0, 0)
        if height + pads[0] + pads[1] < k or width + pads[2] + pads[3] < k:
            continue
        if k > 1 and draw(st.booleans()):
            multiplier = draw(st.sampled_from([1, 1, 2]))
            b.depthwise((k, k), (stride, stride), pads, multiplier, activation, 0.0, zero_point)
        else:
            channels = draw(st.integers(1, 7))
            b.conv(channels, (k, k), (stride, stride), pads, activation, 0.0, zero_point)
    return b.graph()


@pytest.mark.parametrize("kernel", [PIPELINE, PATCHES], ids=lambda k: k.name)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # every try compiles: no shrinking
)
@given(chains(), st.data())
def test_chains_are_exact_in_one_piece_and_in_patches(
    kernel: Pipeline, run_c: RunC, graph: Graph, data: st.DataObject
) -> None:
    schedules = fused(graph, kernel)
    if schedules:
        schedule = data.draw(st.sampled_from(schedules))
        assert_exact(sources_of(schedule, graph, poison=False), graph, run_c)


def plain_stack() -> Graph:
    """A VGG-like stage: 3x3 convolutions, no residual, the size halved twice."""
    b = Builder((1, 40, 36, 3), seed=31)
    b.conv(16, (3, 3), (1, 1), (1, 1, 1, 1))
    b.conv(16, (3, 3), (2, 2), (0, 1, 0, 1))
    b.conv(24, (3, 3), (1, 1), (1, 1, 1, 1))
    b.conv(12, (3, 3), (2, 2), (1, 0, 1, 0))
    return b.graph()


def test_a_stack_of_convolutions_needs_a_fraction_of_its_tensors() -> None:
    plans = {}
    for off in ([], ["patches"], ["patches", "pipeline"]):
        options = Options(prefer="ram", disabled=frozenset(off))
        plans[len(off)] = schedule_graph(plain_stack(), get_board("stm32f746"), options).arena
    assert plans[1] < plans[2] / 2
    assert plans[0] <= plans[1]


def test_patches_need_less_scratch_and_more_instructions_the_more_there_are() -> None:
    whole, *parts = (
        c for k in (PIPELINE, PATCHES) for c in k.candidates(chain_works(lower(plain_stack()).steps), NATIVE)
    )
    assert [c.scratch for c in (whole, *parts)] == sorted((c.scratch for c in (whole, *parts)), reverse=True)
    assert all(part.instructions > whole.instructions for part in parts)
    assert whole.gaps != (None,)
    assert all(part.gaps == (None,) for part in parts)


def test_a_stack_of_convolutions_is_exact_with_dead_bytes_poisoned(run_c: RunC) -> None:
    graph = plain_stack()
    schedule = schedule_graph(graph, get_board("native"), Options(prefer="ram"))
    assert any("stages" in layer.choice.candidate.kernel for layer in schedule.layers)
    assert_exact(sources_of(schedule, graph, poison=True), graph, run_c)


@given(chains(), st.integers(1, 4))
def test_columns_of_all_patches_cover_the_output_and_stay_inside_the_image(
    graph: Graph, patches: int
) -> None:
    works = [step.work for step in lower(graph).steps]
    works = [w for w in works if isinstance(w, ConvWork | DepthwiseWork)]
    if not works or patches > works[-1].y.width:
        return
    columns = columns_of(works, patches)
    last, width = columns[-1], works[-1].y.width
    assert {c for s in last.starts for c in range(s, s + last.count)} == set(range(width))
    for work, own, after in zip(works, columns, columns[1:], strict=False):
        assert all(0 <= s <= s + own.count <= work.y.width for s in own.starts)
        assert all(0 <= put <= put + own.count <= after.width for put in after.puts)
    for work, own in zip(works, columns, strict=True):
        reach = (own.count - 1) * work.strides[1] + work.kernel[1]
        assert all(0 <= get <= get + reach <= own.width for get in own.gets)
