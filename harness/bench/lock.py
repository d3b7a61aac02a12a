"""One board, one user: a file lock per probe, taken before the probe is touched.

The kernel frees the lock when its holder dies, however it dies. The file's text only says who holds
it, for the message that others get, and keeps a board out of use until `tinyhil unlock`.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tinyhil.errors import BoardBusy
from tinyhil.harness.bench.map import Place
from tinyhil.harness.deadline import Deadline

_POLL = 0.05  # seconds between two tries


@dataclass(frozen=True)
class Holder:
    """Who wrote the lock file last. `kept` is why the board stays out of use without a holder."""

    who: str
    since: str
    kept: str = ""

    def __str__(self) -> str:
        return f"{self.who} since {self.since}" + (f" ({self.kept})" if self.kept else "")


def lock_folder() -> Path:
    """Where lock files lie: the same for all users of this computer. TINYHIL_LOCKS names another."""
    named = os.environ.get("TINYHIL_LOCKS")
    if named:
        folder = Path(named)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    folder = Path(tempfile.gettempdir()) / "tinyhil-locks"
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(PermissionError):  # another user made it, and did the same
        folder.chmod(0o1777)
    return folder


@contextlib.contextmanager
def locked(places: Sequence[Place], deadline: Deadline, folder: Path | None = None) -> Iterator[Place]:
    """Holds the first of `places` that becomes free; BoardBusy names the holders at `deadline`."""
    folder = folder or lock_folder()
    while True:
        for place in places:
            held = _try(_path(folder, place))
            if held is None:
                continue
            try:
                _write(held, _me())
                yield place
            finally:
                os.close(held)
            return
        if deadline.expired:
            raise _busy(places, folder)
        time.sleep(min(_POLL, deadline.remaining()))


def keep(place: Place, why: str, folder: Path | None = None) -> None:
    """Takes a free board out of use until `release`; BoardBusy if somebody holds it."""
    folder = folder or lock_folder()
    held = _try(_path(folder, place))
    if held is None:
        raise _busy([place], folder)
    try:
        mark_kept(held, why)
    finally:
        os.close(held)


def quarantine(place: Place, why: str, folder: Path | None = None) -> None:
    """Takes a board out of use that this process holds."""
    held = _open(_path(folder or lock_folder(), place))
    try:
        mark_kept(held, why)
    finally:
        os.close(held)


def mark_kept(held: int, why: str) -> None:
    """Writes the reason into the open lock file `held`."""
    _write(held, _me(why))


def release(place: Place, folder: Path | None = None) -> Holder | None:
    """Puts a kept board back into use; who had kept it, None if nobody. BoardBusy if it is held."""
    folder = folder or lock_folder()
    held = _open(_path(folder, place))
    try:
        if not _flock(held):
            raise _busy([place], folder)
        was = _read(held)
        os.ftruncate(held, 0)
        return was if was and was.kept else None
    finally:
        os.close(held)


def holder(place: Place, folder: Path | None = None) -> Holder | None:
    """Who holds or keeps the board now; None if it is free."""
    held = _open(_path(folder or lock_folder(), place))
    try:
        known = _read(held)
        if not _flock(held):
            return known or Holder("another process", "an unknown time")
        return known if known and known.kept else None
    finally:
        os.close(held)


def _path(folder: Path, place: Place) -> Path:
    return folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', place.probe)}.lock"


def _try(path: Path) -> int | None:
    """The open and locked file; None if the board is held or kept."""
    held = _open(path)
    if _flock(held):
        known = _read(held)
        if known is None or not known.kept:
            return held
    os.close(held)
    return None


def _open(path: Path) -> int:
    """Without O_CREAT first: Linux refuses it for another user's file in a shared folder."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        try:
            made = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return os.open(path, flags)
        os.fchmod(made, 0o666)  # whatever the umask: every user of the bench must be able to lock
        return made


def _flock(held: int) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(held: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(held, 4096, 0)))
    except (ValueError, TypeError):
        return None  # empty, or its writer died in the middle


def _write(held: int, who: Holder) -> None:
    os.ftruncate(held, 0)
    os.pwrite(held, json.dumps(asdict(who)).encode(), 0)


def _me(kept: str = "") -> Holder:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    who = f"{user}@{socket.gethostname()} (process {os.getpid()})"
    return Holder(who, datetime.now(UTC).isoformat(timespec="seconds"), kept[:1000])


def _busy(places: Sequence[Place], folder: Path) -> BoardBusy:
    said = []
    for place in places:
        by = holder(place, folder)
        verb = "is kept out of use by" if by and by.kept else "is held by"
        said.append(f"{place.name} {verb} {by or 'nobody any more'}")
    return BoardBusy(
        f"no free board: {'; '.join(said)}. Wait, or `tinyhil unlock NAME` a board that is kept without need"
    )
