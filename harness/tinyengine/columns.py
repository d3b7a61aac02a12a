"""Which columns of every tensor one vertical strip of a chain's output needs: the geometry of patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tinyhil.harness.tinyengine.work import ConvWork, DepthwiseWork

Spatial: TypeAlias = ConvWork | DepthwiseWork


@dataclass(frozen=True)
class Columns:
    """What one stage computes in each patch: `count` columns, the same for all patches, from `starts`.

    Its input rows hold `width` columns: the stage before puts its own from column `puts` on, windows
    start at `gets`; what lies outside the image is never written and keeps the zero point.
    """

    count: int
    starts: tuple[int, ...]
    width: int
    puts: tuple[int, ...]
    gets: tuple[int, ...]


def columns_of(works: Sequence[Spatial], patches: int) -> tuple[Columns, ...]:
    """The columns of every stage; patches at the right edge are moved left where they would stick out."""
    out = works[-1].y.width
    count = -(-out // patches)
    starts = tuple(min(p * count, out - count) for p in range(patches))
    found: list[Columns] = []
    for work in reversed(works):
        stride, left, wide = work.strides[1], work.pads[2], work.x.width
        reach = (count - 1) * stride + work.kernel[1]
        source = min(wide, reach)
        wanted = tuple(start * stride - left for start in starts)
        given = tuple(min(max(first, 0), wide - source) for first in wanted)
        bases = tuple(map(min, wanted, given))
        width = max(
            max(first + reach, start + source) - base
            for first, start, base in zip(wanted, given, bases, strict=True)
        )
        puts = tuple(start - base for start, base in zip(given, bases, strict=True))
        gets = tuple(first - base for first, base in zip(wanted, bases, strict=True))
        found.append(Columns(count, starts, width, puts, gets))
        count, starts = source, given
    return tuple(reversed(found))
