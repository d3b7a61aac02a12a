"""The bars of a network's layers, with several engines in one picture. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyhil.results.metrics import Metric
from tinyhil.results.report.figure import WIDTH, Figure, layer_label, legend, short_number, tick_number
from tinyhil.results.report.svg import Box, line, linear, picture, rect, shorten, text, ticks


@dataclass(frozen=True)
class Series:
    """One engine's values for the layers of a figure, None where it has no such layer."""

    label: str
    colour: int
    values: tuple[float | None, ...]


def layer_bars(name: str, layers: Sequence[str], series: Sequence[Series], metric: Metric) -> Figure:
    """One row per layer: a bar for the first engine, a mark for each other one.

    A mark to the left of the bar's end is a layer where that other engine needs less.
    """
    row, top = 19.0, 44.0
    labels = [shorten(layer_label(layer), 43) for layer in layers]
    gutter = min(20 + 7.2 * max((len(label) for label in labels), default=0), 330)
    plot = Box(gutter, top, WIDTH - 88, top + row * len(layers))
    largest = max((value for s in series for value in s.values if value is not None), default=0.0)
    x = linear(0, largest or 1.0, plot.left, plot.right)
    parts = [legend(plot.left, 14, [(s.label, s.colour) for s in series])] if len(series) > 1 else []
    for tick in ticks(largest):
        parts.append(line(x(tick), plot.top - 4, x(tick), plot.bottom, "grid"))
        parts.append(text(x(tick), plot.top - 9, tick_number(tick), "tick", "middle"))
    for index, layer in enumerate(layers):
        middle = plot.top + row * (index + 0.5)
        values = [s.values[index] for s in series]
        known = [value for value in values if value is not None]
        hint = f"{layer}: " + ", ".join(
            f"{s.label} {value:,.0f}" for s, value in zip(series, values, strict=True) if value is not None
        )
        lost = values[0] is not None and bool(known) and min(known) < values[0]
        parts.append(text(plot.left - 10, middle + 4, labels[index], "label", "end"))
        if values[0] is not None:
            parts.append(
                rect(plot.left, middle - 5.5, x(values[0]) - plot.left, 11, f"e{series[0].colour}", hint)
            )
            words = short_number(values[0])
            parts.append(text(WIDTH - 76, middle + 4, words, "value lost" if lost else "value"))
        height = 15 / max(len(series) - 1, 1)  # one below the other, so that equal ones are all seen
        for place, (s, value) in enumerate(list(zip(series, values, strict=True))[1:]):
            if value is not None:
                y = middle - 7.5 + place * height
                parts.append(rect(x(value) - 2, y, 4, height, f"e{s.colour} mark", hint, 1.5))
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


def _describe_bars(layers: Sequence[str], series: Sequence[Series], metric: Metric) -> str:
    first = series[0]
    known = [(value, layer) for value, layer in zip(first.values, layers, strict=True) if value is not None]
    if not known:
        return f"{metric.title} of {len(layers)} layers."
    value, layer = max(known)
    share = value / (sum(v for v, _ in known) or 1)
    return f"{metric.title} of {len(layers)} layers; the largest with {first.label} is {layer}: {share:.0%}."
