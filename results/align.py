"""Which layers of two engines do the same work, although one of them fuses or drops some. Pure.

A fused layer names its parts: op `Conv2D+Add`, name `Conv2D 1x1 -> 5x5x8 + Add -> 5x5x8`. The parts
of both sides are matched in order, as many as possible, equal names before equal operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinyhil.results.record import LayerResult

Value = Callable[[LayerResult], float | None]
Part = tuple[int, str, str]
"""Layer index, operator and name of one part of a layer."""


@dataclass(frozen=True)
class Row:
    """One line of a comparison: a name, and one value per side, None where a side has no such layer."""

    name: str
    values: tuple[float | None, ...]


def align(pattern: Sequence[LayerResult], other: Sequence[LayerResult]) -> list[tuple[int, ...]]:
    """For each layer of `pattern`, the indices of those of `other` that together do its work.

    Empty where there are none, or where they do more than that layer's work.
    """
    left, right = _parts(pattern), _parts(other)
    partner = dict(_match(left, right))
    wanted: list[set[int]] = [set() for _ in pattern]
    whole = [True for _ in pattern]
    users: dict[int, set[int]] = {}
    for index, (owner, _, _) in enumerate(left):
        if index in partner:
            wanted[owner].add(right[partner[index]][0])
            users.setdefault(right[partner[index]][0], set()).add(owner)
        else:
            whole[owner] = False
    full = {i for i in users if all(j in partner.values() for j, part in enumerate(right) if part[0] == i)}
    return [
        tuple(sorted(indices))
        if whole[owner] and indices and all(users[i] == {owner} and i in full for i in indices)
        else ()
        for owner, indices in enumerate(wanted)
    ]


def side_by_side(sides: Sequence[Sequence[LayerResult]], value: Value) -> list[Row]:
    """All layers of all sides in order, those that do the same work in one row.

    Rows are numbered as the first side's layers; a layer that only another side has stands before
    the row that follows it, without a number.
    """
    if not sides:
        return []
    first, *others = sides
    aligned = [align(first, other) for other in others]
    rows: list[Row] = []
    for index, layer in enumerate(first):
        rows += _extras(others, aligned, value, index)
        matched = (
            _total([other[i] for i in indices[index]], value)
            for other, indices in zip(others, aligned, strict=True)
        )
        rows.append(Row(f"{index} {layer.name}", (value(layer), *matched)))
    return rows + _extras(others, aligned, value, len(first))


def _extras(
    others: Sequence[Sequence[LayerResult]],
    aligned: Sequence[Sequence[tuple[int, ...]]],
    value: Value,
    index: int,
) -> list[Row]:
    """Unmatched layers of the other sides that come just before row `index` of the first side."""
    found: dict[str, list[float | None]] = {}
    for side, (other, matches) in enumerate(zip(others, aligned, strict=True)):
        taken = {i for indices in matches for i in indices}
        for i, layer in enumerate(other):
            if i not in taken and _place(i, matches) == index and (number := value(layer)) is not None:
                values = found.setdefault(layer.name, [None] * len(others))
                values[side] = (values[side] or 0) + number
    return [Row(name, (None, *values)) for name, values in found.items()]


def _place(i: int, matches: Sequence[tuple[int, ...]]) -> int:
    """The row before which unmatched layer `i` stands: the first whose layers all come after it."""
    return next((row for row, indices in enumerate(matches) if indices and indices[0] > i), len(matches))


def _total(layers: Sequence[LayerResult], value: Value) -> float | None:
    known = [number for layer in layers if (number := value(layer)) is not None]
    return sum(known) if known else None


def _parts(layers: Sequence[LayerResult]) -> list[Part]:
    parts = []
    for index, layer in enumerate(layers):
        ops, names = layer.op.split("+"), layer.name.split(" + ")
        for number, op in enumerate(ops):
            name = names[number] if len(names) == len(ops) else ""
            parts.append((index, op.strip().replace("_", "").lower(), name))
    return parts


def _match(
    left: Sequence[tuple[int, str, str]], right: Sequence[tuple[int, str, str]]
) -> list[tuple[int, int]]:
    """Pairs of matching parts in order: the heaviest common subsequence, equal names weigh more."""

    def weight(i: int, j: int) -> int:
        if left[i][1] != right[j][1]:
            return 0
        return 3 if left[i][2] == right[j][2] else 2

    best = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            gain = weight(i, j)
            best[i][j] = max(best[i + 1][j], best[i][j + 1], gain + best[i + 1][j + 1] if gain else 0)
    pairs, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        gain = weight(i, j)
        if gain and best[i][j] == gain + best[i + 1][j + 1]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs
