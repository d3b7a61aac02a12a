"""Networks as pytest items; imported only when a board is given, so other sessions stay light."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tinyhil.errors import MissingTool, TinyhilError
from tinyhil.harness.boards import Board, get_board
from tinyhil.harness.engine import Engine, Options
from tinyhil.harness.engines import get_engine, table_of
from tinyhil.harness.measure import Case, Network
from tinyhil.harness.pytest_fixtures import SESSION
from tinyhil.harness.runner import Runner
from tinyhil.results.budget import check_budget
from tinyhil.results.compare import Finding, compare
from tinyhil.results.gates import Rule
from tinyhil.results.record import Measurement


class Failed(TinyhilError):
    """A measurement that was made and is not good; the message is the record's."""


@dataclass(frozen=True)
class Gates:
    """Rules of --hil-fail, the baseline they are held against, and earlier runs that teach the noise."""

    rules: tuple[Rule, ...]
    baseline: Sequence[Measurement]
    allow_unlike: bool = False
    noise: Sequence[Measurement] = ()

    def check(self, record: Measurement, rules: Sequence[Rule] | None = None) -> list[Finding]:
        """What the rules (by default all) say of one record; rows that are gone are not its business."""
        rules = self.rules if rules is None else rules
        found = compare([record], self.baseline, rules, noise=self.noise, allow_unlike=self.allow_unlike)
        return [finding for finding in found if finding.status != "gone"]


@dataclass
class HilSession:
    """What one pytest session shares: the runner, networks and engines read once, and the records."""

    runner: Runner
    prefer: str = "speed"
    gates: Gates | None = None
    records: list[Measurement] = field(default_factory=list)
    bench_error: bool = False
    trouble: str = ""  # why the end of the session could not be written
    _networks: dict[Path, Network] = field(default_factory=dict)
    _engines: dict[str, Engine] = field(default_factory=dict)

    def case(self, path: Path, engine: str, board: Board, options: Options | None = None) -> Case:
        """The case of one model file; ModelError if it is not an int8 network."""
        if path not in self._networks:
            self._networks[path] = Network.load(path)
        if engine not in self._engines:
            self._engines[engine] = get_engine(engine, table_of(engine, self.runner.settings.engines))
        options = options or Options(prefer=self.prefer)
        return Case(self._networks[path], self._engines[engine], board, options)

    def measure(self, case: Case) -> Measurement:
        """A good measurement; Failed if it was made and is not good, BenchError if it could not be."""
        try:
            record = self.runner.measure(case)
        except MissingTool as error:
            self.records.append(self.runner.missing(case, error))
            raise
        self.records.append(record)
        if record.error is not None:
            raise Failed(f"{record.error.code}: {record.error.message}")
        return record

    def judge(self, record: Measurement, budget: Mapping[str, str | int]) -> None:
        """Holds a record of a user's own test against all gates and its budget; Failed names each."""
        broken = (
            [finding.message() for finding in self.gates.check(record) if finding.failed]
            if self.gates
            else []
        )
        verdicts = check_budget(record, budget)
        broken += [verdict.message for verdict in verdicts if verdict.kept is False]
        if broken:
            raise Failed("\n".join(broken))
        unknown = [verdict.message for verdict in verdicts if verdict.kept is None]
        if unknown:
            pytest.xfail("; ".join(unknown))


class ModelFile(pytest.File):
    """One network; its items are the engines on the boards."""

    def collect(self) -> Iterator[pytest.Item]:
        """One item per engine and board."""
        session = self.config.stash[SESSION]
        settings = session.runner.settings
        for board in settings.boards:
            for engine in settings.engine:
                name = f"{board}-{engine}"
                item: MeasureItem = MeasureItem.from_parent(self, name=name, board=board, engine=engine)
                yield item
                for rule in session.gates.rules if session.gates else ():
                    yield GateItem.from_parent(self, name=f"{name}-{rule.metric}", measured=item, rule=rule)


class UserItem(pytest.Item):
    """An item whose errors are written for users: the message alone is shown."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The message of a tinyhil error, pytest's own words for anything else."""
        if isinstance(excinfo.value, TinyhilError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Shown in the terminal and in JUnit."""
        return self.path, 0, f"{self.path.stem} {self.name}"


class MeasureItem(UserItem):
    """One network by one engine on one board."""

    def __init__(self, *, board: str, engine: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.board = board
        self.engine = engine
        self.record: Measurement | None = None
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
            self.record = session.measure(self.case())


class GateItem(UserItem):
    """One metric of one measurement against its baseline: a regression is a failed test of its own."""

    def __init__(self, *, measured: MeasureItem, rule: Rule, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.measured = measured
        self.rule = rule
        self.add_marker("hil")

    def runtest(self) -> None:
        """Compares; skipped where the measurement itself gave no record."""
        record, gates = self.measured.record, self.config.stash[SESSION].gates
        if record is None or gates is None:
            pytest.skip(f"{self.measured.name} was not measured")
        failed = [finding.message() for finding in gates.check(record, [self.rule]) if finding.failed]
        if failed:
            raise Failed("\n".join(failed))


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
