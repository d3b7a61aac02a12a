"""Which records may be ranked against each other, and who wins. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tinyhil.results.metrics import METRICS, TIME_METRICS, Metric
from tinyhil.results.record import Measurement

MODES = {
    "hardware": "hardware",
    "qemu": "QEMU",
    "unicorn": "Unicorn",
    "renode": "Renode",
    "native": "host",
}
TIME = tuple(METRICS[name] for name in TIME_METRICS)


def time_metric(records: Sequence[Measurement]) -> Metric | None:
    """The best kind of time that at least one record has: measured, else counted, else estimated."""
    return next((m for m in TIME if any(value_of(r, m) is not None for r in records)), None)


def value_of(record: Measurement, metric: Metric) -> float | None:
    """The record's value; none where the run ended with an error."""
    return metric.of(record) if record.error is None else None


def contests(records: Sequence[Measurement]) -> list[list[Measurement]]:
    """Records that may be ranked against each other: same network, board and mode, without error."""
    groups: dict[tuple[str, str, str, str], list[Measurement]] = {}
    for record in records:
        if record.error is None and time_metric([record]) is not None:
            key = (record.model.name, record.model.sha256, record.board, record.mode)
            groups.setdefault(key, []).append(record)
    return list(groups.values())


def fastest(group: Sequence[Measurement]) -> str | None:
    """The engine with the smallest time of the best kind that the group has."""
    metric = time_metric(group)
    known = [(value, r.engine.name) for r in group if metric and (value := value_of(r, metric)) is not None]
    return min(known)[1] if known else None


def ordered(records: Sequence[Measurement], first: str) -> list[Measurement]:
    """By network, board and mode; in each the engine `first` first."""
    return sorted(
        records, key=lambda r: (r.model.name, r.board, r.mode, r.engine.name != first, r.engine.name)
    )
