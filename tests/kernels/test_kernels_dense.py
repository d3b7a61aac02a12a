"""Fully-connected layers equal TFLM's arithmetic, on the host and on both cores."""

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
    needs_arm,
    random_conv,
    random_input,
    run_emulated,
    run_native,
)

from tinyhil.harness.tinyengine.asm.dense import Dense
from tinyhil.harness.tinyengine.kernel import Target
from tinyhil.harness.tinyengine.work import ConvWork, Requant


@st.composite
def works(draw: st.DrawFn) -> ConvWork:
    """Any number of inputs and outputs, up to three rows, all clamps, everyday and saturating scales."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    size = (1, draw(st.integers(1, 3)), draw(st.integers(1, 70)))
    work = random_conv(rng, size, draw(st.integers(1, 21)), relu=draw(st.booleans()))
    r = work.requant
    shift = r.shift + draw(st.sampled_from([0, 0, 3, 7, -4]))
    low = draw(st.sampled_from([-128, -128, r.zero_point, -5]))
    high = draw(st.sampled_from([127, 127, 60]))
    if draw(st.booleans()):  # one scale for the whole layer
        shift[:], r.multiplier[:] = shift[0], r.multiplier[0]
    requant = Requant(r.multiplier, shift.astype(np.int32), r.zero_point, low, max(low, high))
    return ConvWork(work.x, work.y, work.weights, work.bias, requant)


def cases(work: ConvWork, core: str) -> list[Case]:
    """The candidate apart from its input and over it."""
    rng = np.random.default_rng(work.x.nbytes)
    x = random_input(rng, work)
    y = conv_reference(work, x)
    return [
        Case(candidate, (x,), y, overlap=overlap, macs=work.macs)
        for candidate in Dense().candidates([work], Target(core))
        for overlap in (False, True)
    ]


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # every try compiles: no shrinking
)
@given(st.lists(works(), min_size=12, max_size=12))
def test_the_twin_equals_tflm_for_any_shape(
    tmp_path_factory: pytest.TempPathFactory, batch: list[ConvWork]
) -> None:
    every = [case for work in batch for case in cases(work, "native")]
    for case, outcome in zip(every, run_native(tmp_path_factory.mktemp("dense"), every), strict=True):
        assert (outcome.differing, outcome.outside) == (0, 0), case


@needs_arm
@pytest.mark.parametrize("core", MACHINES)
def test_the_assembler_equals_tflm_on_the_emulated_core(core: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(13)
    shapes = [(8, 8), (64, 12), (17, 1), (3, 2), (250, 7), (31, 21), (1, 5), (6, 11)]
    works = [
        random_conv(rng, (1, 1 + i % 2, inputs), outputs, relu=i % 3 > 0)
        for i, (inputs, outputs) in enumerate(shapes)
    ]
    for work in works[::2]:
        work.requant.multiplier[:], work.requant.shift[:] = work.requant.multiplier[0], work.requant.shift[0]
    every = [case for work in works for case in cases(work, core)]
    assert len(every) == 2 * (len(works) + sum(inputs % 4 == 0 for inputs, _ in shapes))  # some directly
    for case, outcome in zip(every, run_emulated(tmp_path, every, core), strict=True):
        assert (outcome.differing, outcome.outside) == (0, 0), case.candidate


def test_one_scale_for_all_channels_costs_four_bytes_a_channel() -> None:
    work = random_conv(np.random.default_rng(3), (1, 1, 64), 32)
    several = next(iter(Dense().candidates([work], Target("cortex-m7"))))
    channels = np.ones(32, np.int32)
    one = replace(work.requant, multiplier=channels << 30, shift=channels * -9)
    single = next(iter(Dense().candidates([replace(work, requant=one)], Target("cortex-m7"))))
    assert single.flash <= 64 * 32 + 4 * 32 + 100
    assert several.flash - single.flash == 10 * 32 - 12  # they stand once, at the beginning
    assert single.instructions < several.instructions
