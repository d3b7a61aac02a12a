"""Boards in other places: a labgrid coordinator says who may use which, and where its serial port is.

Driven as a subprocess, by the client's own command: labgrid brings its own pyserial, which would
replace the one that PlatformIO and tinyhil use. The probe of a far board is served by `pyocd server`.
"""

from __future__ import annotations

import ast
import contextlib
import getpass
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinyhil.errors import BenchError, BoardBusy, MissingTool
from tinyhil.harness.bench.lock import lock_folder, locked
from tinyhil.harness.bench.map import Place
from tinyhil.harness.deadline import Deadline

_CLIENT = "labgrid-client"
_SECONDS = 30.0  # for one command
_POLL = 1.0  # seconds between two rounds of asking coordinators for a free place
_SCHEMES = {"raw": "socket://{host}:{port}", "rfc2217": "rfc2217://{host}:{port}?ign_set_control"}


@dataclass(frozen=True)
class Shared:
    """A labgrid place in the words of its coordinator: `owner` is HOST/USER, "" while it is free;
    `resources` are what its exporter offers, each with `cls` and `params`."""

    name: str
    owner: str
    resources: tuple[Mapping[str, Any], ...]


@contextlib.contextmanager
def held(places: Sequence[Place], patience: Deadline, deadline: Deadline) -> Iterator[Place]:
    """The first of `places` that is free, on this computer and for everybody else who shares it, with
    the address of its serial port. BoardBusy names the holders once `patience` is over."""
    if not any(place.labgrid for place in places):
        with locked(places, patience) as place:
            yield place
        return
    with contextlib.ExitStack() as ours:
        yield _first_free(ours, places, patience, deadline)


def _first_free(
    ours: contextlib.ExitStack, places: Sequence[Place], patience: Deadline, deadline: Deadline
) -> Place:
    while True:
        busy = []
        for place in places:
            with contextlib.ExitStack() as attempt:
                try:
                    attempt.enter_context(locked([place], Deadline(time.monotonic())))
                    ready = attempt.enter_context(acquired(place, deadline))
                except BoardBusy as error:
                    busy.append(str(error))
                    continue
                ours.enter_context(attempt.pop_all())
                return ready
        if patience.expired:
            raise BoardBusy("; ".join(busy))
        time.sleep(min(_POLL, patience.remaining()))


@contextlib.contextmanager
def acquired(place: Place, deadline: Deadline) -> Iterator[Place]:
    """Owns the labgrid place that `place` names, and completes `place`; nothing to do if it names none.

    The caller holds the local lock of `place`. A labgrid place that its user had acquired before stays
    acquired; one that a tinyhil left behind when it died is taken over. BoardBusy names another owner;
    BenchError if the place was taken away in the middle.
    """
    if not place.labgrid:
        yield place
        return
    mark = _mark(place)
    left_behind = mark.exists()
    mark.touch()
    status, said = _client(place, "acquire", deadline)
    try:
        shared = show(place, deadline)
        if shared.owner != identity():
            raise _not_ours(place, shared, said)
    except BenchError:
        mark.unlink(missing_ok=True)
        if status == 0:
            _release(place)
        raise
    keep = status != 0 and not left_behind
    if keep:
        mark.unlink(missing_ok=True)
    try:
        yield replace(place, serial=place.serial or serial_address(place, shared))
        if (owner := show(place, Deadline.after(_SECONDS)).owner) != identity():
            raise BenchError(
                f"{place.name}: labgrid's place {place.labgrid} was taken away during the measurement, "
                f"{f'it belongs to {owner} now' if owner else 'by a release'}; its result is dropped"
            )
    finally:
        if not keep:
            _release(place)


def show(place: Place, deadline: Deadline) -> Shared:
    """The labgrid place as it is now; BenchError if the coordinator does not tell, or knows none of
    exactly that name (labgrid itself takes a part of a name)."""
    status, said = _client(place, "show", deadline)
    shared = parse_show(said) if status == 0 else None
    if shared is None:
        raise BenchError(f"{place.name}: labgrid does not tell of place {place.labgrid}: {said[-500:]}")
    if shared.name != place.labgrid:
        raise BenchError(f"{place.name}: labgrid knows no place {place.labgrid}, only {shared.name}")
    return shared


def parse_show(said: str) -> Shared | None:
    """What `labgrid-client show` printed; None if it is something else."""
    name = re.search(r"^Place '(.+)':$", said, re.MULTILINE)
    owner = re.search(r"^ +acquired: (\S+)$", said, re.MULTILINE)
    if name is None or owner is None:
        return None
    # Each resource is a line that ends in a colon, and its Python literal below, indented.
    found = re.findall(r"^(?:Acquired|Matching) resource .*:\n((?:  .*\n?)+)", said, re.MULTILINE)
    try:
        resources = tuple(ast.literal_eval(text.strip()) for text in found)
    except (ValueError, SyntaxError):
        return None
    return Shared(name[1], "" if owner[1] == "None" else owner[1], resources)


def serial_address(place: Place, shared: Shared) -> str:
    """Where the place's serial port is, as pyserial's URL; "" if the place has none."""
    for resource in shared.resources:
        params = resource.get("params", {})
        scheme = _SCHEMES.get(params.get("protocol", "rfc2217"))
        if resource.get("cls") != "NetworkSerialPort" or scheme is None:
            continue
        if params.get("extra", {}).get("proxy_required"):
            raise BenchError(
                f"{place.name}: the serial port of labgrid's place {shared.name} is behind an SSH proxy; "
                'open a tunnel and name its end in the bench map: serial = "rfc2217://localhost:PORT"'
            )
        return scheme.format(**params)
    return ""


def free(place: Place) -> bool:
    """Releases what a tinyhil of this computer left acquired when it died; False if there is nothing."""
    if not place.labgrid or not _mark(place).exists():
        return False
    _release(place)
    return True


def identity() -> str:
    """Who we are for labgrid: HOST/USER, by the same variables that its client reads."""
    host = os.environ.get("LG_HOSTNAME", socket.gethostname())
    return f"{host}/{os.environ.get('LG_USERNAME', getpass.getuser())}"


def _release(place: Place) -> None:
    """Only from ourselves: whoever took it over meanwhile keeps it."""
    with contextlib.suppress(BenchError):
        _client(place, "release-from", Deadline.after(_SECONDS), identity())
        _mark(place).unlink(missing_ok=True)


def _mark(place: Place) -> Path:
    """Says, while it exists, that a tinyhil of this computer has acquired the place."""
    return lock_folder() / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', place.labgrid)}.labgrid"


def _not_ours(place: Place, shared: Shared, said: str) -> BenchError:
    if not shared.owner:
        return BenchError(f"{place.name}: labgrid does not give place {place.labgrid}: {said[-500:]}")
    return BoardBusy(
        f"{place.name}: labgrid's place {place.labgrid} is acquired by {shared.owner}. Wait; if its holder "
        f"is gone, `{_CLIENT} -p {place.labgrid} release --kick` frees it"
    )


def _client(place: Place, verb: str, deadline: Deadline, *arguments: str) -> tuple[int, str]:
    """Exit status, and what the client printed."""
    try:
        done = subprocess.run(
            [_CLIENT, "-p", place.labgrid, verb, *arguments],
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
    return done.returncode, (done.stderr + done.stdout).strip()
