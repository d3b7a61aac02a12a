"""How long planning takes: `python benchmarks/planning.py [MODEL.tflite ...]`.

Prints, for each network, the processor time of a whole plan, that of placing the buffers alone, and how good
the placement is. Without arguments: the benchmark networks in ../shared/models, the published MCUNet
architectures with seeded weights, random networks with branches whose every end is an output (their buffers
live longest), and synthetic chains of 150 buffers. What plans have in common is worked out once per process,
as for a search; `--apart` plans each in a process of its own, as the command does, and counts nothing but the
plan. Times are of this machine, so nothing is asserted.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import click

from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.random_dags import random_dag
from tinyhil.harness.model.tflite_reader import load_tflite
from tinyhil.harness.tinyengine import schedule_graph
from tinyhil.harness.tinyengine.planner import Overlap, Placement, Request, plan
from tinyhil.nas import zoo

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT.parent / "shared" / "models"
TENSORS = 150  # of a network with branches, at most


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


def branched(seed: int) -> Graph:
    """A random network with as many layers as give TENSORS activations, all its ends outputs."""
    found = None
    for layers in range(10, TENSORS, 5):
        graph = random_dag(seed, layers)
        read = {i for op in graph.ops for i in op.inputs}
        ends = tuple(out for op in graph.ops for out in op.outputs if out not in read)
        if sum(t.data is None for t in graph.tensors) > TENSORS:
            break
        found = replace(graph, name=f"branched {seed}", outputs=ends)
    assert found is not None
    return found


def planned(graph: Graph, board: str, prefer: str) -> str:
    """The row of one plan."""
    start = time.process_time()
    schedule = schedule_graph(graph, get_board(board), Options(prefer=prefer))
    whole = time.process_time() - start
    problem = schedule.problem
    _, alone = timed_placement(problem.requests, problem.overlaps)
    return row(f"{graph.name} {prefer}", len(schedule.buffers), whole, schedule.placement, alone)


def networks(models: Sequence[Path]) -> Iterator[tuple[Graph, str]]:
    """The networks, and a board that they are planned for."""
    for model in models or sorted(MODELS.glob("*.tflite")):
        yield load_tflite(model), "stm32f746"
    if not models:
        for number in range(5):
            yield load_tflite(zoo.make(f"mcunet-in{number}", ROOT / ".tinyhil" / "networks")), "stm32f746"
        for seed in range(6):
            yield branched(seed), "stm32h743"


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--apart", is_flag=True, help="Each plan in a process of its own.")
def main(models: Sequence[Path], apart: bool) -> None:
    """Prints the table."""
    print(f"{'':<28}{'buffers':>8}{'plan':>9}{'placing':>11}{'arena':>11}{'gap':>9}")
    for graph, board in networks(models):
        for prefer in ("speed", "ram"):
            if apart:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    print(pool.submit(planned, graph, board, prefer).result(), flush=True)
            else:
                print(planned(graph, board, prefer), flush=True)
    for seed in range(8):
        requests, overlaps = synthetic(TENSORS, seed)
        placement, alone = timed_placement(requests, overlaps)
        print(row(f"synthetic {seed}", len(requests), None, placement, alone))


if __name__ == "__main__":
    main()
