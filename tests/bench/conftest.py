"""An emulated bench: boards behind a real pyOCD probe plug-in, and firmware of the small network."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "twin"), str(HERE.parent / "targets")]  # before pyOCD looks for plug-ins


FAULT_TABLE = pytest.StashKey[list[tuple[str, int, str, str]]]()


@pytest.fixture
def fault_table(request: pytest.FixtureRequest) -> list[tuple[str, int, str, str]]:
    """Rows for the table at the end: fault, exit code, time, what the user was told."""
    return request.config.stash.setdefault(FAULT_TABLE, [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Every fault that was injected, and what came of it."""
    rows = config.stash.get(FAULT_TABLE, [])
    if rows:
        terminalreporter.section(f"{len(rows)} faults")
    for name, code, took, said in rows:
        terminalreporter.write_line(f"{name:32} exit {code:2} {took:>7}  {said[:150]}")


@pytest.fixture(scope="session")
def firmware_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("firmware")


@pytest.fixture(scope="session")
def build_network(firmware_cache: Path) -> Callable[..., Any]:
    """Builds the small network for the chip of a board kind, not for its QEMU twin."""
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("needs the cross compiler: apt install gcc-arm-none-eabi")
    from small_network import network

    from tinyhil.harness.boards import Board, get_board
    from tinyhil.harness.build import Program, build
    from tinyhil.harness.deadline import Deadline

    def make(fault: str = "", *, board: str | Board = "stm32f746", **parts: Any) -> Any:
        kind = get_board(board) if isinstance(board, str) else board
        program = Program(network(fault, **parts), kind, emulated=False)
        (made,) = build([program], Deadline.after(300), cache_dir=firmware_cache, jobs=1)
        if isinstance(made, Exception):
            raise made
        return made

    return make


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock folder of this test alone."""
    monkeypatch.setenv("TINYHIL_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


@pytest.fixture
def plug_in(locks: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """`plug_in("T1") -> (place, board)`: an emulated board on this process's bench."""
    pytest.importorskip("unicorn", reason="needs the emulator: pip install unicorn")
    from twin_board import Board
    from twin_swd import BOARDS, SwdPort

    from tinyhil.harness.bench.map import Place
    from tinyhil.harness.targets import pyocd_chip

    options = pyocd_chip._options
    at_once = {
        "reset.hold_time": 0.0,
        "reset.post_delay": 0.0,
    }  # silicon takes a while to reset; these do not
    monkeypatch.setattr(pyocd_chip, "_options", lambda *about: {**options(*about), **at_once})
    boards = []

    def make(uid: str = "T1", **place: Any) -> tuple[Any, Any]:
        board = Board(uid, place.get("kind", "stm32f746"))
        boards.append(board)
        BOARDS[uid] = SwdPort(board)
        facts = {"kind": "stm32f746", "serial": board.port, "emulated": True, **place}
        return Place(f"board-{uid}", probe=uid, **facts), board

    yield make
    BOARDS.clear()
    for board in boards:
        board.close()
