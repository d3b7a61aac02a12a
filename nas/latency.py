"""Run time from measurements: a linear model over layer features, with an interval that says how sure.

Coefficients are non-negative (no loop runs in negative time), fitted to relative errors, and
drawn towards MACs + elements where the data do not tell them apart. The interval comes from
leaving measured networks out in turn: it is as wide as the errors on networks not seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls
from scipy.stats import spearmanr

from tinyhil.errors import UsageError
from tinyhil.nas.arch import Arch, layers, parse
from tinyhil.nas.features import (
    NAMES,
    Vector,
    baseline_macs,
    baseline_macs_elements,
    features,
    groups,
    layer_features,
)

FORMAT = "tinyhil-latency/1"
FOLDS = 10
RIDGE = 2.5e-4
_MACS = np.array([float(name.endswith(" macs")) for name in NAMES])
_OUTPUTS = np.array([float(name.endswith(" outputs")) for name in NAMES])


@dataclass(frozen=True)
class Sample:
    """A measured network: `total` in the model's unit; `parts` the same per layer name, where the
    engine ran every layer on its own (empty where it fused some)."""

    arch: Arch
    total: int
    parts: Mapping[str, int]


@dataclass(frozen=True)
class Prediction:
    """A predicted cost with the interval that holds the true one with the model's `coverage`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LatencyModel:
    """Costs of networks for one engine on one board, in `unit` ("instructions" or "cycles").

    `spread` is the relative half-width of the interval of stated `coverage`. `samples` is how many
    networks it was fitted to.
    """

    engine: str
    board: str
    unit: str
    coefficients: tuple[float, ...]
    spread: float
    coverage: float
    samples: int

    def predict(self, arch: Arch) -> Prediction:
        """The cost of `arch`."""
        value = float(features(arch) @ np.array(self.coefficients))
        return Prediction(value, value * (1 - self.spread), value * (1 + self.spread))

    def save(self, path: Path) -> None:
        """Write as JSON: feature names, coefficients, interval, provenance."""
        table = {"format": FORMAT, "features": NAMES, **asdict(self)}
        path.write_text(json.dumps(table, indent=1) + "\n")


def load_model(path: Path) -> LatencyModel:
    """A model that `save` wrote; UsageError where the file is another thing or of other features."""
    try:
        table: dict[str, Any] = json.loads(path.read_text())
        if table.pop("format") != FORMAT or tuple(table.pop("features")) != NAMES:
            raise UsageError(f"{path}: a latency model of another version; fit it again")
        return LatencyModel(**table | {"coefficients": tuple(map(float, table["coefficients"]))})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not a latency model: {error!r}") from error


def fit(
    samples: Sequence[Sample], engine: str, board: str, unit: str = "instructions", coverage: float = 0.9
) -> LatencyModel:
    """A model of `samples`; at least two networks are needed to say how sure it is."""
    if len(samples) < 2:
        raise UsageError(f"a latency model needs at least two measured networks, here are {len(samples)}")
    coefficients = _fit(samples)
    errors = np.sort(np.abs(_left_out_errors(samples)))
    # The conformal quantile: with n left-out errors, the ceil(coverage*(n+1))-th smallest of them.
    at = min(int(np.ceil(coverage * (len(errors) + 1))), len(errors)) - 1
    return LatencyModel(
        engine, board, unit, tuple(map(float, coefficients)), float(errors[at]), coverage, len(samples)
    )


def transfer(
    model: LatencyModel, samples: Sequence[Sample], board: str, unit: str | None = None
) -> LatencyModel:
    """`model` moved to another board or clock by few `samples` measured there.

    One factor per class of operation, drawn towards one common factor: ten networks are enough where
    the new board runs the same code at other prices.
    """
    if not samples:
        raise UsageError("to move a latency model, at least one network must be measured on the new board")

    def moved(some: Sequence[Sample]) -> Vector:
        parts = np.array([_by_group(features(s.arch), np.array(model.coefficients)) for s in some])
        totals = np.array([float(s.total) for s in some])
        common = float(np.median(totals / parts.sum(1)))
        rows = parts * common / totals[:, None]
        pull = 0.05 * np.eye(rows.shape[1])
        factors, _ = nnls(np.vstack([rows, pull]), np.concatenate([np.ones(len(rows)), np.diag(pull)]))
        found = np.array(model.coefficients)
        for factor, part in zip(factors, groups(), strict=True):
            found[part] *= factor * common
        return found

    coefficients = moved(samples)
    errors = [model.spread]
    for at, left_out in enumerate(samples):
        rest = [*samples[:at], *samples[at + 1 :]]
        if rest:
            errors.append(abs(float(features(left_out.arch) @ moved(rest)) / left_out.total - 1))
    return replace(
        model, board=board, unit=unit or model.unit, coefficients=tuple(map(float, coefficients)),
        spread=float(max(errors)), samples=len(samples),
    )  # fmt: skip


