"""The requantisation recipes equal TFLM's arithmetic for every reachable accumulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tinyhil.harness.tinyengine.asm.requant import Proved, Reach, Rounded, choose, expected, thresholds
from tinyhil.harness.tinyengine.work import Requant

multipliers = st.one_of(
    st.sampled_from([0, 1 << 30, (1 << 30) + 1, (1 << 31) - 1]), st.integers(1 << 30, (1 << 31) - 1)
)


@st.composite
def layers(draw: st.DrawFn, relu: bool | None = None) -> tuple[Requant, Reach]:
    """A layer's constants and reach: everyday shifts mostly, then left shifts and tiny multipliers."""
    channels = draw(st.integers(1, 6))
    base = draw(st.one_of(st.integers(-12, -4), st.integers(-30, 8)))
    m = np.array([draw(multipliers) for _ in range(channels)], np.int32)
    e = np.array([max(-31, min(30, base + draw(st.integers(-3, 3)))) for _ in range(channels)], np.int32)
    one_sided = draw(st.booleans()) if relu is None else relu
    zero = -128 if one_sided else draw(st.integers(-128, 127))
    low = draw(st.sampled_from([-128, zero]))
    high = draw(st.one_of(st.just(127), st.integers(max(low, zero), 127)))
    spread = draw(st.sampled_from([0, 3, 300, 40_000, 2_000_000]))
    centre = draw(st.integers(-spread * 2 - 5, spread * 2 + 5))
    reach = Reach(np.full(channels, centre - spread, np.int64), np.full(channels, centre + spread, np.int64))
    return Requant(m, e, zero, low, high), reach


def probes(requant: Requant, reach: Reach) -> np.ndarray:
    """Accumulators that matter, [probes, channels]: both ends, both sides of thresholds, some random."""
    rng = np.random.default_rng(1)
    rows = [reach.low, reach.high, *rng.integers(reach.low, reach.high + 1, (200, reach.low.size))]
    columns = []
    for c in range(reach.low.size):
        column = [int(row[c]) for row in rows]
        m, e = int(requant.multiplier[c]), int(requant.shift[c])
        if m and e >= -20:
            t = thresholds(m, e, requant.zero_point, requant.low, requant.high)[1]
            column += [int(v) for v in np.concatenate([t - 1, t])]
        columns.append(np.resize(np.clip(column, reach.low[c], reach.high[c]), 800))
    return np.stack(columns, axis=1)


def held(reach: Reach, x: np.ndarray) -> np.ndarray:
    """What the kernels' accumulators hold: a channel that has one value only is without weights, and starts
    from 0."""
    return np.where(reach.low == reach.high, 0, x)


@settings(max_examples=200, deadline=None)
@given(layers())
def test_a_recipe_equals_tflm_wherever_it_is_offered(layer: tuple[Requant, Reach]) -> None:
    requant, reach = layer
    recipe = choose(requant, reach)
    assume(recipe is not None)
    assert recipe is not None
    x = probes(requant, reach)
    np.testing.assert_array_equal(recipe.apply(held(reach, x)), expected(requant, x))


@settings(max_examples=60, deadline=None)
@given(layers(), st.sampled_from(["multiplier", "addend", "offset"]))
def test_all_constants_fit_32_bit_registers(layer: tuple[Requant, Reach], name: str) -> None:
    recipe = choose(*layer)
    assume(recipe is not None and hasattr(recipe, name))
    values = getattr(recipe, name)
    assert values.min() >= -(1 << 31)
    assert values.max() < 1 << 31


def test_layers_with_relu_get_two_instructions_even_where_shifts_differ_by_channel() -> None:
    rng = np.random.default_rng(7)
    channels = 2000
    requant = Requant(
        rng.integers(1 << 30, (1 << 31) - 1, channels).astype(np.int32),
        rng.integers(-11, -6, channels).astype(np.int32), -128, -128, 127,
    )  # fmt: skip
    wide = np.full(channels, 1_000_000, np.int64)
    recipe = choose(requant, Reach(-wide, wide))
    assert isinstance(recipe, Proved)
    assert recipe.shift in (10, 12, 14)  # the usual one; a multiple of four; 7 and the smallest right shift


@pytest.mark.parametrize("spread", [0, 900])
def test_channels_that_never_change_share_the_addend_of_the_others(spread: int) -> None:
    rng = np.random.default_rng(3)
    low, high = np.full(20, -900_000, np.int64), np.full(20, 900_000, np.int64)
    multiplier = rng.integers(1 << 30, (1 << 31) - 1, 20).astype(np.int32)
    shift = np.full(20, -9, np.int32)
    low[4:9] = np.arange(5) << 17  # one output apart
    high[4:9], multiplier[4:9], shift[4:9] = low[4:9] + spread, 1 << 30, -16
    requant, reach = Requant(multiplier, shift, -128, -128, 127), Reach(low, high)
    assert len(set(expected(requant, low)[4:9])) > 1  # some of them not at zero
    np.testing.assert_array_equal(expected(requant, low)[4:9], expected(requant, high)[4:9])
    recipe = choose(requant, reach)
    assert isinstance(recipe, Proved)
    assert len(set(recipe.addend)) == 1
    x = probes(requant, reach)
    np.testing.assert_array_equal(recipe.apply(held(reach, x)), expected(requant, x))


def test_two_sided_layers_get_the_rounded_form() -> None:
    rng = np.random.default_rng(8)
    requant = Requant(
        rng.integers(1 << 30, (1 << 31) - 1, 50).astype(np.int32), np.full(50, -8, np.int32), 3, -128, 127
    )
    wide = np.full(50, 200_000, np.int64)
    assert isinstance(choose(requant, Reach(-wide, wide)), Rounded)


@pytest.mark.parametrize(
    ("shift", "bound"), [(-8, (1 << 23)), (-31, 1 << 22), (8, 1 << 12)], ids=["sum", "tiny", "left"]
)
def test_nothing_is_offered_where_nothing_is_proven(shift: int, bound: int) -> None:
    requant = Requant(np.full(1, (1 << 31) - 1, np.int32), np.full(1, shift, np.int32), 0, -128, 127)
    wide = np.full(1, bound, np.int64)
    recipe = choose(requant, Reach(-wide, wide))
    if shift == -31:  # every reachable x gives the zero point: a constant, and that is proven
        assert recipe is not None
        assert (recipe.apply(np.array([[bound], [-bound]])) == 0).all()
    else:
        assert recipe is None


@settings(max_examples=100, deadline=None)
@given(multipliers.filter(bool), st.integers(-20, 6), st.integers(-128, 127))
def test_thresholds_are_where_the_output_first_reaches_n(m: int, e: int, zero: int) -> None:
    n, t = thresholds(m, e, zero, -128, 127)
    requant = Requant(np.full(1, m, np.int32), np.full(1, e, np.int32), zero, -1 << 20, 1 << 20)
    at, before = (expected(requant, v[:, None])[:, 0] for v in (t, t - 1))
    assert (at >= n).all()
    assert (before < n).all()
