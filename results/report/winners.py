"""Who wins, at a glance: each network's engines on one line, by how many times as long they take. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from markupsafe import Markup

from tinyhil.results.metrics import Metric
from tinyhil.results.quantities import significant
from tinyhil.results.record import Measurement
from tinyhil.results.report.contest import MODES, contests, time_metric, value_of
from tinyhil.results.report.figure import WIDTH, Figure, legend, tick_number
from tinyhil.results.report.svg import (
    Box,
    Scale,
    line,
    log_ticks,
    logarithmic,
    picture,
    rect,
    shorten,
    tag,
    text,
)
from tinyhil.results.report.tables import slug

ROW = 25.0  # height of one network's line
Ratios = Mapping[str, float]
"""Engine → its time over the baseline's, the baseline's own included as 1."""


def winners(records: Sequence[Measurement], colours: Mapping[str, int], baseline: str) -> list[Figure]:
    """One figure per board, mode and kind of time in which `baseline` has a rival."""
    places: dict[tuple[str, str, str], list[tuple[str, Ratios]]] = {}
    metrics: dict[str, Metric] = {}
    for group in contests(records):
        metric = time_metric(group)
        ratios = _ratios(group, metric, baseline) if metric else {}
        if metric and len(ratios) > 1:
            metrics[metric.name] = metric
            place = (group[0].board, group[0].mode, metric.name)
            places.setdefault(place, []).append((group[0].model.name, ratios))
    figures: list[Figure] = []
    for (board, mode, name), rows in places.items():
        figure = _figure(slug(board, mode, name, "winners"), rows, metrics[name], colours, baseline)
        title = f"{figure.title}: {board}, {MODES[mode]}"
        figures.append(replace(figure, subject=title, folded=bool(figures)))
    return figures


def median_lead(records: Sequence[Measurement], baseline: str) -> tuple[float, Metric] | None:
    """The nearest rival's time over the baseline's, in the middle of all comparisons; None if there are
    none, or of more than one kind of time."""
    leads, metrics = [], {}
    for group in contests(records):
        metric = time_metric(group)
        ratios = _ratios(group, metric, baseline) if metric else {}
        if metric and len(ratios) > 1:
            metrics[metric.name] = metric
            leads.append(min(ratio for engine, ratio in ratios.items() if engine != baseline))
    return (median(leads), next(iter(metrics.values()))) if len(metrics) == 1 else None


def _ratios(group: Sequence[Measurement], metric: Metric, baseline: str) -> Ratios:
    values = {r.engine.name: value for r in group if (value := value_of(r, metric))}
    return {name: value / values[baseline] for name, value in values.items()} if baseline in values else {}


def _figure(
    name: str,
    rows: Sequence[tuple[str, Ratios]],
    metric: Metric,
    colours: Mapping[str, int],
    baseline: str,
) -> Figure:
    engines = sorted({engine for _, ratios in rows for engine in ratios}, key=lambda e: colours[e])
    gutter = min(20 + 7.2 * max(len(network) for network, _ in rows), 220)
    plot = Box(gutter, 46, WIDTH - 84, 46 + ROW * len(rows))
    every = [ratio for _, ratios in rows for ratio in ratios.values()]
    low, high = min(every) / 1.12, max(every) * 1.12
    x = logarithmic(low, high, plot.left, plot.right)
    parts = [legend(plot.left, 14, [(engine, colours[engine]) for engine in engines])]
    for tick in log_ticks(low, high):
        parts.append(line(x(tick), plot.top - 4, x(tick), plot.bottom, "grid"))
        parts.append(text(x(tick), plot.top - 9, f"×{tick_number(tick)}", "tick", "middle"))
    parts.append(line(x(1), plot.top - 4, x(1), plot.bottom, "even"))
    for index, (network, ratios) in enumerate(rows):
        middle = plot.top + ROW * (index + 0.5)
        nearest = min(ratio for engine, ratio in ratios.items() if engine != baseline)
        parts.append(text(plot.left - 10, middle + 4, shorten(network, 30), "label", "end"))
        ends = sorted((x(min(ratios.values())), x(max(ratios.values()))))
        parts.append(rect(ends[0], middle - 1, ends[1] - ends[0], 2, "reach", radius=1))
        parts += _dots(ratios, middle, x, colours)
        look = "value lost" if nearest < 1 else "value"
        parts.append(text(WIDTH - 74, middle + 4, f"×{significant(nearest)}", look))
    won = sum(min(ratios, key=lambda e: ratios[e]) == baseline for _, ratios in rows)
    note = (
        f"{metric.title} as a multiple of {baseline}'s: a dot to the right of ×1 needs more. "
        f"The number is the nearest rival's; {baseline} needs least in {won} of {len(rows)}."
    )
    title = f"{metric.title}, {baseline} = 1"
    svg = picture(WIDTH, plot.bottom + 8, title, note, *parts)
    columns = ("network", *(f"{engine} / {baseline} {metric.name}" for engine in engines))
    data = tuple((network, *(_rounded(ratios.get(e)) for e in engines)) for network, ratios in rows)
    return Figure(name, title, note, metric.kind, svg, columns, data)


def _dots(ratios: Ratios, middle: float, x: Scale, colours: Mapping[str, int]) -> list[Markup]:
    """One dot per engine; those that would hide each other stand side by side, above and below the line."""
    found: list[tuple[float, list[str]]] = []
    for engine in sorted(ratios, key=lambda e: ratios[e]):
        if found and x(ratios[engine]) - found[-1][0] < 7:
            found[-1][1].append(engine)
        else:
            found.append((x(ratios[engine]), [engine]))
    dots = []
    for _, together in found:
        for number, engine in enumerate(together):
            offset = (number - (len(together) - 1) / 2) * 7
            hint = tag("title", f"{engine}: ×{significant(ratios[engine])}")
            look = f"e{colours[engine]} mark"
            radius = 5.5 if len(together) == 1 else 4.0
            dots.append(tag("circle", hint, cx=x(ratios[engine]), cy=middle + offset, r=radius, class_=look))
    return dots


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 4)
