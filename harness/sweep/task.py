"""One measurement as a task: everything it needs is in it, so any worker anywhere may do it."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from tinyhil.errors import BenchError, MissingTool, TinyhilError
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.measure import Case, failed, measure
from tinyhil.harness.settings import load_settings
from tinyhil.harness.targets.qemu import QemuTarget
from tinyhil.harness.targets.target import Target
from tinyhil.results.record import Measurement


@dataclass(frozen=True)
class Task:
    """Run `firmware` of `case` on `target`. With `elf` the program comes along as bytes."""

    case: Case
    firmware: Firmware
    target: Target
    timeout: float
    repeats: int
    elf: bytes | None = None


@dataclass(frozen=True)
class Answer:
    """Who did a task, and what came of it: a record (perhaps with an error), or trouble on the bench."""

    worker: str
    result: Measurement | BenchError


def perform(task: Task) -> Answer:
    """Measures. Never raises what is the user's to read: errors travel as data."""
    worker = worker_name(task.elf is not None)
    try:
        if task.elf is None:
            return Answer(worker, _measure(task, task.firmware))
        with tempfile.TemporaryDirectory(prefix="tinyhil-task-") as folder:
            elf = Path(folder) / "firmware.elf"
            elf.write_bytes(task.elf)
            elf.chmod(0o755)
            task = replace(task, target=_at_home(task.target))
            return Answer(worker, _measure(task, replace(task.firmware, elf=elf)))
    except BenchError as error:
        if task.target.mode == "hardware" or isinstance(error, MissingTool):
            return Answer(worker, error)
        return Answer(worker, trouble(task.case, error, task.target.mode, task.firmware.id))
    except TinyhilError as error:
        return Answer(worker, trouble(task.case, error, task.target.mode, task.firmware.id))


def trouble(case: Case, error: TinyhilError, mode: str, identity: str) -> Measurement:
    """The record of a case without numbers; it names its firmware, so that it is known next time."""
    return replace(failed(case, error, mode), provenance={"build_id": identity} if identity else {})


def _measure(task: Task, firmware: Firmware) -> Measurement:
    deadline = Deadline.after(task.timeout)
    return measure(task.case, firmware, task.target, deadline, repeats=task.repeats)


def _at_home(target: Target) -> Target:
    """On another machine the emulator's plug-in is kept where that machine keeps such things."""
    if isinstance(target, QemuTarget) and not target.cache_dir.is_dir():
        return replace(target, cache_dir=load_settings(Path.cwd()).cache)
    return target


def worker_name(remote: bool) -> str:
    """The thread's name, or the Dask worker's address."""
    if not remote:
        return threading.current_thread().name.replace("_", " ")
    from distributed import get_worker

    return str(get_worker().address)
