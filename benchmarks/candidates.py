"""How many candidates a second the engine's planner answers: exact arena and kernels, no accuracy.

    python benchmarks/candidates.py [--random 300] [--generations 30] [--processes 1,2]

Random networks of a family, and evolution as its defaults are: 100 networks, then 100 children a generation.
"from nothing" knows no chain of layers, "from disk" reads what the row before it kept, "in memory" asks again
for networks whose chains are known and whose plans are forgotten. CPU seconds are of all processes, their
start included; wall seconds say what the machine had left for them.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tinyhil.harness.boards import Board
    from tinyhil.nas.arch import Arch
    from tinyhil.nas.planning import EngineNeeds
    from tinyhil.nas.space import Space


def spent() -> tuple[float, float]:
    """CPU seconds of this process and those that ended, and wall seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system, time.perf_counter()


def row(what: str, count: int, since: tuple[float, float]) -> None:
    """Print a line of the table."""
    cpu, wall = (now - then for now, then in zip(spent(), since, strict=True))
    click.echo(
        f"{what:44} {count:5} candidates {cpu * 1e3 / count:7.2f} ms CPU each"
        f" {count / cpu:6.0f} per CPU second {count / wall:6.0f} per wall second"
    )


def asked_by_evolution(
    needs: EngineNeeds, spaces: Sequence[Space], generations: int, shown: Callable[[int, int], None]
) -> list[Arch]:
    """All networks that evolution asks for, in order; `shown` hears of each generation how many are new."""
    from tinyhil.nas import cost
    from tinyhil.nas.evolution import Budget, Judge, Outcome, Settings, evolve

    asked: dict[Arch, None] = {}
    heard = 0

    def prepare(archs: Sequence[Arch]) -> None:
        asked.update(dict.fromkeys(archs))
        needs.prepare(archs)

    def note(generation: int, _: Outcome) -> None:
        nonlocal heard
        shown(generation, len(asked) - heard)
        heard = len(asked)

    budget = Budget(64 * 1024, 256 * 1024)
    judge = Judge(budget, needs, lambda arch: -abs(cost.macs(arch) - 3_000_000.0), prepare=prepare)
    evolve(spaces, judge, Settings(generations=generations), progress=note)
    return list(asked)


def measure(
    board: Board, spaces: Sequence[Space], drawn: Sequence[Arch], generations: int, workers: int
) -> None:
    """Print the rows of one number of processes."""
    from tinyhil.nas.crew import open_needs

    many = f"{workers} process" + ("es" if workers > 1 else "")
    with TemporaryDirectory() as folder:
        for state in ("from nothing", "from disk"):
            since = spent()
            with open_needs(board, workers=workers, cache=Path(folder) / "random") as needs:
                needs.prepare(drawn)
                for arch in drawn:
                    needs(arch)
            row(f"random, {state}, {many}", len(drawn), since)
        for state in ("from nothing", "from disk"):
            since = last = spent()

            first = workers == 1 and state == "from nothing"

            def shown(generation: int, new: int, first: bool = first) -> None:
                nonlocal last
                if first and generation < 4:
                    row(f"  its generation {generation}", new, last)
                last = spent()

            with open_needs(board, workers=workers, cache=Path(folder) / "evolution") as needs:
                every = asked_by_evolution(needs, spaces, generations, shown)
            row(f"evolution, {state}, {many}", len(every), since)
    if workers == 1:
        needs.forget_plans()
        since = spent()
        for arch in every:
            needs(arch)
        row(f"the same, in memory, {many}", len(every), since)
        click.echo(f"  {len(needs.chains)} chains of layers known")


@click.command()
@click.option("--board", "name", default="stm32f746", show_default=True)
@click.option("--random", "count", default=300, show_default=True, help="Random networks.")
@click.option("--generations", default=30, show_default=True, help="Of evolution.")
@click.option("--processes", default="1,2", show_default=True)
def main(name: str, count: int, generations: int, processes: str) -> None:
    """Print candidates per CPU second and per wall second."""
    from tinyhil.harness.boards import get_board
    from tinyhil.nas.space import Family, grid

    family = Family(
        stem=16, first=8, stages=((16, 2, 3), (24, 2, 3), (48, 1, 3), (64, 1, 1)), classes=10, channels=1
    )
    spaces = grid(family, (0.5, 0.75, 1.0), (16, 20, 24, 28, 32))
    source = random.Random(0)
    drawn = list(dict.fromkeys(source.choice(spaces).sample(source) for _ in range(count)))
    for workers in map(int, processes.split(",")):
        measure(get_board(name), spaces, drawn, generations, workers)


if __name__ == "__main__":
    main()
