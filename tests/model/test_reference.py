"""The reference interpreter is TFLM's reference kernels, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.harness.model import Graph, Interpreter, load_tflite, write_tflite
from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.graph import (
    Activation,
    Conv2D,
    DType,
    FullyConnected,
    Logistic,
    Quantize,
    Relu,
    Softmax,
)
from tinyhil.harness.model.oracle import has_tflm, tflm_run
from tinyhil.harness.model.random_graphs import LAYERS, random_inputs, random_layer, random_network
from tinyhil.harness.model.reference import run, trace

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"
NAMES = (
    "te_vww",
    "tflm_person_detect",
    "tflm_micro_speech",
    "mlperf_kws",
    "mlperf_vww",
    "mlperf_ic",
    "mlperf_ad",
)
needs_tflm = pytest.mark.skipif(not has_tflm(), reason="needs the wheel: pip install 'tinyhil[oracle]'")


def assert_same(graph: Graph, inputs: list[npt.NDArray[Any]], data: bytes | None = None) -> None:
    ours = run(graph, inputs)
    theirs = tflm_run(write_tflite(graph) if data is None else data, inputs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@needs_tflm
@pytest.mark.parametrize("kind", LAYERS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_operator_agrees_with_tflm(kind: str, seed: int) -> None:
    graph = random_layer(kind, seed)
    assert_same(graph, random_inputs(graph, seed))


@needs_tflm
@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_small_networks_agree_with_tflm(seed: int) -> None:
    graph = random_network(seed)
    assert_same(graph, random_inputs(graph, seed))


def scene(shape: tuple[int, ...], dtype: DType) -> npt.NDArray[Any]:
    """Something like a picture or a spectrum: smooth shades with a bright object."""
    grid = np.indices(shape).astype(np.float64)
    waves = sum(np.sin(g / (3.0 + 2 * i)) for i, g in enumerate(grid)) / len(shape)
    middle = np.abs(grid[-1 if len(shape) == 2 else 1] / max(shape[1:]) - 0.5) < 0.2
    shades = np.clip(0.6 * waves + 0.5 * middle, -1, 1)
    return (shades * 127).astype(np.int8) if dtype is DType.INT8 else shades.astype(np.float32)


@needs_tflm
@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the published networks in ../shared/models")
@pytest.mark.parametrize("name", NAMES)
def test_published_networks_agree_with_tflm(name: str) -> None:
    path = MODELS / f"{name}.tflite"
    graph, data = load_tflite(path), path.read_bytes()
    tensor = graph.tensors[graph.inputs[0]]
    for array in (
        np.zeros(tensor.shape, tensor.dtype.numpy),
        random_inputs(graph, 7)[0],
        scene(tensor.shape, tensor.dtype),
    ):
        assert_same(graph, [array], data)


@needs_tflm
@pytest.mark.parametrize("scale", [1e-3, 0.02, 0.25, 1.0, 9.0, 100.0])
@pytest.mark.parametrize("zero_point", [-128, 0, 127])
def test_logistic_and_softmax_agree_with_tflm_on_every_input_value(scale: float, zero_point: int) -> None:
    values = np.arange(-128, 128, dtype=np.int8).reshape(16, 16)
    for spec in (Logistic(), Softmax(), Softmax(0.25)):
        b = Builder()
        x = b.input((16, 16), scale, zero_point)
        graph = b.graph("g", [b.op(spec, [x], per_tensor(1 / 256, -128))])
        assert_same(graph, [values])


@needs_tflm
@pytest.mark.parametrize("kind", ["conv", "fully_connected"])
def test_int4_weights_agree_with_tflm(kind: str) -> None:
    random = np.random.default_rng(4)
    b = Builder()
    x = b.input((1, 5, 5, 3), 0.1, 5)
    shape = (6, 3, 3, 3) if kind == "conv" else (7, 75)
    w = b.constant(random.integers(-8, 8, shape).astype(np.int8), per_tensor(0.05), DType.INT4)
    bias = b.constant(random.integers(-500, 500, shape[0]).astype(np.int32))
    spec = Conv2D() if kind == "conv" else FullyConnected()
    graph = b.graph(kind, [b.op(spec, [x, w, bias], per_tensor(0.3, -20))])
    assert_same(graph, random_inputs(graph))


def test_a_convolution_by_hand() -> None:
    b = Builder()
    x = b.input((1, 2, 2, 1), 0.5, 1)
    w = b.constant(np.array([[[[1], [2]], [[3], [4]]]], np.int8), per_tensor(1.0))
    bias = b.constant(np.array([10], np.int32))
    graph = b.graph("g", [b.op(Conv2D(), [x, w, bias], per_tensor(2.0, -5))])
    image = np.array([[[[2], [3]], [[4], [5]]]], np.int8)
    # (1·1 + 2·2 + 3·3 + 4·4 + 10) · 0.5 / 2 = 10
    assert run(graph, [image])[0].tolist() == [[[[5]]]]


def test_relu_n1_to_1_clamps_at_one_step_per_unit() -> None:
    b = Builder()
    x = b.input((1, 5), 0.25, 2)
    graph = b.graph("g", [b.op(Relu(Activation.RELU_N1_TO_1), [x], per_tensor(0.25, 2))])
    assert run(graph, [np.array([[-128, -2, 2, 6, 127]], np.int8)])[0].tolist() == [[-2, -2, 2, 6, 6]]


def test_floats_beyond_every_integer_saturate() -> None:
    b = Builder()
    x = b.input((1, 4), dtype=DType.FLOAT32)
    graph = b.graph("g", [b.op(Quantize(), [x], per_tensor(1e-38, 5))])
    values = np.array([[-1e30, -0.0, 1e30, np.inf]], np.float32)
    assert run(graph, [values])[0].tolist() == [[-128, 5, 127, 127]]


def test_every_intermediate_tensor_can_be_seen() -> None:
    graph = random_network(11)
    values = trace(graph, random_inputs(graph))
    assert set(values) == set(range(len(graph.tensors)))
    for index, value in values.items():
        assert value.shape == graph.tensors[index].shape
        assert value.dtype == graph.tensors[index].dtype.numpy


def test_an_interpreter_is_called_with_one_array_per_input() -> None:
    graph = random_layer("Conv2D", 1)
    (x,) = random_inputs(graph)
    np.testing.assert_array_equal(Interpreter(graph)(x)[0], run(graph, [x])[0])


def test_inputs_that_do_not_fit_are_refused() -> None:
    graph = random_layer("Conv2D", 1)
    (x,) = random_inputs(graph)
    with pytest.raises(UsageError, match="takes 1 inputs, 2"):
        run(graph, [x, x])
    with pytest.raises(UsageError, match="given was float32"):
        run(graph, [x.astype(np.float32)])
