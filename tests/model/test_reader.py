"""Reading .tflite files: what comes out of sound ones, and what is said about others."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tflite

from tinyhil.errors import MalformedModel, UnsupportedOperator
from tinyhil.harness.model import Graph, load_tflite, read_tflite, write_tflite
from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.graph import (
    Activation,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    DType,
    FullyConnected,
    Mean,
    Op,
    Quantization,
    Reshape,
    Softmax,
    StridedSlice,
    Tensor,
)
from tinyhil.harness.model.random_graphs import random_layer

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"


def conv_graph() -> Graph:
    """One 3×3 convolution with a bias, SAME, stride 2."""
    b = Builder()
    x = b.input((1, 8, 8, 3), 0.5, -3)
    w = b.constant(np.ones((4, 3, 3, 3), np.int8), per_tensor(0.25))
    bias = b.constant(np.zeros(4, np.int32), per_tensor(0.125))
    spec = Conv2D(strides=(2, 2), pads=(0, 1, 0, 1), activation=Activation.RELU6)
    return b.graph("conv", [b.op(spec, [x, w, bias], per_tensor(0.1, -128))])


def with_tensor(graph: Graph, index: int, tensor: Tensor) -> Graph:
    tensors = list(graph.tensors)
    tensors[index] = tensor
    return replace(graph, tensors=tuple(tensors))


def reading(graph: Graph) -> Graph:
    return read_tflite(write_tflite(graph), graph.name)


def with_operator(data: bytes, code: int) -> bytes:
    """The file with its first operator code replaced."""
    octets = bytearray(data)
    table = tflite.Model.GetRootAs(octets, 0).OperatorCodes(0)._tab
    for field, width in ((4, 1), (10, 4)):  # deprecated_builtin_code, builtin_code
        if at := table.Offset(field):
            octets[table.Pos + at : table.Pos + at + width] = code.to_bytes(width, "little")
    return bytes(octets)


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


@pytest.mark.parametrize("length", [0, 3, 7])
def test_a_file_cut_to_almost_nothing_is_too_short(length: int) -> None:
    with pytest.raises(MalformedModel, match="too short"):
        read_tflite(write_tflite(conv_graph())[:length], "cut")


def test_every_truncation_is_refused() -> None:
    data = write_tflite(conv_graph())
    for length in range(8, len(data) - 8):
        with pytest.raises(MalformedModel, match="cut: "):
            read_tflite(data[:length], "cut")


def test_a_wrong_magic_is_named() -> None:
    data = write_tflite(conv_graph())
    with pytest.raises(MalformedModel, match=r"photo: not a TFLite model.*b'JFIF'"):
        read_tflite(data[:4] + b"JFIF" + data[8:], "photo")


def test_an_offset_beyond_the_end_is_refused() -> None:
    data = write_tflite(conv_graph())
    with pytest.raises(MalformedModel, match=r"leads out of its .* bytes.*truncated or corrupted"):
        read_tflite((1 << 20).to_bytes(4, "little") + data[4:], "conv")


def test_an_unknown_operator_is_named_with_what_is_supported() -> None:
    data = with_operator(write_tflite(conv_graph()), tflite.BuiltinOperator.LSTM)
    with pytest.raises(UnsupportedOperator, match=r"conv: operator 0 \(LSTM\): not supported. .*CONV_2D"):
        read_tflite(data, "conv")


def test_options_of_another_operator_are_refused() -> None:
    data = with_operator(write_tflite(conv_graph()), tflite.BuiltinOperator.SOFTMAX)
    with pytest.raises(MalformedModel, match="options are those of another operator"):
        read_tflite(data, "conv")


def test_a_float_network_gets_its_own_sentence() -> None:
    graph = conv_graph()
    for i in (0, 3):
        graph = with_tensor(graph, i, replace(graph.tensors[i], dtype=DType.FLOAT32, quant=None))
    with pytest.raises(UnsupportedOperator, match=r"float network.*quantise it with"):
        reading(graph)


def test_int16_activations_are_refused() -> None:
    graph = conv_graph()
    for i in (0, 3):
        graph = with_tensor(graph, i, replace(graph.tensors[i], dtype=DType.INT16))
    with pytest.raises(UnsupportedOperator, match="int16; supported is int8"):
        reading(graph)


def test_activations_without_a_scale_are_refused() -> None:
    graph = with_tensor(conv_graph(), 3, replace(conv_graph().tensors[3], quant=None))
    with pytest.raises(MalformedModel, match="no single scale"):
        reading(graph)


def test_weights_with_a_zero_point_are_refused() -> None:
    graph = with_tensor(conv_graph(), 1, replace(conv_graph().tensors[1], quant=per_tensor(0.25, 3)))
    with pytest.raises(UnsupportedOperator, match="symmetric weights"):
        reading(graph)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_no_scale_is_refused(scale: float) -> None:
    graph = with_tensor(conv_graph(), 0, replace(conv_graph().tensors[0], quant=Quantization((scale,), (0,))))
    with pytest.raises(MalformedModel, match="scale is zero, negative or not finite"):
        reading(graph)


def test_scales_beyond_32_bit_arithmetic_are_refused() -> None:
    graph = with_tensor(conv_graph(), 3, replace(conv_graph().tensors[3], quant=per_tensor(1e-30)))
    with pytest.raises(MalformedModel, match="conv2d0"):
        reading(graph)


def test_an_output_of_the_wrong_shape_is_refused() -> None:
    graph = with_tensor(conv_graph(), 3, replace(conv_graph().tensors[3], shape=(1, 8, 8, 4)))
    with pytest.raises(MalformedModel, match=r"should have shape \[1, 4, 4, 4\]"):
        reading(graph)


def test_an_absurd_shape_is_refused_before_anything_is_allocated() -> None:
    graph = with_tensor(conv_graph(), 0, replace(conv_graph().tensors[0], shape=(1, 40000, 40000, 3)))
    with pytest.raises(MalformedModel, match="MiB"):
        reading(graph)
    graph = with_tensor(conv_graph(), 0, replace(conv_graph().tensors[0], shape=(1, -8, 8, 3)))
    with pytest.raises(MalformedModel, match="negative dimension"):
        reading(graph)


def test_a_batch_is_refused() -> None:
    graph = conv_graph()
    for i, shape in ((0, (2, 8, 8, 3)), (3, (2, 4, 4, 4))):
        graph = with_tensor(graph, i, replace(graph.tensors[i], shape=shape))
    with pytest.raises(UnsupportedOperator, match="batch size 1"):
        reading(graph)


def test_operators_out_of_order_are_refused() -> None:
    b = Builder()
    x = b.input((1, 4))
    y = b.op(Reshape(), [x], per_tensor(1.0))
    z = b.op(Reshape(), [y], per_tensor(1.0))
    b.ops.reverse()
    with pytest.raises(MalformedModel, match="nothing has written at this point"):
        reading(b.graph("g", [z]))


def test_a_cycle_is_refused() -> None:
    b = Builder()
    x = b.input((1, 4))
    y = b.op(Reshape(), [x], per_tensor(1.0))
    b.ops.append(Op(Reshape(), (y,), (x,)))
    with pytest.raises(MalformedModel, match="already has a value"):
        reading(b.graph("g", [y]))


def test_a_missing_tensor_is_refused() -> None:
    graph = conv_graph()
    with pytest.raises(MalformedModel, match="tensor 99 does not exist"):
        reading(replace(graph, outputs=(99,)))


def test_an_output_that_nothing_writes_is_refused() -> None:
    graph = conv_graph()
    tensors = (*graph.tensors, replace(graph.tensors[0], name="orphan"))
    with pytest.raises(MalformedModel, match=r"orphan.*written by no operator"):
        reading(replace(graph, tensors=tensors, outputs=(4,)))


def test_a_constant_of_the_wrong_size_is_refused() -> None:
    graph = conv_graph()
    short = replace(graph.tensors[2], data=np.zeros(3, np.int32))
    with pytest.raises(MalformedModel, match="needs 16 bytes, its data has 12"):
        reading(with_tensor(graph, 2, short))


def test_pools_that_would_need_a_rescale_are_refused() -> None:
    b = Builder()
    x = b.input((1, 4, 4, 2), 0.5)
    out = b.op(AveragePool2D((2, 2), (2, 2)), [x], per_tensor(0.25))
    with pytest.raises(UnsupportedOperator, match="different scales or zero points"):
        reading(b.graph("g", [out]))


def test_a_softmax_with_another_output_scale_is_refused() -> None:
    b = Builder()
    out = b.op(Softmax(), [b.input((1, 4))], per_tensor(1 / 128, -128))
    with pytest.raises(UnsupportedOperator, match="1/256"):
        reading(b.graph("g", [out]))


def test_names_from_the_file_are_made_printable_and_short() -> None:
    graph = conv_graph()
    graph = with_tensor(graph, 3, replace(graph.tensors[3], name="a\x1b[31m\n" + "b" * 5000))
    name = reading(graph).tensors[3].name
    assert name.isprintable()
    assert len(name) <= 200


def test_a_network_beyond_any_microcontroller_is_refused() -> None:
    b = Builder()
    x = b.input((1, 1000, 1000, 8))
    w = b.constant(np.zeros((8, 15, 15, 8), np.int8), per_tensor(1.0))
    out = b.op(Conv2D(pads=(7, 7, 7, 7)), [x, w, -1], per_tensor(1.0))
    with pytest.raises(UnsupportedOperator, match=r"operations in one inference|padded input"):
        reading(b.graph("g", [out]))


def test_a_network_of_thousands_of_operators_is_refused() -> None:
    b = Builder()
    x = b.input((1, 4))
    for _ in range(5000):
        x = b.op(Softmax(), [x], per_tensor(1 / 256, -128))
    with pytest.raises(MalformedModel, match="5,001 tensors"):
        reading(b.graph("g", [x]))


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
