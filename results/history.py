"""When a number changed: a series of runs as level stretches with steps between them. Pure.

The stretches are chosen as a whole (dynamic programming over all partitions), with the sum of
absolute distances from each stretch's median as the cost, so that single outliers do not count,
and a price per step from the Bayesian information criterion with the noise seen in the series.
A series without noise, such as an exact count, has a step at every change.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

MOST_RUNS = 300
"""Only the newest runs are looked at: the cost grows with the square."""

SHORTEST = 2
"""Runs that a level must last in a noisy series: one value alone is an outlier."""


@dataclass(frozen=True)
class Step:
    """A lasting change: the values from `index` on lie around `after`, those before around `before`."""

    index: int
    before: float
    after: float

    @property
    def change(self) -> float:
        """Relative change, +0.03 for three per cent more; infinite from zero."""
        return (self.after - self.before) / self.before if self.before else math.inf


def detect_steps(values: Sequence[float]) -> list[Step]:
    """The lasting changes in `values`, oldest first; indices count from the start of `values`."""
    if len(values) < 2:
        return []
    skipped = max(len(values) - MOST_RUNS, 0)
    values = values[skipped:]
    noise = noise_scale(values)
    starts = _changes(values) if noise == 0 else _partition(values, noise)
    levels = [
        median(values[start:end]) for start, end in zip(starts, [*starts[1:], len(values)], strict=True)
    ]
    pairs = zip(starts[1:], levels, levels[1:], strict=False)
    return [Step(skipped + start, before, after) for start, before, after in pairs if before != after]


def noise_scale(values: Sequence[float]) -> float:
    """Mean absolute deviation of the noise, from the differences of neighbours: steps hardly change it.

    0 where most neighbours are equal. The factor is that of normally distributed noise.
    """
    differences = [abs(b - a) for a, b in pairwise(values)]
    return 0.837 * median(differences) if differences else 0.0


def _changes(values: Sequence[float]) -> list[int]:
    """Starts of runs of equal values."""
    return [i for i in range(len(values)) if i == 0 or values[i] != values[i - 1]]


def _partition(values: Sequence[float], noise: float) -> list[int]:
    """Starts of the stretches of the cheapest partition."""
    count = len(values)
    price = 3.0 * math.log(count) * noise
    best = [0.0] + [math.inf] * count
    start_of = [0] * (count + 1)
    for start in range(count):
        base = best[start] + price
        for end, cost in enumerate(_costs(values[start:]), start + 1):
            if end - start >= SHORTEST and base + cost < best[end]:
                best[end], start_of[end] = base + cost, start
    starts, end = [], count
    while end > 0:
        end = start_of[end]
        starts.append(end)
    return starts[::-1]


def _costs(values: Sequence[float]) -> Iterator[float]:
    """Sum of distances from the median, for every beginning of `values`.

    All points of the median interval cost the same, so a new value adds its distance from there.
    """
    ordered: list[float] = []
    cost = 0.0
    for count, value in enumerate(values):
        if count:
            low, high = ordered[(count - 1) // 2], ordered[count // 2]
            cost += abs(value - min(max(value, low), high))
        insort(ordered, value)
        yield cost
