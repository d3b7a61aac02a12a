"""The front of accuracy, run time, RAM and flash in one search: NSGA-II, by pymoo.

A network is a vector of choices (space, depth per stage, kernel and expansion per place), so that
pymoo's own operators apply; what the budget forbids is a constraint, which NSGA-II sorts first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.indicators.hv import HV
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.mutation.pm import PolynomialMutation
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize

from tinyhil.errors import UsageError
from tinyhil.nas.arch import Arch
from tinyhil.nas.evolution import Budget
from tinyhil.nas.space import Needs, Space

Choices = npt.NDArray[np.int64]
Judged = tuple["Point | None", list[float]]  # no point where the budget is broken; how far beyond it


@dataclass(frozen=True)
class Point:
    """One network with its four figures: score up, the others down. `latency` in the model's unit,
    `ram` and `flash` in bytes."""

    arch: Arch
    score: float
    latency: float
    ram: int
    flash: int

    def costs(self) -> tuple[float, float, float, float]:
        """The figures as pymoo minimises them."""
        return (-self.score, self.latency, float(self.ram), float(self.flash))


@dataclass(frozen=True)
class Front:
    """Networks none of which is better than another in all figures, by run time; how many were scored."""

    points: tuple[Point, ...]
    scored: int

    def hypervolume(self, budget: Budget) -> float:
        """Share of the box between (score 1, nothing spent) and (score 0, all of the budget) that the
        front dominates, in 0..1."""
        if not self.points:
            return 0.0
        top = (budget.latency or max(p.latency for p in self.points), float(budget.ram), float(budget.flash))
        scaled = np.array(
            [[1 - p.score, *(c / t for c, t in zip(p.costs()[1:], top, strict=True))] for p in self.points]
        )
        return float(HV(ref_point=np.ones(4))(scaled))


class Coding:
    """Networks of `spaces`, which share one family, as vectors of choices."""

    def __init__(self, spaces: Sequence[Space]) -> None:
        if len({space.family for space in spaces}) != 1:
            raise UsageError("the spaces of one search must share their family")
        self.spaces, self.family = tuple(spaces), spaces[0].family
        limits = [len(self.spaces)]
        for stage, (_, _, most) in enumerate(self.family.stages):
            limits.append(len(self.family.depths(stage)))
            limits += [len(self.family.kernels), len(self.family.expansions)] * most
        self.upper = np.array(limits) - 1

    def decode(self, choices: Choices) -> Arch:
        """The network of one vector of choices."""
        left = iter(int(choice) for choice in choices)
        space = self.spaces[next(left)]
        genes = []
        for stage, (_, _, most) in enumerate(self.family.stages):
            depth = self.family.depths(stage)[next(left)]
            places = [
                (self.family.kernels[next(left)], self.family.expansions[next(left)]) for _ in range(most)
            ]
            genes.append(places[:depth])
        return space.build(genes)


class _Problem(Problem):  # type: ignore[misc]
    """What pymoo asks of a whole population: four costs each, and how far beyond the budget a network is."""

    def __init__(self, coding: Coding, judge: Callable[[Sequence[Arch]], list[Judged]]) -> None:
        super().__init__(n_var=len(coding.upper), n_obj=4, n_ieq_constr=3, xl=0, xu=coding.upper, vtype=int)
        self.coding, self.judge = coding, judge

    def _evaluate(self, x: Choices, out: dict[str, Any], *_: Any, **__: Any) -> None:
        judged = self.judge([self.coding.decode(row) for row in x])
        out["F"] = np.array([point.costs() if point is not None else (1e30,) * 4 for point, _ in judged])
        out["G"] = np.array([beyond for _, beyond in judged])


def pareto(
    spaces: Sequence[Space],
    budget: Budget,
    needs: Needs,
    latency: Callable[[Arch], float],
    score: Callable[[Arch], float],
    population: int = 100,
    generations: int = 30,
    seed: int = 0,
    prepare: Callable[[Sequence[Arch]], None] = lambda archs: None,
) -> Front:
    """The front found by NSGA-II. Networks beyond the budget are never scored. `prepare` is told of each
    population before its networks are asked for."""
    points: dict[Arch, Point] = {}

    def judge(archs: Sequence[Arch]) -> list[Judged]:
        prepare(archs)
        return [one(arch) for arch in archs]

    def one(arch: Arch) -> Judged:
        need, time = needs(arch), latency(arch)
        beyond = [need.ram / budget.ram - 1, need.flash / budget.flash - 1]
        beyond.append(time / budget.latency - 1 if budget.latency else -1.0)
        if max(beyond) > 0:
            return None, beyond
        if arch not in points:
            points[arch] = Point(arch, score(arch), time, need.ram, need.flash)
        return points[arch], beyond

    algorithm = NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=UniformCrossover(prob=0.9, repair=RoundingRepair()),
        mutation=PolynomialMutation(prob=1.0, prob_var=0.1, eta=3, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    minimize(_Problem(Coding(spaces), judge), algorithm, ("n_gen", generations), seed=seed, verbose=False)
    if not points:
        raise UsageError(
            f"no network within the budget was found in {population * generations} draws; `evolve` says "
            "which limit is too low"
        )
    return Front(best_of(tuple(points.values())), len(points))


def best_of(points: Sequence[Point]) -> tuple[Point, ...]:
    """Those of `points` that no other is at least as good as in everything, by run time."""
    costs = np.array([point.costs() for point in points])
    kept = []
    for at, mine in enumerate(costs):
        better = (costs <= mine).all(axis=1) & (costs < mine).any(axis=1)
        if not better.any():
            kept.append(points[at])
    return tuple(sorted(kept, key=lambda point: (point.latency, point.ram, -point.score)))
