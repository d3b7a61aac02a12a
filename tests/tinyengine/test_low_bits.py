"""Weights of four and two bits: the same bits out as with bytes, in less flash."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_checks import MODELS, RunC, random_inputs
from engine_networks import Builder
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import Activation, DType, Graph
from tinyhil.harness.model.oracle import has_tflm, tflm_apart
from tinyhil.harness.model.requantise import (
    assign_bits,
    parse_bits,
    requantise,
    weight_bytes,
    weighted_layers,
)
from tinyhil.harness.model.tflite_reader import read_tflite
from tinyhil.harness.model.tflite_writer import write_tflite
from tinyhil.harness.tinyengine import TinyEngine, schedule_graph
from tinyhil.harness.tinyengine.fields import bits_of, pack_fields
from tinyhil.harness.tinyengine.schedule import Schedule

NATIVE, F746 = get_board("native"), get_board("stm32f746")
BYTES = frozenset({"low-bits"})  # turned off: every weight takes a byte


def network(
    inputs: int, wide: int, outputs: int, side: int, kernel: int, stride: int, pad: int, seed: int
) -> Graph:
    """A convolution with a window, a block, and a classifier: every kind of layer with weights."""
    b = Builder((1, side, side + 1, inputs), seed)
    k = min(kernel, side)
    b.conv(inputs, (k, k), (stride, stride), (pad, k // 2, k // 2, pad))
    start = b.last
    b.conv(wide)
    before, after = (k - 1) // 2, k // 2
    b.depthwise((k, k), pads=(before, after, after, before))
    b.conv(inputs, activation=Activation.NONE, zero_point=5)
    b.add(start)
    b.conv(outputs, (2, 1), pads=(0, 1, 0, 0))
    b.mean()
    b.dense(3)
    return b.graph()


def flash(schedule: Schedule) -> int:
    return sum(layer.choice.candidate.flash for layer in schedule.layers)


@settings(
    max_examples=14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # every try compiles: no shrinking
)
@given(
    st.integers(1, 9), st.integers(1, 13), st.integers(1, 9), st.integers(3, 9),
    st.sampled_from([2, 3, 5, 7]),
    st.sampled_from([1, 2]), st.integers(0, 1), st.integers(0, 1 << 20),
    st.lists(st.sampled_from([2, 4, 8]), min_size=6, max_size=6),
    st.sampled_from([frozenset(), frozenset({"fusion", "gemm"}), frozenset({"gemm", "dense"})]),
    st.sampled_from(["speed", "ram", "flash"]),
)  # fmt: skip
def test_networks_with_mixed_weights_are_bit_exact(
    run_c: RunC, inputs: int, wide: int, outputs: int, side: int, kernel: int, stride: int, pad: int,
    seed: int, bits: list[int], disabled: frozenset[str], prefer: str,
) -> None:  # fmt: skip
    graph = network(inputs, wide, outputs, side, kernel, stride, pad, seed)
    graph = requantise(graph, dict(zip(weighted_layers(graph), bits, strict=True)))
    sources = TinyEngine().generate(graph, NATIVE, Options(prefer, disabled=disabled))
    samples = [random_inputs(graph, s) for s in range(2)]
    for sample, answer in zip(samples, run_c(sources, samples), strict=True):
        np.testing.assert_array_equal(answer[0], reference.run(graph, sample)[0])


@pytest.mark.parametrize(("bits", "saved", "slower"), [(4, 0.25, 1.35), (2, 0.35, 1.45)])
def test_fewer_bits_take_less_flash_and_little_more_time(bits: int, saved: float, slower: float) -> None:
    graph = network(48, 240, 96, 8, 1, 1, 0, 1)
    graph = requantise(graph, dict.fromkeys(weighted_layers(graph), bits))
    small = schedule_graph(graph, F746, Options("flash"))
    large = schedule_graph(graph, F746, Options("flash", disabled=BYTES))
    weights = weight_bytes(graph, dict.fromkeys(weighted_layers(graph), 8))
    assert flash(large) - flash(small) > saved * weights
    assert small.instructions < slower * large.instructions


def test_every_kind_of_layer_is_stored_in_few_bits_where_flash_counts() -> None:
    graph = network(8, 24, 8, 8, 7, 1, 3, 1)
    graph = requantise(graph, dict.fromkeys(weighted_layers(graph), 4))
    sources = TinyEngine().generate(graph, F746, Options("flash", disabled=frozenset({"gemm", "dense"})))
    text = "".join(text for name, text in sources.files.items() if name != "nn_low_bits.h")
    assert "nn_unpack(" in text
    assert "nn_high_lanes(" in text
    assert {"int4 rows", "int4 gemm"} <= {layer.kernel for layer in sources.layers}


@given(st.sampled_from([2, 4]), st.lists(st.integers(-8, 7), max_size=40).map(lambda v: v[len(v) % 4 :]))
def test_fields_come_back_as_they_were(bits: int, values: list[int]) -> None:
    small = np.array([v % (1 << bits) - (1 << bits - 1) for v in values], np.int64)
    words = pack_fields(small.reshape(-1, 4), bits).view(np.uint32)
    assert len(words) == -(-len(values) * bits // 32)
    each, half = 8 // bits, 1 << bits - 1
    fields = [int(w) >> 8 * byte + bits * i for w in words for i in range(each) for byte in range(4)]
    back = [(f & (2 * half - 1)) - half for f in fields]
    assert back[: len(values)] == small.tolist()


def test_the_width_follows_from_the_values() -> None:
    assert [bits_of(np.array(v)) for v in ([-2, 1], [0], [2], [-8, 7], [8], [-9], [-127])] == [
        2,
        2,
        4,
        4,
        8,
        8,
        8,
    ]


# -- from eight bits to fewer


def test_a_requantised_network_is_a_file_that_the_reference_reads() -> None:
    graph = network(3, 8, 5, 7, 3, 1, 1, 4)
    small = requantise(graph, parse_bits("conv0:8,dw*:4,fc*:2,*:4", graph))
    data = write_tflite(small)
    back = read_tflite(data, "small")
    for before, after in zip(weighted_layers(small).values(), weighted_layers(back).values(), strict=True):
        a, b = small.tensors[small.ops[before].inputs[1]], back.tensors[back.ops[after].inputs[1]]
        assert a.dtype is b.dtype
        assert a.data is not None
        assert b.data is not None
        np.testing.assert_array_equal(a.data, b.data)
    inputs = random_inputs(small, 1)
    np.testing.assert_array_equal(reference.run(small, inputs)[0], reference.run(back, inputs)[0])
    if has_tflm():
        np.testing.assert_array_equal(tflm_apart(data, inputs)[0], reference.run(small, inputs)[0])


def test_layers_are_named_by_kind_and_place_and_the_first_pattern_counts() -> None:
    graph = network(3, 8, 5, 7, 3, 1, 1, 4)
    assert list(weighted_layers(graph)) == ["conv0", "conv1", "dw2", "conv3", "conv4", "fc5"]
    assert list(parse_bits("conv0:8, dw*:2 ,conv?:4", graph).values()) == [8, 4, 2, 4, 4, 8]
    with pytest.raises(UsageError, match="NAME:BITS"):
        parse_bits("conv0:3", graph)
    with pytest.raises(UsageError, match="no layer is called 'pool1'; there are conv0"):
        parse_bits("pool1:4", graph)


def test_fewer_bits_are_further_from_the_network_and_eight_leave_it_alone() -> None:
    graph = network(3, 8, 5, 7, 3, 1, 1, 4)
    inputs = random_inputs(graph, 2)
    whole = reference.run(graph, inputs)[0].astype(float)

    def distance(text: str) -> float:
        small = requantise(graph, parse_bits(text, graph))
        return float(np.abs(reference.run(small, inputs)[0] - whole).max())

    assert distance("*:8") == 0
    assert distance("conv1:4") <= distance("*:2")
    for name, index in weighted_layers(requantise(graph, parse_bits("*:2", graph))).items():
        assert name in weighted_layers(graph)
        weights = requantise(graph, parse_bits("*:2", graph))
        data = weights.tensors[weights.ops[index].inputs[1]].data
        assert data is not None
        assert bits_of(data) == 2
        assert len(np.unique(data)) > 1


def test_bits_are_assigned_where_they_hurt_least() -> None:
    graph = network(3, 16, 5, 7, 3, 1, 1, 4)
    inputs = random_inputs(graph, 3)
    told: list[str] = []
    bits = assign_bits(graph, 0.5, lambda g: reference.run(g, inputs), told.append)
    assert weight_bytes(graph, bits) <= 0.5 * weight_bytes(graph, dict.fromkeys(bits, 8))
    assert len(told) == len(bits)
    assert bits == assign_bits(graph, 0.5, lambda g: reference.run(g, inputs), told.append)
    assert set(assign_bits(graph, 1.0, lambda g: reference.run(g, inputs), told.append).values()) == {8}
    with pytest.raises(UsageError, match="25% of eight"):
        assign_bits(graph, 0.2, lambda g: reference.run(g, inputs), told.append)


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the benchmark networks in ../shared/models")
def test_shared_weights_are_narrowed_for_each_layer_alone() -> None:
    graph = read_tflite((MODELS / "mlperf_ad.tflite").read_bytes(), "ad")
    small = requantise(graph, {"fc0": 4})
    assert small.tensors[small.ops[weighted_layers(small)["fc0"]].inputs[1]].dtype is DType.INT4
    assert replace(small, tensors=(), ops=()).inputs == graph.inputs
