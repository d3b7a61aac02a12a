"""The engine cmsis-nn, proven without the library: behind the same calls is strict C of our own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from peer_kits import Array, KitMaker, RunAll

from tinyhil.errors import Incorrect, MissingTool
from tinyhil.harness.boards import Board, get_board
from tinyhil.harness.engine import Options, Sources
from tinyhil.harness.engines import get_engine
from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.random_graphs import random_inputs, random_layer, random_network
from tinyhil.harness.model.tflite_reader import load_tflite
from tinyhil.harness.targets.target import RawRun
from tinyhil.harness.tinyengine.passes import strip_float_io

NATIVE = get_board("native")
F746 = get_board("stm32f746")
CALLED = (
    "Conv2D", "DepthwiseConv2D", "FullyConnected", "Add", "Mul", "AveragePool2D", "MaxPool2D", "Softmax",
    "Pad", "Concatenation",
)  # fmt: skip
MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"
NETWORKS = ("mlperf_kws", "tflm_micro_speech", "te_vww")


def generate(graph: Graph, board: Board, kit: Path, engine: str = "cmsis-nn") -> Sources:
    return get_engine(engine, {"kit": str(kit)}).generate(graph, board, Options())


class Executed(NamedTuple):
    """A network, what was generated for it, and what its one run gave."""

    graph: Graph
    arrays: Sequence[Array]
    sources: Sources
    run: RawRun


def execute(
    graphs: Sequence[Graph], board: Board, kit: Path, run_all: RunAll, engine: str = "cmsis-nn"
) -> list[Executed]:
    sources = [generate(graph, board, kit, engine) for graph in graphs]
    plain = [strip_float_io(graph) for graph in graphs]
    inputs = [random_inputs(graph, seed) for seed, graph in enumerate(plain)]
    return list(map(Executed, plain, inputs, sources, run_all(board, sources, inputs)))


def assert_exact(executed: Sequence[Executed]) -> None:
    """Outputs equal the reference's byte by byte, and exactly the planned arena is touched."""
    for graph, arrays, sources, run in executed:
        for got, want in zip(run.outputs[0], reference.run(graph, arrays), strict=True):
            np.testing.assert_array_equal(
                np.frombuffer(got, want.dtype), want.reshape(-1), err_msg=graph.name
            )
        assert not run.overruns, graph.name
        assert run.arena_touched == sources.arena, graph.name


@pytest.fixture(scope="module")
def single_layers(contract_kit: KitMaker, run_all: RunAll) -> Mapping[str, Sequence[Executed]]:
    """Eight networks of one layer for each kind, all built in one go."""
    graphs = [random_layer(kind, seed) for kind in CALLED for seed in range(8)]
    done = execute(graphs, NATIVE, contract_kit("native"), run_all)
    return {kind: done[8 * place : 8 * place + 8] for place, kind in enumerate(CALLED)}


@pytest.mark.parametrize("kind", CALLED)
def test_every_called_function_gets_the_arguments_it_needs(
    kind: str, single_layers: Mapping[str, Sequence[Executed]]
) -> None:
    executed = single_layers[kind]
    assert_exact(executed)
    kernels = [layer.kernel for one in executed for layer in one.sources.layers]
    assert any("arm_" in kernel for kernel in kernels), "the library was never called"


@pytest.mark.parametrize("engine", ["cmsis-nn", "cmsis-nn+passes"])
def test_whole_networks_are_exact_within_their_arena(
    engine: str, contract_kit: KitMaker, run_all: RunAll
) -> None:
    graphs = [random_network(seed, 7) for seed in range(10)]
    assert_exact(execute(graphs, NATIVE, contract_kit("native"), run_all, engine))


def test_the_same_calls_are_exact_on_the_emulated_core(contract_kit: KitMaker, run_all: RunAll) -> None:
    graphs = [random_network(seed, 7) for seed in range(20, 24)]
    assert_exact(execute(graphs, F746, contract_kit("cortex-m7"), run_all))


@pytest.mark.parametrize("name", NETWORKS)
def test_benchmark_networks_are_exact(name: str, contract_kit: KitMaker, run_all: RunAll) -> None:
    path = MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip(f"{path.name} is not in {MODELS}; put the benchmark networks there")
    (executed,) = execute([load_tflite(path)], F746, contract_kit("cortex-m7"), run_all)
    assert_exact([executed])
    kernels = {layer.kernel for layer in executed.sources.layers}
    assert "arm_convolve_wrapper_s8" in kernels or name.startswith("tflm")


