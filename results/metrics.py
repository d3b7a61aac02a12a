"""The quantities that are compared, gated, drawn and exported: one list, one home.

A metric has one kind. Measured, counted and estimated cycles are three metrics, so that they never
share a column or a ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tinyhil.errors import UsageError
from tinyhil.results.quantities import format_count, format_size
from tinyhil.results.record import LayerResult, Measurement


@dataclass(frozen=True)
class Metric:
    """One number of a record. `of` is None where the record has none; less is better for all.

    `layer` gives the same number for one layer, None where layers have none. `sampled`: the number
    varies from run to run, so a gate must know the noise.
    """

    name: str
    title: str
    unit: str
    kind: str
    of: Callable[[Measurement], float | None]
    layer: Callable[[LayerResult], float | None] | None = None
    sampled: bool = False

    @property
    def words(self) -> str:
        """The title inside a sentence: `peak RAM`."""
        return self.title[0].lower() + self.title[1:]

    def format(self, value: float) -> str:
        """`value` for people."""
        return format_size(value) if self.unit == "B" else format_count(value)


def _estimate(record: Measurement | LayerResult) -> float | None:
    return record.cycles_est.value if record.cycles_est else None


def _ram(part: str) -> Callable[[Measurement], float | None]:
    return lambda record: getattr(record.peak_ram, part) if record.peak_ram else None


_ALL = (
    Metric("cycles", "Cycles", "cycles", "measured", lambda m: m.cycles, lambda x: x.cycles, True),
    Metric("instructions", "Instructions", "", "counted", lambda m: m.instructions, lambda x: x.instructions),
    Metric("cycles_est", "Estimated cycles", "cycles", "estimated", _estimate, _estimate),
    Metric("peak_ram", "Peak RAM", "B", "measured", _ram("total")),
    Metric("arena", "Arena", "B", "measured", _ram("arena")),
    Metric("stack", "Stack", "B", "measured", _ram("stack")),
    Metric("static_ram", "Static RAM", "B", "measured", _ram("static")),
    Metric("flash", "Flash", "B", "counted", lambda m: m.flash),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
TIME_METRICS = ("cycles", "instructions", "cycles_est")


def metric(name: str) -> Metric:
    """The metric of that name; UsageError lists the names."""
    if name not in METRICS:
        raise UsageError(f"no metric is called {name!r}; known: {', '.join(METRICS)}")
    return METRICS[name]


@dataclass(frozen=True)
class Latency:
    """Seconds of one inference with their interval; `kind` is measured or estimated, never absent."""

    seconds: float
    low: float
    high: float
    kind: str


def latency(record: Measurement) -> Latency | None:
    """Measured latency where there is one, else the estimated; None where only instructions were counted."""
    if record.clock_hz <= 0 or record.error is not None:
        return None
    if record.cycles is not None:
        seconds = record.cycles / record.clock_hz
        return Latency(seconds, seconds, seconds, "measured")
    if record.cycles_est is not None:
        value, low, high = record.cycles_est.value, record.cycles_est.low, record.cycles_est.high
        return Latency(value / record.clock_hz, low / record.clock_hz, high / record.clock_hz, "estimated")
    return None


Subject = tuple[str, str, str, str]
"""Network, engine, board and mode: what a history is about."""


def series(records: Iterable[Measurement], metric: Metric) -> dict[Subject, list[tuple[str, float]]]:
    """Per subject: time and value of each good record that has the metric, in the order given."""
    found: dict[Subject, list[tuple[str, float]]] = {}
    for record in records:
        value = metric.of(record)
        if value is not None and record.error is None:
            subject = (record.model.name, record.engine.name, record.board, record.mode)
            found.setdefault(subject, []).append((record.created, value))
    return found
