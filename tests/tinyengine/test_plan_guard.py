"""The arena's last bytes may be read and never written: they are planned, told, and counted as RAM."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from engine_networks import networks
from hypothesis import given, settings
from test_plan_report import BOARD, network

from tinyhil.harness import measure
from tinyhil.harness.engine import Options, Sources
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.tinyengine import TinyEngine, schedule_graph
from tinyhil.harness.tinyengine.schedule import GUARD


def run_of(touched: int) -> Any:
    return SimpleNamespace(arena_touched=touched, stack_touched=40, overruns=())


@pytest.mark.parametrize(
    ("guard", "touched", "planned"),
    [
        (24, 1000, True),
        (24, 976, True),
        (24, 975, False),
        (24, 1001, False),
        (0, 1000, True),
        (0, 999, False),
    ],
)
def test_what_is_touched_is_the_plan_up_to_the_guard(guard: int, touched: int, planned: bool) -> None:
    sources: Sources = replace(TinyEngine().generate(network(), BOARD, Options()), arena=1000, guard=guard)
    assert (measure._memory_error(sources, run_of(touched)) is None) == planned


def test_the_guard_is_ram() -> None:
    sources = replace(TinyEngine().generate(network(), BOARD, Options()), arena=1000, guard=24)
    firmware: Any = SimpleNamespace(sources=sources, static_ram=60)
    assert measure._peak_ram(firmware, run_of(980)).total == 60 + 1000 + 40


@settings(max_examples=25)
@given(networks(layers=6))
def test_only_the_end_of_scratch_is_a_guard(graph: Graph) -> None:
    schedule = schedule_graph(graph, BOARD, Options())
    assert 0 <= schedule.guard <= GUARD
    for b in schedule.buffers:
        if b.role != "scratch":
            assert b.offset + b.size <= schedule.arena - schedule.guard
