"""The front: nothing on it is beaten, nothing on it breaks the budget, chance does not do as well."""

from __future__ import annotations

import random

import numpy as np
import pytest

pytest.importorskip("pymoo", reason="needs pymoo: pip install '.[nas]'")

from tinyhil.errors import UsageError
from tinyhil.nas.arch import Arch
from tinyhil.nas.evolution import Budget
from tinyhil.nas.nsga import Coding, Front, Point, best_of, pareto
from tinyhil.nas.size import square
from tinyhil.nas.space import Family, Space, analytic_needs

FAMILY = Family(stem=16, first=8, stages=((16, 2, 3), (24, 2, 3), (64, 1, 1)), classes=10, channels=1)
SPACES = tuple(Space(width, square(size), FAMILY) for width in (0.5, 1.0) for size in (16, 32))
NEEDS = analytic_needs(1.0)
BUDGET = Budget(20_000, 40_000, 700_000.0)


def speed(arch: Arch) -> float:
    return float(NEEDS(arch).macs)


def taste(arch: Arch) -> float:
    """A made-up accuracy below 1 that grows with MACs, with kernel size as a matter of taste."""
    return 1 - 1 / (1 + speed(arch) / 3e5 + 0.05 * sum(block.kernel for block in arch.blocks))


def test_every_vector_is_a_network_of_the_family_and_every_gene_matters() -> None:
    coding = Coding(SPACES)
    source = np.random.default_rng(0)
    seen = {coding.decode(source.integers(0, coding.upper + 1)) for _ in range(200)}
    assert len(seen) > 150
    assert {str(space) for space in SPACES} == {f"w{arch.width}-r{arch.resolution}" for arch in seen}
    assert coding.decode(coding.upper).blocks == Space(1.0, square(32), FAMILY).largest().blocks


def test_the_front_is_within_the_budget_and_unbeaten() -> None:
    front = pareto(SPACES, BUDGET, NEEDS, speed, taste, population=24, generations=8)
    assert len(front.points) >= 3
    for one in front.points:
        assert one.ram <= BUDGET.ram
        assert one.flash <= BUDGET.flash
        assert one.latency <= 700_000.0
        assert not any(
            all(a <= b for a, b in zip(other.costs(), one.costs(), strict=True))
            and other.costs() != one.costs()
            for other in front.points
        )
    assert pareto(SPACES, BUDGET, NEEDS, speed, taste, population=24, generations=8) == front


def test_nsga_covers_more_than_chance_at_equal_evaluations() -> None:
    gains = []
    for seed in range(3):
        front = pareto(SPACES, BUDGET, NEEDS, speed, taste, population=24, generations=10, seed=seed)
        source = random.Random(seed)
        drawn: list[Point] = []
        while len(drawn) < front.scored:
            arch = source.choice(SPACES).sample(source)
            need = NEEDS(arch)
            if need.ram <= BUDGET.ram and need.flash <= BUDGET.flash and need.macs <= 700_000:
                drawn.append(Point(arch, taste(arch), speed(arch), need.ram, need.flash))
        gains.append(front.hypervolume(BUDGET) - Front(best_of(drawn), len(drawn)).hypervolume(BUDGET))
    assert sum(gain > 0 for gain in gains) >= 2, gains


def test_the_hypervolume_of_one_point_is_its_box() -> None:
    arch = SPACES[0].smallest()
    point = Point(arch, 0.5, 350_000.0, 10_000, 20_000)
    assert Front((point,), 1).hypervolume(BUDGET) == pytest.approx(0.5**4)
    assert Front((), 0).hypervolume(BUDGET) == 0.0


def test_an_impossible_budget_and_mixed_families_are_refused() -> None:
    with pytest.raises(UsageError, match="no network within the budget"):
        pareto(SPACES, Budget(10, 10), NEEDS, speed, taste, population=8, generations=2)
    with pytest.raises(UsageError, match="family"):
        Coding([SPACES[0], Space(0.5, square(96))])
