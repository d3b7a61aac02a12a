"""The engine external: somebody else's C behind our runtime, and a finished program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from peer_kits import RunAll

from tinyhil.errors import BuildError, UsageError
from tinyhil.harness.boards import Board, get_board
from tinyhil.harness.build import Program, build
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.engine import Options
from tinyhil.harness.engines import get_engine
from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.random_graphs import random_inputs, random_layer
from tinyhil.harness.tinyengine import TinyEngine

NATIVE = get_board("native")
F746 = get_board("stm32f746")
L4R5 = get_board("nucleo-l4r5zi")
WRAPPER = Path(__file__).resolve().parents[2] / "docs" / "examples" / "external" / "wrapper.c"

# Ahead-of-time C in the style of TVM's: a pair of structs, a function, memory of its own.
EXPORTED = """
#include <string.h>
#include "network.h"

struct network_inputs { const void *input; };
struct network_outputs { void *output; };

static uint8_t workspace[NETWORK_ARENA_SIZE] __attribute__((aligned(16)));

int network_run(struct network_inputs *inputs, struct network_outputs *outputs);
int network_run(struct network_inputs *inputs, struct network_outputs *outputs)
{
    memcpy(network_input(workspace, 0), inputs->input, NETWORK_INPUT_0_SIZE);
    int status = generated_run(workspace);
    memcpy(outputs->output, network_output(workspace, 0), NETWORK_OUTPUT_0_SIZE);
    return status;
}
"""


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Graph, dict[str, object]]:
    """A graph, and the table of its exported C beside the worked example's wrapper."""
    graph = random_layer("Conv2D", 5)
    sources = TinyEngine().generate(graph, NATIVE, Options())
    folder = tmp_path / "aot"
    folder.mkdir()
    for name, text in sources.files.items():
        if name != "th_network.c":
            (folder / name).write_text(text.replace("network_run(", "generated_run("))
    (folder / "exported.c").write_text(EXPORTED)
    table: dict[str, object] = {
        "sources": [str(folder / "*.c"), str(WRAPPER)],
        "defines": [f"INPUT_SIZE={sources.inputs[0].nbytes}", f"OUTPUT_SIZE={sources.outputs[0].nbytes}"],
    }
    return graph, table


@pytest.mark.parametrize("board", [NATIVE, F746, L4R5], ids=lambda board: board.name)
def test_the_worked_example_is_measured_and_exact(
    board: Board, exported: tuple[Graph, dict[str, object]], run_all: RunAll
) -> None:
    graph, table = exported
    sources = get_engine("external", {graph.name: table}).generate(graph, board, Options())
    arrays = random_inputs(graph)
    (run,) = run_all(board, [sources], [arrays])
    (want,) = reference.run(graph, arrays)
    assert run.outputs[0][0] == np.ascontiguousarray(want).tobytes()
    assert run.arena_touched == sources.inputs[0].nbytes + sources.outputs[0].nbytes


def test_a_finished_program_is_run_as_it_is(
    exported: tuple[Graph, dict[str, object]], run_all: RunAll, tmp_path: Path
) -> None:
    graph, table = exported
    sources = get_engine("external", {graph.name: table}).generate(graph, F746, Options())
    (built,) = build([Program(sources, F746, True)], Deadline.after(120), cache_dir=tmp_path / "c", jobs=1)
    assert not isinstance(built, Exception), built
    elf = tmp_path / "theirs.elf"
    elf.write_bytes(built.elf.read_bytes())
    engine = get_engine("external", {graph.name: {"elf": str(elf), "name": "theirs", "version": "3"}})
    finished = engine.generate(graph, F746, Options())
    assert (finished.engine, finished.version, finished.files) == ("theirs", "3", {})
    arrays = random_inputs(graph)
    (run,) = run_all(F746, [finished], [arrays])
    assert run.outputs[0][0] == np.ascontiguousarray(reference.run(graph, arrays)[0]).tobytes()
    assert run.instructions
    assert run.instructions[0] > 0


def test_a_program_without_the_runtime_is_refused(tmp_path: Path) -> None:
    graph = random_layer("Softmax", 1)
    path = Path("/bin/true").resolve()
    sources = get_engine("external", {graph.name: {"elf": str(path)}}).generate(graph, NATIVE, Options())
    (built,) = build([Program(sources, NATIVE, False)], Deadline.after(10), cache_dir=tmp_path, jobs=1)
    assert isinstance(built, BuildError)
    assert "no th_build_id" in str(built)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "either `sources` or `elf`"),
        ({"elf": "a.elf", "sources": ["b.c"]}, "either `sources` or `elf`"),
        ({"elf": "nowhere.elf"}, "there is no .*nowhere.elf"),
        ({"sources": "a.c"}, "must be a list"),
        ({"sources": ["nowhere/*.c"]}, "no file matches"),
        ({"sources": [__file__]}, "no C, C\\+\\+ or assembler"),
        ({"sources": [], "speed": 3}, "unknown key 'speed'"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(entry: dict[str, object], words: str) -> None:
    graph = random_layer("Softmax", 1)
    with pytest.raises(UsageError, match=words):
        get_engine("external", {graph.name: entry}).generate(graph, F746, Options())


def test_a_network_without_a_table_names_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no \[engines\.external\.softmax_1\].*there is other"):
        get_engine("external", {"other": {"elf": "x"}}).generate(random_layer("Softmax", 1), F746, Options())
