"""The host as a board: the same C, run under address and undefined-behaviour sanitizers."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from tinyhil.errors import HardFault, Incorrect, NoAnswer, TinyhilError, UsageError
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.line import SocketLine, wait_until_closed
from tinyhil.harness.targets.session import hold
from tinyhil.harness.targets.target import Job, RawRun
from tinyhil.harness.wire import Conversation

_GRACE = 5.0  # seconds for a sanitizer to finish its report
# The network's memory is static, so there is nothing to leak; a report must end the program.
_SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
}


@dataclass(frozen=True)
class NativeTarget:
    """Runs firmware that was built for the `native` board as a process of this computer."""

    mode: str = "native"

    def run(self, firmware: Firmware, job: Job, deadline: Deadline) -> RawRun:
        """Starts, runs, reads back; see Target. A sanitizer's report is raised as Incorrect."""
        if not firmware.board.is_native:
            raise UsageError(
                f"{firmware.elf.name} was built for {firmware.board.name}, not for this computer"
            )
        with tempfile.TemporaryFile() as stderr, _started(firmware.elf, stderr) as (process, line):
            talk = Conversation(line, deadline, retry=5.0)
            try:
                session = hold(talk, firmware, job)
                talk.exit()
                wait_until_closed(line, deadline)
            except EOFError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.01, deadline.within(_GRACE).remaining()))
                raise _ended(firmware, process.poll(), _read(stderr)) from None
            except NoAnswer as silence:
                raise NoAnswer(f"{firmware.sources.network}: {silence}") from None
        return replace(session.raw_run(self.mode), log=talk.log)


@contextlib.contextmanager
def _started(elf: Path, stderr: IO[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], SocketLine]]:
    """The program with its wire on standard input and output; it is gone when the block ends."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [str(elf)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=stderr,
                env={**os.environ, **_SANITIZERS},
            )
        try:
            yield process, SocketLine(ours)
        finally:
            process.kill()
            process.wait()


def _read(stderr: IO[bytes]) -> str:
    stderr.seek(0)
    return stderr.read(1 << 20).decode(errors="replace")


def _ended(firmware: Firmware, status: int | None, said: str) -> TinyhilError:
    """Why the program ended before the job was done."""
    network, tail = firmware.sources.network, said[-1000:]
    found = re.search(r"ERROR: AddressSanitizer: (?P<what>.*)|(?P<at>\S+): runtime error: (?P<why>.*)", said)
    if found is None:
        if status is not None and status < 0:
            return HardFault(f"{network}: the program was killed by signal {-status}\n{tail}".rstrip())
        return NoAnswer(
            f"{network}: the program ended with status {status} before it had answered\n{tail}".rstrip()
        )
    what = found["what"] or f"{found['why']} at {Path(found['at']).name}"
    frames = re.findall(r"#\d+ 0x[0-9a-f]+ in (\w+) (\S+:\d+)", said)
    where = next((f" in {function} ({Path(line).name})" for function, line in frames), "")
    if found["what"] and "SEGV" in found["what"]:
        return HardFault(f"{network}: the sanitizer stopped the program{where}: {what}")
    detail = re.search(r"is located .*", said)
    more = f"; the address {detail[0]}" if detail else ""
    return Incorrect(f"{network}: the sanitizer stopped the program{where}: {what}{more}")
