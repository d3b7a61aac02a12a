"""The board's other twin: the very ELF that would be flashed, at its own addresses, in Unicorn.

QEMU has no STM32F7 or H7, so firmware for it is linked for another memory map. Unicorn has no machine
at all: memories and the few peripherals that tinyhil's firmware touches are laid out here. It counts
blocks and simulates the instruction cache; data it does not follow (see recorder/twin/twin.c).
Optional: `pip install tinyhil[unicorn]`.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from tinyhil.errors import BadFrame, HardFault, MissingTool, NoAnswer, UsageError
from tinyhil.harness.boards import Board
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.counts import Marks, marks_of, split_runs
from tinyhil.harness.targets.recorder import build_twin_recorder, cache_models, parse
from tinyhil.harness.targets.session import hold
from tinyhil.harness.targets.target import Job, LayerCount, RawRun
from tinyhil.harness.targets.unicorn_chip import REGISTER_SPACES, Chip
from tinyhil.harness.wire import Conversation

_EXCEPTION_RETURN = 0xFFFF_FF00


@dataclass(frozen=True)
class UnicornTarget:
    """Runs hardware firmware (not built for the emulator) in Unicorn. `cache_dir` keeps the recorder."""

    cache_dir: Path
    mode: str = "unicorn"

    def run(self, firmware: Firmware, job: Job, deadline: Deadline) -> RawRun:
        """Boots, runs and counts; see Target. Data addresses are not in the trace."""
        unicorn = _unicorn()
        if firmware.emulated or not Chip.knows(firmware.board.family):
            raise UsageError(
                f"Unicorn runs firmware as flashed to an STM32 that it knows; {firmware.elf.name} is "
                f"{'for the QEMU twin' if firmware.emulated else 'for ' + firmware.board.name}"
            )
        recorder = build_twin_recorder(self.cache_dir)
        with tempfile.TemporaryDirectory(prefix="tinyhil-") as name:
            trace_file = job.trace or Path(name) / "trace"
            machine = _Machine(unicorn, firmware, _Recorder(unicorn, recorder, firmware, trace_file))
            talk = Conversation(machine, deadline, retry=5.0)
            try:
                session = hold(talk, firmware, job)
            except NoAnswer as silence:
                raise NoAnswer(
                    f"{firmware.sources.network}: {silence}. It was at {machine.where()}"
                ) from None
            finally:
                machine.recorder.close()
            runs = split_runs(parse(trace_file).segments, marks_of(firmware))
        wanted = len(session.outputs)
        if len(runs) < wanted:
            raise BadFrame(f"{wanted} inferences were answered, but the recorder saw {len(runs)}")
        return replace(
            session.raw_run(self.mode),
            instructions=tuple(run.instructions for run in runs[:wanted]),
            layers=tuple(
                tuple(LayerCount(instructions=n) for n in run.layer_instructions) for run in runs[:wanted]
            ),
            log=talk.log,
            trace=job.trace,
            provenance={"emulator": f"Unicorn {unicorn.__version__}", "recorder": recorder.stem},
        )


def _unicorn() -> Any:
    try:
        import unicorn
    except ImportError:
        raise MissingTool("Unicorn is not installed: pip install 'tinyhil[unicorn]'") from None
    return unicorn


class _Recorder:
    """The compiled recorder, fed by Unicorn's block hook without passing through Python."""

    def __init__(self, unicorn: Any, library: Path, firmware: Firmware, trace: Path) -> None:
        self.code = ctypes.CDLL(str(library))
        self.engine = unicorn.unicorn_py3.unicorn.uclib
        read = ctypes.cast(self.engine.uc_mem_read, ctypes.c_void_p)
        icache = cache_models(firmware.board)[0]
        opened = self.code.twin_open(str(trace).encode(), str(icache or "").encode(), read)
        if not opened & 0xFF:
            raise UsageError(f"cannot record to {trace}")
        marks: Marks = marks_of(firmware)
        for mark in {marks.begin, marks.end, *marks.layers} - {0}:
            self.code.twin_mark(ctypes.c_uint32(mark))

    def attach(self, unicorn: Any, uc: Any) -> None:
        """From now on every block is counted."""
        self.handle = ctypes.c_size_t()
        hook = ctypes.cast(self.code.twin_block, ctypes.c_void_p)
        everywhere = ctypes.c_uint64(1), ctypes.c_uint64(0)
        kind = ctypes.c_int(unicorn.UC_HOOK_BLOCK)
        status = self.engine.uc_hook_add(uc._uch, ctypes.byref(self.handle), kind, hook, None, *everywhere)
        if status:
            raise MissingTool(f"Unicorn {unicorn.__version__} refuses the block hook (status {status})")

    def close(self) -> None:
        """Writes the trace."""
        self.code.twin_close()


