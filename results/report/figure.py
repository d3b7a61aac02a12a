"""What all figures share: the figure with its data, legends and short numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from tinyhil.results.quantities import significant
from tinyhil.results.report.svg import rect, shorten, text

WIDTH = 820
Cell = str | int | float | None


@dataclass(frozen=True)
class Figure:
    """A picture with its data. `name` is the file name of the downloads, `note` one plain sentence.

    `subject`: what the picture shows; `boards` and `mode`: where, if it is not of everything.
    `folded`: shown only when asked for.
    """

    name: str
    subject: str
    note: str
    kind: str
    svg: Markup
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    folded: bool = False
    boards: tuple[str, ...] = ()
    mode: str = ""

    @property
    def title(self) -> str:
        """The subject, with all the boards that the picture is true of."""
        return f"{self.subject} on {', '.join(self.boards)}, {self.mode}" if self.boards else self.subject


def shared(figures: Iterable[Figure]) -> list[Figure]:
    """The figures, each picture once: boards with one core often run one network in the same way."""
    found: dict[object, Figure] = {}
    for figure in figures:
        key = (figure.subject, figure.mode, figure.note, figure.svg, figure.rows)
        known = found.get(key)
        found[key] = replace(known, boards=(*known.boards, *figure.boards)) if known else figure
    return list(found.values())


def legend(x: float, y: float, entries: Sequence[tuple[str, int]]) -> Markup:
    """Coloured squares with engine names, from `x` to the right."""
    parts = []
    for label, colour in entries:
        words = shorten(label, 24)
        parts += [rect(x, y - 8, 10, 10, f"e{colour}", radius=3), text(x + 15, y + 1, words, "label")]
        x += 30 + 7.0 * len(words)
    return Markup("").join(parts)


def short_number(value: float) -> str:
    """`1.12M`, `364k`: three digits and a letter."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return significant(value / limit) + letter
    return f"{value:.0f}"


def tick_number(value: float) -> str:
    """The same without trailing zeros."""
    words = short_number(value)
    if "." not in words:
        return words
    letter = words[-1] if words[-1].isalpha() else ""
    return words.removesuffix(letter).rstrip("0").rstrip(".") + letter


def layer_label(layer: str) -> str:
    """The name, of a fused layer (`5 Conv2D 1x1 -> 5x5x8 + Add -> 5x5x8`) only what its parts are."""
    first, *others = layer.split(" + ")
    if not others:
        return layer
    parts = [" ".join(first.split()[:2]), *(part.split()[0] for part in others if part.split())]
    shape = others[-1].rpartition("->")[2].strip() if "->" in others[-1] else ""
    return " + ".join(parts) + (f" -> {shape}" if shape else "")
