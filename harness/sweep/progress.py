"""How a sweep says how far it is: one line per worker on a terminal, one line per step in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import IO, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from tinyhil.harness.sweep.work import clock, eta
from tinyhil.results.record import Measurement


class Reporter:
    """Told of every step; prints to `stream` (standard error by default)."""

    def __init__(self, total: int, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        self._lines: dict[str, TaskID] = {}
        self._live: Progress | None = None
        if self._stream.isatty():
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.completed:.0f} {task.fields[words]}"),
                console=Console(file=self._stream),
            )
            self._whole = self._live.add_task("all", total=total, words="")

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def step(self, words: str) -> None:
        """Something that is no measurement: a build, a batch found in the store."""
        self._say(words)

    def known(self, count: int) -> None:
        """`count` more items need nothing."""
        self._done += count
        self._advance()

    def finished(self, worker: str, item: str, said: str) -> None:
        """`worker` is done with `item`; `said` is the result in a few words."""
        self._done += 1
        if self._live:
            if worker not in self._lines:
                self._lines[worker] = self._live.add_task(worker, total=None, words="")
            self._live.update(self._lines[worker], advance=1, words=f"{item}: {said}")
            self._advance()
        else:
            width = len(str(self._total))
            self._say(f"[{self._done:{width}}/{self._total}] {worker}: {item}: {said}, {self._eta()} to go")

    def _eta(self) -> str:
        seconds = time.monotonic() - self._start
        return clock(eta(self._done, self._total - self._done, seconds))

    def _advance(self) -> None:
        if self._live:
            words = f"of {self._total}, {self._eta()} to go"
            self._live.update(self._whole, completed=self._done, words=words)

    def _say(self, words: str) -> None:
        if self._live:
            self._live.console.print(words, highlight=False, markup=False)
        else:
            click.echo(words, file=self._stream)


def in_few_words(record: Measurement) -> str:
    """The figure that there is, with its kind, or the error's code."""
    if record.error:
        return record.error.code
    if record.cycles is not None:
        return f"{record.cycles:,} cycles measured"
    if record.instructions is not None:
        return f"{record.instructions:,} instructions counted"
    return "exact"
