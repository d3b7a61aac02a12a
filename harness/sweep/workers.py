"""Who measures: any `concurrent.futures.Executor`. Threads of this process, or Dask's workers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tinyhil.errors import BenchError, MissingTool, UsageError

CONNECT_SECONDS = 30
LIVES = 10  # workers that may die with one task before the task is given up


@dataclass(frozen=True)
class Workers:
    """An executor. `remote`: its workers share neither memory nor disk with us, so the firmware
    travels with the task. `lost`: errors that mean "the worker died", not "the work is bad"."""

    executor: Executor
    remote: bool = False
    lost: tuple[type[BaseException], ...] = (BrokenExecutor, CancelledError)


@contextmanager
def open_workers(kind: str, jobs: int) -> Iterator[Workers]:
    """`threads`, `dask` (`jobs` processes on this machine) or a scheduler's address (tcp://HOST:PORT).

    Work that has not begun is dropped when the block is left by an error.
    """
    if kind == "threads":
        executor = ThreadPoolExecutor(jobs, thread_name_prefix="worker")
        try:
            yield Workers(executor)
        finally:
            executor.shutdown(cancel_futures=True)
    elif kind == "dask" or "://" in kind:
        with _client(kind, jobs) as client, client.get_executor(pure=False, retries=0) as executor:
            from distributed.scheduler import KilledWorker

            yield Workers(executor, True, (BrokenExecutor, CancelledError, KilledWorker))
    else:
        raise UsageError(f"--executor {kind!r}: threads, dask, or a Dask scheduler's address tcp://HOST:PORT")


@contextmanager
def _client(kind: str, jobs: int) -> Iterator[Any]:
    try:
        dask: Any = import_module("dask")
        distributed: Any = import_module("distributed")  # its own annotations stop at its classes
    except ImportError as error:
        raise MissingTool(f"--executor {kind} needs Dask: pip install 'tinyhil[dask]'") from error
    if kind != "dask":
        try:
            client = distributed.Client(kind, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise BenchError(
                f"no Dask scheduler answers at {kind} ({error}); start one with `dask scheduler`"
            ) from error
        with client:
            yield client
        return
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": LIVES}),
        distributed.LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
