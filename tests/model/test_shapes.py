"""Output shapes and TFLite's padding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyhil.harness.model.graph import Add, Concatenation, Conv2D, DepthwiseConv2D, Pad, Transpose
from tinyhil.harness.model.shapes import output_shape, same_pads, window_shape

size = st.integers(1, 40)
small = st.integers(1, 7)


@given(h=size, w=size, kh=small, kw=small, sh=small, sw=small, d=st.integers(1, 3))
def test_same_padding_gives_one_output_per_stride(
    h: int, w: int, kh: int, kw: int, sh: int, sw: int, d: int
) -> None:
    pads = same_pads((h, w), (kh, kw), (sh, sw), (d, d))
    assert window_shape((h, w), (kh, kw), (sh, sw), (d, d), pads) == (-(-h // sh), -(-w // sw))
    assert 0 <= pads[1] - pads[0] <= 1
    assert 0 <= pads[3] - pads[2] <= 1


def test_a_stride_of_two_pads_an_even_image_at_the_end_only() -> None:
    assert same_pads((96, 96), (3, 3), (2, 2)) == (0, 1, 0, 1)
    assert same_pads((49, 10), (10, 4), (2, 2)) == (4, 5, 1, 1)


def test_a_window_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        output_shape(Conv2D(), [(1, 2, 2, 1), (1, 3, 3, 1)])


def test_channels_must_go_together() -> None:
    with pytest.raises(ValueError, match="do not go with 3 input channels"):
        output_shape(Conv2D(), [(1, 8, 8, 3), (4, 3, 3, 2)])
    with pytest.raises(ValueError, match="multiplier 2"):
        output_shape(DepthwiseConv2D(2), [(1, 8, 8, 3), (1, 3, 3, 3)])


def test_elementwise_shapes_broadcast() -> None:
    assert output_shape(Add(), [(1, 4, 4, 3), (3,)]) == (1, 4, 4, 3)
    with pytest.raises(ValueError, match="do not broadcast"):
        output_shape(Add(), [(1, 4), (1, 3)])


def test_joining_padding_and_permuting() -> None:
    assert output_shape(Concatenation(3), [(1, 2, 2, 3), (1, 2, 2, 5)]) == (1, 2, 2, 8)
    assert output_shape(Pad(((0, 0), (1, 2))), [(3, 4)]) == (3, 7)
    assert output_shape(Transpose((0, 2, 1)), [(1, 2, 3)]) == (1, 3, 2)
