"""Run time from the engine's own plan: what each kernel really takes per instruction it was planned with.

TinyEngine counts its kernels' instructions when it chooses among them. Those counts are close, not
exact (data-dependent paths, calls, alignment), and they are not cycles. So layers are measured, and
each kernel gets a price per planned instruction and one per call; a tile that was never measured is
priced like its family. Nothing here guesses what the engine will do with an architecture: fusion,
tiles and columns are in the plan already.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from tinyhil.errors import UsageError
from tinyhil.nas.arch import Arch
from tinyhil.nas.latency import FOLDS, Prediction, Report, Sample, report_on
from tinyhil.nas.meter import Measured
from tinyhil.nas.planning import Planned, family

FORMAT = "tinyhil-plan-latency/1"
RIDGE = 1e-4
Plan = Callable[[Arch], Planned]


@dataclass(frozen=True)
class PlanModel:
    """Costs in `unit` for one engine on one board.

    `prices` maps a kernel, and the family of its tiles, to (per planned instruction, per call);
    `default` serves families never measured. `spread` is the relative half-width of the interval of
    stated `coverage`; `samples` is how many networks were measured.
    """

    engine: str
    board: str
    unit: str
    prices: Mapping[str, tuple[float, float]]
    default: float
    spread: float
    coverage: float
    samples: int

    def price(self, plan: Planned) -> Prediction:
        """The cost of a planned network."""
        value = _price(self.prices, self.default, plan)
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
        prices = {str(k): (float(a), float(b)) for k, (a, b) in table.pop("prices").items()}
        return PlanModel(prices=prices, **table)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not a latency model: {error!r}") from error


def fit_plan(
    measured: Sequence[Measured], plan: Plan, engine: str, board: str, coverage: float = 0.9
) -> PlanModel:
    """A model of `measured` networks, whose plans `plan` gives; at least two are needed."""
    if len(measured) < 2:
        raise UsageError(f"a latency model needs at least two measured networks, here are {len(measured)}")
    plans = [plan(one.sample.arch) for one in measured]
    prices, default = _fit(measured, plans)
    errors = []
    folds = min(FOLDS, len(measured))
    for fold in range(folds):
        kept = [at for at in range(len(measured)) if at % folds != fold]
        seen = _fit([measured[at] for at in kept], [plans[at] for at in kept])
        errors += [
            abs(_price(*seen, plans[at]) / measured[at].sample.total - 1)
            for at in range(fold, len(measured), folds)
        ]
    # The conformal quantile: with n left-out errors, the ceil(coverage*(n+1))-th smallest of them.
    rank = min(int(np.ceil(coverage * (len(errors) + 1))), len(errors)) - 1
    spread = float(sorted(errors)[rank])
    return PlanModel(engine, board, measured[0].unit, prices, default, spread, coverage, len(measured))


def evaluate_plan(model: PlanModel, held_out: Sequence[Measured], plan: Plan) -> Report:
    """The report of `model` on networks that it was not fitted to."""
    predictions = [model.price(plan(one.sample.arch)) for one in held_out]
    samples: list[Sample] = [one.sample for one in held_out]
    inside = [p.low <= s.total <= p.high for p, s in zip(predictions, samples, strict=True)]
    return report_on("engine's plan", [p.value for p in predictions], samples, float(np.mean(inside)))


def _price(prices: Mapping[str, tuple[float, float]], default: float, plan: Planned) -> float:
    total = 0.0
    for kernel, instructions in plan.layers:
        each, call = prices.get(kernel) or prices.get(family(kernel)) or (default, 0.0)
        total += each * instructions + call
    return total


def _fit(
    measured: Sequence[Measured], plans: Sequence[Planned]
) -> tuple[dict[str, tuple[float, float]], float]:
    """Prices per kernel and per family from the layers, and the common price. Errors are relative."""
    common = float(
        np.median(
            [m.sample.total / sum(n for _, n in p.layers) for m, p in zip(measured, plans, strict=True)]
        )
    )
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one, plan in zip(measured, plans, strict=True):
        if len(one.layers) == len(plan.layers):  # else the built network was fused in another way
            for (kernel, planned), cost in zip(plan.layers, one.layers, strict=True):
                if planned and cost:
                    rows[kernel].append((planned, cost))
                    if family(kernel) != kernel:
                        rows[family(kernel)].append((planned, cost))
    return {kernel: _line(points, common) for kernel, points in rows.items()}, common


def _line(points: Sequence[tuple[float, float]], common: float) -> tuple[float, float]:
    """Price per planned instruction and per call, of (planned, cost) pairs; a single size tells no
    two prices apart, then a slight pull keeps the first near `common`."""
    planned, cost = np.array(points).T
    scale = float(np.sqrt(np.mean((planned / cost) ** 2)))
    pull = np.sqrt(RIDGE * len(points)) * scale
    rows = np.stack([planned / cost, 1.0 / cost], axis=1)
    matrix = np.vstack([rows, [pull, 0.0]])
    (each, call), _ = nnls(matrix, np.array([*np.ones(len(points)), pull * common]))
    return float(each), float(call)
