"""The estimate follows what the firmware says of clock, wait states and caches, or refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board, all_boards, get_board
from tinyhil.harness.targets.recorder import Trace, cache_models, parse_text
from tinyhil.harness.timing.block_costs import CORES
from tinyhil.harness.timing.commands import timing
from tinyhil.harness.timing.conditions import Conditions, conditions_of
from tinyhil.harness.timing.estimate import Estimate, estimate
from tinyhil.harness.timing.memory import memory_timing

MODELLED = [name for name, board in all_boards().items() if board.core in CORES]


def recorded(board: Board, *, icache: str = "", dcache: str = "") -> str:
    """A loop of a load, SUBS and BNE that missed 100 lines of flash, 50 of RAM and 20 of code."""
    models = cache_models(board)
    return f"""tinyhil-trace 1
with edges=1
with icache={icache or models[0]}
with dcache={dcache or models[1]}
with region=flash:0x8000000:0x8100000
with region=sram:0x20010000:0x20050000
block 0 08000100 3 51f8042b0138fbd1
segment 0 08000100 3000
ran 0 1000 0 20 0 600 100 0 0 400 50 0 0
edge 0 0 1000
end
"""


def trace(board: Board, **caches: str) -> Trace:
    return parse_text(recorded(board, **caches))


def of(board: Board, conditions: Conditions | None = None, **caches: str) -> Estimate:
    return estimate(trace(board, **caches), board, conditions=conditions).total


@dataclass(frozen=True)
class Said:
    """A hello, as far as it tells of conditions."""

    clock_hz: int | None = None
    caches: int | None = None
    wait_states: int | None = None


@pytest.mark.parametrize("name", MODELLED)
def test_conditions_as_in_the_boards_file_change_nothing(name: str) -> None:
    board = get_board(name)
    usual = Conditions(board.clock_hz, board.extra["hal"]["flash_wait_states"], True, True)
    assert of(board, usual) == of(board, Conditions()) == of(board)


def test_a_hello_becomes_conditions_and_what_it_cannot_read_stays_open() -> None:
    m7, m4 = get_board("stm32f746"), get_board("nucleo-l4r5zi")
    assert conditions_of(Said(16_000_000, 1, 0), m7) == Conditions(16_000_000, 0, True, False)
    assert conditions_of(Said(None, 6), m7) == Conditions(None, None, False, True)
    # A Cortex-M4 has no caches of its own: both are parts of the accelerator.
    assert conditions_of(Said(None, 4), m4) == Conditions(None, None, True, True)
    assert conditions_of(Said(None, 0), m4) == Conditions(None, None, False, False)
    assert conditions_of(Said(), m7) == Conditions()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MODELLED), st.integers(0, 15))
def test_flash_costs_more_with_more_wait_states_and_the_model_names_them(name: str, waits: int) -> None:
    board = get_board(name)
    found = of(board, Conditions(wait_states=waits))
    more = of(board, Conditions(wait_states=waits + 1))
    assert f"+ws{waits}:" in found.model
    assert found.parts["flash"] < more.parts["flash"]
    assert found.parts["fetch"] < more.parts["fetch"]
    assert {k: v for k, v in found.parts.items() if k not in {"flash", "fetch"}} == {
        k: v for k, v in more.parts.items() if k not in {"flash", "fetch"}
    }


def test_a_wait_state_costs_a_cycle_per_read_of_the_line() -> None:
    assert memory_timing(get_board("stm32f746"), wait_states=3).flash_line == 11.5 - 4
    assert memory_timing(get_board("stm32h743"), wait_states=2).flash_line == 14 - 2 * 4
    assert memory_timing(get_board("nucleo-l4r5zi"), wait_states=0).flash_line == 0


def test_other_wait_states_than_the_validated_ones_widen_the_interval_and_are_noted() -> None:
    board = get_board("stm32f746")
    usual, other = of(board), of(board, Conditions(wait_states=2))
    assert any("2 wait states" in note for note in other.notes)
    assert not usual.notes
    assert (other.high - other.low) / other.parts["flash"] > (usual.high - usual.low) / usual.parts["flash"]


def test_penalties_that_no_rule_carries_to_other_wait_states_are_refused() -> None:
    board = get_board("stm32f746")
    measured = replace(board, extra={**board.extra, "timing": {"flash_line": 13.2, "ram_line": 6}})
    assert of(measured, Conditions(wait_states=7)).parts["flash"] == 1320
    with pytest.raises(UsageError, match="nothing says what 3 wait states cost"):
        of(measured, Conditions(wait_states=3))


def test_another_clock_is_noted_and_refused_where_the_bus_depends_on_it() -> None:
    found = of(get_board("stm32f746"), Conditions(clock_hz=16_000_000))
    assert any("16 MHz, not at 216 MHz" in note for note in found.notes)
    with pytest.raises(UsageError, match=r"ran at 64 MHz.*bus at 1/2"):
        of(get_board("stm32h743"), Conditions(clock_hz=64_000_000))


@pytest.mark.parametrize("name", ["stm32f746", "stm32h743", "nucleo-l4r5zi", "stm32f407"])
def test_caches_that_were_off_cost_every_access_and_are_uncertain(name: str) -> None:
    board = get_board(name)
    on, off = of(board), of(board, Conditions(icache=False, dcache=False))
    memory = memory_timing(board)
    assert off.parts["flash"] == 600 * memory.flash_access
    assert off.parts["fetch"] == 1000 * memory.fetch_access
    assert off.parts["core"] == on.parts["core"]
    assert off.model == on.model + ":off=ID"
    assert off.notes == ("the instruction cache was off", "the data cache was off")
    waits = sum(off.parts[part] for part in ("fetch", "flash", "sram"))
    assert off.value - off.low > 0.45 * waits


@pytest.mark.parametrize(
    ("address", "line"), [(0x0800_0100, 11.5), (0x2001_0100, 6), (0x0000_0100, 0), (0x2000_0100, 0)]
)
def test_code_costs_what_its_memory_costs_and_nothing_in_tightly_coupled_memory(
    address: int, line: float
) -> None:
    board = get_board("stm32f746")
    moved = parse_text(recorded(board).replace("block 0 08000100", f"block 0 {address:08x}"))
    assert estimate(moved, board).total.parts["fetch"] == 20 * line
    untold = recorded(board).replace("with region=flash", "with region=other")
    assert estimate(parse_text(untold), board).total.parts["fetch"] == 20 * 6


def test_a_cache_may_be_off_in_the_recording_or_in_the_report() -> None:
    board = get_board("stm32f746")
    reported, simulated = of(board, Conditions(dcache=False)), of(board, dcache="0:1:32:rr")
    assert reported == simulated
    with pytest.raises(UsageError, match="recorded with dcache off"):
        of(board, Conditions(dcache=True), dcache="0:1:32:rr")


def test_the_published_slowdowns_without_caches_lie_inside_the_interval() -> None:
    # Counts per iteration of CoreMark 1.0 by GCC 12.2 -O2, recorded: instructions 291,992, fetches of 8 bytes
    # 147,824, loads and stores 72,401; 269,941 cycles by the model with both caches on.
    h743, f746 = memory_timing(get_board("stm32h743")), memory_timing(get_board("stm32f746"))
    on, fetches, accesses = 269_941, 147_824, 72_401
    # STM32H743 at 480 MHz, data cache off: 687 iterations/s instead of 2000 (apache/mynewt-core #3656).
    assert (
        1 + accesses * h743.ram_access * 0.55 / on < 2000 / 687 < 1 + accesses * h743.ram_access * 1.45 / on
    )
    # STM32F723 at 216 MHz, both off: 49 DMIPS instead of 245 (blog.stratifylabs.dev, 2019-05-25).
    waits = fetches * f746.fetch_access + accesses * f746.ram_access
    assert 1 + 0.55 * waits / on < 245 / 49 < 1 + 1.45 * waits / on


def call(*words: object) -> Result:
    return CliRunner().invoke(timing, [str(word) for word in words], catch_exceptions=False)


def test_the_command_takes_conditions(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    path.write_text(recorded(get_board("stm32f746")))
    words = ("--board", "stm32f746", "--blocks", path)
    output = call(*words, "--clock", "16000000", "--caches", "none", "--set", "flash_wait_states=0").output
    assert "at 16 MHz" in output
    assert "the data cache was off" in output
    assert "changed: flash_wait_states=0" in output
    assert call(*words, "--caches", "ID").output == call(*words).output
