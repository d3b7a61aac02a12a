"""Reading .tflite files: what is said about files that are not sound, or that nobody could run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tflite
from reader_files import conv_graph, reading, with_operator, with_tensor

from tinyhil.errors import MalformedModel, UnsupportedOperator
from tinyhil.harness.model import read_tflite, write_tflite
from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.graph import (
    AveragePool2D,
    Conv2D,
    DType,
    Op,
    Quantization,
    Reshape,
    Softmax,
)


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
    with pytest.raises(
        UnsupportedOperator,
        match=r"conv: operator 0 \(LSTM\), which writes .*conv2d0.*not supported. Rec.*CONV_2D",
    ):
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
