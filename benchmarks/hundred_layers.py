"""Builds and runs a hundred single-layer programs, and prints how long each part took.

    python benchmarks/hundred_layers.py [COUNT]

The cache is a fresh one, so everything is built; the second round finds it all there.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tinyhil.harness.boards import get_board
from tinyhil.harness.engines import get_engine
from tinyhil.harness.measure import Case, Network
from tinyhil.harness.model import read_tflite, write_tflite
from tinyhil.harness.model.random_graphs import random_layer
from tinyhil.harness.runner import Runner
from tinyhil.harness.settings import Settings

KINDS = ("Conv2D", "DepthwiseConv2D", "FullyConnected", "Add")


def main(count: int) -> None:
    """Two rounds, cold and warm."""
    networks = []
    for seed in range(count):
        name = f"layer{seed:03}"
        data = write_tflite(random_layer(KINDS[seed % len(KINDS)], seed))
        networks.append(Network(name, data, read_tflite(data, name)))
    engine, board = get_engine("tinyengine"), get_board("stm32f746")
    with tempfile.TemporaryDirectory() as folder:
        for label in ("cold", "warm"):
            runner = Runner(Settings(Path(folder), cache=Path(folder) / "cache"))
            cases = [Case(network, engine, board) for network in networks]
            start = time.perf_counter()
            runner.prepare(cases)
            built = time.perf_counter()
            records = [runner.measure(case) for case in cases]
            ran = time.perf_counter()
            wrong = [record.model.name for record in records if record.error]
            print(
                f"{label}: {count / (built - start):.1f} builds/s, {count / (ran - built):.1f} runs/s, "
                f"together {ran - start:.1f} s; wrong: {wrong or 'none'}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
