"""A trace and a board become cycles with an interval; what cannot be estimated is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board, get_board
from tinyhil.harness.targets.recorder import Trace, parse_text
from tinyhil.harness.timing.block_costs import block_costs
from tinyhil.harness.timing.estimate import estimate, total
from tinyhil.harness.timing.explain import as_text, explain
from tinyhil.harness.timing.image import Image, load_image
from tinyhil.harness.timing.memory import memory_timing

# Block 0: ldr r2, [r1], #4; subs r0, #1; bne 0. Block 1: nop; bx lr.
LOOP, RETURN = "51f8042b0138fbd1", "00bf7047"


def trace_text(
    rounds: int, flash: int = 0, sram: int = 0, icache: str = "4096:2:32:rr", loop: str = LOOP
) -> str:
    """Two segments with the same loop; the second one also has cache misses."""
    head = ["tinyhil-trace 1", "with edges=1", f"with icache={icache}", "with dcache=4096:4:32:rr"]
    head += ["with region=flash:0x8000000:0x8100000", "with region=sram:0x20010000:0x20050000"]
    body = [f"block 0 08000100 3 {loop}", f"block 1 08000108 2 {RETURN}"]
    lines = []
    for index, (f, s) in enumerate(((0, 0), (flash, sram))):
        lines.append(f"segment {index} 0800010{index} {3 * rounds + 2}")
        lines.append(f"ran 0 {rounds} 1 0 0 {rounds} {f} 0 0 0 {s} 0 0")
        lines.append("ran 1 1 0 0 0 0 0 0 0 0 0 0 0")
        lines.append(f"edge 0 0 {rounds - 1}")
        lines.append("edge 0 1 1")
        lines.append("edge 1 0 1")
    return "\n".join([*head, *body, *lines, "end"]) + "\n"


def trace(rounds: int = 1000, flash: int = 0, sram: int = 0, icache: str = "4096:2:32:rr") -> Trace:
    return parse_text(trace_text(rounds, flash, sram, icache))


@pytest.fixture
def f746() -> Board:
    return get_board("stm32f746")


def test_a_loop_costs_its_rounds_times_its_cycles_and_a_misprediction(f746: Board) -> None:
    found = estimate(trace(1000), f746).segments[0][1]
    # Two cycles a round: LDR with SUBS, and BNE. At the end one misprediction and one return.
    assert found.parts["core"] == pytest.approx(2 * 1000, abs=5)
    assert found.parts["branches"] == 8 + 5
    assert found.value == sum(found.parts.values())


def test_missed_lines_cost_what_the_board_says_for_their_memory(f746: Board) -> None:
    memory = memory_timing(f746)
    plain, missed = (e for _, e in estimate(trace(flash=100, sram=50), f746).segments)
    assert missed.parts["flash"] == 100 * memory.flash_line
    assert missed.parts["sram"] == 50 * memory.ram_line
    assert missed.value - plain.value == pytest.approx(100 * memory.flash_line + 50 * memory.ram_line)


def test_segments_add_up_to_the_whole(f746: Board) -> None:
    found = estimate(trace(flash=10), f746)
    parts = [e for _, e in found.segments]
    assert found.total.value == sum(e.value for e in parts)
    assert found.total.instructions == sum(e.instructions for e in parts)
    assert found.of([s for s, _ in found.segments]).value == found.total.value
    with pytest.raises(UsageError, match="nothing to add up"):
        total([])


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 10**6), st.integers(0, 10**5), st.integers(0, 10**5))
def test_the_interval_holds_the_value_and_grows_with_what_is_uncertain(
    rounds: int, flash: int, sram: int
) -> None:
    board = get_board("stm32f746")
    found = estimate(trace(rounds, flash, sram), board).segments[1][1]
    assert found.low < found.value < found.high
    more = estimate(trace(rounds, flash + 1000, sram), board).segments[1][1]
    assert more.value - more.low > found.value - found.low


def test_the_record_has_whole_cycles_inside_the_interval_and_the_models_name(f746: Board) -> None:
    record = estimate(trace(), f746).total.record()
    assert isinstance(record["value"], int)
    assert record["low"] <= record["value"] <= record["high"]  # type: ignore[operator]
    assert str(record["model"]).startswith("cortex-m7/")


def test_firmware_faster_than_any_that_was_validated_gets_a_longer_upper_end(f746: Board) -> None:
    fast = estimate(trace(100000), f746).total  # two thirds of a cycle per instruction
    assert fast.high - fast.value > fast.value - fast.low


def test_float_code_is_less_certain_than_integer_code(f746: Board) -> None:
    # vadd.f32 s0, s1, s2 and add.w r0, r1, r2, each with the same branch back.
    text = trace_text(100_000).replace(LOOP, "30ee810a0138fcd1")
    slow = estimate(parse_text(text), f746).total
    fast = estimate(parse_text(text.replace("30ee810a", "01eb0200")), f746).total
    assert slow.parts["flash"] == fast.parts["flash"]
    assert (slow.value - slow.low) / slow.value > 1.5 * (fast.value - fast.low) / fast.value


def test_values_of_the_board_can_be_replaced_for_one_estimate_and_it_says_so(f746: Board) -> None:
    found = estimate(trace(flash=100), f746, overrides={"flash_line": 20}).segments[1][1]
    assert found.parts["flash"] == 2000
    assert any("flash_line=20" in note for note in found.notes)
    with pytest.raises(UsageError, match="no timing value is called speed"):
        estimate(trace(), f746, overrides={"speed": 1})


def test_wait_states_set_the_flash_penalty_where_the_board_says_how() -> None:
    board = get_board("nucleo-l4r5zi")
    at_five = memory_timing(board).flash_line
    assert memory_timing(board, {"flash_wait_states": 3}).flash_line == at_five * 3 / 5
    assert memory_timing(board, {"flash_reads_per_line": 2}).flash_line == at_five / 2


def test_caches_that_were_off_are_noted_and_cost_every_access(f746: Board) -> None:
    on = estimate(trace(), f746).total
    off = estimate(trace(icache="0:1:32:rr"), f746).total
    assert off.value > 3 * on.value
    assert any("instruction cache was off" in note for note in off.notes)
    assert (off.high - off.value) / off.value >= 0.35


def test_a_trace_without_cache_simulation_says_so(f746: Board) -> None:
    text = trace_text(10).replace("with icache=4096:2:32:rr\n", "")
    assert any("no icache simulation" in note for note in estimate(parse_text(text), f746).total.notes)


def test_code_may_come_from_an_image_instead_of_the_trace(f746: Board, tmp_path: Path) -> None:
    whole = estimate(trace(), f746).total
    bare = parse_text(trace_text(1000).replace(LOOP, "-").replace(RETURN, "-"))
    raw = tmp_path / "flash.bin"
    raw.write_bytes(bytes(0x100) + bytes.fromhex(LOOP + RETURN))
    found = estimate(bare, f746, load_image((f"{raw}@0x08000000",))).total
    assert found.value == whole.value
    with pytest.raises(UsageError, match="no image has the code at 0x08000100"):
        estimate(bare, f746, Image())


def test_a_trace_without_steps_is_refused(f746: Board) -> None:
    with pytest.raises(UsageError, match="edges=1"):
        estimate(parse_text(trace_text(10).replace("with edges=1\n", "")), f746)


def test_a_core_without_a_model_and_a_board_without_penalties_are_refused(f746: Board) -> None:
    with pytest.raises(UsageError, match="no pipeline model of cortex-a9"):
        estimate(trace(), replace(f746, core="cortex-a9"))
    with pytest.raises(UsageError, match=r"no \[timing\] table"):
        estimate(trace(), replace(f746, extra={}))


@pytest.mark.parametrize("name", ["stm32f746", "stm32f767", "stm32h743", "nucleo-l4r5zi", "stm32f407"])
def test_every_board_with_a_core_that_is_modelled_has_an_estimate(name: str) -> None:
    found = estimate(trace(flash=10), get_board(name)).total
    assert found.value > 0
    assert found.low < found.value < found.high


def test_steps_that_hardly_run_are_charged_the_average(f746: Board) -> None:
    costs = block_costs(trace(100_000), f746)
    assert set(costs.steps) == {(0, 0)}  # leaving the loop and coming back is one in a hundred thousand
    assert estimate(trace(100_000), f746).segments[0][1].parts["core"] == pytest.approx(200_000, rel=1e-3)


def test_an_explanation_adds_up_to_the_estimate_and_shows_the_hottest_block(f746: Board) -> None:
    recorded = trace(1000, flash=100, sram=50)
    costs = block_costs(recorded, f746)
    image = Image(functions=((0x08000100, 16, "walk"),))
    found = explain(costs, recorded.segments, image, top=1)
    assert sum(found.work.values()) == pytest.approx(estimate(recorded, f746).total.value, rel=1e-6)
    (hottest,) = found.hottest
    assert (hottest.address, hottest.function, hottest.executed) == (0x08000100, "walk", 2000)
    assert [line.text.split()[1] for line in hottest.lines] == ["ldr", "subs", "bne"]
    assert sum(line.cycles for line in hottest.lines) == pytest.approx(2)
    assert "1. block at 0x08000100 in walk" in as_text(found)
