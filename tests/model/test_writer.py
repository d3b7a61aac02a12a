"""Writing .tflite files: what is read back is what was written, and TFLM agrees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UnsupportedOperator
from tinyhil.harness.model import Graph, load_tflite, read_tflite, write_tflite
from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.graph import AveragePool2D, Conv2D, DType, MaxPool2D, Pad, Quantization
from tinyhil.harness.model.oracle import has_tflm, tflm_run
from tinyhil.harness.model.random_graphs import LAYERS, random_inputs, random_layer, random_network
from tinyhil.harness.model.reference import run

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"


def assert_equal(a: Graph, b: Graph) -> None:
    assert a.ops == b.ops
    assert (a.inputs, a.outputs) == (b.inputs, b.outputs)
    for s, t in zip(a.tensors, b.tensors, strict=True):
        assert (s.name, s.shape, s.dtype, s.quant) == (t.name, t.shape, t.dtype, t.quant)
        assert (s.data is None) == (t.data is None)
        if s.data is not None and t.data is not None:
            np.testing.assert_array_equal(s.data, t.data)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(kind=st.sampled_from(sorted(LAYERS)), seed=st.integers(0, 2**32 - 1))
def test_what_is_read_back_is_what_was_written(kind: str, seed: int) -> None:
    graph = random_layer(kind, seed)
    assert_equal(graph, read_tflite(write_tflite(graph), graph.name))


def test_the_same_graph_gives_the_same_bytes() -> None:
    assert write_tflite(random_network(3)) == write_tflite(random_network(3))


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the published networks in ../shared/models")
@pytest.mark.parametrize("path", sorted(MODELS.glob("*.tflite")), ids=lambda p: str(p.stem))
def test_published_networks_survive_the_way_there_and_back(path: Path) -> None:
    graph = load_tflite(path)
    data = write_tflite(graph)
    assert_equal(graph, read_tflite(data, graph.name))
    if has_tflm():
        inputs = random_inputs(graph)
        np.testing.assert_array_equal(tflm_run(data, inputs)[0], tflm_run(path.read_bytes(), inputs)[0])


@pytest.mark.parametrize("kind", ["conv", "max"])
def test_padding_without_a_name_becomes_a_pad_operator(kind: str) -> None:
    b = Builder()
    x = b.input((1, 5, 5, 2), 0.1, 7)
    if kind == "conv":
        w = b.constant(np.arange(-18, 18, dtype=np.int8).reshape(2, 3, 3, 2), per_tensor(0.1))
        out = b.op(Conv2D((2, 2), pads=(2, 0, 1, 1)), [x, w, -1], per_tensor(0.5))
    else:
        out = b.op(MaxPool2D((3, 3), (2, 2), (2, 0, 1, 1)), [x], b.tensors[x].quant)
    graph = b.graph("g", [out])
    data = write_tflite(graph)
    written = read_tflite(data, "g")
    assert isinstance(written.ops[0].spec, Pad)
    inputs = random_inputs(graph)
    np.testing.assert_array_equal(run(graph, inputs)[0], run(written, inputs)[0])
    if has_tflm():
        np.testing.assert_array_equal(run(graph, inputs)[0], tflm_run(data, inputs)[0])


def test_an_average_pool_with_such_padding_cannot_be_written() -> None:
    b = Builder()
    x = b.input((1, 5, 5, 2))
    out = b.op(AveragePool2D((3, 3), (2, 2), (2, 0, 1, 1)), [x], b.tensors[x].quant)
    with pytest.raises(UnsupportedOperator, match="SAME or VALID"):
        write_tflite(b.graph("g", [out]))


def test_int4_weights_are_packed_two_to_a_byte() -> None:
    b = Builder()
    x = b.input((1, 1, 1, 3))
    values = np.array([-8, -1, 7], np.int8).reshape(1, 1, 1, 3)
    w = b.constant(values, per_tensor(1.0), DType.INT4)
    graph = b.graph("g", [b.op(Conv2D(), [x, w, -1], per_tensor(1.0))])
    data = write_tflite(graph)
    assert bytes([0xF8, 0x07]) in data
    np.testing.assert_array_equal(read_tflite(data, "g").tensors[1].data, values)  # type: ignore[arg-type]


def test_a_bias_without_a_scale_gets_that_of_the_product() -> None:
    b = Builder()
    x = b.input((1, 1, 1, 1), 0.5)
    w = b.constant(np.ones((2, 1, 1, 1), np.int8), Quantization((0.5, 0.25), (0, 0)))
    bias = b.constant(np.zeros(2, np.int32))
    graph = b.graph("g", [b.op(Conv2D(), [x, w, bias], per_tensor(1.0))])
    quant = read_tflite(write_tflite(graph), "g").tensors[2].quant
    assert quant == Quantization((0.25, 0.125), (0, 0))


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_constants_are_aligned_to_sixteen_bytes(kind: str) -> None:
    data = np.frombuffer(write_tflite(random_layer(kind, 0)), np.uint8)
    graph = read_tflite(memoryview(data).toreadonly(), "g")
    for tensor in graph.tensors:
        if tensor.data is not None:
            assert (tensor.data.ctypes.data - data.ctypes.data) % 16 == 0
