"""Which networks to measure: each the one that would teach most about all candidates.

A measured network shows the cost of each of its layers, so what it teaches follows from the counts of its
planned layers: by how much the linear model's variance over the candidates would drop (the Bayesian one,
under the ridge's prior). That does not depend on what the measurements will say, so the networks can be built
and measured together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tinyhil.nas.arch import Arch

NOISE = 1e-2  # of a measured layer, as a share of what layers vary by
Counts = Mapping[str, float]  # of one planned layer by name, `instructions` among them
Describe = Callable[[Arch], Sequence[Counts]]
Matrix = npt.NDArray[np.float64]


def choose(
    candidates: Sequence[Arch], count: int, describe: Describe, known: Sequence[Arch] = ()
) -> list[Arch]:
    """`count` of `candidates`, the most telling first, beside those before it and those of `known`;
    `describe` gives the layers of each."""
    networks, whole = _scaled([describe(arch) for arch in (*known, *candidates)])
    noise = NOISE * float(np.median([(rows**2).sum(axis=1).mean() for rows in networks])) if networks else 0.0
    covariance = np.eye(whole.shape[1])
    for rows in networks[: len(known)]:
        covariance = covariance - _drop(covariance, rows, noise)
    asked, left, chosen = whole[len(known) :], list(range(len(candidates))), list[Arch]()
    while left and len(chosen) < count:
        gains = [_gain(covariance, networks[len(known) + at], noise, asked) for at in left]
        best = left.pop(int(np.argmax(gains)))
        chosen.append(candidates[best])
        covariance = covariance - _drop(covariance, networks[len(known) + best], noise)
    return chosen


def _scaled(every: Sequence[Sequence[Counts]]) -> tuple[list[Matrix], Matrix]:
    """Each network's layers [layers, counts], weighted as the fit weights them and scaled so that all counts
    vary alike; and each network's counts per instruction [networks, counts], scaled in the same way."""
    names = sorted({name for layers in every for layer in layers for name in layer})
    tables = [np.array([[layer.get(name, 0.0) for name in names] for layer in layers]) for layers in every]
    costs = [np.array([layer["instructions"] for layer in layers]) for layers in every]
    weighted = [table / np.sqrt(cost)[:, None] for table, cost in zip(tables, costs, strict=True)]
    size = np.sqrt((np.vstack([*weighted, np.zeros((1, len(names)))]) ** 2).mean(axis=0))
    size[size == 0] = 1.0
    whole = [table.sum(axis=0) / cost.sum() / size for table, cost in zip(tables, costs, strict=True)]
    return [rows / size for rows in weighted], np.array(whole).reshape(len(every), len(names))


def _parts(covariance: Matrix, rows: Matrix, noise: float) -> tuple[Matrix, Matrix]:
    seen = covariance @ rows.T
    solved = np.linalg.solve(noise * np.eye(len(rows)) + rows @ seen, seen.T)
    return seen, np.asarray(solved, np.float64)


def _drop(covariance: Matrix, rows: Matrix, noise: float) -> Matrix:
    """What a measurement of the layers `rows` takes from `covariance`."""
    seen, solved = _parts(covariance, rows, noise)
    return np.asarray(seen @ solved, np.float64)


def _gain(covariance: Matrix, rows: Matrix, noise: float, asked: Matrix) -> float:
    """The drop of the variance over all networks `asked`."""
    seen, solved = _parts(covariance, rows, noise)
    return float(((asked @ seen) * (asked @ solved.T)).sum())
