"""The arena over time: which buffer lies where, and why the peak is there. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from tinyhil.results.quantities import format_size
from tinyhil.results.record import PlannedBuffer
from tinyhil.results.report.figure import WIDTH, Figure, layer_label
from tinyhil.results.report.svg import Box, byte_ticks, clean, line, linear, picture, rect, shorten, text


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
    names = []  # drawn last, above all blocks
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
        words = _fitting(buffer.name, int((right - left - 6) / 6.2))
        if bottom - top > 15 and words:
            names.append(text((left + right) / 2, (top + bottom) / 2 + 4, words, "inside", "middle"))
    parts += names
    parts.append(line(plot.left, y(arena), plot.right, y(arena), "limit"))
    layer = layers[at] if at < len(layers) else str(at)
    words = f"peak {format_size(arena)} at layer {at}, {shorten(layer_label(layer), 40)}"
    anchor = "start" if x(at) < WIDTH * 0.6 else "end"
    parts.append(text(x(at) if anchor == "start" else x(at + 1), plot.top - 10, words, "strong", anchor))
    step = max(1, round(count / 16))
    parts += [text(x(i + 0.5), plot.bottom + 16, str(i), "tick", "middle") for i in range(0, count, step)]
    parts.append(text(plot.right, plot.bottom + 34, "layer, in the order of execution →", "tick", "end"))
    parts.append(role_legend(plot.left, plot.bottom + 34, {b.role for b in buffers}))
    title = "Memory over the layers"
    rows = tuple((b.name, b.role, b.offset, b.size, b.first, b.last) for b in buffers)
    columns = ("buffer", "role", "offset", "bytes", "first layer", "last layer")
    note = explain_peak(buffers, layers)
    svg = picture(WIDTH, plot.bottom + 46, title, note, *parts)
    return Figure(name, title, note, "planned", svg, columns, rows)


def _fitting(name: str, room: int) -> str:
    """The name; where there is no room for it its number, if it ends in one (the colour tells the rest)."""
    if len(name) <= room:
        return clean(name)
    number = name.split()[-1] if name.split() else ""
    if number.isdecimal() and len(number) <= room:
        return number
    return shorten(name, room) if room >= 9 else ""


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
    layer = f"layer {at}" + (f" ({shorten(layer_label(layers[at]), 60)})" if at < len(layers) else "")
    names = ", ".join(f"{shorten(b.name, 40)} ({format_size(b.size)})" for b in alive[:4])
    more = f" and {len(alive) - 4} more" if len(alive) > 4 else ""
    shared = sum(b.size for b in alive) - _covered(alive)
    unused = arena - _covered(alive)
    gap = f" {format_size(unused)} of it lie unused at that moment." if unused > 0 else ""
    place = f" {format_size(shared)} of them share the same bytes." if shared > 0 else ""
    return f"The arena is {format_size(arena)} because of {layer}: alive then are {names}{more}.{place}{gap}"


def _covered(buffers: Sequence[PlannedBuffer]) -> int:
    """Bytes that at least one of the buffers covers; in-place buffers overlap."""
    covered, end = 0, 0
    for buffer in sorted(buffers, key=lambda b: b.offset):
        stop = buffer.offset + buffer.size
        covered += max(0, stop - max(end, buffer.offset))
        end = max(end, stop)
    return covered


def role_legend(x: float, y: float, present: set[str]) -> Markup:
    """Coloured squares with the roles that occur."""
    parts = []
    for role in ROLES:
        if role in present:
            parts += [rect(x, y - 9, 10, 10, f"role-{role} alive", radius=3), text(x + 15, y, role, "tick")]
            x += 34 + 6.5 * len(role)
    return Markup("").join(parts)
