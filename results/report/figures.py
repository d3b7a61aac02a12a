"""The pictures of the report, drawn as SVG from numbers. Pure: the same data give the same text.

Every figure carries its data as a table, which is its CSV download and its text for a screen reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tinyhil.results.history import Step
from tinyhil.results.metrics import Metric
from tinyhil.results.quantities import format_size, significant
from tinyhil.results.record import PlannedBuffer
from tinyhil.results.report.svg import (
    Box,
    byte_ticks,
    line,
    linear,
    log_ticks,
    logarithmic,
    picture,
    rect,
    shorten,
    tag,
    text,
    ticks,
)

WIDTH = 820
Cell = str | int | float | None


@dataclass(frozen=True)
class Figure:
    """A picture with its data. `name` is the file name of the downloads, `note` one plain sentence.

    `folded`: shown only when asked for.
    """

    name: str
    title: str
    note: str
    kind: str
    svg: Markup
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    folded: bool = False


@dataclass(frozen=True)
class Series:
    """One engine's values for the layers of a figure, None where it has no such layer."""

    label: str
    colour: int
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Point:
    """One dot of a scatter: `size` sets its area, `group` joins dots of one network by a line."""

    label: str
    group: str
    colour: int
    x: float
    y: float
    size: float = 0.0


def layer_bars(name: str, layers: Sequence[str], series: Sequence[Series], metric: Metric) -> Figure:
    """One row per layer: a bar for the first engine, a mark for each other one.

    A mark to the left of the bar's end is a layer where that other engine needs less.
    """
    row, top = 19.0, 44.0
    plot = Box(190, top, WIDTH - 88, top + row * len(layers))
    largest = max((value for s in series for value in s.values if value is not None), default=0.0)
    x = linear(0, largest or 1.0, plot.left, plot.right)
    parts = [_legend(plot.left, 14, [(s.label, s.colour) for s in series])]
    for tick in ticks(largest):
        parts.append(line(x(tick), plot.top - 4, x(tick), plot.bottom, "grid"))
        parts.append(text(x(tick), plot.top - 9, _tick(tick), "tick", "middle"))
    for index, layer in enumerate(layers):
        middle = plot.top + row * (index + 0.5)
        values = [s.values[index] for s in series]
        known = [value for value in values if value is not None]
        hint = f"{layer}: " + ", ".join(
            f"{s.label} {value:,.0f}" for s, value in zip(series, values, strict=True) if value is not None
        )
        lost = values[0] is not None and bool(known) and min(known) < values[0]
        parts.append(text(plot.left - 10, middle + 4, shorten(layer, 26), "label", "end"))
        if values[0] is not None:
            parts.append(
                rect(plot.left, middle - 5.5, x(values[0]) - plot.left, 11, f"e{series[0].colour}", hint)
            )
            words = _short(values[0])
            parts.append(text(WIDTH - 76, middle + 4, words, "value lost" if lost else "value"))
        for s, value in list(zip(series, values, strict=True))[1:]:
            if value is not None:
                parts.append(rect(x(value) - 1.5, middle - 7.5, 3, 15, f"e{s.colour} mark", hint, 1.5))
    title = f"{metric.title} of each layer"
    svg = picture(WIDTH, plot.bottom + 8, title, _describe_bars(layers, series, metric), *parts)
    columns = ("layer", *(f"{s.label} {metric.name} ({metric.kind})" for s in series))
    rows = tuple((layer, *(s.values[i] for s in series)) for i, layer in enumerate(layers))
    others = " and ".join(s.label for s in series[1:])
    note = f"Bars: {series[0].label}."
    if others:
        note += (
            f" Marks: {others}. A mark inside the bar is a layer that {series[0].label} loses; "
            "its number is set in bold."
        )
    return Figure(name, title, note, metric.kind, svg, columns, rows)


