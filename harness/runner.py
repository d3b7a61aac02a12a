"""Many cases, one after another: builds all firmware in one go, measures each, stores each at once.

Both faces, the pytest plug-in and the command line, drive this and only translate.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import tinyhil
from tinyhil.errors import BenchError, MissingTool, TinyhilError, UsageError, files_told
from tinyhil.harness.bench.map import places_of, read_map
from tinyhil.harness.boards import Board
from tinyhil.harness.build import Program, build, check_fit
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.measure import Case, failed, measure
from tinyhil.harness.settings import Settings
from tinyhil.harness.targets.native import NativeTarget
from tinyhil.harness.targets.qemu import QemuTarget
from tinyhil.harness.targets.renode import RenodeTarget
from tinyhil.harness.targets.target import Target
from tinyhil.harness.targets.unicorn import UnicornTarget
from tinyhil.results.record import Measurement
from tinyhil.results.store import Store

#: What can stand in for a board, by the name that the settings' `target` and the record's `mode` use.
TWINS: Mapping[str, Callable[[Path], Target]] = {
    "qemu": QemuTarget,
    "unicorn": UnicornTarget,
    "renode": lambda cache_dir: RenodeTarget(),
}


@dataclass
class Runner:
    """Prepares and measures cases. `emulate` asks for the emulator twin even if a board is there, as
    the settings' `target` does by naming one; `require_hardware` refuses it."""

    settings: Settings
    emulate: bool = False
    require_hardware: bool = False
    stored: list[int] = field(default_factory=list, init=False)  # ids of the records of this session
    _prepared: dict[Case, Firmware | TinyhilError] = field(default_factory=dict, init=False)
    _targets: dict[str, Target] = field(default_factory=dict, init=False)

    @files_told()
    def prepare(self, cases: Sequence[Case]) -> None:
        """Generates and builds all `cases` that are not prepared yet. Errors are kept, per case."""
        programs: dict[Case, Program] = {}
        for case in cases:
            if case in self._prepared:
                continue
            try:
                programs[case] = self.program(case)
            except TinyhilError as error:
                self._prepared[case] = error
        if not programs:
            return
        deadline = Deadline.after(60 + 10 * self.settings.timeout)
        with files_told(self.settings.cache):
            built = build(list(programs.values()), deadline, cache_dir=self.settings.cache)
        self._prepared.update(zip(programs, built, strict=True))

    def program(self, case: Case) -> Program:
        """What would be built for `case`; UnsupportedOperator or DoesNotFit if nothing can be."""
        target = self.target(case.board)
        sources = case.generate()
        check_fit(sources, case.board)
        return Program(sources, case.board, emulated=target.mode == "qemu")

    def firmware(self, case: Case) -> Firmware:
        """The firmware of one case, building it if need be; raises what stood in the way."""
        self.prepare([case])
        made = self._prepared[case]
        if isinstance(made, TinyhilError):
            raise made
        return made

    @files_told()
    def measure(self, case: Case) -> Measurement:
        """One case, measured and stored. A BenchError is raised: nothing was learned of the network.
        Every other trouble is the record's `error`."""
        _ = self.store  # one that cannot be written is told of before the work, not after it
        target = self.target(case.board)
        try:
            firmware = self.firmware(case)
            deadline = Deadline.after(self.settings.timeout)
            record = measure(case, firmware, target, deadline, repeats=self.settings.repeats)
        except BenchError:
            raise
        except TinyhilError as error:
            record = failed(case, error, target.mode)
        return self.keep(record)

    def missing(self, case: Case, error: MissingTool) -> Measurement:
        """The row of a case that `measure` could not even try: it says what is missing. It is stored where
        there is nothing else to show, so that it never hides figures of a day when all was there."""
        record = failed(case, error, self.target(case.board).mode)
        rows = self.store.query(model=record.model.name, engine=record.engine.name, board=record.board)
        known = any(row.error is None and row.mode == record.mode for row in rows)
        return record if known else self.keep(record)

    def keep(self, record: Measurement, *, once: bool = False) -> Measurement:
        """Stores `record` with what is true of the whole session. With `once`, a good record is stored
        only if its firmware has none yet in this mode: another process may have been faster."""
        record = replace(record, provenance={**record.provenance, **self._session})
        self.stored.append(self.store.add_once(record) if once else self.store.add(record))
        return record

    def target(self, board: Board) -> Target:
        """What will run firmware for `board`: the bench's board, else its twin; native for the host."""
        if board.name not in self._targets:
            self._targets[board.name] = self._choose(board)
        return self._targets[board.name]

    @property
    def targets(self) -> list[Target]:
        """Every target that has been chosen so far."""
        return list(self._targets.values())

    @cached_property
    def store(self) -> Store:
        """The project's results, opened on first use."""
        return Store.open(self.settings.path(self.settings.store))

    def _choose(self, board: Board) -> Target:
        if board.is_native:
            return NativeTarget()
        twin = self.settings.target
        if twin and twin not in TWINS:
            raise UsageError(f"no target is called {twin!r}; there are {', '.join(TWINS)}")
        if twin and self.require_hardware:
            raise UsageError(f"{twin} is an emulator, but hardware is required: leave one of the two out")
        file = self.settings.path(self.settings.map)
        places = () if self.emulate or twin else places_of(read_map(file), board.name)
        if self.require_hardware:  # an emulated board behind a probe is none
            places = tuple(place for place in places if not place.emulated)
        if places:
            # Only here: pyOCD takes half a second to import, and most sessions have no board.
            from tinyhil.harness.targets.hardware import HardwareTarget

            return HardwareTarget(places, lock_timeout=self.settings.lock_timeout)
        if self.require_hardware:
            raise UsageError(
                f"no {board.name} on this bench: {file} does not list one; "
                "`tinyhil boards --discover` shows what is connected"
            )
        if board.twin is None and twin in {"", "qemu"}:
            raise UsageError(f"board {board.name} has no emulator twin and none is on this bench")
        return TWINS[twin or "qemu"](self.settings.cache)

    @cached_property
    def _session(self) -> Mapping[str, str]:
        return {
            "tinyhil": tinyhil.__version__,
            "python": platform.python_version(),
            "git": git_state(self.settings.root),
        }


def git_state(folder: Path) -> str:
    """Commit of the user's project (12 digits), with -dirty; '' outside a repository."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
