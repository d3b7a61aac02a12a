"""Budgets such as `peak_ram="256KiB", latency="100ms"`: does a record keep them? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tinyhil.errors import UsageError
from tinyhil.results.metrics import METRICS, latency
from tinyhil.results.quantities import format_duration, format_interval, parse_duration, parse_size
from tinyhil.results.record import Measurement


@dataclass(frozen=True)
class Verdict:
    """One budget and the record's value, in the metric's unit (latency: seconds).

    `kept` is None where the record cannot tell, for example a latency when only instructions were
    counted. `kind` says how the value was made.
    """

    name: str
    limit: float
    value: float | None
    kind: str
    kept: bool | None
    message: str


def parse_budget(limits: Mapping[str, str | int]) -> dict[str, float]:
    """Limits as numbers: `latency` in seconds, sizes in bytes, the rest in counts.

    Known names: latency and all metrics. UsageError names the wrong one.
    """
    return {name: _parse(name, value) for name, value in limits.items()}


def _parse(name: str, value: str | int) -> float:
    if name == "latency":
        return parse_duration(value)
    if name not in METRICS:
        raise UsageError(f"no budget is called {name!r}; known: latency, {', '.join(METRICS)}")
    if METRICS[name].unit == "B":
        return parse_size(value)
    try:
        return float(value)
    except ValueError as error:
        raise UsageError(f"budget {name}={value!r} is not a number") from error


def check_budget(record: Measurement, limits: Mapping[str, str | int]) -> list[Verdict]:
    """One verdict per limit; UsageError for a wrong name or value."""
    return [
        _latency(record, limit) if name == "latency" else _metric(record, name, limit)
        for name, limit in parse_budget(limits).items()
    ]


def _latency(record: Measurement, limit: float) -> Verdict:
    wait = latency(record)
    if wait is None:
        why = f"{record.mode} counted instructions only; a latency needs hardware or a timing model"
        return Verdict("latency", limit, None, "", None, f"latency budget not judged: {why}")
    kept = wait.seconds <= limit
    text = f"{wait.kind} latency {format_duration(wait.seconds)}"
    if wait.kind == "estimated":
        text += f" ({format_interval(wait.low, wait.high)})"
    text += f" {'keeps' if kept else 'exceeds'} the budget of {format_duration(limit)}"
    if wait.low <= limit < wait.high:
        text += "; the budget lies inside the estimate's interval, so only hardware can tell for sure"
    return Verdict("latency", limit, wait.seconds, wait.kind, kept, text)


def _metric(record: Measurement, name: str, limit: float) -> Verdict:
    metric = METRICS[name]
    value = metric.of(record) if record.error is None else None
    if value is None:
        text = f"{name} budget not judged: this record has no {metric.words}"
        return Verdict(name, limit, None, metric.kind, None, text)
    kept = value <= limit
    over = "" if kept else f", {metric.format(value - limit)} too many"
    text = f"{name} {value:,.0f} {'keeps' if kept else 'exceeds'} the budget of {limit:,.0f}{over}"
    return Verdict(name, limit, value, metric.kind, kept, text)
