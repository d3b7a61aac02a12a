"""One chip behind one debug probe, through pyOCD: flash, compare, reset, look inside.

What pyOCD raises is told in tinyhil's words here and nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from pyocd.core import exceptions
from pyocd.core.session import Session
from pyocd.debug.svd.loader import SVDFile
from pyocd.flash.loader import FlashLoader
from pyocd.probe.aggregator import DebugProbeAggregator

from tinyhil.errors import BenchError, BoardBusy, BuildError, FlashVerifyFailed, ProbeNotFound, WrongBoard
from tinyhil.harness.bench.map import Place
from tinyhil.harness.boards import Board
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets import pyocd_f746
from tinyhil.harness.targets.pyocd_rtt import RttLine

_BLOCK = 0x1000  # bytes per read while comparing, so that a deadline is seen in time
IDCODE = (0xE004_2000, 0x5C00_1000)  # DBGMCU_IDCODE of most families, and of the H7 (`chip_id_at`)
# RCC_CSR: RM0385 and RM0090, "RCC clock control & status register"; more than one bit may be set, so the
# most telling comes first. Families with another layout say nothing.
_RESET_CAUSE_AT = {"stm32f7": 0x4002_3874, "stm32f4": 0x4002_3874}
_FORGET_CAUSES = 1 << 24
_RESET_CAUSES = {
    1 << 29: "the independent watchdog",
    1 << 30: "the window watchdog",
    1 << 31: "a forbidden low-power mode",
    1 << 28: "software or a debugger (SYSRESETREQ)",
    1 << 27: "power that was lost",
    1 << 25: "a brown-out: the supply is too weak",
    1 << 26: "the reset pin",
}
_PATIENCE = 2.0  # seconds that pyOCD gives each of its own waits around reset


@dataclass(frozen=True)
class Segment:
    """Bytes of an ELF that lie in flash."""

    address: int
    data: bytes


def flash_segments(elf: Path) -> tuple[Segment, ...]:
    """What has to be programmed, by load address; BuildError if `elf` is not an ELF."""
    try:
        with elf.open("rb") as file:
            loads = [s for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]]
            return tuple(Segment(int(load["p_paddr"]), load.data()) for load in loads)
    except (OSError, ELFError) as error:
        raise BuildError(f"{elf} cannot be flashed: {error}") from error


class Chip:
    """A connected chip. Every method raises BenchError or one of its children."""

    def __init__(self, session: Any, place: Place, board: Board) -> None:
        self._session = session
        self._target = session.target
        self._place = place
        self._board = board

    @property
    def probe(self) -> str:
        """Vendor, product and id of the probe, for provenance."""
        probe = self._session.probe
        return f"{probe.vendor_name} {probe.product_name} {probe.unique_id}"

    def check_id(self) -> None:
        """WrongBoard unless the chip says it is of the kind that the map promises."""
        wanted = self._board.extra.get("pyocd", {}).get("chip_id")
        if wanted is None:
            return
        address = self._board.extra["pyocd"].get("chip_id_at", IDCODE[0])
        found = self.read_word(address) & 0xFFF
        if found != wanted:
            raise WrongBoard(
                f"{self._place.name}: the chip behind probe {self._place.probe} has device id {found:#05x}, "
                f"a {self._board.name} has {wanted:#05x}. Nothing was written. Look at `kind` in the bench "
                "map, or `tinyhil boards --discover`"
            )

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address`, while the core runs or not."""
        with _words(self._place):
            return bytes(self._target.read_memory_block8(address, size))

    def read_word(self, address: int) -> int:
        """The 32-bit word at `address`."""
        with _words(self._place):
            return int(self._target.read32(address))

    def first_difference(self, segments: Sequence[Segment], deadline: Deadline) -> int | None:
        """Address of the first byte of flash that is not as in `segments`; None if all are."""
        for segment in segments:
            for start in range(0, len(segment.data), _BLOCK):
                if deadline.expired:
                    raise BenchError(f"{self._place.name}: no time left while reading flash back")
                wanted = segment.data[start : start + _BLOCK]
                found = self.read(segment.address + start, len(wanted))
                if found != wanted:
                    offset = next(i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b)
                    return segment.address + start + offset
        return None

    def program(self, segments: Sequence[Segment]) -> None:
        """Erases the sectors that `segments` touch and writes them. Does not verify: nor does pyOCD."""
        with _words(self._place):
            self._target.reset_and_halt()
            loader = FlashLoader(self._session, smart_flash=False, chip_erase="sector")
            for segment in segments:
                loader.add_data(segment.address, segment.data)
            loader.commit()

    def flash(self, segments: Sequence[Segment], deadline: Deadline) -> None:
        """Programs and compares every byte; FlashVerifyFailed names the first that is wrong."""
        self.program(segments)
        wrong = self.first_difference(segments, deadline)
        if wrong is not None:
            raise FlashVerifyFailed(
                f"{self._place.name}: flash at {wrong:#010x} does not hold what was written to it: a worn or "
                "protected sector, or a supply that sags while writing. Try another board"
            )

    def halt_at_reset(self) -> None:
        """Resets the chip and stops it before its first instruction."""
        with _words(self._place):
            self._target.reset_and_halt()

    def resume(self) -> None:
        """Lets the core run."""
        with _words(self._place):
            self._target.resume()

    def forget_reset_cause(self) -> None:
        """Clears the chip's note of why it was reset last."""
        address = _RESET_CAUSE_AT.get(self._board.family)
        if address is not None:
            with _words(self._place):
                self._target.write32(address, self.read_word(address) | _FORGET_CAUSES)

    def reset_cause(self) -> str:
        """Why the chip was reset since `forget_reset_cause`; "" if it was not, or does not say."""
        address = _RESET_CAUSE_AT.get(self._board.family)
        flags = self.read_word(address) if address is not None else 0
        return next((words for bit, words in _RESET_CAUSES.items() if flags & bit), "")

    def rtt(self, address: int) -> RttLine:
        """The line to the firmware whose RTT control block lies at `address`."""
        return RttLine(self._target, address, lambda: _words(self._place))

    def program_counter(self) -> int:
        """Where the core is; it is stopped for a moment and goes on."""
        with _words(self._place):
            self._target.halt()
            pc = int(self._target.read_core_register("pc"))
            self._target.resume()
            return pc


