"""Networks that nobody had in mind: seeded, with branches, odd windows and shared weights; exact with every
dead byte poisoned. A seed that once broke something stays here."""

from __future__ import annotations

from collections import Counter

import pytest
from engine_checks import RunC, random_inputs
from test_blocks import assert_exact, sources_of

from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import Conv2D, DepthwiseConv2D, Graph
from tinyhil.harness.model.random_dags import random_dag
from tinyhil.harness.model.tflite_reader import read_tflite
from tinyhil.harness.model.tflite_writer import write_tflite
from tinyhil.harness.tinyengine import schedule_graph

NATIVE = get_board("native")
PREFER = ("speed", "ram", "flash")


@pytest.mark.parametrize("seed", [*range(12), 270])
def test_a_network_with_branches_is_exact_with_dead_bytes_poisoned(seed: int, run_c: RunC) -> None:
    graph = random_dag(seed)
    schedule = schedule_graph(graph, NATIVE, Options(PREFER[seed % 3]))
    assert_exact(sources_of(schedule, graph, poison=True), graph, run_c)


def test_the_dice_show_every_class_of_network() -> None:
    graphs = [random_dag(seed) for seed in range(60)]
    seen = Counter(name for graph in graphs for name in set(_classes(graph)))
    wanted = (
        "several inputs", "several outputs", "an output is read on", "a result that nobody reads",
        "shared weights", "a large kernel", "stride 3 or 4", "dilated depthwise", "a line of a kernel",
        "multiplier > 1", "uneven padding", "Concatenation", "Mul", "Softmax", "Reshape", "Logistic",
        "ResizeNearestNeighbor", "Mean", "AveragePool2D", "MaxPool2D",
    )  # fmt: skip
    assert not [name for name in wanted if not seen[name]], seen


def _classes(graph: Graph) -> list[str]:
    found = [op.kind for op in graph.ops]
    read = [i for op in graph.ops for i in op.inputs if i >= 0]
    found += ["several inputs"] * (len(graph.inputs) > 1) + ["several outputs"] * (len(graph.outputs) > 1)
    found += ["an output is read on"] * bool(set(read) & set(graph.outputs))
    made = {op.outputs[0] for op in graph.ops}
    found += ["a result that nobody reads"] * bool(made - set(read) - set(graph.outputs))
    weights = [op.inputs[1] for op in graph.ops if isinstance(op.spec, Conv2D)]
    found += ["shared weights"] * (len(set(weights)) < len(weights))
    for op in graph.ops:
        if not isinstance(op.spec, Conv2D | DepthwiseConv2D):
            continue
        kh, kw = graph.tensors[op.inputs[1]].shape[1:3]
        top, bottom, left, right = op.spec.pads
        found += ["a large kernel"] * (min(kh, kw) >= 9) + ["stride 3 or 4"] * (max(op.spec.strides) >= 3)
        found += ["a line of a kernel"] * ((kh == 1) != (kw == 1))
        found += ["uneven padding"] * (abs(top - bottom) > 1 or abs(left - right) > 1)
        if isinstance(op.spec, DepthwiseConv2D):
            found += ["dilated depthwise"] * (op.spec.dilations != (1, 1))
            found += ["multiplier > 1"] * (op.spec.multiplier > 1)
    return found


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_same_network_comes_back_from_its_file(seed: int) -> None:
    graph = random_dag(seed)
    back = read_tflite(write_tflite(graph), graph.name)
    inputs = random_inputs(graph, seed)
    for a, b in zip(reference.run(graph, inputs), reference.run(back, inputs), strict=True):
        assert a.tobytes() == b.tobytes()