@dataclass(frozen=True)
class Report:
    """How good predictions are on held-out networks; errors are relative (0.01 is 1 %)."""

    name: str
    networks: int
    mape: float
    worst: float
    within_5: float
    within_10: float
    spearman: float
    covered: float | None = None


def evaluate(model: LatencyModel, held_out: Sequence[Sample]) -> Report:
    """The report of `model` on networks that it was not fitted to."""
    predictions = [model.predict(sample.arch) for sample in held_out]
    inside = [p.low <= s.total <= p.high for p, s in zip(predictions, held_out, strict=True)]
    return report_on("layer features", [p.value for p in predictions], held_out, float(np.mean(inside)))


def evaluate_baselines(samples: Sequence[Sample], held_out: Sequence[Sample]) -> tuple[Report, Report]:
    """MACs only, and MACs + elements, fitted to the same samples and judged on the same networks."""
    reports = []
    for name, describe in (("MACs", baseline_macs), ("MACs + elements", baseline_macs_elements)):
        rows = np.array([describe(sample.arch) / sample.total for sample in samples])
        coefficients, _ = nnls(rows, np.ones(len(rows)))
        predicted = [float(describe(sample.arch) @ coefficients) for sample in held_out]
        reports.append(report_on(name, predicted, held_out, None))
    return reports[0], reports[1]


def samples_to_json(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Samples as plain data, architectures as text."""
    return [{"arch": str(s.arch), "total": s.total, "parts": dict(s.parts)} for s in samples]


def samples_from_json(table: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """What `samples_to_json` made."""
    return [Sample(parse(row["arch"]), int(row["total"]), dict(row["parts"])) for row in table]


def _fit(samples: Sequence[Sample]) -> Vector:
    """Coefficients [len(NAMES)] by non-negative least squares on relative errors.

    Each network is a row; so is each of its layers, where they were measured. The layers of one
    network together weigh as much as the network.
    """
    rows: list[Vector] = []
    targets: list[float] = []
    for sample in samples:
        rows.append(features(sample.arch) / sample.total)
        targets.append(1.0)
        every = [layer for layer in layers(sample.arch) if sample.parts.get(layer.name, 0) > 0]
        weight = 1.0 / np.sqrt(max(len(every), 1))
        rows += [layer_features(layer) * weight / sample.parts[layer.name] for layer in every]
        targets += [weight] * len(every)
    return _solve(np.array(rows), np.array(targets))


def _solve(matrix: Vector, targets: Vector) -> Vector:
    """Non-negative least squares, drawn by a small ridge towards the two-term model (MACs and
    elements written): what the data do not tell apart stays plausible."""
    two = np.stack([matrix @ _MACS, matrix @ _OUTPUTS], axis=1)
    (per_mac, per_output), _ = nnls(two, targets)
    size = np.sqrt((matrix**2).mean(axis=0))
    size[size == 0] = 1.0
    pull = np.sqrt(RIDGE * len(matrix)) * np.eye(matrix.shape[1])
    centre = pull @ ((_MACS * per_mac + _OUTPUTS * per_output) * size)
    found, _ = nnls(np.vstack([matrix / size, pull]), np.concatenate([targets, centre]))
    return np.asarray(found / size, np.float64)


def _left_out_errors(samples: Sequence[Sample]) -> Vector:
    """Relative error on each network by a model that did not see it."""
    errors = np.zeros(len(samples))
    folds = min(FOLDS, len(samples))
    for fold in range(folds):
        kept = [sample for at, sample in enumerate(samples) if at % folds != fold]
        coefficients = _fit(kept)
        for at in range(fold, len(samples), folds):
            errors[at] = float(features(samples[at].arch) @ coefficients) / samples[at].total - 1
    return errors


def _by_group(row: Vector, coefficients: Vector) -> list[float]:
    return [float(row[part] @ coefficients[part]) for part in groups()]


def report_on(
    name: str, predicted: Sequence[float], held_out: Sequence[Sample], covered: float | None
) -> Report:
    """The report of the costs `predicted` for the measured `held_out`, in the same order."""
    true = np.array([float(sample.total) for sample in held_out])
    errors = np.abs(np.array(predicted) / true - 1)
    return Report(
        name,
        len(held_out),
        float(errors.mean()),
        float(errors.max()),
        float(np.mean(errors <= 0.05)),
        float(np.mean(errors <= 0.10)),
        float(spearmanr(predicted, true).statistic),
        covered,
    )
