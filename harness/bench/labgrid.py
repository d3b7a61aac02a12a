"""A board that a labgrid coordinator shares out: acquired for each measurement, released after it.

Driven as a subprocess, by the client's own command: labgrid brings its own pyserial, which would
replace the one that PlatformIO and tinyhil use.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator

from tinyhil.errors import BenchError, BoardBusy, MissingTool
from tinyhil.harness.bench.map import Place
from tinyhil.harness.deadline import Deadline

_CLIENT = "labgrid-client"
_SECONDS = 30.0  # for one command


@contextlib.contextmanager
def acquired(place: Place, deadline: Deadline) -> Iterator[None]:
    """Owns the labgrid place that `place` names; nothing to do if it names none.

    A place that its user had acquired before stays acquired. BoardBusy names another owner.
    """
    if not place.labgrid:
        yield
        return
    status, said = _client(place, "acquire", deadline)
    ours_already = bool(re.search(r"you have already acquired", said, re.IGNORECASE))
    if status != 0 and not ours_already:
        kind = BoardBusy if "acquired by" in said else BenchError
        raise kind(f"{place.name}: labgrid does not give place {place.labgrid}: {said}")
    try:
        yield
    finally:
        if not ours_already:
            with contextlib.suppress(BenchError):
                _client(place, "release", Deadline.after(_SECONDS))


def _client(place: Place, verb: str, deadline: Deadline) -> tuple[int, str]:
    """Exit status, and the last lines that the client printed."""
    try:
        done = subprocess.run(
            [_CLIENT, "-p", place.labgrid, verb],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=max(0.1, min(_SECONDS, deadline.remaining())),
            check=False,
        )
    except FileNotFoundError:
        raise MissingTool(
            f"{place.name} is labgrid's place {place.labgrid}, but {_CLIENT} is not installed: pipx install "
            "labgrid (in an environment of its own)"
        ) from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"{place.name}: labgrid's coordinator did not answer `{verb}` in time") from None
    return done.returncode, (done.stderr + done.stdout).strip()[-500:]