def memory_map(name: str, buffers: Sequence[PlannedBuffer], layers: Sequence[str]) -> Figure:
    """The arena over time: each planned buffer is a block, from its first layer to its last."""
    count = max([len(layers), *(b.last + 1 for b in buffers)])
    arena = max(b.offset + b.size for b in buffers)
    at = peak_layer(buffers)
    plot = Box(70, 40, WIDTH - 16, 340)
    x = linear(0, count, plot.left, plot.right)
    y = linear(0, arena * 1.04, plot.bottom, plot.top)
    parts = [
        rect(x(at), plot.top, x(at + 1) - x(at), plot.bottom - plot.top, "peak-band", radius=0),
    ]
    for tick in byte_ticks(arena):
        parts.append(line(plot.left, y(tick), plot.right, y(tick), "grid"))
        parts.append(text(plot.left - 8, y(tick) + 4, format_size(tick, exact=True), "tick", "end"))
    for buffer in sorted(buffers, key=lambda b: (b.first, b.offset)):
        left, right = x(buffer.first), x(buffer.last + 1)
        bottom, top = y(buffer.offset), y(buffer.offset + buffer.size)
        role = buffer.role if buffer.role in ROLES else "activation"
        alive = " alive" if buffer.first <= at <= buffer.last else ""
        hint = f"{buffer.name}: {buffer.size:,} B at {buffer.offset:,}, layers {buffer.first}–{buffer.last}"
        parts.append(
            rect(
                left + 0.6, top + 0.6, right - left - 1.2, bottom - top - 1.2, f"role-{role}{alive}", hint, 3
            )
        )
        room = int((right - left - 8) / 6.2)
        if bottom - top > 15 and room >= 5:
            words = shorten(buffer.name, room)
            parts.append(text((left + right) / 2, (top + bottom) / 2 + 4, words, "inside", "middle"))
    parts.append(line(plot.left, y(arena), plot.right, y(arena), "limit"))
    layer = layers[at] if at < len(layers) else str(at)
    words = f"peak {format_size(arena)} at layer {at}, {shorten(layer, 24)}"
    anchor = "start" if x(at) < WIDTH * 0.6 else "end"
    parts.append(text(x(at) if anchor == "start" else x(at + 1), plot.top - 10, words, "strong", anchor))
    step = max(1, round(count / 16))
    parts += [text(x(i + 0.5), plot.bottom + 16, str(i), "tick", "middle") for i in range(0, count, step)]
    parts.append(text(plot.right, plot.bottom + 34, "layer, in the order of execution →", "tick", "end"))
    parts.append(_role_legend(plot.left, plot.bottom + 34, {b.role for b in buffers}))
    title = "Memory over the layers"
    rows = tuple((b.name, b.role, b.offset, b.size, b.first, b.last) for b in buffers)
    columns = ("buffer", "role", "offset", "bytes", "first layer", "last layer")
    note = explain_peak(buffers, layers)
    svg = picture(WIDTH, plot.bottom + 46, title, note, *parts)
    return Figure(name, title, note, "planned", svg, columns, rows)


ROLES = ("input", "activation", "output", "scratch")


def peak_layer(buffers: Sequence[PlannedBuffer]) -> int:
    """The layer that makes the arena as large as it is; where several do, the fullest of them."""

    def height(layer: int) -> tuple[int, int]:
        alive = [b for b in buffers if b.first <= layer <= b.last]
        return max((b.offset + b.size for b in alive), default=0), sum(b.size for b in alive)

    return max(range(max(b.last for b in buffers) + 1), key=height)


def explain_peak(buffers: Sequence[PlannedBuffer], layers: Sequence[str]) -> str:
    """Why the arena has its size, in a sentence or two."""
    at = peak_layer(buffers)
    arena = max(b.offset + b.size for b in buffers)
    alive = sorted((b for b in buffers if b.first <= at <= b.last), key=lambda b: -b.size)
    layer = f"layer {at}" + (f" ({shorten(layers[at], 40)})" if at < len(layers) else "")
    names = ", ".join(f"{shorten(b.name, 40)} ({format_size(b.size)})" for b in alive[:4])
    more = f" and {len(alive) - 4} more" if len(alive) > 4 else ""
    unused = arena - _covered(alive)
    gap = f" {format_size(unused)} of it lie unused at that moment." if unused > 0 else ""
    return f"The arena is {format_size(arena)} because of {layer}: alive then are {names}{more}.{gap}"


