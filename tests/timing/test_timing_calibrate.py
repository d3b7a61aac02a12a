"""Penalties are recovered from cycles that were measured, here: made up from known penalties."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.harness.boards import boards_folder
from tinyhil.harness.timing.calibrate import Sample, fit, write_penalties

BEFORE = {"flash_line": 11.5, "ram_line": 6.0}
LOOPS = [
    ("pairs", 12_000.0, {}),
    ("flash_lines", 82_000.0, {"flash_line": 40_960.0}),
    ("ram_lines", 82_000.0, {"flash_line": 20.0, "ram_line": 40_960.0}),
]


def measured_with(flash: float, ram: float, error: float = 0.0) -> list[Sample]:
    truth = {"flash_line": flash, "ram_line": ram}
    samples = []
    for sign, (name, fixed, lines) in zip((1, -1, 1), LOOPS, strict=True):
        cycles = Sample(name, 1.0, fixed, lines).cycles(truth)
        samples.append(Sample(name, cycles * (1 + sign * error), fixed, lines))
    return samples


@settings(max_examples=80, deadline=None)
@given(st.floats(2, 40), st.floats(2, 30))
def test_known_penalties_are_recovered(flash: float, ram: float) -> None:
    found = fit(measured_with(flash, ram), BEFORE)
    assert found.after["flash_line"] == pytest.approx(flash, abs=0.01)
    assert found.after["ram_line"] == pytest.approx(ram, abs=0.01)
    # Penalties are written with two decimals: 0.005 of 3 cycles a line.
    assert all(abs(after) < 0.002 for _, _, after in found.errors())


def test_measurements_that_scatter_by_a_percent_move_penalties_by_little_more() -> None:
    found = fit(measured_with(14, 8, error=0.01), BEFORE)
    assert found.after["flash_line"] == pytest.approx(14, rel=0.02)
    assert found.after["ram_line"] == pytest.approx(8, rel=0.02)


def test_errors_before_and_after_are_those_of_the_estimate() -> None:
    errors = {name: (before, after) for name, before, after in fit(measured_with(23, 12), BEFORE).errors()}
    assert errors["pairs"] == (0, 0)
    before, after = errors["flash_lines"]
    assert before == pytest.approx((82_000 + 40_960 * 11.5) / (82_000 + 40_960 * 23) - 1)
    assert abs(after) < 1e-6


def test_a_penalty_is_never_negative() -> None:
    # The board is faster than the pipeline alone would be: the penalty goes to nothing, not below.
    fast = [Sample("flash_lines", 80_000, 82_000, {"flash_line": 40_960.0})]
    assert fit(fast, BEFORE).after["flash_line"] == 0


def test_a_penalty_that_no_loop_shows_stays_as_it_was() -> None:
    found = fit([s for s in measured_with(20, 9) if s.name != "ram_lines"], BEFORE)
    assert found.after["ram_line"] == BEFORE["ram_line"]
    assert found.after["flash_line"] == pytest.approx(20)


def test_with_nothing_to_see_the_message_asks_for_the_caches() -> None:
    with pytest.raises(UsageError, match="caches"):
        fit([Sample("pairs", 12_000, 12_000, {})], BEFORE)


@pytest.mark.parametrize("name", ["stm32f746", "stm32h743", "nucleo-l4r5zi"])
def test_writing_changes_the_penalties_and_nothing_else(name: str) -> None:
    text = (boards_folder() / f"{name}.toml").read_text()
    old = tomllib.loads(text)
    changed = write_penalties(text, {"flash_line": 9.25, "ram_line": 4})
    new = tomllib.loads(changed)
    assert new["timing"] | {"flash_line": 9.25, "ram_line": 4} == new["timing"]
    assert {**new, "timing": 0} == {**old, "timing": 0}
    assert {k: v for k, v in new["timing"].items() if k not in {"flash_line", "ram_line"}} == {
        k: v for k, v in old["timing"].items() if k not in {"flash_line", "ram_line"}
    }
    assert write_penalties(changed, {"flash_line": 9.25, "ram_line": 4}) == changed


def test_a_board_without_the_table_gets_one() -> None:
    text = 'title = "mine"\n\n[flash]\norigin = 0\n'
    assert tomllib.loads(write_penalties(text, {"flash_line": 7}))["timing"] == {"flash_line": 7}
