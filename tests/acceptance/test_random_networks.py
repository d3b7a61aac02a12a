"""A hundred random networks: TFLM, the reference interpreter, the native build under sanitizers and
the emulated build agree to the bit."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from tinyhil.harness.boards import get_board
from tinyhil.harness.engines import get_engine
from tinyhil.harness.measure import Case, Network
from tinyhil.harness.model import Interpreter, oracle, read_tflite, write_tflite
from tinyhil.harness.model.random_graphs import random_network
from tinyhil.harness.runner import Runner
from tinyhil.harness.settings import Settings

COUNT = 100


@pytest.fixture(scope="module")
def networks() -> list[Network]:
    made = []
    for seed in range(COUNT):
        data = write_tflite(random_network(seed))
        made.append(Network(f"random{seed:03}", data, read_tflite(data, f"random{seed:03}")))
    return made


def test_the_interpreter_agrees_with_tflm(networks: list[Network]) -> None:
    if not oracle.has_tflm():
        pytest.skip("needs the wheel: pip install 'tinyhil[oracle]'")
    interpret = {network.name: Interpreter(network.graph) for network in networks}
    for network in networks:
        reference, expected = network.expected
        assert reference.startswith("tflite-micro")
        for sample, answers in expected.items():
            for own, answer in zip(interpret[network.name](*network.inputs[sample]), answers, strict=True):
                np.testing.assert_array_equal(own, answer, f"{network.name} {sample}")


@pytest.mark.slow
@pytest.mark.parametrize("boards", [("native",), ("stm32f746", "nucleo-l4r5zi")], ids="+".join)
def test_the_firmware_agrees(networks: list[Network], boards: tuple[str, ...], tmp_path: Path) -> None:
    """Each network natively, and on one of the two emulated cores, in turns."""
    runner = Runner(Settings(tmp_path, timeout=60.0))
    engine, targets = get_engine("tinyengine"), cycle(get_board(name) for name in boards)
    cases = [Case(network, engine, target) for network, target in zip(networks, targets, strict=False)]
    runner.prepare(cases)
    errors = [str(record.error) for record in map(runner.measure, cases) if record.error]
    assert not errors
    assert len(runner.store.latest()) == COUNT
