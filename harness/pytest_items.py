"""Networks as pytest items; imported only when a board is given, so other sessions stay light."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tinyhil.errors import TinyhilError
from tinyhil.harness.boards import Board, get_board
from tinyhil.harness.engine import Engine, Options
from tinyhil.harness.engines import get_engine
from tinyhil.harness.measure import Case, Network
from tinyhil.harness.plugin import SESSION
from tinyhil.harness.runner import Runner
from tinyhil.results.record import Measurement


class Failed(TinyhilError):
    """A measurement that was made and is not good; the message is the record's."""


@dataclass
class HilSession:
    """What one pytest session shares: the runner, networks and engines read once, and the records."""

    runner: Runner
    prefer: str = "speed"
    records: list[Measurement] = field(default_factory=list)
    bench_error: bool = False
    _networks: dict[Path, Network] = field(default_factory=dict)
    _engines: dict[str, Engine] = field(default_factory=dict)

    def case(self, path: Path, engine: str, board: Board, options: Options | None = None) -> Case:
        """The case of one model file; ModelError if it is not an int8 network."""
        if path not in self._networks:
            self._networks[path] = Network.load(path)
        if engine not in self._engines:
            self._engines[engine] = get_engine(engine, self.runner.settings.engines.get(engine))
        options = options or Options(prefer=self.prefer)
        return Case(self._networks[path], self._engines[engine], board, options)

    def measure(self, case: Case) -> Measurement:
        """A good measurement; Failed if it was made and is not good, BenchError if it could not be."""
        record = self.runner.measure(case)
        self.records.append(record)
        if record.error is not None:
            raise Failed(f"{record.error.code}: {record.error.message}")
        return record


class ModelFile(pytest.File):
    """One network; its items are the engines on the boards."""

    def collect(self) -> Iterator[pytest.Item]:
        """One item per engine and board."""
        settings = self.config.stash[SESSION].runner.settings
        for board in settings.boards:
            for engine in settings.engine:
                yield MeasureItem.from_parent(self, name=f"{board}-{engine}", board=board, engine=engine)


class MeasureItem(pytest.Item):
    """One network by one engine on one board."""

    def __init__(self, *, board: str, engine: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.board = board
        self.engine = engine
        self.add_marker("hil")

    def case(self) -> Case:
        """The case behind this item."""
        return self.config.stash[SESSION].case(self.path, self.engine, get_board(self.board))

    def runtest(self) -> None:
        """Measures; a wrong answer or a network that does not fit is a failure."""
        session = self.config.stash[SESSION]
        _prepare_all(self.session, session.runner)
        if self.config.option.hil_build_only:
            session.runner.firmware(self.case())
        else:
            session.measure(self.case())

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The message alone: these errors are written for users."""
        if isinstance(excinfo.value, TinyhilError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Shown in the terminal and in JUnit."""
        return self.path, 0, f"{self.path.stem} {self.name}"


def _prepare_all(session: pytest.Session, runner: Runner) -> None:
    """Builds the firmware of all collected items in one go, the first time any of them runs."""
    cases = []
    for item in session.items:
        if isinstance(item, MeasureItem):
            try:
                cases.append(item.case())
            except TinyhilError:
                continue  # that item will say so itself
    runner.prepare(cases)