@contextlib.contextmanager
def connected(place: Place, board: Board, deadline: Deadline) -> Iterator[Chip]:
    """A session with the probe that `place` names, by its full id, and with no other."""
    pyocd_f746.register()
    logging.getLogger("pyocd").setLevel(logging.CRITICAL)  # what it says comes back as exceptions
    with _words(place):
        probe = _find_probe(place)
        with no_scripts(_options(place, board, deadline)) as options, _no_register_names():
            session = Session(probe, options=options)
    try:
        with _words(place):
            session.open()
        _check_emulated(place, probe)
        chip = Chip(session, place, board)
        chip.check_id()
        yield chip
    finally:
        with contextlib.suppress(exceptions.Error, OSError):
            session.close()
        with contextlib.suppress(exceptions.Error, OSError):
            if probe.is_open:  # a session that failed to open leaves its probe claimed
                probe.close()


@contextlib.contextmanager
def no_scripts(options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """`options` for a Session that runs no script and reads no settings of the current folder.

    pyOCD looks for both in its project folder, and makes that the current one."""
    here = Path.cwd()
    try:
        yield {**options, "no_config": True, "project_dir": str(pyocd_f746.flashalgo_folder())}
    finally:
        os.chdir(here)


@contextlib.contextmanager
def _no_register_names() -> Iterator[None]:
    """Sessions made in here do not know what a chip's registers are called: nothing of ours asks.

    pyOCD's own targets of the F4 would open the file of them, leave it open, and parse it in a thread beside
    the measurement."""
    opener = SVDFile.from_builtin
    SVDFile.from_builtin = staticmethod(lambda name: None)
    try:
        yield
    finally:
        SVDFile.from_builtin = opener


def _find_probe(place: Place) -> Any:
    probe = DebugProbeAggregator.get_probe_with_id(place.probe)
    exact = (place.probe, place.probe.rpartition(":")[2])  # with the name of its plug-in, or without
    if probe is None or probe.unique_id not in exact:  # pyOCD would take a part of the id
        raise ProbeNotFound(
            f"{place.name}: no debug probe with id {place.probe} is connected: unplugged, no power, or not "
            "yours to open (udev rules: docs/hardware.md). `tinyhil boards --discover` lists what is there"
        )
    return probe


def _check_emulated(place: Place, probe: Any) -> None:
    """WrongBoard unless the open probe is as real as the map says. One that is served from elsewhere
    can only say so by its product's name."""
    emulated = bool(getattr(probe, "is_emulated", "emulated" in str(probe.product_name)))
    if emulated != place.emulated:
        what = "an emulated board" if emulated else "a real probe"
        raise WrongBoard(
            f"{place.name}: probe {place.probe} is {what}, but the bench map says otherwise; "
            "correct its `emulated`"
        )


def _options(place: Place, board: Board, deadline: Deadline) -> dict[str, Any]:
    settings = board.extra.get("pyocd", {})
    step = max(0.1, min(10.0, deadline.remaining() / 4))
    options = {
        "target_override": place.target or settings.get("target", "cortex_m"),
        "connect_mode": settings.get("connect_mode", "halt"),
        "frequency": settings.get("frequency", 4_000_000),
        "auto_unlock": False,  # unlocking erases the chip: never without being asked
        "hide_programming_progress": True,
        "resume_on_disconnect": True,
        "reset.halt_timeout": min(_PATIENCE, step),
        "reset.dap_recover.timeout": min(_PATIENCE, step),
        "reset.core_recover.timeout": min(_PATIENCE, step),
        **{f"flash.timeout.{what}": step for what in ("init", "erase_sector", "program")},
    }
    return {**options, "pack": place.pack} if place.pack else options


@contextlib.contextmanager
def _words(place: Place) -> Iterator[None]:
    """pyOCD's exceptions become BenchErrors that say what a person can do."""
    try:
        yield
    except (exceptions.Error, OSError) as error:
        raise _translate(place, error) from error


def _translate(place: Place, error: Exception) -> BenchError:
    said, name = str(error).strip() or type(error).__name__, place.name
    if re.search(r"busy|in use|already open", said, re.IGNORECASE):
        return BoardBusy(f"{name}: another program has opened probe {place.probe}: {said}")
    if re.search(r"access denied|permission|insufficient", said, re.IGNORECASE):
        return ProbeNotFound(
            f"{name}: probe {place.probe} may not be opened ({said}); the udev rules are missing: "
            "docs/hardware.md"
        )
    if isinstance(error, exceptions.ProbeError | OSError):
        return ProbeNotFound(
            f"{name}: the connection to probe {place.probe} was lost ({said}): unplugged, or its hub reset"
        )
    if isinstance(error, exceptions.FlashFailure):
        return BenchError(
            f"{name}: flash could not be written: {said}. Write-protected sectors, a worn chip, or a supply "
            "that is too low; power-cycle the board and try again"
        )
    if isinstance(error, exceptions.TransferFaultError):
        return BenchError(
            f"{name}: the chip refuses to be read or written: {said}. If that is in flash, readout "
            "protection (RDP level 1) is on; taking it off erases the chip: by hand, `pyocd erase --mass`"
        )
    if isinstance(error, exceptions.TargetSupportError):
        return BenchError(
            f"{name}: pyOCD does not know this chip ({said}); name a CMSIS-Pack in the bench map: "
            'pack = "FILE.pack", target = "its name"'
        )
    return BenchError(
        f"{name}: the probe is there, but no chip answers behind it: {said}. The board has no power, the SWD "
        "wires are loose, the firmware has turned the debug pins off, or debugging is closed for ever (RDP "
        "level 2)"
    )
