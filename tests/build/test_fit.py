"""A network that cannot fit is refused before anything is built, in a sentence that helps."""

from __future__ import annotations

import dataclasses

import pytest
from build_programs import sources
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import DoesNotFit
from tinyhil.harness.boards import all_boards, get_board
from tinyhil.harness.build import check_fit
from tinyhil.harness.build.fit import arena_room
from tinyhil.harness.engine import Buffer, Layer

F746 = get_board("stm32f746")
LAYERS = tuple(Layer(f"conv_{i}", "Conv2D", f"layer_{i}", 1) for i in range(3))
BUFFERS = (
    Buffer("input", 0, 100_000, 0, 0, "input"),
    Buffer("wide", 100_000, 200_000, 0, 1, "activation"),
    Buffer("wider", 300_000, 250_000, 1, 2, "activation"),
    Buffer("output", 0, 10, 2, 2, "output"),
)


@given(st.integers(0, 1 << 20), st.sampled_from(sorted(all_boards())))
@settings(max_examples=80, deadline=None)
def test_an_arena_is_refused_exactly_when_it_is_larger_than_the_room(arena: int, name: str) -> None:
    board = get_board(name)
    network = dataclasses.replace(sources(), arena=arena)
    if arena <= arena_room(board):
        check_fit(network, board)
    else:
        with pytest.raises(DoesNotFit, match=f"{arena - arena_room(board):,} more"):
            check_fit(network, board)


def test_the_refusal_names_the_layer_its_buffers_and_a_board_that_would_do() -> None:
    network = dataclasses.replace(sources(name="big"), arena=450_000, layers=LAYERS, buffers=BUFFERS)
    with pytest.raises(DoesNotFit) as refusal:
        check_fit(network, F746)
    text = str(refusal.value)
    assert "big does not fit stm32f746" in text
    assert "The peak is at conv_1" in text
    assert "wider (activation) 250,000, wide (activation) 200,000 bytes" in text
    assert "stm32f767" in text
    assert "stm32f412" not in text


def test_weights_larger_than_the_flash_are_refused() -> None:
    network = dataclasses.replace(sources(), notes={"weight_bytes": str(1_500_000)})
    with pytest.raises(DoesNotFit, match=r"1,500,000 bytes of flash, 451,424 more .*stm32f767"):
        check_fit(network, F746)


def test_an_arena_that_no_board_has_room_for_is_said_to_be_so() -> None:
    network = dataclasses.replace(sources(), arena=10_000_000)
    with pytest.raises(DoesNotFit, match="no board that is known here"):
        check_fit(network, F746)


def test_an_engine_that_does_not_plan_its_arena_is_left_to_the_linker() -> None:
    check_fit(dataclasses.replace(sources(), arena=None), F746)
