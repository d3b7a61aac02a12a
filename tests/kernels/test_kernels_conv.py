"""Convolutions on the micro-kernel equal TFLM's arithmetic: every shape, on the host and on both cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kernel_bench import (
    MACHINES,
    Case,
    conv_reference,
    needs_arm,
    random_conv,
    random_input,
    run_emulated,
    run_native,
)

from tinyhil.harness.tinyengine.asm.conv import Convolution
from tinyhil.harness.tinyengine.kernel import Target
from tinyhil.harness.tinyengine.work import ConvWork, Requant


@st.composite
def works(draw: st.DrawFn) -> ConvWork:
    """Odd channels, remainders of pixels, any padding; everyday scales, and some that saturate."""
    kernel = draw(st.sampled_from([(1, 1), (1, 1), (3, 3), (2, 3), (5, 1), (4, 4)]))
    strides = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2), (3, 1)]))
    pads = tuple(draw(st.integers(0, kernel[i // 2] - 1)) for i in range(4))
    height = draw(st.integers(kernel[0], 9))
    width = draw(st.integers(kernel[1], 9))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    size = (height, width, draw(st.integers(1, 21)))
    work = random_conv(rng, size, draw(st.integers(1, 7)), kernel, strides, pads, relu=draw(st.booleans()))
    r = work.requant
    shift = r.shift + draw(st.sampled_from([0, 0, 0, 3, 7, -4]))
    low = draw(st.sampled_from([-128, -128, r.zero_point, -5]))
    high = draw(st.sampled_from([127, 127, 60]))
    weights = work.weights.copy()
    if draw(st.booleans()):
        weights[draw(st.integers(0, weights.shape[0] - 1))] = draw(st.sampled_from([0, 127, -127]))
    requant = Requant(r.multiplier, shift.astype(np.int32), r.zero_point, low, max(low, high))
    return ConvWork(work.x, work.y, weights, work.bias, requant, strides, (1, 1), work.pads)


def cases(work: ConvWork, core: str) -> list[Case]:
    """Every candidate, apart from its input and over it."""
    rng = np.random.default_rng(work.x.nbytes)
    x = random_input(rng, work)
    if rng.integers(0, 3) == 0:
        x[:] = rng.choice([-128, 127], x.size)
    y = conv_reference(work, x)
    return [
        Case(candidate, (x,), y, overlap=overlap, macs=work.macs)
        for candidate in Convolution().candidates([work], Target(core))
        for overlap in (False, True)
    ]


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # every try compiles: no shrinking
)
@given(st.lists(works(), min_size=8, max_size=8))
def test_the_twin_equals_tflm_for_any_shape(
    tmp_path_factory: pytest.TempPathFactory, batch: list[ConvWork]
) -> None:
    every = [case for work in batch for case in cases(work, "native")]
    for case, outcome in zip(every, run_native(tmp_path_factory.mktemp("conv"), every), strict=True):
        assert (outcome.differing, outcome.outside) == (0, 0), case


def samples() -> list[ConvWork]:
    """One of each shape family, fixed by a seed."""
    rng = np.random.default_rng(11)
    plain = [
        ((6, 6, c_in), c_out, (1, 1), (1, 1), (0, 0, 0, 0), relu)
        for c_in, c_out, relu in [(1, 2, True), (3, 3, False), (6, 4, True), (16, 5, False), (50, 3, True)]
    ]
    rest = [
        ((5, 5, 12), 6, (1, 1), (1, 1), (0, 0, 0, 0), True),
        ((1, 2, 9), 4, (1, 1), (1, 1), (0, 0, 0, 0), True),
        ((1, 3, 64), 4, (1, 1), (1, 1), (0, 0, 0, 0), False),
        ((7, 6, 5), 4, (1, 1), (2, 2), (0, 0, 0, 0), True),
        ((9, 9, 3), 8, (3, 3), (2, 2), (0, 1, 0, 1), True),
        ((6, 8, 16), 4, (3, 3), (1, 1), (1, 1, 1, 1), False),
        ((6, 5, 24), 4, (3, 3), (1, 1), (1, 1, 1, 1), True),
        ((8, 7, 20), 2, (3, 3), (1, 1), (0, 0, 0, 0), True),
        ((12, 9, 1), 8, (10, 4), (2, 2), (4, 5, 1, 1), True),
    ]
    return [random_conv(rng, *arguments) for arguments in [*plain, *rest]]


@needs_arm
@pytest.mark.parametrize("core", MACHINES)
def test_the_assembler_equals_tflm_on_the_emulated_core(core: str, tmp_path: Path) -> None:
    every = [case for work in samples() for case in cases(work, core)]
    assert len(every) >= 2 * len(samples())
    for case, outcome in zip(every, run_emulated(tmp_path, every, core), strict=True):
        assert (outcome.differing, outcome.outside) == (0, 0), case.candidate


def test_weights_that_cannot_share_a_lane_are_refused() -> None:
    for beside, refused in ((-1, True), (1, False)):
        work = random_conv(np.random.default_rng(1), (4, 4, 8), 4)
        work.weights[1, 0, 0, 0] = -128
        work.weights[0, 0, 0, 0] = beside
        assert (not list(Convolution().candidates([work], Target("cortex-m7")))) == refused


def test_sums_beyond_24_bits_are_refused() -> None:
    work = random_conv(np.random.default_rng(1), (1, 1, 600), 2)
    work.weights[:] = 127
    assert not list(Convolution().candidates([work], Target("cortex-m7")))


def test_cores_without_dsp_get_nothing() -> None:
    work = random_conv(np.random.default_rng(1), (4, 4, 8), 4)
    assert not list(Convolution().candidates([work], Target("cortex-m3")))
