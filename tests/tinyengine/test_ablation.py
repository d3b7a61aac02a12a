"""Every idea of the engine can be turned off: what stands for it is real, exact, and dearer."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from engine_checks import RunC, random_inputs
from engine_networks import Builder

from tinyhil.harness.boards import get_board
from tinyhil.harness.commands.plan import ABLATION, ablation_runs
from tinyhil.harness.engine import Options
from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import Activation, Graph
from tinyhil.harness.tinyengine import TinyEngine, schedule_graph
from tinyhil.harness.tinyengine.ablation import SWITCHES

NATIVE, F746 = get_board("native"), get_board("stm32f746")


def network(side: int = 13) -> Graph:
    """A bit of everything: a padded convolution, blocks, dead filters, a classifier."""
    b = Builder((1, side, side - 2, 3), seed=9)
    b.pad(0, 1, 0, 1)
    b.conv(8, (3, 3), (2, 2))
    start = b.conv(8, activation=Activation.NONE, zero_point=3)
    b.conv(24, dead=0.3)
    b.depthwise((5, 5), pads=(2, 2, 2, 2))
    b.conv(8, activation=Activation.NONE, zero_point=3)
    b.add(start)
    b.relu()
    b.depthwise(strides=(2, 2), pads=(1, 1, 1, 1), multiplier=2)
    b.conv(11)
    b.mean()
    b.dense(5)
    b.softmax()
    return b.graph()


@pytest.mark.parametrize("switch", [*SWITCHES, "all of them"])
def test_what_stands_for_an_idea_is_exact(switch: str, run_c: RunC) -> None:
    off = frozenset(SWITCHES) - {"codegen"} if switch == "all of them" else frozenset({switch})
    graph = network()
    sources = TinyEngine().generate(graph, NATIVE, Options(disabled=off))
    inputs = [random_inputs(graph, seed) for seed in range(2)]
    for sample, answer in zip(inputs, run_c(sources, inputs), strict=True):
        np.testing.assert_array_equal(answer[0], reference.run(graph, sample)[0])


@pytest.mark.parametrize("switch", ["codegen", "unrolling", "tiling", "streaming"])
def test_each_idea_saves_instructions_or_memory(switch: str) -> None:
    graph = network(33)
    whole, without = (
        schedule_graph(graph, F746, Options("speed", disabled=frozenset(off))) for off in ((), (switch,))
    )
    assert whole.instructions < without.instructions or whole.arena < without.arena


def test_without_adaptive_scheduling_a_layer_takes_no_more_than_it_must() -> None:
    graph = network(33)
    adaptive, least = (
        schedule_graph(graph, F746, Options(disabled=frozenset({"streaming", *off})))
        for off in ((), ("adaptive",))
    )
    assert adaptive.instructions < least.instructions
    assert sum(layer.choice.candidate.scratch for layer in least.layers) < sum(
        layer.choice.candidate.scratch for layer in adaptive.layers
    )


def test_without_tiling_a_pixel_is_computed_at_a_time_and_nothing_is_streamed() -> None:
    kernels = {
        layer.choice.candidate.kernel
        for layer in schedule_graph(network(), F746, Options(disabled=frozenset({"tiling"}))).layers
    }
    assert kernels <= {"int8 rows", "portable", "linear-add"}
    assert "int8 rows" in kernels


def test_without_code_generation_layers_are_tables_for_one_function() -> None:
    sources = TinyEngine().generate(network(), F746, Options(disabled=frozenset({"codegen"})))
    assert {layer.kernel for layer in sources.layers if layer.macs} == {"generic"}
    assert sources.files["layers.c"].count("nn_generic_conv(&layer, x0, y)") == 5 + 1


def test_the_figure_begins_with_nothing_and_ends_with_everything() -> None:
    one_off, cumulative = ablation_runs()
    assert one_off[0] == ("everything", frozenset())
    assert len(one_off) == len(ABLATION) + 1
    assert cumulative[0][1] == frozenset().union(*ABLATION.values())
    assert cumulative[-1][1] == frozenset()
    for (_, before), (_, after) in pairwise(cumulative):
        assert after < before
