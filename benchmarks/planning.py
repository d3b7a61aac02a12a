"""How long planning takes: `python benchmarks/planning.py [MODEL.tflite ...]`.

Prints, for each network and for synthetic chains of 150 tensors, the processor time of a whole plan, that
of placing the buffers alone, and how good the placement is. Without arguments: the benchmark networks in
../shared/models. Times are of this machine, so nothing is asserted.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.model.tflite_reader import load_tflite
from tinyhil.harness.tinyengine import schedule_graph
from tinyhil.harness.tinyengine.planner import Overlap, Placement, Request, plan

MODELS = Path(__file__).resolve().parents[2] / "shared" / "models"


def synthetic(tensors: int, seed: int) -> tuple[list[Request], list[Overlap]]:
    """A chain with skips: half of the buffers are tensors, half scratch."""
    rng, layers = random.Random(seed), tensors // 2
    requests = [
        Request(f"t{i}", rng.randrange(64, 8192), i, i + 1 + (rng.random() < 0.2) * rng.randrange(1, 4), 4)
        for i in range(layers)
    ]
    requests += [Request(f"s{i}", rng.randrange(64, 8192), i, i, 8) for i in range(tensors - layers)]
    overlaps = [
        Overlap(i + 1, i, rng.randrange(-2000, 4000))
        for i in range(layers - 1)
        if requests[i].last == i + 1 and rng.random() < 0.6
    ]
    return requests, overlaps


def row(name: str, tensors: int, whole: float | None, placement: Placement, alone: float) -> str:
    """One line of the table."""
    gap = "optimal" if placement.optimal else f"{placement.arena / placement.lower_bound - 1:.2%}"
    total = "-" if whole is None else f"{whole:.2f} s"
    return f"{name:<28}{tensors:>8}{total:>9}{alone:>9.3f} s{placement.arena:>11,}{gap:>9}"


def timed_placement(requests: Sequence[Request], overlaps: Sequence[Overlap]) -> tuple[Placement, float]:
    """A placement and the processor time it took."""
    start = time.process_time()
    placement = plan(requests, overlaps)
    return placement, time.process_time() - start


def main(models: Sequence[Path]) -> None:
    """Prints the table."""
    board = get_board("stm32f746")
    print(f"{'':<28}{'buffers':>8}{'plan':>9}{'placing':>11}{'arena':>11}{'gap':>9}")
    for model in models:
        graph = load_tflite(model)
        for prefer in ("speed", "ram"):
            start = time.process_time()
            schedule = schedule_graph(graph, board, Options(prefer=prefer))
            whole = time.process_time() - start
            problem = schedule.problem
            placement, alone = timed_placement(problem.requests, problem.overlaps)
            print(row(f"{model.stem} {prefer}", len(schedule.buffers), whole, placement, alone))
    for seed in range(8):
        requests, overlaps = synthetic(150, seed)
        placement, alone = timed_placement(requests, overlaps)
        print(row(f"synthetic {seed}", len(requests), None, placement, alone))


if __name__ == "__main__":
    main([Path(a) for a in sys.argv[1:]] or sorted(MODELS.glob("*.tflite")))
