"""The board's twin in QEMU: the same C on an emulated Cortex-M, every instruction counted.

Inputs do not go over the emulated UART, which takes them byte by byte: QEMU's loader puts them into
memory that the board does not have, and the firmware copies them from there.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tinyhil.errors import BadFrame, HardFault, MissingTool, NoAnswer, TinyhilError, UsageError
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.counts import RunSegments, marks_of, running_layer, split_runs
from tinyhil.harness.targets.hardfault import hard_fault, place
from tinyhil.harness.targets.line import SocketLine, wait_until_closed
from tinyhil.harness.targets.recorder import (
    Segment,
    Trace,
    build_recorder,
    parse,
    plugin_argument,
    recorder_options,
)
from tinyhil.harness.targets.session import Session, hold
from tinyhil.harness.targets.target import Job, LayerCount, RawRun
from tinyhil.harness.wire import Conversation, Crashed

# Upper half of each machine's 16 MB PSRAM (Arm AN386 and AN500, memory map): firmware is linked to the
# lower half at most (the H743's AXI SRAM).
_PSRAM = {"mps2-an386": 0x2180_0000, "mps2-an500": 0x6080_0000}
_PSRAM_SIZE = 0x80_0000
_GRACE = 2.0  # seconds that a stopped QEMU gets to write its trace


@dataclass(frozen=True)
class QemuTarget:
    """Runs firmware in QEMU. `cache_dir` holds the compiled plug-in."""

    cache_dir: Path
    mode: str = "qemu"

    def run(self, firmware: Firmware, job: Job, deadline: Deadline) -> RawRun:
        """Boots, runs and counts; see Target. Also raises Incorrect if init() or run() fails."""
        machine = _machine(firmware)
        qemu = _find_qemu()
        recorder = _recorder(self.cache_dir)
        with tempfile.TemporaryDirectory(prefix="tinyhil-") as name:
            folder = Path(name)
            blob, addresses = _preload(job, _PSRAM[machine])
            (folder / "inputs").write_bytes(blob)
            trace_file = job.trace or folder / "trace"
            command = [
                qemu, "-machine", machine, "-display", "none", "-monitor", "none", "-nodefaults",
                "-semihosting-config", "enable=on,target=native",
                "-kernel", str(firmware.elf),
                *_loader(folder / "inputs", blob, _PSRAM[machine]),
                *_recorder_words(recorder, trace_file, firmware, job.trace is not None),
            ]  # fmt: skip
            process = _Process(command, folder / "stderr")
            try:
                session, log = self._converse(process, firmware, job, addresses, trace_file, deadline)
            finally:
                process.kill()
            runs = _runs(firmware, parse(trace_file), len(session.outputs))
        return replace(
            session.raw_run(self.mode),
            instructions=tuple(run.instructions for run in runs),
            layers=tuple(tuple(LayerCount(instructions=n) for n in run.layer_instructions) for run in runs),
            log=log,
            trace=job.trace,
            provenance={"emulator": qemu_version(qemu), "machine": machine, "recorder": recorder.stem},
        )

    def _converse(
        self,
        process: _Process,
        firmware: Firmware,
        job: Job,
        addresses: Mapping[tuple[int, int], int],
        trace_file: Path,
        deadline: Deadline,
    ) -> tuple[Session, str]:
        talk = Conversation(process.line, deadline, retry=5.0)

        def load(talk: Conversation, case: int, port: int, data: bytes) -> None:
            talk.load_input(port, addresses[case, port])

        try:
            session = hold(talk, firmware, job, load)
            talk.exit()
            process.wait(deadline)
        except Crashed as crash:
            process.wait(deadline.within(_GRACE))
            raise hard_fault(crash.fault, firmware, _layer_in(trace_file, firmware)) from None
        except NoAnswer as silence:
            process.stop()
            layer = _layer_in(trace_file, firmware)
            where = (
                "" if layer is None else f". It was in layer {layer} ({firmware.sources.layers[layer].name})"
            )
            raise NoAnswer(f"{firmware.sources.network}: {silence}{where}") from None
        except EOFError:
            process.wait(deadline.within(_GRACE))
            raise _ended(process, firmware) from None
        return session, talk.log


class _Process:
    """A running QEMU, its serial line, and what it says on standard error."""

    def __init__(self, command: Sequence[str], stderr: Path) -> None:
        ours, theirs = socket.socketpair()
        self._stderr = stderr
        self._socket = ours
        with theirs, stderr.open("wb") as errors:
            self._process = subprocess.Popen(
                [*command, "-chardev", f"socket,id=line,fd={theirs.fileno()}", "-serial", "chardev:line"],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[theirs.fileno()],
            )
        self.line = SocketLine(ours)

    @property
    def said(self) -> str:
        """What QEMU printed, without its notes on hardware that no board uses."""
        lines = self._stderr.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if "has no peer" not in line)

    def wait(self, deadline: Deadline) -> int | None:
        """Exit status; None if it is still running at the deadline."""
        wait_until_closed(self.line, deadline)
        try:
            return self._process.wait(max(0.01, deadline.remaining()))
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Asks it to end, so that the recorder writes its trace."""
        self._process.terminate()
        self.wait(Deadline.after(_GRACE))

    def kill(self) -> None:
        """Ends it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._socket.close()


@cache
def _recorder(cache_dir: Path) -> Path:
    """The plug-in, looked up once: finding out which QEMU and compiler there are takes as long as a run."""
    return build_recorder(cache_dir)


def _find_qemu() -> str:
    qemu = shutil.which("qemu-system-arm")
    if qemu is None:
        raise MissingTool(
            "qemu-system-arm is not installed, so no emulator twin can run: apt install qemu-system-arm"
        )
    return qemu


@cache
def qemu_version(qemu: str) -> str:
    """E.g. `QEMU 7.2.22`, for provenance."""
    done = subprocess.run([qemu, "--version"], capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r"version (\S+)", done.stdout)
    return f"QEMU {found[1]}" if found else "QEMU"


def _machine(firmware: Firmware) -> str:
    if not firmware.emulated or firmware.board.twin is None:
        raise UsageError(
            f"{firmware.elf.name} was built for {firmware.board.name} itself, not for its emulator twin"
        )
    machine = firmware.board.twin.machine
    if machine not in _PSRAM:
        raise UsageError(f"board {firmware.board.name}: its twin {machine!r} is none of {', '.join(_PSRAM)}")
    return machine


def _preload(job: Job, origin: int) -> tuple[bytes, dict[tuple[int, int], int]]:
    """All input tensors behind one another, and (input, port) → address."""
    blob, addresses = bytearray(), {}
    for case, tensors in enumerate(job.inputs):
        for port, data in enumerate(tensors):
            addresses[case, port] = origin + len(blob)
            blob += data + bytes(-len(data) % 16)
    if len(blob) > _PSRAM_SIZE:
        raise UsageError(f"{len(blob)} bytes of input in one job, the emulator takes {_PSRAM_SIZE}")
    return bytes(blob), addresses


def _loader(file: Path, blob: bytes, origin: int) -> list[str]:
    return ["-device", f"loader,file={file},addr={origin:#x},force-raw=on"] if blob else []


def _recorder_words(library: Path, out: Path, firmware: Firmware, trace: bool) -> list[str]:
    marks = marks_of(firmware)
    entries = [marks.begin, marks.end, *dict.fromkeys(mark for mark in marks.layers if mark)]
    if not trace:
        return plugin_argument(library, out, entries)
    return plugin_argument(library, out, entries, **recorder_options(firmware.board))


def _runs(firmware: Firmware, trace: Trace, wanted: int) -> list[RunSegments[Segment]]:
    """The job's inferences; a last one that only served the memory is left out."""
    runs = split_runs(trace.segments, marks_of(firmware))
    if len(runs) < wanted:
        raise BadFrame(f"{wanted} inferences were answered, but the recorder saw {len(runs)}")
    return runs[:wanted]


def _layer_in(trace_file: Path, firmware: Firmware) -> int | None:
    """The layer that was running when QEMU ended, if it could still write its trace."""
    with contextlib.suppress(UsageError):
        return running_layer(parse(trace_file).segments, marks_of(firmware))
    return None


def _ended(process: _Process, firmware: Firmware) -> TinyhilError:
    """Why QEMU ended by itself: the core locked up, or QEMU could not start."""
    said = process.said
    network = firmware.sources.network
    locked = re.search(r"Lockup.*?R15=([0-9a-fA-F]{8})", said, re.DOTALL)
    if locked:
        where = place(firmware, int(locked[1], 16))
        return HardFault(
            f"{network}: the core locked up in {where}: a second fault came while the first was being "
            "handled, most likely because the stack was destroyed"
        )
    return NoAnswer(
        f"{network}: QEMU ended before the firmware had answered"
        + (f"; it said: {said[-1000:]}" if said else ". The firmware ended by itself")
    )
