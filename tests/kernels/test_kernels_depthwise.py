"""Depthwise convolutions on padded planes equal TFLM's arithmetic, on the host and on both cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kernel_bench import (
    MACHINES,
    Case,
    depthwise_reference,
    needs_arm,
    random_depthwise,
    random_input,
    run_emulated,
    run_native,
)

from tinyhil.harness.tinyengine.asm.depthwise import Depthwise
from tinyhil.harness.tinyengine.asm.depthwise_tile import Taps
from tinyhil.harness.tinyengine.kernel import Target
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
        draw(st.integers(kernel[1], kernel[1] + 9)),
        draw(st.integers(1, 6)),
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


def cases(work: DepthwiseWork, core: str) -> list[Case]:
    """Every candidate on one input, sometimes of the two extreme values only."""
    rng = np.random.default_rng(work.x.nbytes)
    x = random_input(rng, work)
    if rng.integers(0, 3) == 0:
        x[:] = rng.choice([-128, 127], x.size)
    y = depthwise_reference(work, x)
    return [Case(c, (x,), y, macs=work.macs) for c in Depthwise().candidates([work], Target(core))]


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # every try compiles: no shrinking
)
@given(st.lists(works(), min_size=12, max_size=12))
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
        ((5, 10, 1), (2, 2), (1, 1), one),
    ]  # fmt: skip
    return [random_depthwise(rng, *family) for family in families]  # type: ignore[arg-type]


@needs_arm
@pytest.mark.parametrize("core", MACHINES)
def test_the_assembler_equals_tflm_on_the_emulated_core(core: str, tmp_path: Path) -> None:
    every = [case for work in samples() for case in cases(work, core)]
    assert len(every) >= len(samples())
    for case, outcome in zip(every, run_emulated(tmp_path, every, core), strict=True):
        assert (outcome.differing, outcome.outside) == (0, 0), case.candidate


@given(st.integers(1, 8))
def test_every_tap_of_a_row_is_used_once(width: int) -> None:
    taps = Taps(width)
    used = [t for pair in taps.pairs for t in pair] + list(taps.singles)
    assert sorted(used) == list(range(width))
    assert all(second == first + 2 for first, second in taps.pairs)


def test_kernels_wider_than_the_registers_are_refused() -> None:
    work = random_depthwise(np.random.default_rng(1), (12, 12, 2), (3, 9), (1, 1), (0,) * 4)
    assert not list(Depthwise().candidates([work], Target("cortex-m7")))
