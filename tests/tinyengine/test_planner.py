"""The memory planner: no two living buffers share a byte unless they may, and the bound is a bound."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.harness.tinyengine.placement import OutOfSteps, Steps, fit
from tinyhil.harness.tinyengine.planner import Overlap, Placement, Request, conflicts_of, lower_bound, plan


@st.composite
def problems(
    draw: st.DrawFn, most: int = 12, largest: int = 100, steps: int = 8
) -> tuple[list[Request], list[Overlap]]:
    """Buffers of a network: random lifetimes, and outputs that may lie over inputs dying at their birth."""
    requests = []
    least = draw(st.sampled_from([1, 4]))
    for i in range(draw(st.integers(1, most))):
        first = draw(st.integers(0, steps))
        last = first + draw(st.integers(0, 3))
        align = draw(st.sampled_from([least, least, 4, 8]))
        requests.append(Request(f"b{i}", draw(st.integers(1, largest)), first, last, align))
    overlaps = [
        Overlap(o, d, draw(st.integers(-10, max(largest // 3, 9))))
        for o, output in enumerate(requests)
        for d, dying in enumerate(requests)
        if o != d and output.first == dying.last and dying.first < output.first and draw(st.booleans())
    ]
    return requests, overlaps


def assert_valid(requests: list[Request], overlaps: list[Overlap], placement: Placement) -> None:
    gaps = {(o.output, o.dying): o.gap for o in overlaps}
    for i, a in enumerate(requests):
        at = placement.offsets[i]
        assert at >= 0
        assert at % a.align == 0
        assert at + a.size <= placement.arena
        for j in range(i):
            b, to = requests[j], placement.offsets[j]
            alive_together = a.first <= b.last and b.first <= a.last
            apart = at + a.size <= to or to + b.size <= at
            below = (i, j) in gaps and at + gaps[i, j] <= to
            above = (j, i) in gaps and to + gaps[j, i] <= at
            assert not alive_together or apart or below or above, (a, at, b, to)


@settings(max_examples=150, deadline=None)
@given(problems())
def test_living_buffers_never_share_bytes_they_may_not_share(
    problem: tuple[list[Request], list[Overlap]],
) -> None:
    requests, overlaps = problem
    placement = plan(requests, overlaps)
    assert_valid(requests, overlaps, placement)
    assert placement.arena == max(o + r.size for o, r in zip(placement.offsets, requests, strict=True))
    assert lower_bound(requests, overlaps) <= placement.arena


def fits(requests: list[Request], overlaps: list[Overlap], arena: int) -> bool:
    """Tries every offset of every buffer."""
    gaps = {(o.output, o.dying): o.gap for o in overlaps}

    def allowed(i: int, at: int, placed: list[int]) -> bool:
        for j, to in enumerate(placed):
            a, b = requests[i], requests[j]
            together = a.first <= b.last and b.first <= a.last
            below = at + min(a.size, gaps.get((i, j), a.size)) <= to
            above = to + min(b.size, gaps.get((j, i), b.size)) <= at
            if together and not below and not above:
                return False
        return True

    def place(placed: list[int]) -> bool:
        i = len(placed)
        if i == len(requests):
            return True
        offsets = range(0, arena - requests[i].size + 1, requests[i].align)
        return any(allowed(i, at, placed) and place([*placed, at]) for at in offsets)

    return place([])


@settings(max_examples=60, deadline=None)
@given(problems(most=5, largest=9))
def test_small_problems_are_solved_and_proven_as_exhaustive_search_would(
    problem: tuple[list[Request], list[Overlap]],
) -> None:
    placement = plan(*problem)
    assert placement.optimal
    assert fits(*problem, placement.arena)
    assert not fits(*problem, placement.arena - 1)


@settings(max_examples=60, deadline=None)
@given(problems(most=5, largest=9), st.integers(0, 6))
def test_the_exact_search_finds_a_placement_wherever_there_is_one(
    problem: tuple[list[Request], list[Overlap]], below: int
) -> None:
    arena = max(plan(*problem).arena - below, 1)
    offsets = fit(conflicts_of(*problem), arena, Steps(1_000_000))
    assert (offsets is not None) == fits(*problem, arena)
    if offsets is not None:
        assert_valid(*problem, Placement(tuple(offsets), arena, 0))


def test_a_search_without_steps_left_says_so() -> None:
    requests = [Request(f"b{i}", 40 + i, 0, 1) for i in range(12)]
    with pytest.raises(OutOfSteps):
        fit(conflicts_of(requests, []), 500, Steps(10))


@settings(max_examples=20, deadline=None)
@given(problems(most=14, steps=3))
def test_what_is_not_proven_has_a_bound_below_it(problem: tuple[list[Request], list[Overlap]]) -> None:
    placement = plan(*problem)
    assert_valid(*problem, placement)
    assert lower_bound(*problem) <= placement.lower_bound <= placement.arena


def test_the_same_problem_gets_the_same_answer() -> None:
    requests = [Request(f"b{i}", 7 + i * 13 % 29, i // 2, i // 2 + i % 3, 4) for i in range(60)]
    assert plan(requests) == plan(requests)


def test_an_output_grows_over_its_dying_input_at_the_safe_distance() -> None:
    requests = [Request("in", 19200, 0, 0), Request("out", 25600, 0, 1)]
    placement = plan(requests, [Overlap(1, 0, 6640)])
    assert placement.arena == 25840
    assert placement.optimal
    assert plan(requests).arena == 19200 + 25600


@pytest.mark.parametrize("layers", [30, 75])
def test_a_chain_of_150_tensors_is_placed_optimally(layers: int) -> None:
    sizes = [(i * 7919) % 4096 + 64 for i in range(layers)]
    tensors = [Request(f"t{i}", size, i, i + 1) for i, size in enumerate(sizes)]
    scratch = [Request(f"s{i}", size // 4 + 1, i, i) for i, size in enumerate(sizes)]
    placement = plan(tensors + scratch)
    assert_valid(tensors + scratch, [], placement)
    assert placement.optimal


def test_nothing_to_place_takes_nothing() -> None:
    assert plan([]) == Placement((), 0, 0)


def test_a_chain_of_forced_overlaps_is_recognised_as_optimal() -> None:
    requests = [Request("a", 100, 0, 1), Request("b", 100, 1, 2), Request("c", 100, 2, 3)]
    overlaps = [Overlap(1, 0, 10), Overlap(2, 1, 10)]  # each output lies lower than the one before
    assert lower_bound(requests, overlaps) == 110
    placement = plan(requests, overlaps)
    assert placement.arena == placement.lower_bound == 120
