"""From the recorder's segments to inferences and layers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tinyhil.errors import UsageError
from tinyhil.harness.build.firmware import Firmware


class Counted(Protocol):
    """A segment of the recorder's trace: the function entry that began it, and what ran in it."""

    @property
    def mark(self) -> int: ...

    @property
    def instructions(self) -> int: ...


S = TypeVar("S", bound=Counted)


@dataclass(frozen=True)
class Marks:
    """Entry addresses that the recorder watches; 0 for a layer whose function the ELF does not have.
    `layers` are in the order in which they run."""

    begin: int
    end: int
    layers: tuple[int, ...]


def marks_of(firmware: Firmware) -> Marks:
    """The marks of a firmware; UsageError if it was not built with tinyhil's runtime."""
    symbols = firmware.symbols
    try:
        begin, end = symbols["th_run_begin"].address, symbols["th_run_end"].address
    except KeyError as error:
        raise UsageError(f"{firmware.elf} has no {error}: it was not built with tinyhil's runtime") from None
    names = [layer.symbol for layer in firmware.sources.layers]
    return Marks(begin, end, tuple(symbols[name].address if name in symbols else 0 for name in names))


@dataclass(frozen=True)
class RunSegments(Generic[S]):
    """The segments of one inference, and those of each layer (none for a layer never entered)."""

    segments: tuple[S, ...]
    layers: tuple[tuple[S, ...], ...]

    @property
    def instructions(self) -> int:
        """Executed instructions of the inference."""
        return sum(segment.instructions for segment in self.segments)

    @property
    def layer_instructions(self) -> tuple[int | None, ...]:
        """Executed instructions of each layer; None for a layer never entered."""
        return tuple(sum(s.instructions for s in layer) if layer else None for layer in self.layers)


def split_runs(segments: Iterable[S], marks: Marks) -> list[RunSegments[S]]:
    """One entry for every complete stretch from the entry of `begin` to the entry of `end`.

    A layer lasts until the next one is entered; a function that serves several layers starts the
    next of them each time it is entered, and one that is entered out of turn belongs to the running
    layer.
    """
    runs: list[RunSegments[S]] = []
    inside, current = False, -1
    whole: list[S] = []
    layers: list[list[S]] = []
    for segment in segments:
        if segment.mark == marks.begin:
            inside, current = True, -1
            whole, layers = [], [[] for _ in marks.layers]
        elif segment.mark == marks.end:
            if inside:
                runs.append(RunSegments(tuple(whole), tuple(map(tuple, layers))))
            inside = False
        elif inside and segment.mark in marks.layers[current + 1 : current + 2]:
            current += 1
        if inside:
            whole.append(segment)
            if current >= 0:
                layers[current].append(segment)
    return runs


def running_layer(segments: Sequence[Counted], marks: Marks) -> int | None:
    """Index of the layer that was running when the trace ended; None outside of a run."""
    current: int | None = None
    for segment in segments:
        if segment.mark in (marks.begin, marks.end):
            current = None if segment.mark == marks.end else -1
        elif current is not None and segment.mark in marks.layers[current + 1 : current + 2]:
            current += 1
    return None if current is None or current < 0 else current
