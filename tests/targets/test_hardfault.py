"""Fault registers become a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyhil.harness.build.firmware import Symbol
from tinyhil.harness.targets.hardfault import cause, function_at
from tinyhil.harness.wire import Fault


def fault(cfsr: int = 0, hfsr: int = 0, mmfar: int = 0, bfar: int = 0) -> Fault:
    return Fault(0x100, 0x200, 0, 0x20000100, cfsr, hfsr, mmfar, bfar, 0, None)


@pytest.mark.parametrize(
    ("cfsr", "words"),
    [
        (1 << 16, "undefined instruction"),
        (1 << 25, "division by zero"),
        (1 << 12, "stack overflow"),
        (1 << 24, "unaligned"),
        (1 << 9 | 1 << 15, "without memory: 0x00001234"),
        (1 << 1 | 1 << 7, "forbidden: 0x00005678"),
        (1 << 19, "FPU is off"),
    ],
)
def test_the_first_cause_is_named_with_the_address_that_the_core_kept(cfsr: int, words: str) -> None:
    assert words in cause(fault(cfsr, bfar=0x1234, mmfar=0x5678))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_every_state_of_the_registers_has_a_cause(cfsr: int, hfsr: int) -> None:
    assert len(cause(fault(cfsr, hfsr))) > 10


def test_an_address_belongs_to_the_function_around_it() -> None:
    symbols = {"first": Symbol(0x100, 16), "second": Symbol(0x110, 8)}
    found = [function_at(symbols, address) for address in (0x0FF, 0x100, 0x10F, 0x111, 0x118)]
    assert found == ["", "first", "first", "second", ""]
