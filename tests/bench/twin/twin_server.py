"""Emulated boards that outlive the harness, as real ones do: one process, any number of users.

    python tests/bench/twin/twin_server.py FOLDER [NUMBER OF BOARDS]

FOLDER gets a bench map, and for each board `<id>.sock` (its probe) and `<id>.tty` (its serial port).
The boards live until standard input is closed, or the process is killed. docs/hardware.md shows a
session.
"""

from __future__ import annotations

import sys
import threading
from multiprocessing.connection import Connection, Listener
from pathlib import Path

from twin_board import Board
from twin_swd import SwdPort

_METHODS = frozenset(
    {"open", "close", "swj_sequence", "set_reset", "read_dp", "write_dp", "read_ap", "write_ap"}
)


def serve(listener: Listener, port: SwdPort) -> None:
    """Answers every user of one probe, each in a thread."""
    while True:
        line = listener.accept()
        threading.Thread(target=_talk, args=(line, port), daemon=True).start()


def _talk(line: Connection, port: SwdPort) -> None:
    mine = False
    try:
        while True:
            name, arguments = line.recv()
            if name not in _METHODS:
                raise EOFError(name)
            try:
                value = getattr(port, name)(*arguments)
                mine = {"open": True, "close": False}.get(name, mine)
                line.send((True, value))
            except Exception as error:  # noqa: BLE001  # told to the user's process by name
                line.send((False, type(error).__name__))
    except (OSError, EOFError):
        if mine:
            port.close()  # its user has died


def main(folder: Path, count: int) -> None:
    """Starts the boards, writes the map, and waits for the end of standard input."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(1, count + 1):
        uid = f"TWIN{number:04}"
        board = Board(uid)
        tty = folder / f"{uid}.tty"
        tty.unlink(missing_ok=True)
        tty.symlink_to(board.port)
        socket = folder / f"{uid}.sock"
        socket.unlink(missing_ok=True)
        listener = Listener(str(socket), "AF_UNIX", backlog=16)
        threading.Thread(target=serve, args=(listener, SwdPort(board)), daemon=True).start()
        lines += [f"[boards.twin-{number}]", 'kind = "stm32f746"', f'probe = "{uid}"',
                  f'serial = "./{tty.name}"', "emulated = true", ""]  # fmt: skip
    (folder / "tinyhil-map.toml").write_text("\n".join(lines))
    print(f"ready: {folder / 'tinyhil-map.toml'}", flush=True)
    if sys.stdin.isatty():  # by hand: until it is killed
        threading.Event().wait()
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
