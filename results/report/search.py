"""A search in the report: how the best candidate grew, and what accuracy costs. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tinyhil.results.metrics import METRICS, metric
from tinyhil.results.report.figure import WIDTH, Figure, tick_number
from tinyhil.results.report.svg import (
    Box,
    Scale,
    line,
    linear,
    log_ticks,
    logarithmic,
    picture,
    shorten,
    tag,
    text,
    ticks,
)
from tinyhil.results.report.tables import slug


@dataclass(frozen=True)
class Candidate:
    """One network that the search evaluated: accuracy from 0 to 1, cost in the trace's metric."""

    name: str
    accuracy: float
    cost: float


@dataclass(frozen=True)
class SearchTrace:
    """A search: its candidates in the order of evaluation.

    `metric` names the cost, for all candidates the same kind (`instructions` counted, `cycles_est`
    estimated, `cycles` measured). `limit` is the budget in that unit. UsageError for another metric.
    """

    title: str
    metric: str
    candidates: tuple[Candidate, ...]
    limit: float | None = None

    def __post_init__(self) -> None:
        metric(self.metric)


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other beats in both accuracy and cost, cheapest first."""
    best: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.cost, -c.accuracy)):
        if not best or candidate.accuracy > best[-1].accuracy:
            best.append(candidate)
    return best


def search_figures(trace: SearchTrace) -> list[Figure]:
    """Progress and front; nothing for a search without candidates."""
    return [_progress(trace), _front(trace)] if trace.candidates else []


def _progress(trace: SearchTrace) -> Figure:
    allowed = [c for c in trace.candidates if trace.limit is None or c.cost <= trace.limit]
    plot = Box(60, 24, WIDTH - 24, 260)
    values = [c.accuracy for c in trace.candidates]
    x = linear(0, max(len(values) - 1, 1), plot.left + 6, plot.right - 6)
    y, parts = _accuracy_axis(values, plot)
    best, corners, level = 0.0, [], plot.bottom
    for index, candidate in enumerate(trace.candidates):
        fits = candidate in allowed
        hint = f"{candidate.name}: {candidate.accuracy:.2%}" + ("" if fits else ", over the budget")
        parts.append(_dot(x(index), y(candidate.accuracy), 2.5, "e0 dot" if fits else "grey dot", hint))
        if fits and candidate.accuracy > best:
            if best:
                corners.append(f"{x(index):.1f},{level:.1f}")
            best, level = candidate.accuracy, y(candidate.accuracy)
            corners.append(f"{x(index):.1f},{level:.1f}")
    if corners:
        corners.append(f"{x(len(values) - 1):.1f},{level:.1f}")
        parts.append(tag("polyline", points=" ".join(corners), class_="line s0"))
    parts.append(
        text(plot.right, plot.bottom + 20, "candidates, in the order of evaluation →", "tick", "end")
    )
    title = f"{trace.title}: progress"
    note = f"{len(values)} candidates, {len(allowed)} within the budget; the best reaches {best:.2%}."
    svg = picture(WIDTH, plot.bottom + 30, title, note, *parts)
    rows = tuple((i, c.name, c.accuracy, c.cost) for i, c in enumerate(trace.candidates))
    columns = ("evaluation", "candidate", "accuracy", f"{trace.metric} ({METRICS[trace.metric].kind})")
    name = slug(trace.title, "progress")
    return Figure(name, title, note, METRICS[trace.metric].kind, svg, columns, rows)


def _front(trace: SearchTrace) -> Figure:
    cost = METRICS[trace.metric]
    winners = front(trace.candidates)
    plot = Box(60, 34, WIDTH - 24, 320)
    costs = [c.cost for c in trace.candidates] + ([trace.limit] if trace.limit else [])
    low, high = max(min(costs), 1) / 1.3, max(costs) * 1.3 + 1
    x = logarithmic(low, high, plot.left, plot.right)
    y, parts = _accuracy_axis([c.accuracy for c in trace.candidates], plot)
    for tick in log_ticks(low, high):
        parts.append(line(x(tick), plot.top, x(tick), plot.bottom, "grid"))
        parts.append(text(x(tick), plot.bottom + 16, tick_number(tick), "tick", "middle"))
    if trace.limit:
        parts.append(line(x(trace.limit), plot.top, x(trace.limit), plot.bottom, "limit"))
        parts.append(text(x(trace.limit) - 6, plot.top - 8, "budget", "strong", "end"))
    path = " ".join(f"{x(c.cost):.1f},{y(c.accuracy):.1f}" for c in winners)
    parts.append(tag("polyline", points=path, class_="line s0"))
    for candidate in sorted(trace.candidates, key=lambda c: c in winners):
        won = candidate in winners
        hint = f"{candidate.name}: {candidate.accuracy:.2%}, {candidate.cost:,.0f} {cost.name}"
        look = ("e0 dot", 4.5) if won else ("grey dot", 3.0)
        parts.append(_dot(x(candidate.cost), y(candidate.accuracy), look[1], look[0], hint))
    words = f"{cost.words} ({cost.kind}) →"
    parts.append(text(plot.right, plot.bottom + 34, words, "tick", "end"))
    title = f"{trace.title}: accuracy against {cost.words}"
    best = winners[-1]
    note = (
        f"{len(winners)} of {len(trace.candidates)} candidates are on the front;"
        f" the most accurate is {shorten(best.name, 40)} with {best.accuracy:.2%}."
    )
    svg = picture(WIDTH, plot.bottom + 44, title, note, *parts)
    columns = ("candidate", "accuracy", f"{cost.name} ({cost.kind})", "on the front")
    rows = tuple((c.name, c.accuracy, c.cost, "yes" if c in winners else "no") for c in trace.candidates)
    return Figure(slug(trace.title, "front"), title, note, cost.kind, svg, columns, rows)


def _accuracy_axis(values: Sequence[float], plot: Box) -> tuple[Scale, list[Markup]]:
    """Scale and grid lines of an accuracy axis that shows the values' range, in per cent."""
    low, high = max(min(values) - 0.02, 0.0), min(max(values) + 0.02, 1.0)
    y = linear(low, high, plot.bottom, plot.top)
    step = ticks(high - low, 4)[1]
    parts = []
    for tick in (i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)):
        parts.append(line(plot.left, y(tick), plot.right, y(tick), "grid"))
        parts.append(text(plot.left - 8, y(tick) + 4, f"{tick * 100:.4g}%", "tick", "end"))
    return y, parts


def _dot(x: float, y: float, radius: float, look: str, hint: str) -> Markup:
    return tag("circle", tag("title", hint), cx=x, cy=y, r=radius, class_=look)
