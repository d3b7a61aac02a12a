"""From the recorder's segments to instructions per inference and per layer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Counted(Protocol):
    """A segment of the recorder's trace: the function entry that began it, and what ran in it."""

    @property
    def mark(self) -> int: ...

    @property
    def instructions(self) -> int: ...


@dataclass(frozen=True)
class RunCount:
    """Instructions of one inference, and of each layer (None for a layer that was never entered)."""

    instructions: int
    layers: tuple[int | None, ...]


def count_runs(segments: Iterable[Counted], begin: int, end: int, layers: Sequence[int]) -> list[RunCount]:
    """One count for every complete stretch from the entry of `begin` to the entry of `end`.

    `layers` are the entry addresses of the layers' functions in the order in which they run. A layer
    lasts until the next one is entered; a function that serves several layers starts the next of
    them each time it is entered, and one that is entered out of turn belongs to the running layer.
    """
    runs: list[RunCount] = []
    total, counts, current, inside = 0, [0] * len(layers), -1, False
    for segment in segments:
        if segment.mark == begin:
            total, counts, current, inside = 0, [0] * len(layers), -1, True
        elif segment.mark == end:
            if inside:
                entered = [count if place <= current else None for place, count in enumerate(counts)]
                runs.append(RunCount(total, tuple(entered)))
            inside = False
        elif inside and segment.mark in layers[current + 1 : current + 2]:
            current += 1
        if inside:
            total += segment.instructions
            if current >= 0:
                counts[current] += segment.instructions
    return runs


def running_layer(segments: Sequence[Counted], begin: int, end: int, layers: Sequence[int]) -> int | None:
    """Index of the layer that was running when the trace ended; None outside of a run."""
    current: int | None = None
    for segment in segments:
        if segment.mark in (begin, end):
            current = None if segment.mark == end else -1
        elif current is not None and segment.mark in layers[current + 1 : current + 2]:
            current += 1
    return None if current is None or current < 0 else current
