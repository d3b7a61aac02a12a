"""What the search believes that a network needs is what the engine plans for it."""

from __future__ import annotations

import gc
import random

import pytest

from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.tinyengine.engine import TinyEngine, schedule_graph
from tinyhil.nas import cost
from tinyhil.nas.arch import parse
from tinyhil.nas.codesize import is_block, loops_of
from tinyhil.nas.ownplan import plan_of
from tinyhil.nas.planning import EngineNeeds, flash_of
from tinyhil.nas.size import Size
from tinyhil.nas.space import Family, grid
from tinyhil.nas.typical import skeleton
from tinyhil.nas.zoo import architecture, seeded_graph

FAMILY = Family(
    stem=16, first=8, stages=((16, 2, 3), (24, 2, 3), (48, 1, 3), (64, 1, 1)), classes=10, channels=1
)
SPACES = grid(FAMILY, (0.5, 1.0), (16, Size(24, 10)))
BOARD = get_board("stm32f746")


@pytest.fixture(scope="module")
def needs() -> EngineNeeds:
    return EngineNeeds(BOARD)


UNPRUNED = Options(disabled=frozenset({"dead-channels"}))  # typical weights say nothing of dead channels


@pytest.mark.slow
def test_a_remembered_chain_gives_the_plan_that_a_fresh_look_gives(needs: EngineNeeds) -> None:
    source = random.Random(3)
    for number in range(4):
        arch = SPACES[number].sample(source)
        fresh = schedule_graph(skeleton(arch), BOARD, UNPRUNED)
        plan = needs.plan(arch)
        choices = [layer.choice for layer in fresh.layers]
        assert (plan.arena, plan.flash) == (fresh.arena, flash_of(choices))
        kernels = [choice.candidate.kernel for choice in choices]
        assert [layer.kernel for layer in plan.layers] == kernels
        assert sum(layer.instructions for layer in plan.layers) == fresh.instructions


def test_a_candidate_of_known_chains_asks_the_engine_nothing(
    needs: EngineNeeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = SPACES[0].sample(random.Random(3))
    before = needs.plan(arch)
    needs._plans.clear()
    monkeypatch.setattr("tinyhil.nas.prices.options_of", None)
    monkeypatch.setattr("tinyhil.nas.prices.lower", None)
    again = needs.plan(arch)
    assert (again.arena, again.flash, again.layers[0].kernel) == (
        before.arena,
        before.flash,
        before.layers[0].kernel,
    )


@pytest.mark.slow
def test_the_plan_of_a_network_with_weights_is_the_one_that_was_predicted(needs: EngineNeeds) -> None:
    """The engine chooses among kernels by what the weights' own requantisation costs, so a plan with
    typical weights can differ where two kernels cost nearly the same."""
    source = random.Random(5)
    exact, off = 0, []
    for number in range(3):
        arch = source.choice(SPACES).sample(source)
        real = schedule_graph(seeded_graph(f"net{number}", arch), BOARD, Options())
        need = needs(arch)
        exact += need.ram == real.arena
        off.append(flash_of([layer.choice for layer in real.layers]) - need.flash)
    assert exact >= 2
    assert max(off) - min(off) <= 4096


def test_planning_leaves_nothing_for_the_garbage_collector() -> None:
    """The workers of a crew go without it."""
    source = random.Random(8)
    needs = EngineNeeds(BOARD)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            needs.plan(source.choice(SPACES).sample(source))
        needs.forget_plans()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_macs_are_counted_and_extras_added() -> None:
    arch = architecture("digits")
    plain, more = EngineNeeds(BOARD), EngineNeeds(BOARD, ram_extra=100, flash_extra=7000)
    assert plain(arch).macs == cost.macs(arch)
    assert more(arch).ram - plain(arch).ram == 100
    assert more(arch).flash - plain(arch).flash == 7000


def test_a_plan_without_weights_has_no_code(needs: EngineNeeds) -> None:
    candidate = needs.schedule(architecture("digits")).layers[0].choice.candidate
    with pytest.raises(TypeError, match="without weights"):
        candidate.emit("layer0")


def test_layers_of_one_shape_share_their_loops_though_their_weights_differ() -> None:
    arch = parse(
        "r20 c1 w0.9 | s16 k3e1:8 | k7e6:16/2 k3e3 | k5e4:24/2 k5e4 k3e3 | k3e3:40 k7e6 | k7e6:56 | fc10"
    )
    graph = seeded_graph("net", arch)
    plan = plan_of(arch, graph, BOARD)
    assert plan is not None
    shared = [name for name in TinyEngine().generate(graph, BOARD, Options()).files if "th_block" in name]
    fused = [layer for layer in plan.layers if any(map(is_block, layer.shared or {}))]
    assert len(shared) == len(loops_of(plan)) < len(fused)
