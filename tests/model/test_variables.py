"""Streaming networks with variables: read as networks with a state, the same over many calls as in TFLM."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tinyhil.errors import MalformedModel, UnsupportedOperator
from tinyhil.harness.model import oracle, read_tflite, reference_for, write_tflite
from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.graph import (
    Concatenation,
    Conv2D,
    DType,
    Graph,
    Logistic,
    State,
    StridedSlice,
    Tensor,
)
from tinyhil.harness.model.random_graphs import random_inputs
from tinyhil.harness.model.reference import run
from tinyhil.harness.model.tflite_file import FileGraph, FileOp, file_bytes

needs_tflm = pytest.mark.skipif(
    not oracle.has_tflm(), reason="needs the wheel: pip install 'tinyhil[oracle]'"
)


def stream(seed: int = 0) -> Graph:
    """Two frames at a time, the last three of all kept; then a running sum of what a convolution says."""
    random = np.random.default_rng(seed)
    b = Builder()
    frames, kept, before = b.input((1, 2, 1, 4), 0.1, 3), b.input((1, 3, 1, 4), 0.1, 3), b.input((1, 1, 1, 6))
    window = b.op(Concatenation(1), [kept, frames], per_tensor(0.1, 3))
    last = b.op(StridedSlice((0, 2, 0, 0), (1, 5, 1, 4), (1, 1, 1, 1)), [window], per_tensor(0.1, 3))
    weights = [
        b.constant(random.integers(-127, 128, shape).astype(np.int8), per_tensor(0.01))
        for shape in ((6, 5, 1, 4), (6, 1, 1, 12))
    ]
    found = b.op(Conv2D(), [window, weights[0], -1], per_tensor(1.0))
    both = b.op(Concatenation(3), [before, found], per_tensor(1.0))
    after = b.op(Conv2D(), [both, weights[1], -1], per_tensor(1.0))
    score = b.op(Logistic(), [after], per_tensor(1 / 256, -128))
    start = random.integers(-128, 128, (1, 3, 1, 4)).astype(np.int8)
    states = (State(1, 1, start), State(2, 2, np.full((1, 1, 1, 6), 5, np.int8)))
    return replace(b.graph("stream", [score, last, after]), states=states)


def steps(graph: Graph, frames: list[npt.NDArray[np.int8]]) -> list[npt.NDArray[np.int8]]:
    """The first output of every call, the states carried from one to the next."""
    ports = {state.input: state.start for state in graph.states}
    answers = []
    for frame in frames:
        outputs = run(graph, [frame, *(ports[place] for place in sorted(ports))])
        ports = {state.input: outputs[state.output] for state in graph.states}
        answers.append(outputs[0])
    return answers


@needs_tflm
def test_every_call_of_a_stream_answers_as_tflm_does_with_its_own_variables() -> None:
    from tflite_micro.python.tflite_micro import runtime

    data = write_tflite(stream())
    theirs = runtime.Interpreter.from_bytes(data, arena_size=1 << 16)
    frames = [random_inputs(stream(), seed)[0] for seed in range(6)]
    for frame, ours in zip(frames, steps(read_tflite(data, "stream"), frames), strict=True):
        theirs.set_input(frame, 0)
        theirs.invoke()
        np.testing.assert_array_equal(ours, theirs.get_output(0))


def test_variables_become_ports_with_a_start() -> None:
    written, graph = stream(), read_tflite(write_tflite(stream()), "stream")
    assert (len(graph.inputs), len(graph.outputs)) == (3, 3)
    for a, b in zip(written.states, graph.states, strict=True):
        assert (a.input, a.output) == (b.input, b.output)
        np.testing.assert_array_equal(a.start, b.start)
    assert [op.kind for op in graph.ops] == [op.kind for op in written.ops]
    frames = [random_inputs(graph, seed)[0] for seed in range(3)]
    for x, y in zip(steps(written, frames), steps(graph, frames), strict=True):
        np.testing.assert_array_equal(x, y)


@needs_tflm
def test_the_reference_of_a_stream_is_asked_with_its_state() -> None:
    data = write_tflite(stream())
    graph = read_tflite(data, "stream")
    name, answer = reference_for(data, graph)
    assert name.startswith("tflite-micro")
    inputs = random_inputs(graph, 1)
    for a, b in zip(answer(inputs), run(graph, inputs), strict=True):
        np.testing.assert_array_equal(a, b)


def sums(*extra: FileOp) -> bytes:
    """x + what was assigned last, and nothing assigned before the first call."""
    quant = per_tensor(0.5, -7)
    tensors = [Tensor(name, (1, 4), DType.INT8, quant) for name in ("x", "before", "after")]
    tensors.append(Tensor("variable", (), DType.INT32))
    ops = [
        FileOp("VAR_HANDLE", 1, "VarHandleOptions", [], [3], {"Container": "", "SharedName": "sum"}),
        FileOp("READ_VARIABLE", 1, "ReadVariableOptions", [3], [1]),
        FileOp("ADD", 2, "AddOptions", [0, 1], [2]),
        *extra,
    ]
    return file_bytes([FileGraph("sums", tensors, ops, [0], [2], frozenset({3}))])


ASSIGN = FileOp("ASSIGN_VARIABLE", 1, "AssignVariableOptions", [3, 2], [])


@needs_tflm
def test_a_variable_without_a_start_begins_where_tflm_does() -> None:
    from tflite_micro.python.tflite_micro import runtime

    theirs = runtime.Interpreter.from_bytes(sums(ASSIGN), arena_size=1 << 16)
    frames = [np.array([[1, -7, 40, -50]], np.int8)] * 3
    for frame, ours in zip(frames, steps(read_tflite(sums(ASSIGN), "sums"), frames), strict=True):
        theirs.set_input(frame, 0)
        theirs.invoke()
        np.testing.assert_array_equal(ours, theirs.get_output(0))


def test_a_variable_that_nothing_assigns_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match=r"variable '/sum' is read .* never assigned; make it"):
        read_tflite(sums(), "sums")


def test_an_operator_on_what_is_no_variable_is_refused() -> None:
    wrong = replace(ASSIGN, inputs=[1, 2])
    with pytest.raises(MalformedModel, match=r"ASSIGN_VARIABLE\): its first input is no variable"):
        read_tflite(sums(wrong), "sums")


def test_what_is_assigned_must_be_what_is_read() -> None:
    graph = stream()
    wrong = replace(graph, states=(State(1, 2, graph.states[0].start), State(2, 1, graph.states[1].start)))
    with pytest.raises(MalformedModel, match=r"operator \d+ \(ASSIGN_VARIABLE\).*differs in shape"):
        read_tflite(write_tflite(wrong), "stream")
    tensors = [replace(t, quant=None) if i == graph.inputs[2] else t for i, t in enumerate(graph.tensors)]
    with pytest.raises(UnsupportedOperator, match=r"variable '/variable1' holds int8; int8 with a scale"):
        read_tflite(write_tflite(replace(graph, tensors=tuple(tensors))), "stream")
