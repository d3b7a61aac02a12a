"""Reading .tflite files: what comes out of sound ones."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tflite
from reader_files import conv_graph, reading, with_operator, with_tensor

from tinyhil.harness.model import load_tflite, read_tflite, write_tflite
from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.graph import (
    Activation,
    Conv2D,
    DepthwiseConv2D,
    DType,
    FullyConnected,
    Mean,
    Op,
    Quantization,
    Reshape,
    StridedSlice,
    Tensor,
)
from tinyhil.harness.model.random_graphs import random_layer

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"


def test_weights_are_read_only_views_of_the_file() -> None:
    data = write_tflite(conv_graph())
    weights = read_tflite(data, "conv").tensors[1].data
    assert weights is not None
    assert not weights.flags.writeable
    octets = np.frombuffer(data, np.uint8)
    assert np.shares_memory(weights, octets)


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    data = write_tflite(conv_graph())
    (tmp_path / "conv.tflite").write_bytes(data)
    graph = load_tflite(tmp_path / "conv.tflite")
    assert graph.sha256 == hashlib.sha256(data).hexdigest()
    assert graph.name == "conv"


def test_same_padding_is_resolved_with_the_odd_pixel_at_the_end() -> None:
    (op,) = reading(conv_graph()).ops
    assert isinstance(op.spec, Conv2D)
    assert op.spec.pads == (0, 1, 0, 1)
    assert op.spec.activation is Activation.RELU6


def test_an_absent_bias_is_minus_one() -> None:
    graph = conv_graph()
    without = replace(graph, ops=(replace(graph.ops[0], inputs=(0, 1)),))
    (op,) = reading(without).ops
    assert op.inputs == (0, 1, -1)


def test_squeeze_and_expand_dims_are_reshapes() -> None:
    b = Builder()
    x = b.input((1, 1, 6))
    data = write_tflite(b.graph("g", [b.op(Reshape(), [x], per_tensor(1.0), (1, 6))]))
    for code in (tflite.BuiltinOperator.SQUEEZE, tflite.BuiltinOperator.EXPAND_DIMS):
        graph = read_tflite(with_operator(data, code), "g")
        assert graph.ops[0].spec == Reshape()
        assert graph.ops[0].inputs == (0,)


def test_operators_that_no_output_depends_on_are_dropped() -> None:
    b = Builder()
    x = b.input((1, 2, 3))
    y = b.op(Reshape(), [x], per_tensor(1.0), (1, 6))
    graph = b.graph("g", [y])
    shape = Tensor("shape", (3,), DType.INT32)
    slice_op = Op(StridedSlice((0,), (1,), (1,)), (2,), (3,))  # int32, as after a SHAPE operator
    dynamic = replace(
        graph,
        tensors=(*graph.tensors, shape, replace(shape, name="batch", shape=(1,))),
        ops=(slice_op, *graph.ops),
    )
    assert [op.spec for op in reading(dynamic).ops] == [Reshape()]


def test_mean_over_negative_axes_is_sorted_and_positive() -> None:
    b = Builder()
    x = b.input((1, 4, 5, 6))
    b.op(Mean((1, 2)), [x], per_tensor(1.0))
    b.ops[-1] = replace(b.ops[-1], spec=Mean((-2, -3)))
    assert reading(b.graph("g", [1])).ops[0].spec == Mean((1, 2))


def test_a_backward_slice_may_end_before_index_zero() -> None:
    b = Builder()
    x = b.input((1, 6))
    spec = StridedSlice((0, 5), (1, -1), (1, -2))
    graph = reading(b.graph("g", [b.op(spec, [x], per_tensor(1.0))]))
    assert graph.ops[0].spec == spec
    assert graph.tensors[1].shape == (1, 3)


def test_a_shrunk_dimension_vanishes() -> None:
    b = Builder()
    x = b.input((1, 4, 6))
    spec = StridedSlice((0, 2, 0), (1, 3, 6), (1, 1, 1), shrink=(1,))
    graph = reading(b.graph("g", [b.op(spec, [x], per_tensor(1.0))]))
    assert graph.ops[0].spec == spec
    assert graph.tensors[1].shape == (1, 6)


def test_scales_per_channel_and_int4_weights_are_read() -> None:
    b = Builder()
    x = b.input((1, 3, 3, 2))
    values = np.arange(-6, 6, dtype=np.int8).reshape(1, 2, 2, 3)[..., :2].copy()
    w = b.constant(values, Quantization((0.5, 0.25), (0, 0), 3), DType.INT4)
    graph = reading(b.graph("g", [b.op(DepthwiseConv2D(), [x, w, -1], per_tensor(1.0))]))
    weights = graph.tensors[1]
    assert weights.quant == Quantization((0.5, 0.25), (0, 0), 3)
    assert weights.dtype is DType.INT4
    assert weights.nbytes == 4
    assert np.array_equal(weights.data, values)  # type: ignore[arg-type]


def test_a_bias_that_names_an_axis_it_does_not_have_is_accepted() -> None:
    graph = random_layer("DepthwiseConv2D", 3)
    bias = graph.tensors[2]
    assert bias.quant is not None
    crooked = with_tensor(graph, 2, replace(bias, quant=replace(bias.quant, axis=3)))
    read = reading(crooked).tensors[2].quant
    assert read is not None
    assert read.axis == 0


def test_fully_connected_takes_an_image() -> None:
    b = Builder()
    x = b.input((1, 2, 3, 4))
    w = b.constant(np.ones((5, 24), np.int8), per_tensor(1.0))
    graph = reading(b.graph("g", [b.op(FullyConnected(), [x, w, -1], per_tensor(1.0))]))
    assert graph.tensors[2].shape == (1, 5)


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the published networks in ../shared/models")
@pytest.mark.parametrize(
    ("name", "macs", "params"),
    [
        ("te_vww", 11578816, 426634),
        ("tflm_person_detect", 7157888, 210706),
        ("tflm_micro_speech", 336000, 16652),
        ("mlperf_kws", 2656768, 22604),
        ("mlperf_vww", 7489664, 210850),
        ("mlperf_ic", 12501632, 77706),
        ("mlperf_ad", 264192, 265864),
    ],
)
def test_published_networks_have_their_published_costs(name: str, macs: int, params: int) -> None:
    graph = load_tflite(MODELS / f"{name}.tflite")
    assert (graph.total_macs, graph.params) == (macs, params)
