"""Depthwise convolutions on their own, over planes of bytes and over rows of pairs, equal TFLM's
arithmetic on the host and on both cores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kernel_bench import (
    MACHINES,
    Case,
    conv_reference,
    depthwise_reference,
    needs_arm,
    random_conv,
    random_depthwise,
    random_input,
    run_emulated,
    run_native,
)

from tinyhil.harness.tinyengine.asm.depthwise_shape import Taps
from tinyhil.harness.tinyengine.asm.pair_taps import lanes_of, uses_of
from tinyhil.harness.tinyengine.block import Block, BlockCandidate
from tinyhil.harness.tinyengine.depthwise import Depthwise
from tinyhil.harness.tinyengine.fast_planes import roundest
from tinyhil.harness.tinyengine.kernel import Candidate, Target
from tinyhil.harness.tinyengine.work import DepthwiseWork, Requant


@st.composite
def works(draw: st.DrawFn) -> DepthwiseWork:
    """Any kernel up to 7 x 8, stride, padding on each side, multiplier and clamp."""
    square = st.sampled_from([(3, 3), (3, 3), (5, 5), (7, 7)])
    kernel = draw(st.one_of(square, st.tuples(st.integers(1, 7), st.integers(1, 8))))
    strides = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (2, 1), (1, 3), (4, 4)]))
    pads = tuple(draw(st.integers(0, kernel[i // 2] // 2)) for i in range(4))
    size = (
        draw(st.integers(kernel[0], kernel[0] + 6)),
        draw(st.integers(kernel[1], kernel[1] + draw(st.sampled_from([5, 9, 40])))),
        draw(st.sampled_from([1, 2, 3, 4, 4, 5, 8])),
    )
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    work = random_depthwise(
        rng, size, kernel, strides, pads, draw(st.sampled_from([1, 1, 1, 2, 3])), relu=draw(st.booleans())
    )
    r = work.requant
    shift = r.shift + draw(st.sampled_from([0, 0, 0, 2, -4]))
    low = draw(st.sampled_from([-128, -128, r.zero_point, -5]))
    high = draw(st.sampled_from([127, 127, 60]))
    weights = work.weights.copy()
    if draw(st.booleans()):
        weights[:, :, draw(st.integers(0, weights.shape[2] - 1))] = draw(st.sampled_from([0, 127, -128]))
    requant = Requant(r.multiplier, shift.astype(np.int32), r.zero_point, low, max(low, high))
    return DepthwiseWork(
        work.x, work.y, weights, work.bias, requant, work.multiplier, strides, (1, 1), work.pads
    )


def forms(work: DepthwiseWork, core: str) -> list[Candidate]:
    """The lowest and the highest tile of each kind: planes of bytes, and rows of pairs."""
    planes = [
        c
        for c in Block().candidates([work], Target(core))
        if isinstance(c, BlockCandidate) and c.tile in (1, work.y.height)
    ]
    pairs = list(Depthwise(always=True).candidates([work], Target(core)))
    return [*planes[:1], *planes[-1:], *pairs[:2], *pairs[2:][-1:]]


def cases(work: DepthwiseWork, core: str) -> list[Case]:
    """Some candidates on one input, sometimes of the two extreme values only; one with its output over the
    input, as close as it may be."""
    rng = np.random.default_rng(work.x.nbytes)
    x = random_input(rng, work)
    if rng.integers(0, 3) == 0:
        x[:] = rng.choice([-128, 127], x.size)
    y = depthwise_reference(work, x)
    every = [Case(c, (x,), y, macs=work.macs) for c in forms(work, core)]
    close = [Case(c.candidate, (x,), y, overlap=True) for c in every if (c.candidate.gaps[0] or -1) > 0]
    return [*every, *close[:1]]


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # every try compiles: no shrinking
)
@given(st.lists(works(), min_size=8, max_size=8))
def test_the_twin_equals_tflm_for_any_shape(
    tmp_path_factory: pytest.TempPathFactory, batch: list[DepthwiseWork]
) -> None:
    every = [case for work in batch for case in cases(work, "native")]
    for case, outcome in zip(every, run_native(tmp_path_factory.mktemp("dw"), every), strict=True):
        assert (outcome.differing, outcome.outside) == (0, 0), case


def samples() -> list[DepthwiseWork]:
    """One of each shape family, fixed by a seed: remainders of tiles, both recipes, odd kernels."""
    rng = np.random.default_rng(12)
    one, two, three = (1,) * 4, (2,) * 4, (3,) * 4
    families: list[tuple[object, ...]] = [
        ((6, 6, 4), (3, 3), (1, 1), one), ((5, 7, 5), (3, 3), (1, 1), one, 1, False),
        ((1, 1, 3), (3, 3), (1, 1), one), ((9, 8, 4), (3, 3), (2, 2), (0, 1, 0, 1)),
        ((7, 7, 2), (3, 3), (2, 2), one, 1, False), ((6, 9, 3), (3, 3), (1, 1), one, 3),
        ((8, 8, 4), (5, 5), (1, 1), two), ((9, 11, 2), (5, 5), (2, 2), two, 1, False),
        ((8, 8, 4), (7, 7), (1, 1), three), ((13, 12, 2), (7, 7), (2, 2), (2, 3, 2, 3)),
        ((5, 5, 2), (7, 7), (1, 1), three, 2), ((9, 9, 2), (4, 8), (1, 2), (0,) * 4),
        ((9, 9, 2), (1, 3), (1, 1), (0,) * 4), ((9, 9, 2), (3, 1), (2, 3), (0,) * 4),
        ((6, 6, 2), (2, 6), (1, 1), (0,) * 4), ((6, 6, 2), (2, 2), (2, 2), (0,) * 4),
        ((5, 11, 2), (3, 3), (1, 1), one), ((6, 12, 2), (2, 1), (1, 1), (0,) * 4),
        ((5, 10, 1), (2, 2), (1, 1), one), ((7, 40, 4), (3, 3), (2, 2), (0, 1, 0, 1)),
        ((9, 9, 8), (3, 3), (2, 2), one, 1, False), ((5, 5, 12), (3, 3), (1, 1), one),
        ((6, 37, 4), (3, 3), (1, 1), one), ((6, 38, 4), (5, 5), (2, 2), (1, 2, 1, 2), 1, False),
        ((10, 9, 4), (7, 7), (2, 2), three), ((4, 21, 4), (2, 2), (1, 1), (0, 1, 0, 1)),
        ((6, 40, 4), (2, 2), (2, 2), (0,) * 4), ((3, 50, 4), (1, 5), (1, 2), (0, 0, 2, 2)),
    ]  # fmt: skip
    return [random_depthwise(rng, *family) for family in families]  # type: ignore[arg-type]


def before_a_1x1(core: str) -> list[Case]:
    """Depthwise convolutions and the 1x1 after them in one layer, for every height of tile."""
    rng = np.random.default_rng(4)
    found = []
    for size, stride, channels in (((9, 7, 8), 1, 6), ((11, 12, 4), 2, 5)):
        work = random_depthwise(rng, size, strides=(stride, stride))
        last = random_conv(rng, (work.y.height, work.y.width, work.y.channels), channels)
        last = replace(last, x=work.y)
        x = random_input(rng, work)
        y = conv_reference(last, depthwise_reference(work, x))
        chosen = Depthwise(always=True).candidates([work, last], Target(core))
        found += [Case(c, (x,), y, overlap=(c.gaps[0] or -1) > 0) for c in chosen]
    return found


@needs_arm
@pytest.mark.parametrize("core", MACHINES)
def test_the_assembler_equals_tflm_on_the_emulated_core(core: str, tmp_path: Path) -> None:
    every = [case for work in samples() for case in cases(work, core)]
    assert len(every) >= len(samples())
    every += before_a_1x1(core)
    for case, outcome in zip(every, run_emulated(tmp_path, every, core), strict=True):
        assert (outcome.differing, outcome.outside) == (0, 0), case.candidate


@given(st.integers(1, 8))
def test_every_tap_of_a_row_is_used_once(width: int) -> None:
    taps = Taps(width)
    used = [t for pair in taps.pairs for t in pair] + list(taps.singles)
    assert sorted(used) == list(range(width))
    assert all(second == first + 2 for first, second in taps.pairs)


@given(st.integers(1, 7), st.integers(1, 2), st.integers(0, 1), st.integers(0, 9))
def test_every_tap_of_an_output_meets_its_pixel_once(
    width: int, stride: int, shift: int, column: int
) -> None:
    lanes = lanes_of(2, width, stride, shift, 4)
    pixels = []
    for use in uses_of(width, stride, shift, column):
        word, half = lanes.find(1, use.taps)
        assert lanes.words[word][half] == (1, use.taps[0])
        pixels += [(tap, 2 * use.word + (i or use.high)) for i, tap in enumerate(use.taps)]
    assert pixels == [(tap, stride * column - shift + tap) for tap in range(width)]


def test_the_twins_equal_tflm_with_a_1x1_behind(tmp_path: Path) -> None:
    every = before_a_1x1("native")
    assert any(case.overlap for case in every)
    for case, outcome in zip(every, run_native(tmp_path, every), strict=True):
        assert (outcome.differing, outcome.outside) == (0, 0), case.candidate


def test_rows_of_pairs_are_for_groups_of_four_channels_that_windows_meet() -> None:
    def found(
        size: tuple[int, int, int], pads: tuple[int, int, int, int] = (1, 1, 1, 1), many: int = 1
    ) -> int:
        work = random_depthwise(np.random.default_rng(1), size, (3, 3), (1, 1), pads, many)
        return len(list(Depthwise(always=True).candidates([work], Target("cortex-m7"))))

    assert found((6, 6, 8)) > 1
    assert found((6, 6, 6)) == 0  # no group of four
    assert found((6, 6, 8), many=2) == 0
    assert found((6, 6, 8), pads=(3, 0, 0, 0)) == 0  # the first row of outputs reads padding only


@given(st.integers(-(1 << 31), (1 << 31) - 256), st.integers(0, 255))
def test_the_roundest_number_of_a_range_divides_by_most(least: int, span: int) -> None:
    def round_by(number: int) -> int:
        return number & -number if number else 1 << 31

    found = roundest(least, least + span)
    assert least <= found <= least + span
    assert all(round_by(number) <= round_by(found) for number in range(least, least + span + 1))


def test_kernels_wider_than_the_registers_are_refused() -> None:
    work = random_depthwise(np.random.default_rng(1), (12, 12, 2), (3, 9), (1, 1), (0,) * 4)
    assert not list(Depthwise(always=True).candidates([work], Target("cortex-m7")))
