"""Networks of other kinds than the benchmarks: branches and resize, squeeze-and-excite, streams."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from engine_checks import MODELS, WARNINGS, RunC, random_inputs
from engine_networks import Builder

from tinyhil.harness.boards import get_board
from tinyhil.harness.commands.plan import export_c as export_command
from tinyhil.harness.commands.plan import plan as plan_command
from tinyhil.harness.engine import Options
from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import (
    Activation,
    Add,
    Concatenation,
    Graph,
    Logistic,
    Mean,
    Mul,
    ResizeNearestNeighbor,
    State,
    StridedSlice,
)
from tinyhil.harness.tinyengine import TinyEngine, schedule_graph
from tinyhil.harness.tinyengine.export import export_c
from tinyhil.harness.tinyengine.report import picture, plan_lines

NATIVE = get_board("native")


def detector() -> Graph:
    """A feature pyramid: two scales, the coarse one resized and joined to the fine one, two heads."""
    b = Builder((1, 24, 20, 3), seed=21)
    b.conv(8, (3, 3), (2, 2), (0, 1, 0, 1))
    fine = b.depthwise()
    b.conv(16, (3, 3), (2, 2), (1, 0, 1, 0))
    b.depthwise((5, 5), pads=(2, 2, 2, 2))
    coarse = b.conv(16, activation=Activation.NONE, zero_point=5)
    b.op(ResizeNearestNeighbor(), (coarse,), (1, 12, 10, 16))
    same = (b.tensors[b.last].quant, b.last)
    b.last = fine
    side = b.conv(16, activation=Activation.NONE, zero_point=5)
    b.tensors[side] = replace(b.tensors[side], quant=same[0])  # joined values share their scale
    b.op(Concatenation(3), (same[1], side), (1, 12, 10, 32))
    boxes = b.conv(6, (3, 3), pads=(1, 1, 1, 1), activation=Activation.NONE, zero_point=0)
    b.last = coarse
    b.op(Logistic(), (coarse,), b.shape(coarse), 1 / 256, -128)
    return b.graph(boxes, b.last)


def squeeze_and_excite() -> Graph:
    """An inverted residual whose channels are scaled by a gate computed from their means."""
    b = Builder((1, 10, 9, 8), seed=22)
    b.conv(24)
    wide = b.depthwise()
    b.op(Mean((1, 2), keep_dims=True), (wide,), (1, 1, 1, 24), 0.03, -100)
    b.conv(6, activation=Activation.RELU)
    b.conv(24, activation=Activation.NONE, zero_point=3)
    gate = b.op(Logistic(), (b.last,), b.shape(), 1 / 256, -128)
    b.op(Mul(), (wide, gate), b.shape(wide), 0.02, -120)
    b.conv(8, activation=Activation.NONE, zero_point=-4)
    b.add(0)
    return b.graph()


def wake_word() -> Graph:
    """One step of a streaming network: the state comes in as an input and goes out as an output."""
    b = Builder((1, 8, 1, 20), seed=23)
    b.op(StridedSlice((0, 2, 0, 0), (1, 8, 1, 20), (1, 1, 1, 1)), (0,), (1, 6, 1, 20))
    state = b.last
    b.last = 0
    b.conv(16, (3, 1))
    b.depthwise((5, 1), pads=(0, 0, 0, 0))
    b.mean()
    b.dense(4)
    b.softmax()
    return b.graph(b.last, state)


@pytest.mark.parametrize("prefer", ["speed", "ram", "flash"])
@pytest.mark.parametrize("make", [detector, squeeze_and_excite, wake_word])
def test_other_networks_are_bit_exact(make: Callable[[], Graph], prefer: str, run_c: RunC) -> None:
    graph = make()
    sources = TinyEngine().generate(graph, NATIVE, Options(prefer=prefer))
    inputs = [random_inputs(graph, seed) for seed in range(3)]
    for sample, answer in zip(inputs, run_c(sources, inputs), strict=True):
        for got, want in zip(answer, reference.run(graph, sample), strict=True):
            np.testing.assert_array_equal(got, want)


def test_less_memory_is_never_asked_for_in_vain() -> None:
    for make in (detector, squeeze_and_excite, wake_word):
        speed, ram = (
            schedule_graph(make(), get_board("stm32f746"), Options(prefer=p)) for p in ("speed", "ram")
        )
        assert ram.arena <= speed.arena


def test_a_plan_is_told_with_its_proof_and_drawn_to_scale() -> None:
    schedule = schedule_graph(squeeze_and_excite(), get_board("stm32f746"), Options())
    lines = plan_lines(schedule)
    assert any(f"arena {schedule.arena:,} B" in line for line in lines)
    rows = picture(schedule)[1:]
    assert len(rows) == len(schedule.layers)
    assert all(len(row) == len(rows[0]) for row in rows)
    assert "i" in rows[0] or "#" in rows[0]


def test_an_exported_project_compiles_alone_without_a_warning(tmp_path: Path) -> None:
    files = export_c({"se": squeeze_and_excite()}, NATIVE, Options())
    assert {"README.md", "platformio.ini", "src/main.c", "src/network.h"} <= set(files)
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        assert "tinyhil" not in text.replace("tinyhil_network.h", "").replace("TINYHIL", "")
    sources = sorted(p.name for p in (tmp_path / "src").glob("*.c"))
    built = subprocess.run(
        ["cc", *WARNINGS, "-O1", "-o", "net", *sources],
        cwd=tmp_path / "src", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[:2000]
    assert subprocess.run([tmp_path / "src" / "net"], check=False).returncode == 0


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the benchmark networks in ../shared/models")
def test_the_commands_speak_for_themselves(tmp_path: Path) -> None:
    model = str(MODELS / "tflm_micro_speech.tflite")
    shown = CliRunner().invoke(plan_command, [model, "--board", "stm32f746"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "instructions (estimated); arena" in shown.output
    out = tmp_path / "project"
    arguments = [model, "--board", "stm32f746", "--out", str(out)]
    assert CliRunner().invoke(export_command, arguments, catch_exceptions=False).exit_code == 0
    assert (out / "src" / "network.h").is_file()
    again = CliRunner().invoke(export_command, arguments)
    assert again.exit_code != 0
    assert "not empty" in str(again.exception)


STREAM_DRIVER = r"""
#include <stdio.h>
#include "network.h"

