"""Made-up measurements for the tests of results/: plausible, small, and easy to vary."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tinyhil.results.record import (
    Correctness,
    EngineId,
    Estimate,
    LayerResult,
    Measurement,
    Model,
    PeakRam,
    PlannedBuffer,
)

SPEED = {"tinyengine": 1.5, "cmsis-nn": 2.9, "tflm": 13.5}
Make = Callable[..., Measurement]


def make_measurement(
    model: str = "mlperf_kws",
    engine: str = "tinyengine",
    board: str = "stm32f746",
    *,
    depth: int = 9,
    seed: int = 0,
    mode: str = "qemu",
    **changes: Any,
) -> Measurement:
    """One record with layers and a memory plan; `changes` replaces fields, `seed` varies the network."""
    rng = random.Random(f"{model}-{seed}")
    macs = [rng.randrange(40_000, 700_000) for _ in range(depth)]
    ops = ["CONV_2D", "DEPTHWISE_CONV_2D", "ADD"]
    factor = SPEED.get(engine, 4.0)
    steps = []
    for index, work in enumerate(macs):
        count = round(work * factor * (0.8 + 0.6 * rng.random()))
        op = ops[index % 3]
        estimate = Estimate(count * 1.3, count * 1.2, count * 1.45, "m7-2")
        hardware = mode == "hardware"
        steps.append(
            LayerResult(
                name=f"{index:02d} {op.lower()}",
                op=op,
                macs=work,
                instructions=None if hardware else count,
                cycles=round(count * 1.28) if hardware else None,
                cycles_est=None if hardware else estimate,
                traffic=rng.randrange(10_000, 120_000),
            )
        )
    total = sum(step.instructions or step.cycles or 0 for step in steps)
    buffers, offset = [], 0
    for index in range(depth + 1):
        size = rng.randrange(2_000, 24_000)
        first, last = max(index - 1, 0), min(index, depth - 1)
        role = "input" if index == 0 else "output" if index == depth else "activation"
        buffers.append(PlannedBuffer(f"tensor_{index}", offset, size, first, last, role))
        offset = 0 if offset else size
    arena = max(buffer.offset + buffer.size for buffer in buffers)
    estimate = None
    if mode != "hardware":
        estimate = Estimate(total * 1.3, total * 1.2, total * 1.45, "m7-2")
    record = Measurement(
        model=Model(model, hashlib.sha256(model.encode()).hexdigest(), sum(macs), 22_604),
        engine=EngineId(engine, "1.0"),
        board=board,
        mode=mode,
        kind="measured" if mode == "hardware" else "counted",
        clock_hz=216_000_000,
        instructions=None if mode == "hardware" else total,
        cycles=total if mode == "hardware" else None,
        cycles_est=estimate,
        peak_ram=PeakRam(arena + 1_400, 900, arena, 500, arena),
        flash=54_264 if engine == "tinyengine" else 136_540,
        correct=Correctness(True, 0, "tflite-micro", "ab" * 32),
        layers=tuple(steps),
        memory=tuple(buffers),
        samples=(total,) * 3,
        provenance={
            "compiler": "arm-none-eabi-gcc 12.2.1",
            "flags": "-O2 -mcpu=cortex-m7",
            "caches": "I D",
            "git": "1f0c2a9d",
            "build_id": "77aa01",
            "emulator": "QEMU 7.2.22",
        },
        created="2026-11-20T10:00:00+00:00",
    )
    return replace(record, **changes)


@pytest.fixture
def make() -> Make:
    """The factory: `make(model, engine, board, …)`."""
    return make_measurement
