"""Every error a user can meet.

TinyhilError
├── UsageError              a wrong option, setting or board name
├── ModelError              the network itself
│   ├── MalformedModel
│   └── UnsupportedOperator
├── DoesNotFit              the network needs more flash or RAM than the board has
├── BuildError              compiler, linker or PlatformIO said no
├── BenchError              the bench, not the network: exit code 10
│   ├── FileTrouble
│   ├── MissingTool
│   ├── ProbeNotFound
│   ├── BoardBusy
│   ├── WrongBoard
│   ├── FlashVerifyFailed
│   └── WireError
│       ├── NoAnswer
│       ├── BadFrame
│       └── TargetReset
├── HardFault               the firmware crashed; carries function and line
├── Incorrect               the output differs from the reference: no latency is shown
└── StoreError

Each message says what happened, where, the likely cause and what to do. `code` is the stable
word for it in records and JSON.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class TinyhilError(Exception):
    """Base of all errors that are the user's to read; anything else is a bug in tinyhil."""

    exit_code = 1

    @property
    def code(self) -> str:
        """Stable name of the error in records, e.g. `DoesNotFit`."""
        return type(self).__name__


class UsageError(TinyhilError):
    """A wrong option, setting, board or engine name."""

    exit_code = 2


class ModelError(TinyhilError):
    """The network cannot be used."""


class MalformedModel(ModelError):
    """The file is not a valid TFLite model: truncated, wrong magic, offsets out of range."""


class UnsupportedOperator(ModelError):
    """The model is valid, but uses an operator or a type that tinyhil does not have."""


class DoesNotFit(TinyhilError):
    """The network needs more flash or RAM than the board has."""


class BuildError(TinyhilError):
    """The compiler, the linker or PlatformIO refused; the message carries its own words."""


class BenchError(TinyhilError):
    """Only the bench failed: nothing is known about the network."""

    exit_code = 10


class FileTrouble(BenchError):
    """A file that cannot be read or written: its permissions, or a disk that is full."""


class MissingTool(BenchError):
    """A program that this step needs is not installed; the message says how to get it."""


class ProbeNotFound(BenchError):
    """No debug probe with the wanted unique id."""


class BoardBusy(BenchError):
    """Another process holds the board's lock."""


class WrongBoard(BenchError):
    """The board that answered is not the board that was asked for."""


class FlashVerifyFailed(BenchError):
    """What was read back from flash differs from what was programmed."""


class WireError(BenchError):
    """The conversation with the firmware broke."""


class NoAnswer(WireError):
    """Nothing came before the deadline."""


class BadFrame(WireError):
    """A frame with a wrong checksum, length, type or sequence number."""


class TargetReset(WireError):
    """The firmware said hello again in the middle of a measurement."""


class HardFault(TinyhilError):
    """The firmware crashed; the message names function and line."""


class Incorrect(TinyhilError):
    """The output differs from the reference, or the memory from the plan."""


class StoreError(TinyhilError):
    """The results file is corrupted, newer than this version, or cannot be written."""

    exit_code = 10  # says nothing of the network


_FULL = "The disk is full: free some space and run again; what was stored before is safe"
_CLOSED = "You may not do that there: look at its permissions, or name another place"
_ADVICE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _CLOSED,
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
}


@contextmanager
def files_told(place: object = "") -> Iterator[None]:
    """What the operating system says of a file in here becomes a FileTrouble with what to do.

    A full disk names no file; `place` is told then.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno not in _ADVICE:
            raise  # of no file: not the user's to read
        where = f"{error.filename or place}: " if error.filename or place else ""
        advice = _ADVICE.get(error.errno or 0, "")
        raise FileTrouble(f"{where}{error.strerror or error}{'. ' if advice else ''}{advice}") from error