def _covered(buffers: Sequence[PlannedBuffer]) -> int:
    """Bytes that at least one of the buffers covers; in-place buffers overlap."""
    covered, end = 0, 0
    for buffer in sorted(buffers, key=lambda b: b.offset):
        stop = buffer.offset + buffer.size
        covered += max(0, stop - max(end, buffer.offset))
        end = max(end, stop)
    return covered


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
    parts = [_legend(plot.left, 14, engines)]
    for tick in log_ticks(low_x, high_x):
        parts.append(line(x(tick), plot.top, x(tick), plot.bottom, "grid"))
        parts.append(text(x(tick), plot.bottom + 16, _tick(tick), "tick", "middle"))
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
    placed = [(x(p.x) - 9, y(p.y) - 9, x(p.x) + 9, y(p.y) + 9) for p in points]
    for group in dict.fromkeys(p.group for p in points):
        words = shorten(group, 22)
        members = sorted((p for p in points if p.group == group), key=lambda p: p.x)
        ends = [(x(p.x), y(p.y)) for p in (members[0], members[-1])]
        spot = _free_spot(ends, 6.6 * len(words), plot, placed)
        if spot is not None:  # a crowded figure keeps its dots' hints and the data table
            parts.append(text(spot[0], spot[1], words, "label"))
    for p in sorted(points, key=lambda p: -p.size):
        radius = 4 + 9 * (p.size / largest) ** 0.5
        hint = f"{p.label}: {p.x:,.0f} {metric.name}, {format_size(p.y)} RAM, {format_size(p.size)} flash"
        parts.append(
            tag("circle", tag("title", hint), cx=x(p.x), cy=y(p.y), r=radius, class_=f"e{p.colour} dot")
        )
    parts.append(
        text(plot.right, plot.bottom + 34, f"{metric.title.lower()} ({metric.kind}) →", "tick", "end")
    )
    parts.append(text(plot.left - 62, plot.top - 12, "↑ peak RAM", "tick"))
    title = f"{metric.title} × peak RAM × flash"
    note = "Lower left is better. The area of a dot is its flash; a line joins the engines of one network."
    svg = picture(WIDTH, plot.bottom + 44, title, note, *parts)
    columns = ("network", "engine", f"{metric.name} ({metric.kind})", "peak_ram", "flash")
    rows = tuple((p.group, p.label, p.x, p.y, p.size) for p in points)
    return Figure(name, title, note, metric.kind, svg, columns, rows)


def _free_spot(
    ends: Sequence[tuple[float, float]],
    width: float,
    plot: Box,
    placed: list[tuple[float, float, float, float]],
) -> tuple[float, float] | None:
    """Where a text of `width` beside one of two dots hides nothing: its start and baseline."""
    (ax, ay), (bx, by) = ends
    candidates = [
        (ax - 15 - width, ay + 4),
        (ax - width / 2, ay - 17),
        (ax - width / 2, ay + 26),
        (bx + 15, by + 4),
        (bx - width / 2, by - 17),
        (bx - width / 2, by + 26),
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
    parts = [_legend(plot.left, 14, engines)]
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
    title = f"{subject}: {metric.title.lower()}"
    told = "; ".join(f"{step.change:+.2%} at {dates[step.index]}" for step in steps) or "no step"
    note = f"{len(values)} runs; {told}."
    svg = picture(WIDTH, plot.bottom + 28, title, note, *parts)
    rows = tuple(zip(dates, values, strict=True))
    return Figure(name, title, note, metric.kind, svg, ("run", f"{metric.name} ({metric.kind})"), rows)


def _short(value: float) -> str:
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return significant(value / limit) + letter
    return f"{value:.0f}"


def _tick(value: float) -> str:
    words = _short(value)
    if "." not in words:
        return words
    letter = words[-1] if words[-1].isalpha() else ""
    return words.removesuffix(letter).rstrip("0").rstrip(".") + letter


def _describe_bars(layers: Sequence[str], series: Sequence[Series], metric: Metric) -> str:
    first = series[0]
    known = [(value, layer) for value, layer in zip(first.values, layers, strict=True) if value is not None]
    if not known:
        return f"{metric.title} of {len(layers)} layers."
    value, layer = max(known)
    share = value / (sum(v for v, _ in known) or 1)
    return f"{metric.title} of {len(layers)} layers; the largest with {first.label} is {layer}: {share:.0%}."


def _legend(x: float, y: float, entries: Sequence[tuple[str, int]]) -> Markup:
    parts = []
    for label, colour in entries:
        words = shorten(label, 24)
        parts += [rect(x, y - 8, 10, 10, f"e{colour}", radius=3), text(x + 15, y + 1, words, "label")]
        x += 30 + 7.0 * len(words)
    return Markup("").join(parts)


def _role_legend(x: float, y: float, present: set[str]) -> Markup:
    parts = []
    for role in ROLES:
        if role in present:
            parts += [rect(x, y - 9, 10, 10, f"role-{role} alive", radius=3), text(x + 15, y, role, "tick")]
            x += 34 + 6.5 * len(role)
    return Markup("").join(parts)
