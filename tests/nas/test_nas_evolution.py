"""Evolution: better than chance at equal evaluations, never beyond the budget, resumable, explained."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.nas.arch import Arch, parse
from tinyhil.nas.evolution import (
    Budget,
    Judge,
    Outcome,
    Settings,
    evolve,
    random_search,
)
from tinyhil.nas.genes import cross, genes_of, mutate, space_of
from tinyhil.nas.size import square
from tinyhil.nas.space import Family, Space, analytic_needs

FAMILY = Family(
    stem=16, first=8, stages=((16, 2, 4), (24, 2, 3), (40, 1, 3), (64, 1, 1)), classes=10, channels=1
)
SPACES = tuple(Space(width, square(size), FAMILY) for width in (0.5, 1.0) for size in (16, 32))
NEEDS = analytic_needs(1.0)


def taste(arch: Arch) -> float:
    """A made-up accuracy that likes wide kernels early and expansion late: many genes matter."""
    worth = sum(
        block.kernel * (len(arch.blocks) - at) + 3 * block.expansion * at
        for at, block in enumerate(arch.blocks)
    )
    return worth / (10 + abs(len(arch.blocks) - 9))


def judge(ram: int = 20_000, flash: int = 40_000, latency: float | None = None) -> Judge:
    return Judge(Budget(ram, flash, latency), NEEDS, taste, lambda arch: float(NEEDS(arch).macs))


SMALL = Settings(population=20, parents=6, crossings=10, mutations=10, generations=8, seed=3)


def members(seed: int) -> Arch:
    source = random.Random(seed)
    return source.choice(SPACES).sample(source)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1))
@settings(max_examples=60)
def test_children_stay_in_the_family(one: int, other: int, seed: int, probability: float) -> None:
    source = random.Random(seed)
    for child in (mutate(members(one), SPACES, probability, source),
                  cross(members(one), members(other), SPACES, source)):  # fmt: skip
        space = space_of(child, SPACES)
        assert child == space.build(genes_of(child))
        for number, stage in enumerate(genes_of(child)):
            assert len(stage) in FAMILY.depths(number)
            assert all(k in FAMILY.kernels and e in FAMILY.expansions for k, e in stage)


def test_mutation_without_probability_changes_nothing_and_crossing_with_itself_neither() -> None:
    source = random.Random(0)
    for seed in range(20):
        arch = members(seed)
        assert mutate(arch, SPACES, 0.0, source) == arch
        assert cross(arch, arch, SPACES, source) == arch


def test_every_network_of_the_outcome_is_within_the_budget() -> None:
    asked = judge(latency=600_000)
    outcome = evolve(SPACES, asked, SMALL)
    for one in outcome.ranked:
        need = NEEDS(one.arch)
        assert need.ram <= 20_000
        assert need.flash <= 40_000
        assert need.macs <= 600_000
        assert one.score == taste(one.arch)
    assert list(outcome.history) == sorted(outcome.history)
    assert len({one.arch for one in outcome.ranked}) == len(outcome.ranked)


def test_what_random_search_found_is_kept_and_not_searched_for_again(tmp_path: Path) -> None:
    state = tmp_path / "random.json"
    found = random_search(SPACES, judge(), 10, 0, state=state)
    assert found == random_search(SPACES, judge(), 10, 0)

    def asked(arch: Arch) -> float:
        raise AssertionError(f"{arch} was scored again")

    again = Judge(judge().budget, NEEDS, asked, lambda arch: float(NEEDS(arch).macs))
    assert random_search(SPACES, again, 10, 0, state=state) == found
    with pytest.raises(UsageError, match="another settings"):
        random_search(SPACES, judge(), 11, 0, state=state)


def test_evolution_beats_random_search_at_equal_evaluations() -> None:
    gains = []
    for seed in range(5):
        found = evolve(SPACES, judge(), Settings(20, 6, 10, 10, generations=8, seed=seed))
        chance = random_search(SPACES, judge(), found.scored, seed)
        assert chance.scored == found.scored
        gains.append(found.best.score - chance.best.score)
    assert sum(gain > 0 for gain in gains) >= 4, gains


class Killed(Exception):
    """Stands for the process's end."""


