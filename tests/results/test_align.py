"""Layers of engines that fuse, fold and drop differently are compared only where they do the same work."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.results.align import Row, align, side_by_side
from tinyhil.results.record import LayerResult


def layers(*ops: str) -> list[LayerResult]:
    """One layer per op; its count tells the ops apart: 1, 2, 4, 8, …"""
    return [LayerResult(f"{op} -> 1x1x{n}", op, 0, instructions=1 << n) for n, op in enumerate(ops)]


def count(layer: LayerResult) -> int | None:
    return layer.instructions


def test_equal_networks_match_one_to_one() -> None:
    net = layers("CONV_2D", "ADD", "CONV_2D")
    assert align(net, net) == [(0,), (1,), (2,)]


def test_a_fused_layer_is_compared_with_the_sum_of_its_parts() -> None:
    fused, plain = (
        layers("Conv2D+DepthwiseConv2D+Add", "Conv2D"),
        layers("Conv2D", "DepthwiseConv2D", "Add", "Conv2D"),
    )
    assert align(fused, plain) == [(0, 1, 2), (3,)]
    assert [row.values for row in side_by_side([fused, plain], count)] == [(1, 7), (2, 8)]


def test_a_part_of_a_fused_layer_is_compared_with_nothing() -> None:
    fused, plain = layers("Conv2D+Add", "Conv2D"), layers("Conv2D", "Add", "Conv2D")
    assert align(plain, fused) == [(), (), (1,)]


def test_a_folded_layer_of_the_other_side_is_shown_before_the_layer_that_follows() -> None:
    rows = side_by_side([layers("Conv2D", "Conv2D"), layers("Conv2D", "Pad", "Conv2D", "Softmax")], count)
    assert [row.values for row in rows] == [(1, 1), (None, 2), (2, 4), (None, 8)]
    assert [row.name[0] for row in rows] == ["0", "P", "1", "S"]


def test_a_layer_between_the_parts_of_a_fused_one_is_shown_after_it() -> None:
    rows = side_by_side([layers("Conv2D+Conv2D"), layers("Conv2D", "Add", "Conv2D")], count)
    assert [row.values for row in rows] == [(1, 5), (None, 2)]


def test_repeating_blocks_do_not_slip() -> None:
    block = ["Conv2D", "DepthwiseConv2D", "Conv2D"]
    plain = layers(*block, "Pad", *block, "Pad", *block)
    folded = layers(*block, *block, *block)
    assert align(folded, plain) == [(0,), (1,), (2,), (4,), (5,), (6,), (8,), (9,), (10,)]


def test_equal_names_decide_between_equal_operators() -> None:
    one = [LayerResult("b", "Conv2D", 0, 5)]
    two = [LayerResult("a", "Conv2D", 0, 1), LayerResult("b", "CONV_2D", 0, 2)]
    assert align(one, two) == [(1,)]


def test_three_sides_stand_in_one_row() -> None:
    rows = side_by_side([layers("Add"), layers("Pad", "Add"), layers("Pad", "Mul")], count)
    assert rows == [
        Row("Pad -> 1x1x0", (None, 1, None)),
        Row("0 Add -> 1x1x0", (1, 2, None)),
        Row("Pad -> 1x1x0", (None, None, 1)),
        Row("Mul -> 1x1x1", (None, None, 2)),
    ]


OPS = st.lists(st.sampled_from(["Conv2D", "Add", "Pad", "Conv2D+Add", "Conv2D+Conv2D"]), max_size=9)


@settings(max_examples=150)
@given(st.lists(OPS, min_size=1, max_size=3))
def test_nothing_is_lost_or_counted_twice(networks) -> None:
    sides = [layers(*ops) for ops in networks]
    rows = side_by_side(sides, count)
    for number, side in enumerate(sides):
        assert sum(row.values[number] or 0 for row in rows) == sum(layer.instructions or 0 for layer in side)


@given(OPS)
def test_every_network_matches_itself_whole(ops) -> None:
    net = layers(*ops)
    assert align(net, [replace(layer, name="x") for layer in net]) == [(i,) for i in range(len(net))]
