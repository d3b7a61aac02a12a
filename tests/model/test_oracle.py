"""Who computes the reference."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tinyhil.harness.model import oracle, read_tflite, reference_for, write_tflite
from tinyhil.harness.model.builder import Builder
from tinyhil.harness.model.graph import Activation, Relu
from tinyhil.harness.model.random_graphs import random_inputs, random_layer, random_network

needs_tflm = pytest.mark.skipif(
    not oracle.has_tflm(), reason="needs the wheel: pip install 'tinyhil[oracle]'"
)


@needs_tflm
def test_the_wheel_is_the_reference_where_it_is_installed() -> None:
    data = write_tflite(random_network(5))
    graph = read_tflite(data, "g")
    name, run = reference_for(data, graph)
    assert name.startswith("tflite-micro 0.")
    inputs = random_inputs(graph)
    np.testing.assert_array_equal(run(inputs)[0], oracle.tflm_run(data, inputs)[0])


def test_the_interpreter_is_the_reference_where_the_wheel_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "has_tflm", lambda: False)
    data = write_tflite(random_layer("Conv2D", 1))
    graph = read_tflite(data, "g")
    name, run = reference_for(data, graph)
    assert name.startswith("tinyhil reference")
    assert run(random_inputs(graph))[0].shape == graph.tensors[graph.outputs[0]].shape


def test_the_interpreter_stands_in_for_operators_that_tflm_lacks() -> None:
    b = Builder()
    x = b.input((1, 4), 0.25)
    out = b.op(Relu(Activation.RELU_N1_TO_1), [x], b.tensors[x].quant)
    data = write_tflite(b.graph("g", [out]))
    name, run = reference_for(data, read_tflite(data, "g"))
    assert name.startswith("tinyhil reference")
    assert run([np.array([[-128, -1, 1, 127]], np.int8)])[0].tolist() == [[-4, -1, 1, 4]]


def crash(model: bytes, inputs: object) -> None:
    os.abort()


def test_when_tflm_dies_the_reference_interpreter_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_layer("Conv2D", 1)
    monkeypatch.setattr(oracle, "has_tflm", lambda: True)
    monkeypatch.setattr(oracle, "tflm_run", crash)
    name, run = oracle.reference_for(write_tflite(graph), graph)
    assert name.startswith("tinyhil reference")
    assert run(random_inputs(graph))[0].shape == graph.tensors[graph.outputs[0]].shape
