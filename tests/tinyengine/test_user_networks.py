"""Networks of other kinds through their files: exact natively and on the emulated cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engine_checks import RunC, random_inputs
from user_networks import NETWORKS

from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.engines import get_engine
from tinyhil.harness.measure import Case, Network
from tinyhil.harness.model import read_tflite, reference, write_tflite
from tinyhil.harness.runner import Runner
from tinyhil.harness.settings import Settings
from tinyhil.harness.tinyengine import TinyEngine


def network(name: str) -> Network:
    data = write_tflite(NETWORKS[name]())
    return Network(name, data, read_tflite(data, name))


@pytest.mark.parametrize(("name", "prefer"), [*zip(NETWORKS, ("speed", "ram", "flash", "ram"), strict=True)])
def test_the_generated_c_is_exact_under_sanitizers(name: str, prefer: str, run_c: RunC) -> None:
    graph = network(name).graph
    sources = TinyEngine().generate(graph, get_board("native"), Options(prefer=prefer))
    samples = [random_inputs(graph, seed) for seed in range(2)]
    for sample, answer in zip(samples, run_c(sources, samples), strict=True):
        for got, want in zip(answer, reference.run(graph, sample), strict=True):
            np.testing.assert_array_equal(got, want)


def test_the_interpreter_agrees_with_the_reference_of_each_file() -> None:
    for name in NETWORKS:
        case = network(name)
        _, expected = case.expected
        for sample, answers in expected.items():
            for ours, theirs in zip(reference.run(case.graph, case.inputs[sample]), answers, strict=True):
                np.testing.assert_array_equal(ours, theirs, f"{name} {sample}")


@pytest.mark.slow
@pytest.mark.parametrize("board", ["stm32f746", "nucleo-l4r5zi"])
def test_the_firmware_is_exact_on_the_emulated_core(board: str, tmp_path: Path) -> None:
    runner = Runner(Settings(tmp_path, timeout=60.0), emulate=True)
    cases = [Case(network(name), get_engine("tinyengine"), get_board(board)) for name in NETWORKS]
    runner.prepare(cases)
    assert not [str(record.error) for record in map(runner.measure, cases) if record.error]
