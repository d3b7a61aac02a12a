"""Estimated milliseconds of tinyhil's engine beside what others published for the same networks and boards.

A check for sanity, not a ranking: estimated and measured are not the same kind of number. Each network is
built for each board, one inference is recorded in QEMU, and the trace estimated. The published figures are
those of results/reference: the fastest of each engine, two engines at most. Prints Markdown.

    python benchmarks/published.py FOLDER [--boards stm32f746,nucleo-l4r5zi,stm32h743]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyhil.errors import TinyhilError
from tinyhil.harness.boards import get_board
from tinyhil.harness.commands.latency import trace_inference
from tinyhil.harness.engine import Options
from tinyhil.harness.engines import get_engine
from tinyhil.harness.measure import Case, Network
from tinyhil.harness.runner import Runner
from tinyhil.harness.settings import load_settings
from tinyhil.harness.timing.estimate import estimate_segment, total
from tinyhil.results.reference import published_latencies

SHOWN = 2


def estimated(runner: Runner, case: Case) -> str:
    """Milliseconds with the interval, and cycles per MAC; or why there are none."""
    try:
        traced = trace_inference(runner.firmware(case), runner.settings.cache, runner.settings.timeout)
    except TinyhilError as error:
        return error.code
    whole = total(estimate_segment(traced.costs, segment) for segment in traced.run.segments)
    value, low, high = (
        1000 * cycles / case.board.clock_hz for cycles in (whole.value, whole.low, whole.high)
    )
    macs = case.network.graph.total_macs
    return f"{value:.3g} ({low:.3g} to {high:.3g}), {whole.value / macs:.2f}"


def published(network: str, board: str) -> str:
    """The fastest engines that anybody published for this network on this board."""
    best = sorted(published_latencies(network, board).items(), key=lambda item: item[1])[:SHOWN]
    return ", ".join(f"{1000 * seconds:.3g} {engine}" for engine, seconds in best) or "–"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--boards", default="stm32f746,nucleo-l4r5zi,stm32h743")
    wanted = parser.parse_args()
    boards = [get_board(name) for name in wanted.boards.split(",")]
    networks = [Network.load(path) for path in sorted(wanted.folder.glob("*.tflite"))]
    runner = Runner(load_settings(Path.cwd()), emulate=True)
    cases = [Case(n, get_engine("tinyengine"), b, Options()) for n in networks for b in boards]
    runner.prepare(cases)
    print("| network | board | estimated ms, cycles per MAC | published ms |\n|---|---|---|---|")
    for case in cases:
        row = (case.network.name, case.board.name, estimated(runner, case))
        print(f"| {' | '.join(row)} | {published(case.network.name, case.board.name)} |", flush=True)


if __name__ == "__main__":
    main()