def test_a_library_that_wants_more_scratch_than_planned_is_refused_before_it_runs(
    contract_kit: KitMaker, run_all: RunAll
) -> None:
    """Kernel sizes above 1x1 need scratch; the first such layer is the answer of init(), plus one."""
    kit = contract_kit("native", "-DCONTRACT_EXTRA=4")
    graph = random_layer("AveragePool2D", 1)
    with pytest.raises(Incorrect, match=r"init\(\) returned 1"):
        run_all(NATIVE, [generate(graph, NATIVE, kit)], [random_inputs(graph)])


def test_an_error_of_the_library_fails_the_run(
    contract_kit: KitMaker, run_all: RunAll, tmp_path: Path
) -> None:
    """The contract refuses a depthwise filter whose channels are not the output's."""
    graph = random_layer("DepthwiseConv2D", 3)
    sources = generate(graph, NATIVE, contract_kit("native"))
    wrong = sources.files["layers.c"].replace(".ch_mult = ", ".ch_mult = 1 + ")
    assert wrong != sources.files["layers.c"]
    files = {**sources.files, "layers.c": wrong}
    with pytest.raises(Incorrect, match=r"run\(\) returned -1"):
        run_all(NATIVE, [Sources(**{**vars(sources), "files": files})], [random_inputs(graph)])


def test_records_say_which_graph_and_which_library(contract_kit: KitMaker) -> None:
    kit = contract_kit("native")
    graph = random_network(4, 7)
    as_is, passes = (generate(graph, NATIVE, kit, name) for name in ("cmsis-nn", "cmsis-nn+passes"))
    assert (as_is.engine, as_is.version, as_is.notes["graph"]) == ("cmsis-nn", "0.1", "as in the file")
    assert (passes.engine, passes.notes["graph"]) == ("cmsis-nn+passes", "tinyhil's passes")
    assert as_is.notes["library_commit"] == "abc1234"
    assert "-O1" in as_is.notes["library_flags"].split()
    assert "-O1" in as_is.notes["library_flags_differ"].split()


def test_what_the_library_lacks_is_named(contract_kit: KitMaker) -> None:
    sources = generate(random_layer("Logistic", 0), NATIVE, contract_kit("native"))
    assert sources.notes["portable_layers"] == "Logistic"
    assert [layer.kernel for layer in sources.layers] == ["portable"]


def test_without_a_kit_the_error_says_what_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINYHIL_KIT_CMSIS_NN", raising=False)
    engine = get_engine("cmsis-nn", {})
    with pytest.raises(MissingTool, match=r"TINYHIL_KIT_CMSIS_NN") as caught:
        engine.generate(random_layer("Conv2D", 0), F746, Options())
    assert "kit.toml" in str(caught.value)
    assert "[engines.cmsis-nn]" in str(caught.value)


@pytest.mark.parametrize("name", ["mlperf_ic", "mlperf_kws", "te_vww", "tflm_person_detect"])
def test_the_real_library_is_exact(name: str, run_all: RunAll) -> None:
    kits = os.environ.get("TINYHIL_KIT_CMSIS_NN", "")
    path = MODELS / f"{name}.tflite"
    if not kits:
        pytest.skip("no kit of CMSIS-NN: set TINYHIL_KIT_CMSIS_NN as docs/engines-peers.md says")
    if not path.exists():
        pytest.skip(f"{path.name} is not in {MODELS}; put the benchmark networks there")
    try:
        get_engine("cmsis-nn", {}).generate(load_tflite(path), F746, Options())
    except MissingTool as error:
        pytest.skip(str(error))
    graph = load_tflite(path)
    sources = get_engine("cmsis-nn", {}).generate(graph, F746, Options())
    plain = strip_float_io(graph)
    arrays = random_inputs(plain, 5)
    (run,) = run_all(F746, [sources], [arrays])
    for got, want in zip(run.outputs[0], reference.run(plain, arrays), strict=True):
        np.testing.assert_array_equal(np.frombuffer(got, want.dtype), want.reshape(-1))
