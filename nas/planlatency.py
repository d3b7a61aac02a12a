"""Run time from the engine's own plan: prices for what its kernels' loops do, learned from measured layers.

Nothing here guesses what the engine will do with an architecture: fusion, tiles and kernels are in the plan
already. A price is per count of `planned_features`, non-negative, fitted to measured layers, each weighted
so that neither small nor large ones rule. The interval comes from leaving measured networks out in turn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board
from tinyhil.nas.arch import Arch
from tinyhil.nas.caches import Caches, caches_of
from tinyhil.nas.choosing import Describe
from tinyhil.nas.latency import FOLDS, Prediction, Report, Sample, report_on
from tinyhil.nas.meter import Measured
from tinyhil.nas.planfeatures import planned_features
from tinyhil.nas.planning import Planned

FORMAT = "tinyhil-plan-latency/3"
RIDGE = 1e-3  # pull towards the prior, as a share of the layers' own weight
TRANSFER = 1e-2  # the same towards the prices of another board
Plan = Callable[[Arch], Planned]
Prices = Mapping[str, float]


@dataclass(frozen=True)
class PlanModel:
    """Costs in `unit` for one engine on one board with its `caches`.

    `prices` are per count of `planned_features`; layers of families of kernels that were never measured
    take `default` per planned instruction. `spread` is the relative half-width of the interval of stated
    `coverage`; `samples` is how many networks were measured.
    """

    engine: str
    board: str
    unit: str
    caches: Caches
    prices: Prices
    default: float
    spread: float
    coverage: float
    samples: int

    def price(self, plan: Planned) -> Prediction:
        """The cost of a planned network."""
        value = _price(self.prices, self.default, self.caches, plan)
        return Prediction(value, value * (1 - self.spread), value * (1 + self.spread))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")


def load_plan_model(path: Path) -> PlanModel:
    """A model that `save` wrote; UsageError where the file is another thing."""
    try:
        table: dict[str, Any] = json.loads(path.read_text())
        if table.pop("format") != FORMAT:
            raise UsageError(f"{path}: a latency model of another version; fit it again")
        prices = {str(name): float(price) for name, price in table.pop("prices").items()}
        return PlanModel(prices=prices, caches=Caches(**table.pop("caches")), **table)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not a latency model: {error!r}") from error


def fit_plan(
    measured: Sequence[Measured],
    plan: Plan,
    engine: str,
    board: Board,
    coverage: float = 0.9,
    source: PlanModel | None = None,
) -> PlanModel:
    """A model of `measured` networks; at least two are needed. `plan` gives the plans of architectures.

    Prices are learned from what each network's firmware really ran, where the measurement says so; the
    interval is that of predictions from `plan`, as others will be made. With `source`, the model of another
    board, its prices times a common factor are the prior: then ten networks are enough. So few say little of
    what the counts cannot tell on networks of other sizes; `source` knows, so its spread is added (as errors
    are: the root of the sum of squares).
    """
    if len(measured) < 2:
        raise UsageError(f"a latency model needs at least two measured networks, here are {len(measured)}")
    caches = caches_of(board)
    known = [_Known.of(one, one.plan or plan(one.sample.arch), caches) for one in measured]
    prices, default = _fit(known, source)
    errors = []
    folds = min(FOLDS, len(measured))
    for fold in range(folds):
        seen = _fit([one for at, one in enumerate(known) if at % folds != fold], source)
        errors += [
            abs(_price(*seen, caches, plan(one.sample.arch)) / one.sample.total - 1)
            for one in measured[fold::folds]
        ]
    # The conformal quantile: with n left-out errors, the ceil(coverage*(n+1))-th smallest of them.
    rank = min(int(np.ceil(coverage * (len(errors) + 1))), len(errors)) - 1
    spread = float(np.hypot(sorted(errors)[rank], source.spread if source is not None else 0.0))
    return PlanModel(
        engine, board.name, measured[0].unit, caches, prices, default, spread, coverage, len(measured)
    )


def describe_by(plan: Plan, board: Board) -> Describe:
    """What the model sees of an architecture, for the choice of what to measure on `board`."""
    caches = caches_of(board)
    return lambda arch: [planned_features(layer, caches) for layer in plan(arch).layers]


def evaluate_plan(
    model: PlanModel, held_out: Sequence[Measured], plan: Plan, name: str = "engine's plan"
) -> Report:
    """The report of `model` on networks that it was not fitted to, by the plans that `plan` gives."""
    predictions = [model.price(plan(one.sample.arch)) for one in held_out]
    samples: list[Sample] = [one.sample for one in held_out]
    inside = [p.low <= s.total <= p.high for p, s in zip(predictions, samples, strict=True)]
    return report_on(name, [p.value for p in predictions], samples, float(np.mean(inside)))


@dataclass(frozen=True)
class _Known:
    """What a measured network teaches: its cost, the instructions planned for it, and of each layer the
    counts and the cost, 0 where it is not known."""

    total: int
    instructions: int
    rows: tuple[tuple[Mapping[str, float], int], ...]

    @staticmethod
    def of(one: Measured, plan: Planned, caches: Caches) -> _Known:
        """The network `one`, whose firmware ran `plan`; if it had more layers or fewer, it ran another."""
        costs = one.layers if len(one.layers) == len(plan.layers) else (0,) * len(plan.layers)
        counts = [planned_features(layer, caches) for layer in plan.layers]
        instructions = sum(layer.instructions for layer in plan.layers)
        return _Known(one.sample.total, instructions, tuple(zip(counts, costs, strict=True)))


def _price(prices: Prices, default: float, caches: Caches, plan: Planned) -> float:
    return sum(_layer_price(prices, default, planned_features(layer, caches)) for layer in plan.layers)


def _layer_price(prices: Prices, default: float, counts: Mapping[str, float]) -> float:
    if not any(name in prices for name in counts if name.startswith("calls ")):
        return default * counts["instructions"]
    return sum(prices.get(name, 0.0) * count for name, count in counts.items())


def _fit(known: Sequence[_Known], source: PlanModel | None) -> tuple[dict[str, float], float]:
    """Prices by name from the layers, and the common price of a planned instruction."""
    common = float(np.median([one.total / one.instructions for one in known]))
    prior: Prices = {"instructions": common}
    if source is not None:
        ratios = [
            one.total / sum(_layer_price(source.prices, source.default, row) for row, _ in one.rows)
            for one in known
        ]
        prior = {name: price * float(np.median(ratios)) for name, price in source.prices.items()}
    layers = [(row, cost) for one in known for row, cost in one.rows if cost]
    if not layers:
        return dict(prior) if source is not None else {}, common
    rows, costs = [row for row, _ in layers], np.array([cost for _, cost in layers], float)
    names = sorted({name for row in rows for name in row} | (prior.keys() if source is not None else set()))
    found = _solve(rows, costs, names, prior, RIDGE if source is None else TRANSFER)
    return dict(zip(names, map(float, found), strict=True)), common


def _solve(
    rows: Sequence[Mapping[str, float]],
    costs: npt.NDArray[np.float64],
    names: Sequence[str],
    prior: Mapping[str, float],
    pull: float,
) -> npt.NDArray[np.float64]:
    """Non-negative least squares of `costs`, weighted by their inverse root, drawn towards `prior`."""
    matrix = np.array([[row.get(name, 0.0) for name in names] for row in rows]) / np.sqrt(costs)[:, None]
    size = np.sqrt((matrix**2).mean(axis=0))
    size[size == 0] = 1.0
    strength = np.sqrt(pull * len(rows))
    centre = strength * size * np.array([prior.get(name, 0.0) for name in names])
    stacked = np.vstack([matrix / size, strength * np.eye(len(names))])
    found, _ = nnls(stacked, np.concatenate([np.sqrt(costs), centre]), maxiter=50 * len(names))
    return np.asarray(found / size, np.float64)
