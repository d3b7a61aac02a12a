"""Fused and streamed layers: exact for every height of tile, in place, and with dead bytes poisoned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from engine_checks import MODELS, RunC, random_inputs
from engine_networks import Builder, networks
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options, Sources
from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import Activation, Graph
from tinyhil.harness.model.tflite_reader import load_tflite
from tinyhil.harness.tinyengine import TinyEngine, schedule_graph
from tinyhil.harness.tinyengine.block import Block
from tinyhil.harness.tinyengine.chains import chain_works
from tinyhil.harness.tinyengine.emit import emit
from tinyhil.harness.tinyengine.kernel import Target
from tinyhil.harness.tinyengine.lowering import lower
from tinyhil.harness.tinyengine.passes import optimise, strip_float_io
from tinyhil.harness.tinyengine.schedule import Choice, Schedule, arrange

NATIVE = get_board("native")


def sources_of(schedule: Schedule, graph: Graph, poison: bool) -> Sources:
    """C of a schedule; with `poison`, all bytes that no later layer may read are overwritten after each."""
    checks = {}
    for position in range(len(schedule.layers)):
        alive = sorted(
            (b.offset, b.offset + b.size) for b in schedule.buffers if b.first <= position < b.last
        )
        outputs = {schedule.program.root[t] for t in schedule.program.graph.outputs}
        alive += [
            (schedule.tensor_offsets[t], schedule.tensor_offsets[t] + schedule.program.nbytes(t))
            for t in outputs
        ]
        lines, at = [], 0
        for begin, end in sorted(alive):
            if begin > at:
                lines.append(f"__builtin_memset(arena + {at}, 0x5A, {begin - at});")
            at = max(at, end)
        if at < schedule.arena:
            lines.append(f"__builtin_memset(arena + {at}, 0x5A, {schedule.arena - at});")
        if position + 1 < len(schedule.layers):
            checks[position] = " ".join(lines)
    generated = emit(schedule, "this computer", checks if poison else None)
    plain = TinyEngine().generate(graph, NATIVE, Options(disabled=frozenset({"kernels"})))
    return replace(plain, files=generated.files, layers=generated.layers, arena=schedule.arena)


def assert_exact(sources: Sources, graph: Graph, run_c: RunC, samples: int = 2) -> None:
    inputs = [random_inputs(graph, seed) for seed in range(samples)]
    for sample, answer in zip(inputs, run_c(sources, inputs), strict=True):
        for got, want in zip(answer, reference.run(graph, sample), strict=True):
            np.testing.assert_array_equal(got, want)


def fused(graph: Graph) -> Sequence[Schedule]:
    """The whole graph as one block, once per candidate."""
    program = lower(graph)
    works = chain_works(program.steps)
    steps = tuple(range(len(program.steps)))
    return [arrange(program, [Choice(steps, c)]) for c in Block().candidates(works, Target("native"))]


@st.composite
def blocks(draw: st.DrawFn) -> Graph:
    """[convolution ->] depthwise [-> 1x1 [-> add]] with odd sizes, strides and paddings."""
    height, width = draw(st.integers(1, 11)), draw(st.integers(2, 11))
    b = Builder(
        (1, height, width, draw(st.integers(1, 9))),
        draw(st.integers(0, 1 << 20)),
        draw(st.sampled_from([-128, -7, 127])),
    )
    start = b.last
    channels = b.shape()[3]
    first = draw(st.sampled_from(["none", "1x1", "3x3"]))
    if first == "1x1":
        b.conv(draw(st.integers(1, 9)), zero_point=draw(st.sampled_from([-128, 4])))
    elif first == "3x3" and height > 2:
        stride = draw(st.sampled_from([1, 2]))
        pads = draw(st.sampled_from([(0, 0, 1, 1), (1, 1, 1, 1), (0, 1, 0, 1)]))
        b.conv(draw(st.integers(1, 9)), (3, 3), (stride, stride), pads)
    k = draw(st.sampled_from([3, 5, 7]))
    stride = draw(st.sampled_from([1, 1, 2, 3]))
    half = k // 2
    multiplier = draw(st.sampled_from([1, 1, 1, 2, 3]))
    activation = draw(st.sampled_from([Activation.NONE, Activation.RELU6]))
    zero_point = draw(st.sampled_from([-128, 3]))
    b.depthwise((k, k), (stride, stride), (half, half, half, half), multiplier, activation, 0.0, zero_point)
    if draw(st.booleans()):
        b.conv(draw(st.sampled_from([channels, channels, 5])), activation=Activation.NONE, zero_point=9)
        if b.shape() == b.shape(start):
            b.add(start)
    return b.graph()


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # every try compiles: no shrinking
)
@given(blocks(), st.data())
def test_blocks_are_exact_at_any_height_of_tile(run_c: RunC, graph: Graph, data: st.DataObject) -> None:
    schedules = fused(graph)
    schedule = data.draw(st.sampled_from(schedules)) if schedules else None
    if schedule is not None:
        assert_exact(sources_of(schedule, graph, poison=False), graph, run_c)


def residual_block() -> Graph:
    b = Builder((1, 24, 10, 8), seed=11)
    b.conv(24)
    b.depthwise((5, 5), pads=(2, 2, 2, 2))
    b.conv(8, activation=Activation.NONE, zero_point=3)
    b.add(0)
    return b.graph()


def test_a_residual_block_runs_exactly_in_place_row_by_row(run_c: RunC) -> None:
    graph = residual_block()
    smallest = min(fused(graph), key=lambda s: s.arena)
    assert smallest.tensor_offsets[0] == smallest.tensor_offsets[graph.outputs[0]]
    assert smallest.arena < 24 * 10 * (8 + 24)  # less than the input and the wide tensor
    assert_exact(sources_of(smallest, graph, poison=False), graph, run_c)


def test_taller_tiles_take_more_memory_and_fewer_instructions() -> None:
    schedules = fused(residual_block())
    tall, flat = schedules[-1], schedules[0]
    assert tall.arena > flat.arena
    assert tall.instructions < flat.instructions


def test_residual_blocks_of_one_shape_share_their_loops_whatever_they_add(run_c: RunC) -> None:
    b = Builder((1, 6, 6, 8), seed=5)
    for zero_point in (3, -9):  # other zero points ask for other constants of the sum
        start = b.last
        b.conv(24, zero_point=-128)
        b.depthwise((3, 3), pads=(1, 1, 1, 1), zero_point=-128)
        b.conv(8, activation=Activation.NONE, zero_point=zero_point)
        b.add(start)
    graph = b.graph()
    program = lower(graph)
    candidates = [
        {c.kernel: c for c in Block().candidates(chain_works(program.steps[at : at + 4]), Target("native"))}
        for at in (0, 4)
    ]
    kernel = "conv+dw+1x1+add x6"
    choices = [
        Choice(tuple(range(at, at + 4)), found[kernel]) for at, found in zip((0, 4), candidates, strict=True)
    ]
    sources = sources_of(arrange(program, choices), graph, poison=False)
    sums = [line for line in sources.files["layers.c"].splitlines() if "_add_stream[] =" in line]
    assert len({line.partition("=")[2] for line in sums}) == 2
    assert sum(name.startswith("th_block") for name in sources.files) == 1
    assert_exact(sources, graph, run_c)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # every try compiles: no shrinking
)
@given(networks(layers=8), st.sampled_from(["speed", "ram", "flash"]))
def test_no_layer_reads_a_dead_byte(run_c: RunC, graph: Graph, prefer: str) -> None:
    schedule = schedule_graph(graph, NATIVE, Options(prefer=prefer))
    assert_exact(sources_of(schedule, graph, poison=True), graph, run_c, 1)


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the benchmark networks in ../shared/models")
@pytest.mark.parametrize("prefer", ["speed", "ram"])
def test_no_layer_of_a_real_network_reads_a_dead_byte(prefer: str, run_c: RunC) -> None:
    graph = load_tflite(MODELS / "te_vww.tflite")
    schedule = schedule_graph(graph, NATIVE, Options(prefer=prefer))
    plain = optimise(graph, Options())
    assert_exact(sources_of(schedule, graph, poison=True), strip_float_io(graph), run_c, 1)
    assert plain.inputs == schedule.program.graph.inputs
