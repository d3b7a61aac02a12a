"""SVG as text: a tag function that escapes everything, scales and ticks. Pure."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Scale = Callable[[float], float]


def tag(name: str, *children: str | Markup, **attributes: str | float) -> Markup:
    """`<name attributes>children</name>`; plain texts are escaped, `class_` is class, `a_b` is a-b."""
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
    ]
    inside = Markup("").join(clean(child) if not isinstance(child, Markup) else child for child in children)
    return Markup(f"<{name}{''.join(parts)}>{inside}</{name}>" if inside else f"<{name}{''.join(parts)}/>")


def _number(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def clean(text: str) -> str:
    """`text` without control and direction characters: they break files and can hide what is there."""
    hidden = ("Cc", "Cf", "Cs")
    return "".join(c if c == "\n" or unicodedata.category(c) not in hidden else "\ufffd" for c in text)


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, the middle replaced by an ellipsis."""
    text = clean(text)
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Maps low..high to start..end; a range of zero width maps to `start`."""
    span = (end - start) / (high - low) if high > low else 0.0
    return lambda value: start + (value - low) * span


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Maps low..high (both > 0) to start..end, equal ratios to equal distances."""
    straight = linear(math.log10(low), math.log10(high), start, end)
    return lambda value: straight(math.log10(max(value, 1e-30)))


def ticks(high: float, count: int = 5) -> list[float]:
    """Round values from 0 to at most `high`, about `count` of them: steps of 1, 2, 2.5 or 5 × 10ⁿ."""
    if high <= 0 or not math.isfinite(high):
        return [0.0]
    magnitude = 10 ** math.floor(math.log10(high / count))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10, 20) if high / (m * magnitude) <= count)
    return [i * step for i in range(int(high / step + 1e-9) + 1)]


def byte_ticks(high: float, count: int = 5) -> list[float]:
    """Round sizes from 0 to at most `high`: powers of two times 1 KiB, or less for small ranges."""
    if high <= 0:
        return [0.0]
    step = 2.0 ** math.ceil(math.log2(high / count))
    return [i * step for i in range(int(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 × 10ⁿ within low..high; only powers of ten when the range is wide."""
    if not 0 < low <= high:
        return []
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps: Sequence[int] = (1,) if math.log10(high / low) > 3 else (1, 2, 5)
    return [m * 10.0**e for e in exponents for m in steps if low <= m * 10.0**e <= high * (1 + 1e-9)]


@dataclass(frozen=True)
class Box:
    """A plot area in SVG units: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float


def picture(width: float, height: float, title: str, description: str, *children: Markup) -> Markup:
    """A whole SVG picture that a screen reader announces by title and description."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        role="img",
        class_="figure",
    )


def text(x: float, y: float, words: str, class_: str = "label", anchor: str = "start") -> Markup:
    """A text; `anchor` is start, middle or end."""
    place = {} if anchor == "start" else {"text_anchor": anchor}
    return tag("text", words, x=float(x), y=float(y), class_=class_, **place)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def rect(
    x: float, y: float, width: float, height: float, class_: str, hint: str = "", radius: float = 2
) -> Markup:
    """A rectangle of at least a visible width; `hint` appears on hover."""
    children = [tag("title", hint)] if hint else []
    return tag(
        "rect",
        *children,
        x=float(x),
        y=float(y),
        width=float(max(width, 0.75)),
        height=float(max(height, 0.75)),
        rx=float(min(radius, width / 2, height / 2) if width > 0 and height > 0 else 0),
        class_=class_,
    )
