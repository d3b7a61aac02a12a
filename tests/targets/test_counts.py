"""Segments of the recorder become instructions per inference and per layer."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from tinyhil.harness.targets.counts import Marks, running_layer, split_runs

BEGIN, END = 0x100, 0x200


@dataclass(frozen=True)
class Piece:
    mark: int
    instructions: int


def pieces(*pairs: tuple[int, int]) -> list[Piece]:
    return [Piece(mark, instructions) for mark, instructions in pairs]


def counts(ran: list[Piece], layers: list[int]) -> list[tuple[int, tuple[int | None, ...]]]:
    runs = split_runs(ran, Marks(BEGIN, END, tuple(layers)))
    return [(run.instructions, run.layer_instructions) for run in runs]


def test_a_layer_lasts_until_the_next_one_is_entered() -> None:
    ran = pieces(
        (0, 999), (BEGIN, 3), (0x10, 50), (0x20, 60), (END, 7), (BEGIN, 3), (0x10, 51), (0x20, 60), (END, 1)
    )
    assert counts(ran, [0x10, 0x20]) == [(113, (50, 60)), (114, (51, 60))]


def test_one_function_may_serve_several_layers() -> None:
    ran = pieces((BEGIN, 1), (0x10, 10), (0x10, 20), (0x20, 5), (0x10, 30), (END, 0))
    assert counts(ran, [0x10, 0x10, 0x20, 0x10]) == [(66, (10, 20, 5, 30))]


def test_a_function_entered_out_of_turn_belongs_to_the_running_layer() -> None:
    ran = pieces((BEGIN, 1), (0x10, 10), (0x20, 5), (0x10, 4), (END, 0))
    assert counts(ran, [0x10, 0x20]) == [(20, (10, 9))]


def test_a_layer_that_never_ran_has_no_count_and_an_unfinished_run_none() -> None:
    ran = pieces((BEGIN, 1), (0x10, 10), (END, 0), (BEGIN, 1), (0x10, 10))
    assert counts(ran, [0x10, 0x20]) == [(11, (10, None))]
    assert running_layer(ran, Marks(BEGIN, END, (0x10, 0x20))) == 0
    assert running_layer(ran[:3], Marks(BEGIN, END, (0x10, 0x20))) is None


@given(
    st.lists(st.tuples(st.sampled_from([BEGIN, END, 0x10, 0x20, 0x30]), st.integers(0, 9)), max_size=60),
    st.lists(st.sampled_from([0x10, 0x20, 0x30]), max_size=5),
)
def test_layers_never_sum_to_more_than_the_run(ran: list[tuple[int, int]], layers: list[int]) -> None:
    for whole, parts in counts(pieces(*ran), layers):
        assert len(parts) == len(layers)
        assert sum(n or 0 for n in parts) <= whole
