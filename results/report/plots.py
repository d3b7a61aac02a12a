"""Scatter, roofline and history: values against values. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinyhil.results.history import Step
from tinyhil.results.metrics import Metric
from tinyhil.results.quantities import format_size, significant
from tinyhil.results.report.figure import WIDTH, Figure, legend, tick_number
from tinyhil.results.report.svg import (
    Box,
    line,
    linear,
    log_ticks,
    logarithmic,
    picture,
    rect,
    shorten,
    tag,
    text,
)


@dataclass(frozen=True)
class Point:
    """One dot of a scatter: `size` sets its area, `group` joins dots of one network by a line."""

    label: str
    group: str
    colour: int
    x: float
    y: float
    size: float = 0.0


def scatter(
    name: str,
    points: Sequence[Point],
    metric: Metric,
    engines: Sequence[tuple[str, int]],
    ram: int | None,
    flash: int | None,
) -> Figure:
    """Time against RAM, the dot's area is the flash; the board's RAM is drawn as a line."""
    plot = Box(74, 44, WIDTH - 24, 400)
    xs, ys = [p.x for p in points], [p.y for p in points] + ([float(ram)] if ram else [])
    low_x, high_x = min(xs) / 1.6, max(xs) * 1.9
    low_y, high_y = min(ys) / 1.6, max(ys) * 1.35
    x = logarithmic(low_x, high_x, plot.left, plot.right)
    y = logarithmic(low_y, high_y, plot.bottom, plot.top)
    parts = [legend(plot.left, 14, engines)]
    for tick in log_ticks(low_x, high_x):
        parts.append(line(x(tick), plot.top, x(tick), plot.bottom, "grid"))
        parts.append(text(x(tick), plot.bottom + 16, tick_number(tick), "tick", "middle"))
    size = 1024.0
    while size <= high_y:
        if size >= low_y:
            parts.append(line(plot.left, y(size), plot.right, y(size), "grid"))
            parts.append(text(plot.left - 8, y(size) + 4, format_size(size, exact=True), "tick", "end"))
        size *= 2
    if ram:
        parts.append(rect(plot.left, plot.top, plot.right - plot.left, y(ram) - plot.top, "beyond", radius=0))
        parts.append(line(plot.left, y(ram), plot.right, y(ram), "limit"))
        words = f"the board has {format_size(ram, exact=True)} RAM"
        words += f", {format_size(flash, exact=True)} flash" if flash else ""
        parts.append(text(plot.right - 6, y(ram) - 7, words, "strong", "end"))
    largest = max((p.size for p in points), default=0.0) or 1.0
    for group in dict.fromkeys(p.group for p in points):
        members = sorted((p for p in points if p.group == group), key=lambda p: p.x)
        path = " ".join(f"{x(p.x):.1f},{y(p.y):.1f}" for p in members)
        if len(members) > 1:
            parts.append(tag("polyline", points=path, class_="join"))
    placed = [_box_around(x(p.x), y(p.y), _radius(p, largest)) for p in points]
    for group in dict.fromkeys(p.group for p in points):
        words = shorten(group, 22)
        members = sorted((p for p in points if p.group == group), key=lambda p: p.x)
        ends = [(x(p.x), y(p.y)) for p in (members[0], members[-1])]
        spot = _free_spot(ends, 6.6 * len(words), plot, placed)
        if spot is not None:  # a crowded figure keeps its dots' hints and the data table
            parts.append(text(spot[0], spot[1], words, "label"))
    for p in sorted(points, key=lambda p: -p.size):
        radius = _radius(p, largest)
        hint = f"{p.label}: {p.x:,.0f} {metric.name}, {format_size(p.y)} RAM, {format_size(p.size)} flash"
        parts.append(
            tag("circle", tag("title", hint), cx=x(p.x), cy=y(p.y), r=radius, class_=f"e{p.colour} dot")
        )
    parts.append(text(plot.right, plot.bottom + 34, f"{metric.words} ({metric.kind}) →", "tick", "end"))
    parts.append(text(plot.left - 62, plot.top - 12, "↑ peak RAM", "tick"))
    title = f"{metric.title} × peak RAM × flash"
    note = "Lower left is better. The area of a dot is its flash; a line joins the engines of one network."
    svg = picture(WIDTH, plot.bottom + 44, title, note, *parts)
    columns = ("network", "engine", f"{metric.name} ({metric.kind})", "peak_ram", "flash")
    rows = tuple((p.group, p.label, p.x, p.y, p.size) for p in points)
    return Figure(name, title, note, metric.kind, svg, columns, rows)


def _radius(point: Point, largest: float) -> float:
    return 4 + 9 * math.sqrt(point.size / largest)


def _box_around(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius, y - radius, x + radius, y + radius


def _free_spot(
    ends: Sequence[tuple[float, float]],
    width: float,
    plot: Box,
    placed: list[tuple[float, float, float, float]],
) -> tuple[float, float] | None:
    """Where a text of `width` beside one of two dots hides nothing: its start and baseline."""
    (ax, ay), (bx, by) = ends
    candidates = [
        (ax - 18 - width, ay + 4),
        (bx + 18, by + 4),
        (ax - width / 2, ay - 19),
        (ax - width / 2, ay + 28),
        (bx - width / 2, by - 19),
        (bx - width / 2, by + 28),
    ]
    for left, base in candidates:
        box = (left, base - 11, left + width, base + 4)
        inside = (
            plot.left <= left and left + width <= plot.right and plot.top < box[1] and box[3] < plot.bottom
        )
        if inside and not any(
            box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in placed
        ):
            placed.append(box)
            return left, base
    return None


def roofline(
    name: str,
    points: Sequence[Point],
    unit: str,
    kind: str,
    engines: Sequence[tuple[str, int]],
    ceiling: float | None,
) -> Figure:
    """MACs per cycle (or per instruction) against arithmetic intensity in MACs per byte moved."""
    plot = Box(64, 44, WIDTH - 24, 340)
    low_x, high_x = min(p.x for p in points) / 1.5, max(p.x for p in points) * 1.5
    tops = [p.y for p in points] + ([ceiling] if ceiling else [])
    low_y, high_y = min(tops) / 1.5, max(tops) * 1.4
    x = logarithmic(low_x, high_x, plot.left, plot.right)
    y = logarithmic(low_y, high_y, plot.bottom, plot.top)
    parts = [legend(plot.left, 14, engines)]
    for tick in log_ticks(low_x, high_x):
        parts.append(line(x(tick), plot.top, x(tick), plot.bottom, "grid"))
        parts.append(text(x(tick), plot.bottom + 16, significant(tick, 2), "tick", "middle"))
    for tick in log_ticks(low_y, high_y):
        parts.append(line(plot.left, y(tick), plot.right, y(tick), "grid"))
        parts.append(text(plot.left - 8, y(tick) + 4, significant(tick, 2), "tick", "end"))
    if ceiling:
        parts.append(line(plot.left, y(ceiling), plot.right, y(ceiling), "limit"))
        words = f"the core's ceiling: {significant(ceiling, 2)} MACs per {unit}"
        parts.append(text(plot.right - 6, y(ceiling) - 7, words, "strong", "end"))
    for p in points:
        hint = f"{p.label}, {p.group}: {significant(p.y)} MACs per {unit}, {significant(p.x)} MACs per byte"
        parts.append(
            tag("circle", tag("title", hint), cx=x(p.x), cy=y(p.y), r=5.0, class_=f"e{p.colour} dot")
        )
    parts.append(text(plot.right, plot.bottom + 34, "MACs per byte moved →", "tick", "end"))
    parts.append(text(plot.left - 52, plot.top - 12, f"↑ MACs per {unit}", "tick"))
    title = "Roofline"
    note = f"One dot per layer: how much work each {unit} does, against how much data the layer must move."
    svg = picture(WIDTH, plot.bottom + 44, title, note, *parts)
    columns = ("engine", "layer", "macs per byte", f"macs per {unit} ({kind})")
    rows = tuple((p.label, p.group, p.x, p.y) for p in points)
    return Figure(name, title, note, kind, svg, columns, rows)


def history_line(
    name: str,
    subject: str,
    colour: int,
    dates: Sequence[str],
    values: Sequence[float],
    steps: Sequence[Step],
    metric: Metric,
) -> Figure:
    """One metric over the stored runs; a step is marked and said in per cent."""
    plot = Box(84, 34, WIDTH - 24, 190)
    low, high = min(values), max(values)
    room = (high - low) * 0.25 or high * 0.05 or 1.0
    x = linear(0, max(len(values) - 1, 1), plot.left + 8, plot.right - 8)
    y = linear(low - room, high + room, plot.bottom, plot.top)
    parts = []
    for tick in [low, high] if high > low else [low]:
        parts.append(line(plot.left, y(tick), plot.right, y(tick), "grid"))
        parts.append(text(plot.left - 8, y(tick) + 4, metric.format(tick), "tick", "end"))
    path = " ".join(f"{x(i):.1f},{y(value):.1f}" for i, value in enumerate(values))
    parts.append(tag("polyline", points=path, class_=f"line s{colour}"))
    for index, value in enumerate(values):
        hint = f"{dates[index]}: {value:,.0f}"
        parts.append(
            tag("circle", tag("title", hint), cx=x(index), cy=y(value), r=3.0, class_=f"e{colour} dot")
        )
    for step in steps:
        worse = "worse" if step.after > step.before else "better"
        middle = x(step.index) - (x(1) - x(0)) / 2
        parts.append(line(middle, plot.top - 4, middle, plot.bottom, f"step {worse}"))
        parts.append(text(middle, plot.top - 9, f"{step.change:+.2%}", f"strong {worse}", "middle"))
    parts.append(text(plot.left + 8, plot.bottom + 18, dates[0][:16].replace("T", " "), "tick"))
    parts.append(text(plot.right - 8, plot.bottom + 18, dates[-1][:16].replace("T", " "), "tick", "end"))
    title = f"{subject}: {metric.words}"
    told = "; ".join(f"{step.change:+.2%} on {dates[step.index][:10]}" for step in steps) or "no step"
    note = f"{len(values)} runs; {told}."
    svg = picture(WIDTH, plot.bottom + 28, title, note, *parts)
    rows = tuple(zip(dates, values, strict=True))
    return Figure(name, title, note, metric.kind, svg, ("run", f"{metric.name} ({metric.kind})"), rows)
