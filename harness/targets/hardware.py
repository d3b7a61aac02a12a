"""A real board: lock, probe, flash, compare, reset, conversation, and recovery when one of them fails.

The same class drives an emulated board behind a probe plug-in (`emulated` in the bench map); then the
mode is `unicorn`, and the counter's figures, which are no cycles, are dropped.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from dataclasses import dataclass, replace
from typing import TypeVar

from tinyhil.errors import (
    BadFrame,
    BenchError,
    BoardBusy,
    NoAnswer,
    ProbeNotFound,
    TargetReset,
    UsageError,
    WrongBoard,
)
from tinyhil.harness.bench.labgrid import held
from tinyhil.harness.bench.lock import quarantine
from tinyhil.harness.bench.map import Place
from tinyhil.harness.bench.recovery import Hopeless, LadderEnded, Rung, climb
from tinyhil.harness.boards import Board
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.hardfault import hard_fault
from tinyhil.harness.targets.hardware_conditions import check_clock, check_conditions
from tinyhil.harness.targets.hardware_line import DEAD, Line, open_line, transport
from tinyhil.harness.targets.hardware_mailbox import RUNNING, SIZE, Mailbox, not_started
from tinyhil.harness.targets.pyocd_chip import Chip, connected, flash_segments
from tinyhil.harness.targets.session import Session, greet, hold
from tinyhil.harness.targets.target import Job, RawRun
from tinyhil.harness.wire import Conversation, Crashed

_T = TypeVar("_T")

_POWER_SECONDS = 30.0  # for the power command
_RETURN_SECONDS = 10.0  # for USB to come back after it
_HELLO_SECONDS = 5.0  # that the firmware may stay silent after a reset
_RETRY = 0.5  # seconds until a request is repeated


@dataclass(frozen=True)
class HardwareTarget:
    """Runs firmware on the first free board of `places`, all of one kind.

    `lock_timeout` is how many seconds to wait for a free board.
    """

    places: tuple[Place, ...]
    lock_timeout: float = 60.0

    @property
    def mode(self) -> str:
        """`hardware`, or `unicorn` if the probes lead to emulated boards."""
        return "unicorn" if self.places[0].emulated else "hardware"

    def run(self, firmware: Firmware, job: Job, deadline: Deadline) -> RawRun:
        """Flashes, runs, reads back; see Target. Raises BenchError with the first cause after every
        step of the recovery ladder has failed, and puts the board into quarantine then."""
        if firmware.emulated or firmware.board.is_native:
            raise UsageError(f"{firmware.elf.name} was built for an emulator or the host, not for a board")
        with held(self.places, deadline.within(self.lock_timeout), deadline) as place:
            rungs = [Rung.RESYNC, Rung.RESET, Rung.REFLASH, *([Rung.POWER_CYCLE] if place.power else [])]

            def attempt(rung: Rung, share: Deadline) -> RawRun:
                return self._attempt(place, firmware, job, share, rung)

            try:
                run, notes = climb(attempt, rungs, deadline)
            except LadderEnded as end:
                if isinstance(end.cause, ProbeNotFound):  # one that comes back is as good as before
                    raise end.cause from end
                quarantine(place, str(end.cause))
                said = f"{end.cause}. {place.name} is out of use until `tinyhil unlock {place.name}`"
                raise type(end.cause)(said) from end
        return replace(run, provenance={**run.provenance, "recovery": "; ".join(notes)}) if notes else run

    def _attempt(self, place: Place, firmware: Firmware, job: Job, deadline: Deadline, rung: Rung) -> RawRun:
        board = firmware.board
        if rung is Rung.POWER_CYCLE:
            power_cycle(place, board, deadline)
        flashed = False
        with contextlib.ExitStack() as open_now:
            chip = _enter(open_now, connected(place, board, deadline))
            if rung is not Rung.RESYNC:
                flashed = _load(chip, firmware, deadline, force=rung is Rung.REFLASH)
            line = _enter(open_now, open_line(chip, place, firmware))
            if rung is not Rung.RESYNC:
                chip.halt_at_reset()
                chip.forget_reset_cause()
                line.clear()  # opened before the core runs, so that not a byte is missed
            chip.resume()
            session, text = self._converse(chip, line, place, firmware, job, deadline)
            clock = 0 if place.emulated else check_clock(chip, board)
            facts = {
                "probe": chip.probe,
                "board_name": place.name,
                "transport": transport(place, firmware),
                "flashed": str(flashed).lower(),
            }
        return _raw_run(session, place, text, facts, clock)

    def _converse(
        self, chip: Chip, line: Line, place: Place, firmware: Firmware, job: Job, deadline: Deadline
    ) -> tuple[Session, str]:
        network = firmware.sources.network
        hello_deadline = deadline.within(min(_HELLO_SECONDS, deadline.remaining() / 2))
        talk = Conversation(line, hello_deadline, retry=_RETRY)
        try:
            check_conditions(greet(talk, firmware), firmware.board)
            talk = Conversation(line, deadline, retry=_RETRY)
            return hold(talk, firmware, job), talk.log
        except Crashed as crash:
            raise hard_fault(crash.fault, firmware, crash.fault.layer) from None
        except EOFError as end:
            raise BenchError(
                f"{network}: the serial port vanished in the middle of a measurement ({end}): unplugged, or "
                "its hub was reset"
            ) from end
        except TargetReset as reset:
            raise _explained(chip, firmware, reset) from reset
        except (NoAnswer, BadFrame) as silence:
            raise _diagnosed(chip, firmware, DEAD[transport(place, firmware)], silence) from silence


def _enter(stack: contextlib.ExitStack, part: contextlib.AbstractContextManager[_T]) -> _T:
    """A part of the bench. That it is somebody else's, or not what the map says, no recovery mends."""
    try:
        return stack.enter_context(part)
    except (BoardBusy, WrongBoard) as error:
        raise Hopeless(error) from error


