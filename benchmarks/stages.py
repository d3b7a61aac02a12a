"""Rows against patches: `python benchmarks/stages.py MODEL.tflite ...`.

Per network: the arena of `--prefer ram` with blocks alone, with chains by rows, with patches in their
place, and with both; then the smallest sum of input, output and scratch of any chain that starts with the
first layer and ends in a tensor smaller than the input, by rows and in patches, with its instructions.
All from the plans; nothing runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tinyhil.harness.boards import Board, get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.tflite_reader import load_tflite
from tinyhil.harness.tinyengine import schedule_graph
from tinyhil.harness.tinyengine.chains import chain_works, is_chain
from tinyhil.harness.tinyengine.choose import LONGEST, lifetimes
from tinyhil.harness.tinyengine.kernel import Target
from tinyhil.harness.tinyengine.lowering import lower
from tinyhil.harness.tinyengine.passes import optimise
from tinyhil.harness.tinyengine.pipeline import PATCHES, PIPELINE, Pipeline, PipelineCandidate

WAYS = {"blocks": ("pipeline", "patches"), "rows": ("patches",), "patches": ("pipeline",), "both": ()}


def arenas(graph: Graph, board: Board) -> list[int]:
    """The arena in bytes in each of WAYS."""
    return [
        schedule_graph(graph, board, Options(prefer="ram", disabled=frozenset(off))).arena
        for off in WAYS.values()
    ]


def first_stage(graph: Graph, board: Board, kernel: Pipeline) -> tuple[PipelineCandidate, int] | None:
    """The chain of the first layers that needs least, and how many layers it has."""
    program = lower(optimise(graph, Options()))
    lives, found = lifetimes(program), list[tuple[PipelineCandidate, int]]()
    for after in range(2, min(LONGEST, len(program.steps)) + 1):
        if not is_chain(program, lives, 0, after):
            break
        works = chain_works(program.steps[:after])
        for c in replace(kernel, always=True).candidates(works, Target(board.core)):
            small = program.nbytes(program.steps[after - 1].output) <= program.nbytes(program.graph.inputs[0])
            if isinstance(c, PipelineCandidate) and small:
                found.append((c, after))
    return min(found, key=lambda f: f[0].peak, default=None)


def main(models: Sequence[Path]) -> None:
    """Prints both tables in one."""
    board = get_board("stm32f746")
    print(
        f"{'arena, bytes':<22}"
        + "".join(f"{way:>10}" for way in WAYS)
        + "   first stage: layers, bytes, instr."
    )
    for model in models:
        graph = load_tflite(model)
        cells = "".join(f"{arena:>10,}" for arena in arenas(graph, board))
        stages = []
        for kernel in (PIPELINE, PATCHES):
            best = first_stage(graph, board, kernel)
            if best is not None:
                c, layers = best
                how = "rows" if c.patches == 1 else f"{c.patches} patches"
                stages.append(f"{how}: {layers}, {c.peak:,}, {c.instructions / 1e6:.2f} M")
        print(f"{model.stem:<22}{cells}   {'; '.join(stages)}")


if __name__ == "__main__":
    main([Path(a) for a in sys.argv[1:]])
