"""The fixtures of the pytest face, for users' own tests: `board`, `firmware`, `dut` and `measure`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tinyhil.errors import TinyhilError

if TYPE_CHECKING:
    from tinyhil.harness.boards import Board
    from tinyhil.harness.build.firmware import Firmware
    from tinyhil.harness.engine import Options
    from tinyhil.harness.pytest_items import HilSession
    from tinyhil.harness.targets.target import Job, RawRun
    from tinyhil.results.record import Measurement

EXIT_BENCH_ONLY = 10  # every failure of the session was the bench's, none the network's

SESSION: pytest.StashKey[HilSession] = pytest.StashKey()


@pytest.fixture(scope="session")
def board(request: pytest.FixtureRequest) -> Board:
    """The board kind under test, one of --board."""
    from tinyhil.harness.boards import get_board

    return get_board(request.param)


@pytest.fixture
def firmware(request: pytest.FixtureRequest, board: Board) -> Callable[..., Firmware]:
    """`firmware(model, engine="tinyengine") -> Firmware`: generated and built, from the cache if known."""
    session = request.config.stash[SESSION]

    def make(model: str | Path, engine: str = "tinyengine", options: Options | None = None) -> Firmware:
        return session.runner.firmware(session.case(_model_path(request, model), engine, board, options))

    return make


@pytest.fixture
def dut(request: pytest.FixtureRequest, board: Board) -> Callable[[Firmware, Job], RawRun]:
    """`dut(firmware, job) -> RawRun`: flashed or booted, greeted, run."""
    from tinyhil.harness.deadline import Deadline

    runner = request.config.stash[SESSION].runner

    def run(firmware: Firmware, job: Job) -> RawRun:
        return runner.target(board).run(firmware, job, Deadline.after(runner.settings.timeout))

    return run


@pytest.fixture
def measure(request: pytest.FixtureRequest, board: Board) -> Callable[..., Measurement]:
    """`measure(model, engine="tinyengine") -> Measurement`: a good one; anything else fails the test."""
    session = request.config.stash[SESSION]
    marker = request.node.get_closest_marker("budget")

    def run(model: str | Path, engine: str = "tinyengine", options: Options | None = None) -> Measurement:
        try:
            record = session.measure(session.case(_model_path(request, model), engine, board, options))
            session.judge(record, marker.kwargs if marker else {})
        except TinyhilError as error:
            if error.exit_code == EXIT_BENCH_ONLY:
                raise
            pytest.fail(str(error), pytrace=False)
        return record

    return run


def _model_path(request: pytest.FixtureRequest, model: str | Path) -> Path:
    path = Path(model)
    beside = request.path.parent / path
    return beside if beside.exists() else request.config.rootpath / path
