"""Locks: one holder per board, freed by death, named to those who wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tinyhil.errors import BoardBusy
from tinyhil.harness.bench.lock import holder, keep, locked, quarantine, release
from tinyhil.harness.bench.map import Place
from tinyhil.harness.deadline import Deadline

LEFT, RIGHT = Place("left", "stm32f746", "A1"), Place("right", "stm32f746", "A2")

HOLD = """
import sys, time
from pathlib import Path
from tinyhil.harness.bench.lock import locked
from tinyhil.harness.bench.map import Place
from tinyhil.harness.deadline import Deadline
with locked([Place("left", "stm32f746", "A1")], Deadline.after(5), Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def soon() -> Deadline:
    return Deadline.after(0.2)


def test_the_next_free_board_of_a_kind_is_taken(tmp_path: Path) -> None:
    with locked([LEFT, RIGHT], soon(), tmp_path) as one, locked([LEFT, RIGHT], soon(), tmp_path) as two:
        assert (one, two) == (LEFT, RIGHT)
        held = rf"left is held by .*process {os.getpid()}.*right is held"
        with pytest.raises(BoardBusy, match=held), locked([LEFT, RIGHT], soon(), tmp_path):
            pass
    assert holder(LEFT, tmp_path) is None


def test_a_board_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked([LEFT], soon(), tmp_path):
        raise KeyError
    with locked([LEFT], soon(), tmp_path):
        pass


def test_a_dead_holder_frees_the_board(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BoardBusy, match=f"process {process.pid}"), locked([LEFT], soon(), tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
    with locked([LEFT], Deadline.after(5), tmp_path) as place:
        assert place is LEFT


def test_a_kept_board_is_out_of_use_until_it_is_released(tmp_path: Path) -> None:
    keep(LEFT, "debugging by hand", tmp_path)
    with locked([LEFT, RIGHT], soon(), tmp_path) as place:
        assert place is RIGHT
    kept = "left is kept out of use by .*debugging by hand"
    with pytest.raises(BoardBusy, match=kept), locked([LEFT], soon(), tmp_path):
        pass
    was = release(LEFT, tmp_path)
    assert was is not None
    assert was.kept == "debugging by hand"
    with locked([LEFT], soon(), tmp_path), pytest.raises(BoardBusy, match="left is held"):
        release(LEFT, tmp_path)


def test_a_holder_can_put_its_board_into_quarantine(tmp_path: Path) -> None:
    with locked([LEFT], soon(), tmp_path):
        quarantine(LEFT, "flash does not hold", tmp_path)
    with pytest.raises(BoardBusy, match="flash does not hold"), locked([LEFT], soon(), tmp_path):
        pass


def test_a_torn_or_foreign_lock_file_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "A1.lock").write_text('{"who": "half a li')
    assert holder(LEFT, tmp_path) is None
    with locked([LEFT], soon(), tmp_path):
        assert holder(LEFT, tmp_path) is not None


WORK = """
import os, sys, time
from pathlib import Path
from tinyhil.harness.bench.lock import locked
from tinyhil.harness.bench.map import Place
from tinyhil.harness.deadline import Deadline
folder = Path(sys.argv[1])
places = [Place("left", "k", "A1"), Place("right", "k", "A2")]
for job in range(int(sys.argv[2])):
    with locked(places, Deadline.after(60), folder) as place:
        mark = folder / f"{place.name}.busy"
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))  # fails if anybody else is on this board
        time.sleep(0.01)
        mark.unlink()
    print(place.name, flush=True)
"""


def test_eight_processes_share_two_boards_for_a_hundred_jobs_without_overlap(tmp_path: Path) -> None:
    jobs = [13, 13, 13, 13, 12, 12, 12, 12]
    workers = [
        subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path), str(n)], stdout=subprocess.PIPE)
        for n in jobs
    ]
    said = [worker.communicate(timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 8
    assert len(b"".join(said).split()) == sum(jobs) == 100


def test_waiting_ends_at_the_deadline_and_not_before_it(tmp_path: Path) -> None:
    with locked([LEFT], soon(), tmp_path):
        deadline = soon()
        with pytest.raises(BoardBusy), locked([LEFT], deadline, tmp_path):
            pass
        assert deadline.expired
        assert time.monotonic() >= deadline.at