@pytest.mark.parametrize("generation", [0, 3, 6])
def test_a_killed_search_goes_on_to_the_same_result(tmp_path: Path, generation: int) -> None:
    whole = evolve(SPACES, judge(), SMALL)

    def kill(done: int, outcome: Outcome) -> None:
        if done == generation:
            raise Killed

    with pytest.raises(Killed):
        evolve(SPACES, judge(), SMALL, tmp_path / "state.json", progress=kill)
    resumed = evolve(SPACES, judge(), SMALL, tmp_path / "state.json")
    assert resumed.ranked == whole.ranked
    assert resumed.history == whole.history
    assert resumed.scored == whole.scored


def test_networks_that_measure_too_slow_leave_and_are_remembered_after_a_kill(tmp_path: Path) -> None:
    known: dict[Arch, float] = {}

    def latency(arch: Arch) -> float:
        return known.get(arch, NEEDS(arch).macs)

    def remeasure(archs: tuple[Arch, ...] | list[Arch]) -> bool:
        known.update({arch: NEEDS(arch).macs * 1.5 for arch in archs})
        return True

    config = Settings(20, 6, 10, 10, generations=6, remeasure_every=2, top=3, seed=1)

    def search(state: Path | None, stop: int | None = None) -> Outcome:
        known.clear()

        def maybe_kill(done: int, outcome: Outcome) -> None:
            if done == stop:
                raise Killed

        return evolve(
            SPACES,
            Judge(Budget(20_000, 40_000, 300_000), NEEDS, taste, latency),
            config,
            state,
            remeasure,
            maybe_kill,
        )

    whole = search(None)
    assert whole.remeasured
    assert any(NEEDS(arch).macs * 1.5 > 300_000 for arch in whole.remeasured)
    with pytest.raises(Killed):
        search(tmp_path / "state", stop=3)
    resumed = search(tmp_path / "state")
    assert resumed.ranked == whole.ranked
    assert resumed.remeasured == whole.remeasured


def test_an_impossible_budget_ends_in_an_explanation() -> None:
    with pytest.raises(UsageError, match=r"ram [\d,]+ where 500 is allowed \(\+\d+.*nearest|nearest.*ram"):
        evolve(SPACES, judge(ram=500), Settings(tries=50))
    with pytest.raises(UsageError, match="latency"):
        random_search(SPACES, judge(latency=10.0), 5, 0, tries=50)


def test_a_tight_budget_yields_fewer_networks_not_a_hang() -> None:
    source = random.Random(5)
    smallest = min((members(source.randrange(10**6)) for _ in range(200)), key=lambda a: NEEDS(a).flash)
    outcome = evolve(SPACES, judge(flash=NEEDS(smallest).flash), Settings(tries=300, generations=1, seed=1))
    assert 1 <= len(outcome.ranked) <= 100


def test_a_state_of_another_search_or_a_broken_one_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    evolve(SPACES, judge(), Settings(10, 4, 4, 4, generations=1), state)
    with pytest.raises(UsageError, match="budget"):
        evolve(SPACES, judge(ram=19_000), Settings(10, 4, 4, 4, generations=1), state)
    with pytest.raises(UsageError, match="settings"):
        evolve(SPACES, judge(), Settings(10, 4, 4, 4, generations=2), state)
    for broken in ("", "[]", "{}", state.read_text()[:50]):
        state.write_text(broken)
        with pytest.raises(UsageError, match=r"state\.json"):
            evolve(SPACES, judge(), Settings(10, 4, 4, 4, generations=1), state)


def test_a_network_of_no_space_is_refused() -> None:
    with pytest.raises(UsageError, match="none of the spaces"):
        mutate(parse("r96 w0.3 | s16 | k3e3 | fc10"), SPACES, 0.1, random.Random(0))
