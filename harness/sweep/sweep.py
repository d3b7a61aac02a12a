"""A sweep, start to end: generate, look up, build in batches, measure on workers, store as it comes.

Nothing but the store remembers: a firmware that has a good record in the wanted mode is done. So a
sweep that was killed goes on where it was, shards may share a store, and a changed engine measures
just what it changed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path

from tinyhil.errors import BenchError, MissingTool, TinyhilError
from tinyhil.harness.boards import get_board
from tinyhil.harness.build import Firmware, Program, build, firmware_id
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.engine import Engine
from tinyhil.harness.engines import get_engine, table_of
from tinyhil.harness.measure import Case, Network, failed
from tinyhil.harness.model import read_tflite, write_tflite
from tinyhil.harness.model.random_graphs import random_layer
from tinyhil.harness.runner import Runner
from tinyhil.harness.sweep.plan import Item, Source
from tinyhil.harness.sweep.progress import Reporter, in_few_words
from tinyhil.harness.sweep.task import Answer, Task, perform, trouble
from tinyhil.harness.sweep.work import Firm, batches, left
from tinyhil.harness.sweep.workers import Workers
from tinyhil.results.record import Measurement

BATCH = 64  # programs in one run of the build system
NETWORKS = 128  # networks that are kept with their reference outputs


@dataclass
class Outcome:
    """How a sweep ended. `failures` and `bench` hold (item, code, message): records with an error,
    and items of which nothing was learned; `rows` has each item's record. All in the order of the
    plan. `built` firmware, cached ones too, took the build system `build_seconds`; runs go on meanwhile.
    """

    built: int = 0
    build_seconds: float = 0.0
    measured: int = 0
    known: int = 0
    failed_before: int = 0
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    bench: list[tuple[str, str, str]] = field(default_factory=list)
    rows: dict[Item, Measurement] = field(default_factory=dict)


@dataclass(frozen=True)
class _Ready:
    item: Item
    case: Case
    program: Program
    firm: Firm


@dataclass
class Sweep:
    """One run over `items`. Call `run` once."""

    runner: Runner
    items: Sequence[Item]
    workers: Workers
    say: Reporter
    retry_failed: bool = False
    batch: int = BATCH
    _outcome: Outcome = field(default_factory=Outcome, init=False)
    _pending: dict[Future[Answer], _Ready] = field(default_factory=dict, init=False)
    _firms: dict[Item, Firm] = field(default_factory=dict, init=False)
    _fresh: dict[Firm, Measurement] = field(default_factory=dict, init=False)
    _engines: dict[str, Engine] = field(default_factory=dict, init=False)

    def run(self) -> Outcome:
        """Measures what is left. Raises MissingTool where no item could go on."""
        for number, part in enumerate(batches(self.items, self.batch), 1):
            self._begin(part, number)
            self._collect([future for future in self._pending if future.done()])
        while self._pending:
            self._collect(wait(self._pending, return_when="FIRST_COMPLETED").done)
        self._fill_rows()
        place = {str(item): number for number, item in enumerate(self.items)}
        for troubles in (self._outcome.failures, self._outcome.bench):
            troubles.sort(key=lambda one: place[one[0]])
        return self._outcome

    def _begin(self, part: Sequence[Item], number: int) -> None:
        """Generates and builds one batch, and hands it to the workers, who go on meanwhile."""
        ready = [one for item in part if (one := self._prepare(item))]
        running = {one.firm for one in self._pending.values()}
        work = left(
            [(one, one.firm) for one in ready],
            {*self._good, *self._fresh, *running},
            self._bad,
            retry_failed=self.retry_failed,
        )
        self._outcome.known += len(work.known) + len(work.twins)
        self._outcome.failed_before += len(work.failed)
        self.say.known(len(work.known) + len(work.twins) + len(work.failed))
        if not work.todo:
            self.say.step(f"batch {number}: {len(part)} items, none to build")
            return
        self.say.step(f"batch {number}: building {len(work.todo)} of {len(part)}")
        settings = self.runner.settings
        deadline = Deadline.after(60 + 10 * settings.timeout)
        started = time.monotonic()
        built = build([one.program for one in work.todo], deadline, cache_dir=settings.cache)
        self._outcome.build_seconds += time.monotonic() - started
        for one, firmware in zip(work.todo, built, strict=True):
            if isinstance(firmware, Firmware):
                self._outcome.built += 1
                self._pending[self.workers.executor.submit(perform, self._task(one, firmware))] = one
            else:
                self._keep(one, "build", trouble(one.case, firmware, one.firm[1], one.firm[0]))

    def _prepare(self, item: Item) -> _Ready | None:
        """Generated code and its identity. A network that no code can be made for fails here, every time:
        finding out again costs nothing."""
        try:
            network = _network(item.source)
        except TinyhilError as error:
            self._outcome.failures.append((str(item), error.code, str(error)))
            self.say.finished("generate", str(item), error.code)
            return None
        case = Case(network, self._engine(item.engine), get_board(item.board), item.options)
        mode = self.runner.target(case.board).mode
        try:
            program = self.runner.program(case)
        except MissingTool as error:  # what this engine needs; the others go on
            self._outcome.rows[item] = failed(case, error, mode)
            self._outcome.bench.append((str(item), error.code, str(error)))
            self.say.finished("generate", str(item), error.code)
            return None
        except TinyhilError as error:
            record = trouble(case, error, mode, "")
            self._outcome.failures.append((str(item), error.code, str(error)))
            self._outcome.rows[item] = record
            self.say.finished("generate", str(item), error.code)
            return None
        firm = (firmware_id(program), mode)
        self._firms[item] = firm
        return _Ready(item, case, program, firm)

    def _engine(self, name: str) -> Engine:
        """The engine, made once: looking for those of third parties takes longer than generating."""
        if name not in self._engines:
            self._engines[name] = get_engine(name, table_of(name, self.runner.settings.engines))
        return self._engines[name]

    def _task(self, one: _Ready, firmware: Firmware) -> Task:
        settings = self.runner.settings
        target = self.runner.target(one.case.board)
        task = Task(one.case, firmware, target, settings.timeout, settings.repeats)
        if not self.workers.remote:
            return task
        if target.mode == "hardware":
            raise BenchError(
                f"{one.case.board.name} is attached to this computer, no other can reach it: "
                "use --executor threads, or --emulate"
            )
        _ = one.case.network.expected  # computed here, once per network: it travels with the task
        return replace(task, elf=firmware.elf.read_bytes())

    def _collect(self, done: Sequence[Future[Answer]] | set[Future[Answer]]) -> None:
        for future in done:
            one = self._pending.pop(future)
            error = future.exception()
            if isinstance(error, self.workers.lost):
                self._bench(one, "?", BenchError(f"the worker died: {error}"))
                continue
            answer = future.result()
            if isinstance(answer.result, MissingTool):
                raise answer.result
            if isinstance(answer.result, BenchError):
                self._bench(one, answer.worker, answer.result)
            else:
                self._keep(one, answer.worker, answer.result)

    def _keep(self, one: _Ready, worker: str, record: Measurement) -> None:
        record = self.runner.keep(record, once=True)
        self._fresh[one.firm] = record
        if record.error:
            self._outcome.failures.append((str(one.item), record.error.code, record.error.message))
        else:
            self._outcome.measured += 1
        self.say.finished(worker, str(one.item), in_few_words(record))

    def _bench(self, one: _Ready, worker: str, error: BenchError) -> None:
        self._outcome.bench.append((str(one.item), error.code, str(error)))
        self.say.finished(worker, str(one.item), error.code)

    def _fill_rows(self) -> None:
        """The table: records of this sweep, and those that the store knew, in the order of the plan."""
        ids = {firm: self._good.get(firm, self._bad.get(firm)) for firm in self._firms.values()}
        stored = self.runner.store.records(i for i in ids.values() if i is not None)
        rows: dict[Item, Measurement] = {}
        for item in self.items:
            firm = self._firms.get(item)
            known = stored.get(ids[firm] or 0) if firm else self._outcome.rows.get(item)
            record = (self._fresh.get(firm) if firm else None) or known
            if record is not None:
                rows[item] = record
                if firm not in self._fresh and firm and record.error:
                    words = f"{record.error.message} (on {record.created}; --retry-failed tries again)"
                    self._outcome.failures.append((str(item), record.error.code, words))
        self._outcome.rows = rows

    @cached_property
    def _good(self) -> Mapping[Firm, int]:
        return self.runner.store.by_build()

    @cached_property
    def _bad(self) -> Mapping[Firm, int]:
        return self.runner.store.by_build(failed=True)


@lru_cache(NETWORKS)
def _network(source: Source) -> Network:
    """The network, read once for all boards, engines and options."""
    if source.path:
        return Network.load(Path(source.path))
    data = write_tflite(random_layer(source.kind, source.seed))
    return Network(str(source), data, read_tflite(data, str(source)))