static uint8_t arena[NETWORK_ARENA_SIZE] __attribute__((aligned(NETWORK_ARENA_ALIGN)));
static int8_t state[NETWORK_STATE_SIZE];

int main(void)
{
    network_start(state);
    while (fread(network_input(arena, 0), NETWORK_INPUT_0_SIZE, 1, stdin) == 1) {
        if (network_step(arena, state) != 0) {
            return 1;
        }
        fwrite(network_output(arena, 0), NETWORK_OUTPUT_0_SIZE, 1, stdout);
    }
    return 0;
}
"""


def listening() -> Graph:
    """The wake-word net with variables: what it kept, and a running score whose start is not uniform."""
    b = Builder((1, 2, 1, 20), seed=24)
    kept = b.input((1, 6, 1, 20))
    score = b.input((1, 1, 1, 4), scale=0.1, zero_point=9)
    window = b.op(Concatenation(1), (kept, 0), (1, 8, 1, 20))
    last = b.op(StridedSlice((0, 2, 0, 0), (1, 8, 1, 20), (1, 1, 1, 1)), (window,), (1, 6, 1, 20))
    b.last = window
    b.conv(16, (3, 1))
    b.depthwise((6, 1), pads=(0, 0, 0, 0))
    now = b.conv(4, activation=Activation.NONE, zero_point=0)
    after = b.op(Add(), (score, now), (1, 1, 1, 4), 0.1, 9)
    b.op(Logistic(), (after,), (1, 1, 1, 4), 1 / 256, -128)
    states = (
        State(1, 1, np.full((1, 6, 1, 20), -3, np.int8)),
        State(2, 2, np.array([[[[1, -2, 3, 4]]]], np.int8)),
    )
    return replace(b.graph(b.last, last, after), states=states)


@pytest.mark.parametrize("prefer", ["speed", "ram"])
def test_a_stream_keeps_its_state_over_many_calls(prefer: str, tmp_path: Path) -> None:
    graph = listening()
    files = export_c({"stream": graph}, NATIVE, Options(prefer=prefer))
    assert "network_step" in files["README.md"]
    assert "network_start" in files["src/main.c"]
    for name, text in files.items():
        if name.startswith("src/") and name != "src/main.c":
            (tmp_path / Path(name).name).write_text(text)
    (tmp_path / "driver.c").write_text(STREAM_DRIVER)
    sources = sorted(p.name for p in tmp_path.glob("*.c"))
    subprocess.run(
        ["cc", *WARNINGS, "-O1", "-fsanitize=address,undefined", "-o", "net", *sources],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    frames = [random_inputs(graph, seed)[0] for seed in range(7)]
    data = b"".join(frame.tobytes() for frame in frames)
    answers = subprocess.run([tmp_path / "net"], input=data, capture_output=True, check=True).stdout
    states = [state.start for state in graph.states]
    for at, frame in enumerate(frames):
        score, *states = reference.run(graph, [frame, *states])
        assert answers[4 * at : 4 * at + 4] == score.tobytes()
