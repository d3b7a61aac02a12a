"""Evolution and NSGA-II against random search at as many networks scored, several seeds each.

    python benchmarks/searchers.py [--seeds 5] [--population 40] [--generations 12]

Memory and instructions are those that the engine plans for the board. The score is not accuracy but
1 - 1 / (1 + MACs / 1 M), which stands in for it: this shows how well a search finds what it looks for within
a budget. The hypervolume is the share of the box from (score 1, nothing spent) to (score 0, the whole budget)
that a front dominates, over score, instructions, RAM and flash.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tinyhil.nas.arch import Arch
    from tinyhil.nas.evolution import Budget
    from tinyhil.nas.planning import EngineNeeds
    from tinyhil.nas.space import Space


def score(arch: Arch) -> float:
    """What stands in for accuracy, in 0..1."""
    from tinyhil.nas import cost

    return 1 - 1 / (1 + cost.macs(arch) / 1e6)


def race(
    spaces: Sequence[Space], budget: Budget, needs: EngineNeeds, population: int, generations: int, seed: int
) -> dict[str, tuple[int, float, float]]:
    """For each searcher: networks scored, best score, hypervolume of all that it scored. Random search scores
    as many as the searcher that it is compared with."""
    from tinyhil.nas.evolution import Judge, Scored, Settings, evolve, random_search
    from tinyhil.nas.nsga import Front, Point, best_of, pareto

    def latency(arch: Arch) -> float:
        return float(sum(layer.instructions for layer in needs.plan(arch).layers))

    def judge() -> Judge:
        return Judge(budget, needs, score, latency, needs.prepare)

    def point(one: Arch) -> Point:
        need = needs(one)
        return Point(one, score(one), latency(one), need.ram, need.flash)

    def result(scored: Sequence[Arch]) -> tuple[int, float, float]:
        front = Front(best_of([point(arch) for arch in scored]), len(scored))
        return len(scored), max(map(score, scored)), front.hypervolume(budget)

    def chance(count: int) -> tuple[int, float, float]:
        ranked: Sequence[Scored] = random_search(spaces, judge(), count, seed).ranked
        return result([one.arch for one in ranked])

    half = population // 2
    settings = Settings(population, population // 4, half, half, generations=generations, seed=seed)
    asked = judge()
    evolve(spaces, asked, settings)
    evolved = list(asked.scores)
    front = pareto(
        spaces, budget, needs, latency, score, population, generations, seed=seed, prepare=needs.prepare
    )
    best = max(one.score for one in front.points)
    return {
        "evolution": result(evolved),
        "random, as many as evolution": chance(len(evolved)),
        "NSGA-II": (front.scored, best, front.hypervolume(budget)),
        "random, as many as NSGA-II": chance(front.scored),
    }


@click.command()
@click.option("--board", "name", default="stm32f746", show_default=True)
@click.option("--seeds", default=5, show_default=True)
@click.option("--population", default=40, show_default=True)
@click.option("--generations", default=12, show_default=True)
def main(name: str, seeds: int, population: int, generations: int) -> None:
    """Print the table."""
    from tinyhil.harness.boards import get_board
    from tinyhil.nas.chainstore import chains_folder
    from tinyhil.nas.check import FAMILY
    from tinyhil.nas.crew import open_needs
    from tinyhil.nas.evolution import Budget
    from tinyhil.nas.space import grid

    spaces = grid(FAMILY, (0.5, 0.75, 1.0), (16, 20, 24, 28, 32))
    budget = Budget(12 * 1024, 128 * 1024, 3e6)
    rows: dict[str, list[tuple[int, float, float]]] = {}
    with open_needs(get_board(name), cache=chains_folder()) as needs:
        for seed in range(seeds):
            click.echo(f"seed {seed}", err=True)
            for who, result in race(spaces, budget, needs, population, generations, seed).items():
                rows.setdefault(who, []).append(result)
    click.echo(f"{name}: RAM {budget.ram:,} B, flash {budget.flash:,} B, {budget.latency:,.0f} instructions")
    for who, found in rows.items():
        counts, best, volume = ([figures[at] for figures in found] for at in range(3))
        click.echo(
            f"  {who:30} {min(counts)}-{max(counts)} networks  best score {mean(best):.4f} "
            f"({min(best):.4f} to {max(best):.4f})  hypervolume {mean(volume):.4f} "
            f"({min(volume):.4f} to {max(volume):.4f})"
        )
    for who in ("evolution", "NSGA-II"):
        pairs = list(zip(rows[who], rows[f"random, as many as {who}"], strict=True))
        best_wins, volume_wins = (sum(mine[at] > other[at] for mine, other in pairs) for at in (1, 2))
        click.echo(
            f"  {who} beats random search in best score {best_wins} times of {seeds}, "
            f"in hypervolume {volume_wins} times"
        )


if __name__ == "__main__":
    main()