class _Machine:
    """The emulated board as a transport: it runs while the host waits for bytes."""

    def __init__(self, unicorn: Any, firmware: Firmware, recorder: _Recorder) -> None:
        self.unicorn, self.firmware, self.recorder = unicorn, firmware, recorder
        board = firmware.board
        self.chip = Chip(board.family, board.core)
        arm = unicorn.arm_const
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        models = {"cortex-m7": arm.UC_CPU_ARM_CORTEX_M7, "cortex-m4": arm.UC_CPU_ARM_CORTEX_M4}
        self.uc.ctl_set_cpu_model(models[board.core])
        for start, size in _memories(board):
            self.uc.mem_map(start, size)
        for start, size in REGISTER_SPACES:
            self.uc.mmio_map(start, size, self._read, start, self._write, start)
        entry = self._load(firmware.elf)
        self.exception: int | None = None
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._interrupt)
        self.uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._invalid)
        recorder.attach(unicorn, self.uc)
        self.pc = entry | 1

    def _load(self, elf: Path) -> int:
        with elf.open("rb") as file:
            parsed = ELFFile(file)
            for segment in parsed.iter_segments("PT_LOAD"):
                if segment["p_filesz"]:
                    self.uc.mem_write(segment["p_paddr"], segment.data())
            return int(parsed.header["e_entry"])

    def _read(self, uc: Any, offset: int, size: int, start: int) -> int:
        value = self.chip.read(start + offset, size)
        if self.chip.idle:
            uc.emu_stop()
        return value

    def _write(self, uc: Any, offset: int, size: int, value: int, start: int) -> None:
        self.chip.write(start + offset, size, value)

    def _interrupt(self, uc: Any, number: int, user: Any) -> None:
        self.exception = number
        uc.emu_stop()

    def _invalid(self, uc: Any, kind: int, address: int, size: int, value: int, user: Any) -> bool:
        self.exception = -1
        return False

    def where(self) -> str:
        """Program counter and function, for messages."""
        place = self.pc & ~1
        for name, symbol in self.firmware.symbols.items():
            if symbol.address <= place < symbol.address + symbol.size:
                return f"{name}+0x{place - symbol.address:x} (0x{place:08x})"
        return f"0x{place:08x}"

    def write(self, data: bytes) -> None:
        """Queues bytes for the firmware's UART."""
        self.chip.to_read.extend(data)

    def read(self, deadline: Deadline) -> bytes:
        """Runs the firmware until it has sent something and waits for more, or until `deadline`."""
        while not deadline.expired:
            self.chip.idle = False
            try:
                # Stopped in the middle, a block would count twice; so only the deadline interrupts it.
                self.uc.emu_start(self.pc, _EXCEPTION_RETURN, timeout=1 + int(1e6 * deadline.remaining()))
            except self.unicorn.UcError as error:
                self.exception = self.exception or error.errno
            self.pc = self.uc.reg_read(self.unicorn.arm_const.UC_ARM_REG_PC) | 1
            if self.exception is not None:
                raise HardFault(
                    f"{self.firmware.sources.network}: the firmware faulted in Unicorn at {self.where()} "
                    f"(exception {self.exception}); run it on the QEMU twin for the decoded fault"
                )
            if self.chip.sent and self.chip.idle:
                sent = bytes(self.chip.sent)
                self.chip.sent.clear()
                return sent
            if self.chip.idle:
                return b""  # it waits for the host, and has nothing to say
        return b""


def _memories(board: Board) -> list[tuple[int, int]]:
    """Start and size of every memory, in whole pages, joined where regions overlap."""
    pieces = [board.flash, board.ram, *board.regions]
    spans = sorted((m.origin & ~0xFFF, (m.origin + m.size + 0xFFF) & ~0xFFF) for m in pieces)
    joined: list[list[int]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return [(start, end - start) for start, end in joined]


def available() -> bool:
    """Unicorn is installed, and this system can run the compiled recorder."""
    try:
        import unicorn  # noqa: F401
    except ImportError:
        return False
    return sys.platform != "win32"
