"""How many candidates a second the engine's planner answers: exact arena and kernels, no accuracy.

    python benchmarks/candidates.py [--count 300] [--generations 4]

Random networks of a family, and evolution's children. "new" is the first time they are asked, with nothing
known but what earlier networks of the same run taught; "known" asks for the same networks again when their
chains of layers are known but no network is. Seconds are CPU seconds of one process.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import click

from tinyhil.harness.boards import get_board
from tinyhil.nas import cost
from tinyhil.nas.arch import Arch
from tinyhil.nas.check import FAMILY
from tinyhil.nas.evolution import Budget, Judge, Outcome, Settings, evolve
from tinyhil.nas.planning import EngineNeeds
from tinyhil.nas.space import Need, Needs, Space, grid

SPACES = grid(FAMILY, (0.5, 0.75, 1.0), (16, 20, 24, 28, 32))
ROOM = Budget(64 * 1024, 256 * 1024)


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process for `work`."""
    started = time.process_time()
    work()
    return time.process_time() - started


def row(what: str, count: int, spent: float) -> str:
    """A line of the table."""
    return (
        f"{what:34} {count:5} networks {spent * 1e3 / count:8.2f} ms each {count / spent:8.0f} per CPU second"
    )


def children(needs: Needs, spaces: Sequence[Space], generations: int) -> list[tuple[int, list[Arch], float]]:
    """Evolution's networks that were asked for in each generation, and the CPU seconds that it took."""
    found: list[tuple[int, list[Arch], float]] = []
    asked: list[Arch] = []
    started = time.process_time()

    def ask(arch: Arch) -> Need:
        asked.append(arch)
        return needs(arch)

    def note(generation: int, outcome: Outcome) -> None:
        nonlocal started
        found.append((generation, list(asked), time.process_time() - started))
        asked.clear()
        started = time.process_time()

    judge = Judge(ROOM, ask, lambda arch: -abs(cost.macs(arch) - 3_000_000.0))
    evolve(spaces, judge, Settings(generations=generations), progress=note)
    return found


@click.command()
@click.option("--board", default="stm32f746", show_default=True)
@click.option("--count", default=300, show_default=True, help="Random networks.")
@click.option(
    "--generations", default=4, show_default=True, help="Of evolution, beyond the first population."
)
def main(board: str, count: int, generations: int) -> None:
    """Print candidates per CPU second, of one core."""
    source = random.Random(0)
    drawn = list(dict.fromkeys(source.choice(SPACES).sample(source) for _ in range(count)))
    needs = EngineNeeds(get_board(board))
    spent = seconds(lambda: [needs(arch) for arch in drawn])
    click.echo(row("random, new", len(drawn), spent))
    needs.forget_plans()
    click.echo(row("random, known", len(drawn), seconds(lambda: [needs(arch) for arch in drawn])))
    needs = EngineNeeds(get_board(board))
    every: list[Arch] = []
    for generation, asked, spent in children(needs, SPACES, generations):
        click.echo(row(f"evolution, new, generation {generation}", len(asked), spent))
        every += asked
    needs.forget_plans()
    every = list(dict.fromkeys(every))
    click.echo(row("evolution, known", len(every), seconds(lambda: [needs(arch) for arch in every])))


if __name__ == "__main__":
    main()
