"""Graph passes: the same function bit for bit, with less work."""

from __future__ import annotations

import numpy as np
import pytest
from engine_checks import MODELS, random_inputs
from engine_networks import Builder, networks
from hypothesis import HealthCheck, given, settings

from tinyhil.harness.engine import Options
from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import (
    Activation,
    Conv2D,
    DType,
    Graph,
    Mean,
    Op,
    Pad,
    Quantization,
    Quantize,
    Relu,
    ResizeNearestNeighbor,
    Tensor,
    Transpose,
)
from tinyhil.harness.model.tflite_reader import load_tflite
from tinyhil.harness.tinyengine.passes import PASSES, optimise, strip_float_io


def assert_same_function(before: Graph, after: Graph, samples: int = 2) -> None:
    for seed in range(samples):
        inputs = random_inputs(before, seed)
        for a, b in zip(reference.run(before, inputs), reference.run(after, inputs), strict=True):
            np.testing.assert_array_equal(a, b)


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_every_pass_keeps_every_output_of_random_networks(graph: Graph) -> None:
    for run in PASSES.values():
        after = run(graph)
        assert_same_function(graph, after, 1)
        graph = after


def test_a_pad_disappears_into_the_convolution_behind_it() -> None:
    b = Builder((1, 5, 6, 4))
    b.pad(1, 0, 2, 1)
    b.conv(3, (3, 3))
    before = b.graph()
    after = optimise(before, Options())
    assert kinds(after) == ["Conv2D"]
    assert isinstance(after.ops[0].spec, Conv2D)
    assert after.ops[0].spec.pads == (1, 0, 2, 1)
    assert_same_function(before, after)


def test_a_pad_with_another_value_than_the_zero_point_stays() -> None:
    b = Builder((1, 5, 6, 4))
    b.op(Pad(((0, 0), (1, 1), (1, 1), (0, 0)), 9), (0,), (1, 7, 8, 4))
    b.conv(3, (3, 3))
    assert kinds(optimise(b.graph(), Options())) == ["Pad", "Conv2D"]


def test_a_pad_in_front_of_an_average_stays_because_averages_skip_padding() -> None:
    b = Builder((1, 5, 6, 4))
    b.pad(1, 1, 1, 1)
    b.pool(average=True)
    assert kinds(optimise(b.graph(), Options())) == ["Pad", "AveragePool2D"]


def test_a_relu_of_its_own_becomes_the_clamp_of_the_convolution() -> None:
    b = Builder((1, 5, 6, 4))
    b.conv(8, activation=Activation.NONE, zero_point=-7)
    b.relu()
    before = b.graph()
    after = optimise(before, Options())
    assert kinds(after) == ["Conv2D"]
    assert_same_function(before, after)


def test_a_relu_that_rescales_or_whose_input_is_read_twice_stays() -> None:
    b = Builder((1, 5, 6, 4))
    b.conv(8, activation=Activation.NONE, zero_point=-7)
    b.op(Relu(Activation.RELU), (b.last,), b.shape(), 0.2, -128)
    assert kinds(optimise(b.graph(), Options())) == ["Conv2D", "Relu"]
    b = Builder((1, 5, 6, 4))
    first = b.conv(8, activation=Activation.NONE, zero_point=-7)
    b.relu()
    b.add(first)
    assert kinds(optimise(b.graph(), Options())) == ["Conv2D", "Relu", "Add"]


def test_a_transpose_sinks_below_means_until_it_moves_nothing() -> None:
    b = Builder((1, 3, 4, 6))
    b.op(Transpose((0, 3, 1, 2)), (0,), (1, 6, 3, 4))
    b.op(Mean((3,)), (b.last,), (1, 6, 3))
    b.op(Mean((2,)), (b.last,), (1, 6))
    before = b.graph()
    after = optimise(before, Options())
    assert "Transpose" not in kinds(after)
    assert_same_function(before, after)


def test_a_resize_to_as_many_pixels_in_other_rows_is_not_taken_for_nothing() -> None:
    b = Builder((1, 4, 2, 3))
    b.op(ResizeNearestNeighbor(), (0,), (1, 2, 4, 3))
    b.op(ResizeNearestNeighbor(), (b.last,), (1, 2, 4, 3))
    before = b.graph()
    after = optimise(before, Options())
    assert kinds(after) == ["ResizeNearestNeighbor", "Reshape"]
    assert_same_function(before, after)


def test_float_ports_become_int8_ports_unless_asked_for() -> None:
    tensors = (
        Tensor("image", (1, 4), DType.FLOAT32),
        Tensor("q", (1, 4), DType.INT8, Quantization((0.1,), (3,))),
        Tensor("r", (1, 4), DType.INT8, Quantization((0.1,), (3,))),
    )
    ops = (Op(Quantize(), (0,), (1,)), Op(Relu(Activation.RELU), (1,), (2,)))
    graph = Graph("g", tensors, ops, (0,), (2,))
    assert optimise(graph, Options()).inputs == (1,)
    assert optimise(graph, Options(float_io=True)).inputs == (0,)


def test_channels_of_dead_filters_leave_the_network() -> None:
    b = Builder((1, 8, 8, 3), seed=5)
    b.conv(32, (3, 3), (2, 2), (0, 1, 0, 1), dead=0.6)
    b.depthwise(dead=0.3)
    b.conv(24, dead=0.5)
    b.mean()
    b.dense(3)
    before = b.graph()
    after = optimise(before, Options())
    assert after.total_macs < 0.6 * before.total_macs
    assert_same_function(before, after, 4)
    assert optimise(before, Options(disabled=frozenset({"dead-channels"}))).total_macs == before.total_macs


def test_a_channel_that_is_constant_but_not_zero_is_kept_in_front_of_padding() -> None:
    b = Builder((1, 6, 6, 4), seed=1)
    b.conv(8, dead=0.7, zero_point=-20, activation=Activation.NONE)
    b.conv(8, (3, 3), pads=(1, 1, 1, 1))
    before = b.graph()
    after = optimise(before, Options())
    assert after.total_macs == before.total_macs
    assert_same_function(before, after)


def test_channels_that_meet_only_zero_weights_leave_too() -> None:
    b = Builder((1, 4, 4, 4), seed=2)
    b.conv(16)
    b.conv(4)
    graph = b.graph()
    data = graph.tensors[graph.ops[1].inputs[1]].data
    assert data is not None
    data = data.copy()
    data[..., 3:11] = 0
    tensors = list(graph.tensors)
    weights = graph.ops[1].inputs[1]
    tensors[weights] = Tensor("w", data.shape, DType.INT8, tensors[weights].quant, data)
    before = Graph("g", tuple(tensors), graph.ops, graph.inputs, graph.outputs)
    after = optimise(before, Options())
    assert after.tensors[after.ops[0].outputs[0]].shape == (1, 4, 4, 8)
    assert_same_function(before, after)


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the benchmark networks in ../shared/models")
def test_half_of_the_visual_wake_words_reference_is_dead() -> None:
    before = load_tflite(MODELS / "mlperf_vww.tflite")
    after = optimise(before, Options())
    assert after.total_macs < 0.52 * before.total_macs
    assert after.params < 0.25 * before.params
    assert_same_function(strip_float_io(before), after, 1)
