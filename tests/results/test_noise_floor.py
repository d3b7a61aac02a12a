"""The noise floor learned from real A-A runs: host time of real inferences, sampled like cycles."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from click.testing import CliRunner

from tinyhil.cli import cli
from tinyhil.harness.model.random_graphs import random_layer
from tinyhil.harness.model.reference import Interpreter
from tinyhil.results.gates import noise_floor
from tinyhil.results.record import Measurement
from tinyhil.results.store import Store


@pytest.fixture
def runs(make) -> list[Measurement]:
    """Six A-A runs of nine timed inferences each, in nanoseconds: the same program, only chance differs."""
    graph = random_layer("Conv2D", 1)
    run = Interpreter(graph)
    inputs = [np.zeros(graph.tensors[i].shape, np.int8) for i in graph.inputs]

    def once() -> int:
        start = time.perf_counter_ns()
        run(*inputs)
        return time.perf_counter_ns() - start

    records = []
    for _ in range(6):
        samples = tuple(once() for _ in range(9))
        records.append(make(mode="hardware", cycles=int(median(samples)), samples=samples, layers=()))
    return [replace(r, provenance={**r.provenance, "build_id": "a-a"}) for r in records]


def compared(folder: Path, head: Measurement, known: list[Measurement]) -> tuple[int, str]:
    with Store.open(folder / "results.db") as store:
        ids = store.add_all(known)
        store.save_baseline("main", ids[:1])
        store.add(head)
    words = ["compare", "main", "--fail", "cycles:0", "--store", str(folder / "results.db")]
    done = CliRunner().invoke(cli, words)
    return done.exit_code, done.output


def test_what_the_store_has_seen_by_chance_alone_is_no_regression(tmp_path: Path, runs) -> None:
    slowest = max(runs, key=lambda r: r.cycles)
    fastest = min(runs, key=lambda r: r.cycles)
    code, said = compared(tmp_path, slowest, [fastest, *runs])
    assert code == 0, said
    assert noise_floor(slowest, fastest, runs) >= slowest.cycles - fastest.cycles
    assert slowest.cycles == fastest.cycles or "(noise " in said


def test_what_is_beyond_it_is_a_regression(tmp_path: Path, runs) -> None:
    base = runs[0]
    more = math.ceil(noise_floor(base, base, runs)) + 1
    slower = replace(
        base,
        cycles=base.cycles + more,
        samples=tuple(sample + more for sample in base.samples),
        provenance={**base.provenance, "build_id": "b"},
    )
    code, said = compared(tmp_path, slower, runs)
    assert code == 1, said
    assert "regressed" in said
