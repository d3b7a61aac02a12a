"""Four-bit weights: the same bits as with eight, in half the flash."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_checks import RunC, random_inputs
from engine_networks import Builder
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import Activation, Conv2D, DType, FullyConnected, Graph
from tinyhil.harness.tinyengine import TinyEngine, schedule_graph
from tinyhil.harness.tinyengine.schedule import Schedule

NATIVE, F746 = get_board("native"), get_board("stm32f746")


def four_bits(graph: Graph) -> Graph:
    """`graph` with the weights of convolutions and fully-connected layers divided down to int4."""
    tensors = list(graph.tensors)
    for op in graph.ops:
        if isinstance(op.spec, Conv2D | FullyConnected):
            w = tensors[op.inputs[1]]
            assert w.data is not None
            small = (w.data.astype(np.int16) // 16).astype(np.int8)
            small.setflags(write=False)
            tensors[op.inputs[1]] = replace(w, dtype=DType.INT4, data=small)
    return replace(graph, tensors=tuple(tensors))


def as_eight_bits(graph: Graph) -> Graph:
    """The same weights, declared int8."""
    tensors = tuple(replace(t, dtype=DType.INT8) if t.dtype is DType.INT4 else t for t in graph.tensors)
    return replace(graph, tensors=tensors)


def network(inputs: int, wide: int, outputs: int, side: int, seed: int) -> Graph:
    b = Builder((1, side, side + 1, inputs), seed)
    b.conv(wide)
    b.depthwise()
    b.conv(inputs, activation=Activation.NONE, zero_point=5)
    b.add(0)
    b.conv(outputs)
    b.mean()
    b.dense(3)
    return four_bits(b.graph())


def flash(schedule: Schedule) -> int:
    return sum(layer.choice.candidate.flash for layer in schedule.layers)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # every try compiles: no shrinking
)
@given(
    st.integers(1, 13), st.integers(1, 13), st.integers(1, 13), st.integers(2, 9), st.integers(0, 1 << 20),
    st.sampled_from(["speed", "ram", "flash"]),
)  # fmt: skip
def test_four_bit_networks_are_bit_exact(
    run_c: RunC, inputs: int, wide: int, outputs: int, side: int, seed: int, prefer: str
) -> None:
    graph = network(inputs, wide, outputs, side, seed)
    sources = TinyEngine().generate(graph, NATIVE, Options(prefer=prefer))
    samples = [random_inputs(graph, s) for s in range(2)]
    for sample, answer in zip(samples, run_c(sources, samples), strict=True):
        np.testing.assert_array_equal(answer[0], reference.run(graph, sample)[0])


@pytest.mark.parametrize("prefer", ["speed", "flash"])
def test_four_bits_take_little_more_than_half_the_flash(prefer: str) -> None:
    graph = network(48, 240, 96, 5, 1)
    small = schedule_graph(graph, F746, Options(prefer=prefer))
    large = schedule_graph(as_eight_bits(graph), F746, Options(prefer=prefer))
    weights = sum(
        graph.tensors[op.inputs[1]].elements
        for op in graph.ops
        if isinstance(op.spec, Conv2D | FullyConnected)
    )
    assert flash(large) - flash(small) > 0.4 * weights
    assert small.instructions < 1.35 * large.instructions
