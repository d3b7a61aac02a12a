"""The board in Renode: its own models of STM32 peripherals, instructions counted, no timing.

Renode's virtual time is instructions divided by a constant, so only `ExecutedInstructions` is taken
from it, as counted. It talks through a socket terminal; hooks at the runtime's marks log the count.
Written from Renode's documentation; it has not been run against a Renode yet. Optional: a portable
Renode from builds.renode.io, found as `renode` or through TINYHIL_RENODE.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from tinyhil.errors import BadFrame, MissingTool, NoAnswer, UsageError
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.counts import marks_of, split_runs
from tinyhil.harness.targets.line import SocketLine
from tinyhil.harness.targets.session import hold
from tinyhil.harness.targets.target import Job, LayerCount, RawRun
from tinyhil.harness.wire import Conversation

#: Renode's own platform descriptions, and the name of the UART that our firmware uses on each.
PLATFORMS: Mapping[str, tuple[str, str]] = {
    "stm32f746": ("platforms/cpus/stm32f746.repl", "usart1"),
    "stm32f407": ("platforms/cpus/stm32f4.repl", "usart2"),
    "stm32h743": ("platforms/cpus/stm32h743.repl", "usart3"),
}
_MARK = re.compile(r"tinyhil-mark ([0-9a-f]+) (\d+)")


@dataclass(frozen=True)
class Passed:
    """The program came by `mark` after `executed` instructions since reset."""

    mark: int
    executed: int


@dataclass(frozen=True)
class Stretch:
    """What ran between two marks."""

    mark: int
    instructions: int


def script(firmware: Firmware, port: int) -> str:
    """The .resc that loads `firmware`, opens its UART on TCP `port` and logs every mark.

    Raises UsageError for a board that Renode has no platform for, and for firmware of the QEMU twin.
    """
    board = firmware.board
    if firmware.emulated or board.name not in PLATFORMS:
        raise UsageError(
            f"Renode runs firmware as it is flashed, for {', '.join(PLATFORMS)}; this is for "
            f"{board.name}{', linked for the QEMU twin' if firmware.emulated else ''}"
        )
    platform, uart = PLATFORMS[board.name]
    marks = marks_of(firmware)
    lines = [
        'mach create "tinyhil"',
        f"machine LoadPlatformDescription @{platform}",
        f"sysbus LoadELF {_quoted(firmware.elf)}",
        f'emulation CreateServerSocketTerminal {port} "line" false',
        f"connector Connect sysbus.{uart} line",
        *(_hook(mark) for mark in sorted({marks.begin, marks.end, *marks.layers} - {0})),
        "start",
    ]
    return "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    """A path as the monitor takes it: @ with spaces escaped."""
    return "@" + str(path).replace("\\", "/").replace(" ", "\\ ")


def _hook(mark: int) -> str:
    """Python that Renode runs before the instruction at `mark`."""
    log = f"self.InfoLog('tinyhil-mark {mark:x} ' + str(self.ExecutedInstructions))"
    return f'sysbus.cpu AddHook 0x{mark:08x} "{log}"'


def command_line(renode: str, script_file: Path) -> list[str]:
    """How Renode is started: without windows, the log on standard output."""
    return [renode, "--disable-gui", "--console", "--plain", str(script_file)]


def read_log(text: str) -> list[Passed]:
    """The marks in Renode's log, in the order in which they were passed."""
    return [Passed(int(mark, 16), int(count)) for mark, count in _MARK.findall(text)]


def stretches(passed: Sequence[Passed]) -> list[Stretch]:
    """Instructions from each mark to the next; after the last mark nothing is known."""
    between = [Stretch(a.mark, b.executed - a.executed) for a, b in pairwise(passed)]
    return between + [Stretch(last.mark, 0) for last in passed[-1:]]


def find_renode(environ: Mapping[str, str] = os.environ) -> str:
    """Renode's program; MissingTool says where to get it."""
    found = environ.get("TINYHIL_RENODE") or shutil.which("renode")
    if found is None or not Path(found).exists():
        raise MissingTool(
            "Renode is not installed: unpack a portable release from builds.renode.io and put it on "
            "PATH, or set TINYHIL_RENODE to its program"
        )
    return found


@dataclass(frozen=True)
class RenodeTarget:
    """Runs hardware firmware in Renode."""

    mode: str = "renode"

    def run(self, firmware: Firmware, job: Job, deadline: Deadline) -> RawRun:
        """Boots, runs and counts instructions; no trace. See Target."""
        renode = find_renode()
        port = _free_port()
        text = script(firmware, port)
        with tempfile.TemporaryDirectory(prefix="tinyhil-") as name:
            folder = Path(name)
            (folder / "run.resc").write_text(text, encoding="utf-8")
            log = folder / "log"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    command_line(renode, folder / "run.resc"),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            try:
                with _connect(port, process, log, deadline) as end:
                    talk = Conversation(SocketLine(end), deadline, retry=5.0)
                    session = hold(talk, firmware, job)
            finally:
                process.terminate()
                process.wait(timeout=10)
            passed = read_log(log.read_text(encoding="utf-8", errors="replace"))
        runs = split_runs(stretches(passed), marks_of(firmware))
        wanted = len(session.outputs)
        if len(runs) < wanted:
            raise BadFrame(f"{wanted} inferences were answered, but Renode logged {len(runs)}")
        return replace(
            session.raw_run(self.mode),
            cycles=None,  # whatever Renode's cycle counter says is not measured on silicon
            instructions=tuple(run.instructions for run in runs[:wanted]),
            layers=tuple(
                tuple(LayerCount(instructions=n) for n in run.layer_instructions) for run in runs[:wanted]
            ),
            log=talk.log,
            provenance={"emulator": "Renode"},
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _connect(port: int, process: subprocess.Popen[bytes], log: Path, deadline: Deadline) -> socket.socket:
    """The UART's socket, as soon as Renode has opened it."""
    while not deadline.expired:
        if process.poll() is not None:
            said = log.read_text(encoding="utf-8", errors="replace").strip()[-500:]
            raise NoAnswer(f"Renode ended before it opened the UART: {said}")
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=deadline.remaining())
        except OSError:
            time.sleep(0.1)
    raise NoAnswer("Renode did not open the UART in time")
