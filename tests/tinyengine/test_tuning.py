"""Choosing kernels by measured costs: what is measured, what is remembered, and what is chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine_networks import Builder

from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.tinyengine import TinyEngine, tuning
from tinyhil.harness.tinyengine.costs import add_costs, read_costs
from tinyhil.harness.tinyengine.tuning import Space, Tuned

F746 = get_board("stm32f746")


@pytest.fixture(autouse=True)
def any_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs depend on the compiler that is installed; the rules do not."""
    monkeypatch.setattr(tuning, "conditions", lambda board, mode: f"{board.name} {mode}")


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Two inverted residuals of one shape with different weights, and a head."""
    b = Builder((1, 12, 12, 8), seed=3, zero_point=-128)
    for _ in range(2):
        b.conv(24)
        b.depthwise((3, 3), pads=(1, 1, 1, 1))
        b.conv(8)
    return b.graph()


def space(graph: Graph, costs: dict[str, float] | None = None, mode: str = "qemu") -> Space:
    return Space.of(graph, F746, Options(), mode, costs or {})


def every_cost(here: Space) -> dict[str, float]:
    """The estimates as if they had been measured."""
    return {here.key(o): float(o.instructions) for row in here.table for o in row}


def test_layers_of_one_shape_share_a_cost_and_other_conditions_do_not(graph: Graph) -> None:
    here = space(graph)
    first = {(o.candidate.kernel, o.after, here.key(o)) for o in here.table[0]}
    again = {(o.candidate.kernel, o.after - 3, here.key(o)) for o in here.table[3]}
    assert len(first & again) > 3
    assert not every_cost(here).keys() & every_cost(space(graph, mode="hardware")).keys()


def test_the_networks_to_measure_cover_the_best_of_every_chain_the_default_first(graph: Graph) -> None:
    here = space(graph)
    paths = here.rounds(top=2, most=50)
    assert paths[0] == here.default()
    covered = {here.key(o) for path in paths for o in path}
    for first, row in enumerate(here.table):
        for after in {o.after for o in row}:
            cheapest = min((o for o in row if o.after == after), key=lambda o: o.instructions)
            assert here.key(cheapest) in covered, (first, after)
    for path in paths:
        assert [o.first for o in path] == [0, *(o.after for o in path[:-1])]
    assert len(space(graph, dict.fromkeys(covered, 1.0)).rounds(top=2, most=50)) == 1


def test_without_costs_the_plan_is_the_default(graph: Graph) -> None:
    assert space(graph).tuned() is None
    own, default = (engine.generate(graph, F746, Options()) for engine in (Tuned({}), TinyEngine()))
    assert own.files == default.files
    assert (own.engine, default.engine) == ("tinyengine+tuned", "tinyengine")


def test_a_candidate_that_was_measured_to_be_cheaper_is_chosen(graph: Graph) -> None:
    here = space(graph)
    usual, most = here.default()[0], max(o.memory for o in here.default())
    same = (o for o in here.table[0] if o.after == usual.after and o.memory <= most)
    other = next(o for o in same if here.key(o) != here.key(usual))
    costs = every_cost(here) | {here.key(usual): 1e9, here.key(other): 1.0}
    tuned = space(graph, costs).tuned()
    assert tuned is not None
    assert here.key(other) in {here.key(o) for o in tuned}
    assert max(o.memory for o in tuned) <= most


def test_steps_inside_a_chain_need_no_cost_of_their_own(graph: Graph) -> None:
    here = space(graph)
    costs = {here.key(o): float(o.instructions) for o in here.default()}
    assert space(graph, costs).tuned() is not None


def test_where_tuning_did_not_help_the_default_stays(graph: Graph) -> None:
    here = space(graph)
    assert replace(here, costs=every_cost(here)).tuned() is not None
    assert replace(here, costs=every_cost(here) | {here.network: 0.0}).tuned() is None


def test_costs_are_kept_as_first_measured_and_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    add_costs(tmp_path, {"a": 1.0})
    add_costs(tmp_path, {"a": 2.0, "b": 3.0})
    assert read_costs(tmp_path) == {"a": 1.0, "b": 3.0}
    next(tmp_path.iterdir()).write_text("{")
    assert read_costs(tmp_path) == {}
