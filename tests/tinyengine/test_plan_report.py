"""What `tinyhil plan` says of a plan: how good it is, as text and as data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from engine_networks import Builder

from tinyhil.harness.boards import get_board
from tinyhil.harness.commands.plan import plan as plan_command
from tinyhil.harness.engine import Options
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.tflite_writer import write_tflite
from tinyhil.harness.tinyengine import schedule_graph
from tinyhil.harness.tinyengine.choose import alternatives
from tinyhil.harness.tinyengine.kernel import Target
from tinyhil.harness.tinyengine.kernels import all_kernels
from tinyhil.harness.tinyengine.lowering import lower
from tinyhil.harness.tinyengine.passes import optimise
from tinyhil.harness.tinyengine.planner import Placement
from tinyhil.harness.tinyengine.report import proof
from tinyhil.harness.tinyengine.schedule import arena_of, arrange, arrange_smallest

BOARD = get_board("stm32f746")


def network() -> Graph:
    b = Builder((1, 20, 18, 3), seed=5)
    b.conv(8, (3, 3), (2, 2), (0, 1, 0, 1))
    start = b.depthwise()
    b.conv(24)
    b.depthwise((5, 5), pads=(2, 2, 2, 2))
    b.conv(8, zero_point=3)
    b.add(start)
    b.mean()
    b.dense(5)
    return b.graph()


def test_a_gap_is_told_where_nothing_is_proven() -> None:
    assert proof(Placement((0,), 120, 120)) == "proven optimal for these layers"
    assert "100 B (gap 20.00%)" in proof(Placement((0,), 120, 100))


@pytest.mark.parametrize("prefer", ["speed", "ram"])
def test_json_and_text_tell_of_the_same_plan(tmp_path: Path, prefer: str) -> None:
    model = tmp_path / "net.tflite"
    model.write_bytes(write_tflite(network()))
    schedule = schedule_graph(network(), BOARD, Options(prefer=prefer))
    asked = [str(model), "--board", "stm32f746", "--prefer", prefer]
    text = CliRunner().invoke(plan_command, asked, catch_exceptions=False).output
    data = json.loads(CliRunner().invoke(plan_command, [*asked, "--json"], catch_exceptions=False).output)
    assert data["arena"] == schedule.arena
    assert data["lower_bound"] <= data["arena"]
    assert data["optimal"] is (data["lower_bound"] == data["arena"])
    assert f"arena {data['arena']:,} B, {proof(schedule.placement)}" in text
    assert "s of processor time" in text
    assert data["cpu_seconds"] > 0
    assert len(data["layers"]) == len(schedule.layers)
    assert max(b["offset"] + b["size"] for b in data["buffers"]) == data["arena"]


def test_the_arena_alone_is_that_of_the_whole_plan_and_the_smallest_is_found() -> None:
    program = lower(optimise(network(), Options()))
    plans = alternatives(program, all_kernels(frozenset()), Target(BOARD.core), "ram", 1 << 20)
    arenas = [arrange(program, choices).arena for choices in plans]
    assert [arena_of(program, choices) for choices in plans] == arenas
    assert arrange_smallest(program, plans).arena == min(arenas)
    assert arena_of(program, plans[0], overlap=False) >= arenas[0]
