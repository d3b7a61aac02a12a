"""Steps in history: found where the level changed, and nowhere else."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.results.history import Step, detect_steps


def noisy(levels: list[tuple[int, float]], noise: float, seed: int) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(level, noise) for count, level in levels for _ in range(count)]


def test_an_exact_count_has_a_step_at_every_lasting_change() -> None:
    values = [100.0] * 5 + [103.0] * 5 + [99.0] * 3
    assert detect_steps(values) == [Step(5, 100, 103), Step(10, 103, 99)]
    assert detect_steps(values)[0].change == 0.03


@given(st.floats(1, 1e9), st.integers(0, 30))
def test_a_level_series_has_no_step(value, count) -> None:
    assert detect_steps([value] * count) == []


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(4, 9), st.integers(1, 5)), min_size=1, max_size=5))
def test_exact_levels_come_back(stretches) -> None:
    values = [float(level) for count, level in stretches for _ in range(count)]
    steps = detect_steps(values)
    assert [s.index for s in steps] == [i for i, (a, b) in enumerate(pairwise(values), 1) if a != b]


def test_pure_noise_has_steps_in_fewer_than_one_series_of_twenty() -> None:
    false = sum(bool(detect_steps(noisy([(60, 1000.0)], 5, seed))) for seed in range(200))
    assert false < 10


def test_a_step_of_four_times_the_noise_is_found_at_its_place() -> None:
    found = 0
    for seed in range(50):
        steps = detect_steps(noisy([(30, 1000.0), (30, 1020.0)], 5, seed))
        found += len(steps) == 1 and abs(steps[0].index - 30) <= 1
    assert found >= 47


def test_single_outliers_are_not_steps() -> None:
    for seed in range(20):
        values = noisy([(40, 1000.0)], 5, seed)
        values[17] += 80
        assert detect_steps(values) == detect_steps(values[:17] + values[18:]) == []


def test_long_histories_are_cut_to_the_newest_runs_and_indices_stay() -> None:
    values = noisy([(900, 1000.0), (100, 1100.0)], 5, 1)
    assert [s.index for s in detect_steps(values)] == [900]
