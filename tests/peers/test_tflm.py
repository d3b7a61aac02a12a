"""The engine tflm, proven without the library: a stand-in for its interpreter is strict about every call."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from peer_kits import HARD, MACHINE, RunAll, tool, write_toml

from tinyhil.errors import DoesNotFit, MissingTool
from tinyhil.harness.boards import Board, get_board
from tinyhil.harness.engine import Options, Sources
from tinyhil.harness.engines import get_engine
from tinyhil.harness.model import reference
from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.graph import AveragePool2D, Graph, Reshape, Softmax
from tinyhil.harness.model.random_graphs import LAYERS, random_inputs, random_layer
from tinyhil.harness.model.tflite_reader import load_tflite, read_tflite
from tinyhil.harness.model.tflite_writer import write_tflite
from tinyhil.harness.peers.tflm import METHODS, Tflm, operator_names

NATIVE = get_board("native")
F746 = get_board("stm32f746")
CONTRACT = Path(__file__).parent / "tflm_contract"
MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"
OPERATORS = (1, 22, 25)  # average pool, reshape, softmax: the schema's numbers


@pytest.fixture(autouse=True)
def cache_of_probes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs that find arenas are built there, not in the user's cache."""
    monkeypatch.setenv("TINYHIL_CACHE", str(tmp_path_factory.getbasetemp() / "probes"))


@pytest.fixture
def network() -> Graph:
    """Pool, reshape, softmax; read back from a file, as every network that is measured."""
    b = Builder()
    x = b.input((1, 4, 4, 3), 0.1, 5)
    x = b.op(AveragePool2D((2, 2), (2, 2)), [x], per_tensor(0.1, 5))
    x = b.op(Reshape(), [x], per_tensor(0.1, 5), (1, 12))
    x = b.op(Softmax(), [x], per_tensor(1 / 256, -128))
    return read_tflite(write_tflite(b.graph("pools", [x])), "pools")


def kit(folder: Path, core: str, needed: int, operators: tuple[int, ...] = OPERATORS) -> dict[str, str]:
    """A kit of the stand-in: it needs an arena of `needed` bytes and runs `operators`."""
    prefix = "" if core == "native" else "arm-none-eabi-"
    flags = (*MACHINE[core], *(HARD if core != "native" else ()), "-O1", f"-I{CONTRACT / 'include'}")
    command = [tool(f"{prefix}g++"), *flags, "-c", str(CONTRACT / "contract.cc"), "-o", "contract.o"]
    subprocess.run(command, cwd=folder, check=True)
    subprocess.run([tool(f"{prefix}ar"), "rcs", "libcontract.a", "contract.o"], cwd=folder, check=True)
    shutil.copytree(CONTRACT / "include", folder / "include")
    defines = [
        f"CONTRACT_OPERATORS={','.join(map(str, operators))}", f"CONTRACT_NEEDED={needed}",
        "CONTRACT_INPUT=48", "CONTRACT_OUTPUT=12", "CONTRACT_WORKING=1000",
    ]  # fmt: skip
    write_toml(folder, name="tflm", version="0.1", core=core, flags="-O1", defines=defines)
    return {"kit": str(folder)}


def generate(graph: Graph, board: Board, table: dict[str, str]) -> Sources:
    try:
        return Tflm(table).generate(graph, board, Options())
    except MissingTool as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("needed", [1025, 5003, 40000])
def test_the_arena_is_found_to_the_byte(network: Graph, needed: int, tmp_path: Path) -> None:
    sources = generate(network, NATIVE, kit(tmp_path, "native", needed))
    assert (sources.arena, sources.notes["arena_needed"]) == (needed, str(needed))
    assert sources.notes["arena_non_persistent"] == "1000"
    assert sources.notes["arena_persistent"] == str(needed - 1000)


@pytest.mark.parametrize("board", [NATIVE, F746], ids=lambda board: board.name)
def test_the_interpreter_gets_model_arena_and_operators(
    board: Board, network: Graph, run_all: RunAll, tmp_path: Path
) -> None:
    """The stand-in checks the model's mark and alignment; its output is the input plus one per operator."""
    sources = generate(network, board, kit(tmp_path, board.core, 5003))
    (arrays,) = ([np.arange(48, dtype=np.int8).reshape(1, 4, 4, 3)],)
    (run,) = run_all(board, [sources], [arrays])
    assert run.outputs[0][0] == bytes(i + len(OPERATORS) for i in range(12))
    assert run.arena_touched == 5003


def test_every_operator_is_a_layer_with_its_own_count(
    network: Graph, run_all: RunAll, tmp_path: Path
) -> None:
    sources = generate(network, F746, kit(tmp_path, "cortex-m7", 5003))
    assert [layer.op for layer in sources.layers] == ["AveragePool2D", "Reshape", "Softmax"]
    (run,) = run_all(F746, [sources], [random_inputs(network)])
    counts = [layer.instructions for layer in run.layers[0]]
    assert all(count is not None and count > 0 for count in counts)
    assert sum(count or 0 for count in counts) <= run.instructions[0]


def test_an_arena_beyond_the_board_does_not_fit(network: Graph, tmp_path: Path) -> None:
    table = kit(tmp_path, "cortex-m7", 400_000)
    with pytest.raises(DoesNotFit, match="bytes of arena, which stm32f746 has not"):
        generate(network, F746, table)


def test_the_model_is_embedded_unchanged(network: Graph, tmp_path: Path) -> None:
    text = generate(network, NATIVE, kit(tmp_path, "native", 2000)).files["tflm_model.c"]
    values = text[text.index("= {") + 3 : text.index("};")].replace("\n", " ").split(",")
    assert bytes(map(int, values)) == network.file


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_every_operator_that_can_be_read_can_be_registered(kind: str) -> None:
    names = operator_names(write_tflite(random_layer(kind, 0)))
    assert names
    assert set(names) <= set(METHODS)


def test_without_a_kit_the_error_says_what_one_is(network: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINYHIL_KIT_TFLM", raising=False)
    with pytest.raises(MissingTool, match=r"TINYHIL_KIT_TFLM"):
        get_engine("tflm", {}).generate(network, F746, Options())


@pytest.mark.parametrize("name", ["mlperf_kws", "tflm_micro_speech"])
def test_the_real_library_is_exact(name: str, run_all: RunAll) -> None:
    path = MODELS / f"{name}.tflite"
    if not os.environ.get("TINYHIL_KIT_TFLM"):
        pytest.skip("no kit of TFLM: set TINYHIL_KIT_TFLM as docs/engines-peers.md says")
    if not path.exists():
        pytest.skip(f"{path.name} is not in {MODELS}; put the benchmark networks there")
    graph = load_tflite(path)
    sources = generate(graph, F746, {})
    arrays = random_inputs(graph, 5)
    (run,) = run_all(F746, [sources], [arrays])
    assert run.outputs[0][0] == np.ascontiguousarray(reference.run(graph, arrays)[0]).tobytes()
