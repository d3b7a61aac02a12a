"""A search so small that it ends in seconds; as a program: `tiny_search.py FOLDER`.

Data, planner, super-network and evolution are real. The instrument is made of straw: what it "measures"
follows from the engine's plan.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from tinyhil.harness.boards import get_board
from tinyhil.nas.arch import Arch
from tinyhil.nas.data import Dataset, Split
from tinyhil.nas.evolution import Settings
from tinyhil.nas.latency import Sample
from tinyhil.nas.meter import Measured, to_json
from tinyhil.nas.planning import EngineNeeds
from tinyhil.nas.search import Effort, Limits, Result, Search
from tinyhil.nas.session import ticker
from tinyhil.nas.space import Family
from tinyhil.nas.supertrain import SuperRecipe
from tinyhil.nas.synthetic import figures

BOARD = get_board("stm32f746")
FAMILY = Family(stem=8, first=8, stages=((8, 2, 2), (16, 1, 1)), expansions=(2, 3), classes=2)
EFFORT = Effort(
    stage1=4, minimum=1, spaces=1, measured=4, held_out=2, pool=8,
    training=SuperRecipe(largest=1, epochs=1, subnets=2),
    evolution=Settings(4, 2, 2, 2, generations=2, remeasure_every=2, top=2), calibration=2, finalists=2,
)  # fmt: skip
NEEDS = EngineNeeds(BOARD)


def straw_meter(archs: Sequence[Arch]) -> list[Measured]:
    """What a machine would show that runs nine tenths of the planned instructions."""
    found = []
    for arch in archs:
        plan = NEEDS.plan(arch)
        costs = tuple(round(0.9 * layer.instructions + 30) for layer in plan.layers)
        sample = Sample(arch, sum(costs), {})
        found.append(Measured(sample, "instructions", plan.arena + 140, plan.arena, plan.flash + 6000, costs))
    return found


class Sealed:
    """A test part that nobody may look at: a search chooses without it."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the search looked at the test part: {name}")


def sealed(data: Dataset) -> Dataset:
    """`data` with its test part sealed."""
    return replace(data, test=cast(Split, Sealed()))


def a_search(folder: Path, say: Callable[[str], None] = lambda text: None) -> Search:
    """The search in `folder`."""
    return Search(
        sealed(figures(16, 200)), FAMILY, (0.5, 1.0), (12, 16),
        Limits(64_000, 200_000, None, 400_000.0), BOARD, "tinyengine", folder, straw_meter, EFFORT, say,
        ticker(say, 0.0),
    )  # fmt: skip


def tiny_search(folder: Path, say: Callable[[str], None] = lambda text: None) -> Result:
    """What it finds, or what is left of it to find."""
    return a_search(folder, say).run()


if __name__ == "__main__":
    out = Path(sys.argv[1])
    result = tiny_search(out, lambda text: print(text, flush=True))
    table = [[to_json(one), score] for one, score in (*result.finalists, *result.rivals)]
    (out / "result.json").write_text(json.dumps([table, result.outcome.history, result.violations]))
