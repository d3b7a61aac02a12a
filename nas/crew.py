"""The planner on several cores: processes that plan networks.

What one of them learns of chains the others read from the store. A worker that is asked gives the answer
that this process would give, so their number changes nothing but the time. Workers are started by spawning,
when the first large question comes. They leave Ctrl-C to this process, and end with it, however it ends.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Options
from tinyhil.nas.arch import Arch
from tinyhil.nas.chainstore import ChainStore
from tinyhil.nas.planning import EngineNeeds, Planned, plan_from_json, plan_to_json
from tinyhil.nas.prices import Conditions

MOST = 8  # workers: more only wait for the store, and cost a start each
_PART = 4  # networks that a worker plans at a time


class ProcessCrew:
    """At most `workers` processes that plan for `board`, with the store in `folder`."""

    def __init__(self, board: Board, options: Options, folder: Path, workers: int) -> None:
        self._workers = workers
        self._executor = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), _begin, (board, options, folder)
        )

    def plan(self, archs: Sequence[Arch]) -> Iterable[Planned]:
        """The plans of networks, in order."""
        size = min(_PART, -(-len(archs) // self._workers))
        parts = [archs[start : start + size] for start in range(0, len(archs), size)]
        with _ctrl_c_later():
            found = self._executor.map(_plan, parts)
        return map(plan_from_json, archs, (table for tables in found for table in tables))

    def close(self) -> None:
        """End the processes; what was not begun is dropped."""
        self._executor.shutdown(cancel_futures=True)


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Processes that are started meanwhile never see Ctrl-C; this one sees it afterwards, and not while one
    of them is half started."""
    seen: list[int] = []
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # they inherit this thread's
    own = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: seen.append(number)) if own else None
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if seen:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def open_needs(
    board: Board, options: Options | None = None, workers: int | None = None, cache: Path | None = None
) -> Iterator[EngineNeeds]:
    """`EngineNeeds` on `workers` cores (if None, all there are, up to MOST) that keeps what it learns of
    chains in the folder `cache`. Afterwards it still answers, in this process."""
    options, workers = options or Options(), workers or min(os.cpu_count() or 1, MOST)
    with TemporaryDirectory(prefix="tinyhil-chains-") as folder:
        place = folder if cache is None else cache
        store = ChainStore(Path(place), Conditions(board.core, options))
        if workers == 1:
            yield EngineNeeds(board, options, store=store if cache is not None else None)
            return
        crew = ProcessCrew(board, options, Path(place), workers)
        needs = EngineNeeds(board, options, store=store, crew=crew)
        try:
            yield needs
        finally:
            needs.crew = None
            crew.close()


_needs: EngineNeeds | None = None  # of a worker


def _begin(board: Board, options: Options, folder: Path) -> None:
    global _needs
    gc.disable()  # plans leave no cycles behind
    atexit.register(os._exit, 0)  # what a worker keeps need not be taken apart at its end
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _needs = EngineNeeds(board, options, store=ChainStore(folder, Conditions(board.core, options)))


def _end_with_parent() -> None:
    """Nothing else ends a worker whose parent was killed: it would wait for its next task for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _plan(archs: Sequence[Arch]) -> list[dict[str, Any]]:
    assert _needs is not None
    plans = [plan_to_json(_needs.plan(arch)) for arch in archs]
    _needs.forget_plans()
    return plans
