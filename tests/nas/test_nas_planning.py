"""What the search believes that a network needs is what the engine plans for it."""

from __future__ import annotations

import random

import pytest

from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.tinyengine.engine import schedule_graph
from tinyhil.nas import cost
from tinyhil.nas.planning import EngineNeeds, flash_of
from tinyhil.nas.quantize import skeleton
from tinyhil.nas.space import Family, grid
from tinyhil.nas.zoo import architecture, seeded_graph

FAMILY = Family(
    stem=16, first=8, stages=((16, 2, 3), (24, 2, 3), (48, 1, 3), (64, 1, 1)), classes=10, channels=1
)
SPACES = grid(FAMILY, (0.5, 1.0), (16, 24))
BOARD = get_board("stm32f746")


@pytest.fixture(scope="module")
def needs() -> EngineNeeds:
    return EngineNeeds(BOARD)


@pytest.mark.slow
def test_a_remembered_price_gives_the_plan_that_a_fresh_look_gives(needs: EngineNeeds) -> None:
    arch = SPACES[0].sample(random.Random(3))
    fresh = schedule_graph(skeleton(arch), BOARD, Options())
    for _ in range(2):
        need = needs(arch)
        assert (need.ram, need.flash) == (fresh.arena, flash_of(fresh))


@pytest.mark.slow
def test_the_plan_of_a_network_with_weights_is_the_one_that_was_predicted(needs: EngineNeeds) -> None:
    """The engine chooses among kernels by what the weights' own requantisation costs, so a plan
    without weights can differ where two kernels cost nearly the same."""
    source = random.Random(5)
    exact, off = 0, []
    for number in range(3):
        arch = source.choice(SPACES).sample(source)
        real = schedule_graph(seeded_graph(f"net{number}", arch), BOARD, Options())
        need = needs(arch)
        assert abs(need.ram - real.arena) <= max(0.1 * real.arena, 512), str(arch)
        exact += need.ram == real.arena
        off.append(flash_of(real) - need.flash)
    assert exact >= 1
    assert max(off) - min(off) <= 4096


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