def _load(chip: Chip, firmware: Firmware, deadline: Deadline, *, force: bool) -> bool:
    """Makes the chip hold `firmware`; False if it did already, down to the last byte."""
    segments = flash_segments(firmware.elf)
    known = not force and _build_id_on(chip, firmware) == firmware.id
    if known and chip.first_difference(segments, deadline) is None:
        return False
    chip.flash(segments, deadline)
    return True


def _build_id_on(chip: Chip, firmware: Firmware) -> str:
    """What stands where this firmware has its build id."""
    symbol = firmware.symbols["th_build_id"]
    return chip.read(symbol.address, len(firmware.id)).decode("ascii", errors="replace")


def _explained(chip: Chip, firmware: Firmware, reset: TargetReset) -> TargetReset:
    """A reset in the middle of a measurement, with the chip's own word on why."""
    cause = ""
    with contextlib.suppress(BenchError):
        cause = chip.reset_cause()
    said = f". The chip says it was reset by {cause}" if cause else ""
    return TargetReset(f"{firmware.sources.network}: {reset}{said}")


def _diagnosed(chip: Chip, firmware: Firmware, dead: str, silence: NoAnswer | BadFrame) -> Exception:
    """The silence of the wire, explained by what the probe finds in RAM."""
    network = firmware.sources.network
    try:
        mailbox = Mailbox.decode(chip.read(firmware.symbols["th_mailbox"].address, SIZE))
        if mailbox is None:
            words = not_started(firmware, chip.program_counter())
        elif mailbox.fault is not None:
            return hard_fault(mailbox.fault, firmware, mailbox.layer)
        else:
            words = mailbox.in_words(firmware, dead)
    except ProbeNotFound as gone:
        return ProbeNotFound(f"{gone}. The line went silent with it, in the middle of a measurement")
    except BenchError as error:
        words, mailbox = f"the probe could not look either: {error}", None
    heard = str(silence).partition(". Likely ")[0]  # the probe knows better than a guess
    told = type(silence)(f"{network}: {heard}. But {words}")
    # A network that hangs or is slow hangs on every other board too.
    return Hopeless(told) if mailbox is not None and mailbox.state == RUNNING else told


def _raw_run(session: Session, place: Place, log: str, facts: dict[str, str], clock_hz: int) -> RawRun:
    run = session.raw_run("unicorn" if place.emulated else "hardware")
    facts = {**run.provenance, **facts}
    if place.emulated:
        note = "emulated board: its counter counts no cycles, so none are shown"
        return replace(run, cycles=None, layers=(), log=log, provenance={**facts, "twin": note})
    return replace(run, log=log, provenance={**facts, "clock_measured_hz": str(clock_hz)})


def power_cycle(place: Place, board: Board, deadline: Deadline) -> None:
    """Runs the power command of the map and waits until the probe is back."""
    try:
        done = subprocess.run(
            place.power,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=max(0.1, min(_POWER_SECONDS, deadline.remaining())),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{place.name}: the power command did not run: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-300:]
        raise BenchError(
            f"{place.name}: the power command {place.power[0]} ended with {done.returncode}: {said}"
        )
    patience = deadline.within(_RETURN_SECONDS)
    while not patience.expired:
        with contextlib.suppress(ProbeNotFound), connected(place, board, patience):
            return
        time.sleep(min(0.2, patience.remaining()))
    raise ProbeNotFound(f"{place.name}: probe {place.probe} did not come back after the power-cycle")
