"""Properties that any in-order pipeline has, on instructions put together at random."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.harness.timing.block_costs import CORES
from tinyhil.harness.timing.cortex_m7 import CortexM7
from tinyhil.harness.timing.decode import decode_block
from tinyhil.harness.timing.explain import work_of

REGISTERS = st.integers(2, 7)


def wide(first: int, second: int) -> bytes:
    return struct.pack("<HH", first, second)


@st.composite
def instruction(draw: st.DrawFn) -> bytes:
    """ADD.W, SMLAD, SXTB16, LDR.W or STR.W with registers R2 to R7; addresses from R1."""
    d, n, m, a = (draw(REGISTERS) for _ in range(4))
    return draw(
        st.sampled_from(
            [
                wide(0xEB00 | n, d << 8 | m),
                wide(0xFB20 | n, a << 12 | d << 8 | m),
                wide(0xFA2F, 0xF080 | d << 8 | m),
                wide(0xF8D1, d << 12 | 4 * m),
                wide(0xF8C1, d << 12 | 4 * m),
            ]
        )
    )


BLOCKS = st.lists(instruction(), min_size=1, max_size=24).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(BLOCKS)
def test_the_m7_issues_at_most_two_and_never_stalls_longer_than_its_longest_latency(block: bytes) -> None:
    count = len(decode_block(block))
    cycles = CortexM7().loop_cycles(block, 0x08000000)
    assert count / 2 <= cycles <= 3 * count


@settings(max_examples=150, deadline=None)
@given(BLOCKS, BLOCKS)
def test_what_ran_before_never_makes_a_block_issue_out_of_order(before: bytes, block: bytes) -> None:
    issues = CortexM7().trace(before, block, 0x08000000, taken=False)
    cycles = [issue.cycle for issue in issues]
    assert cycles == sorted(cycles)
    assert all(cycles.count(cycle) <= 2 for cycle in cycles)
    assert sum(issue.cycles for issue in issues) == CortexM7().step_cycles(
        before, block, 0x08000000, taken=False
    )


@settings(max_examples=100, deadline=None)
@given(BLOCKS)
def test_the_m4_takes_at_least_a_cycle_for_each_instruction_but_hidden_stores(block: bytes) -> None:
    instructions = decode_block(block)
    stores = sum(i.kind == "store" for i in instructions)
    cycles = CORES["cortex-m4"].step_cycles(b"", block, 0x08000000, taken=True)
    assert len(instructions) - stores <= cycles <= 3 * len(instructions)


@pytest.mark.parametrize("core", CORES.values(), ids=lambda core: core.name)
@given(BLOCKS)
@settings(max_examples=50, deadline=None)
def test_a_reason_is_given_for_every_cycle_beyond_the_first(core: object, block: bytes) -> None:
    for issue in core.trace(b"", block, 0x08000000, True):  # type: ignore[attr-defined]
        if issue.cycles > 1:
            assert issue.reason


def test_the_m4_charges_wide_instructions_off_their_word() -> None:
    add = wide(0xEB02, 0x0203)
    core = CORES["cortex-m4"]
    assert core.step_cycles(b"", add * 4, 0x08000000, True) == 4
    assert core.step_cycles(b"", add * 4, 0x08000002, True) == 5


def test_the_m7_fetches_eight_bytes_a_cycle_from_aligned_windows() -> None:
    pair = wide(0xEB02, 0x0203) + wide(0xEB04, 0x0405)  # add r2, r2, r3; add r4, r4, r5: one cycle
    assert CortexM7().loop_cycles(pair, 0x08000000) == 1
    assert CortexM7().loop_cycles(pair, 0x08000004) == 2


@given(BLOCKS)
@settings(max_examples=50, deadline=None)
def test_every_instruction_has_a_kind_of_work(block: bytes) -> None:
    known = {"loads", "stores", "macs", "requantisation", "unpacking", "float", "branches", "other"}
    assert {work_of(i) for i in decode_block(block)} <= known
