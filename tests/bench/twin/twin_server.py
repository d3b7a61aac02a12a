"""Emulated boards that outlive the harness, as real ones do: one process, any number of users.

    python tests/bench/twin/twin_server.py FOLDER [NUMBER OF BOARDS] [KIND]

FOLDER gets a bench map, and for each board `<id>.sock` (its probe), `<id>.tty` (its serial port) and
`<id>.uses`: a line for each use of the probe, with the seconds at which it began and ended, or `refused`.
The boards live until standard input is closed, or the process is killed. docs/hardware.md shows a
session.
"""

from __future__ import annotations

import sys
import threading
import time
from multiprocessing.connection import Connection, Listener
from pathlib import Path

from twin_board import Board
from twin_swd import InUse, SwdPort

_METHODS = frozenset(
    {"open", "close", "swj_sequence", "set_reset", "read_dp", "write_dp", "read_ap", "write_ap"}
)


def serve(listener: Listener, port: SwdPort, uses: Path) -> None:
    """Answers every user of one probe, each in a thread."""
    while True:
        line = listener.accept()
        threading.Thread(target=_talk, args=(line, port, uses), daemon=True).start()


def _talk(line: Connection, port: SwdPort, uses: Path) -> None:
    mine, began = False, time.monotonic()

    def note(words: str) -> None:
        with uses.open("a") as log:
            log.write(words + "\n")

    def given_back() -> None:
        note(f"{began} {time.monotonic()}")

    try:
        while True:
            name, arguments = line.recv()
            if name not in _METHODS:
                raise EOFError(name)
            try:
                if name == "close" and mine:
                    given_back()  # before anybody else can have it
                value = getattr(port, name)(*arguments)
                if name == "open":
                    began = time.monotonic()
                mine = {"open": True, "close": False}.get(name, mine)
                line.send((True, value))
            except Exception as error:  # noqa: BLE001  # told to the user's process by name
                if isinstance(error, InUse):
                    note("refused")
                line.send((False, type(error).__name__))
    except (OSError, EOFError):
        if mine:
            given_back()
            port.close()  # its user has died


def main(folder: Path, count: int, kind: str) -> None:
    """Starts the boards, writes the map, and waits for the end of standard input."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(1, count + 1):
        uid = f"TWIN{number:04}"
        board = Board(uid, kind)
        tty = folder / f"{uid}.tty"
        tty.unlink(missing_ok=True)
        tty.symlink_to(board.port)
        socket = folder / f"{uid}.sock"
        socket.unlink(missing_ok=True)
        listener = Listener(str(socket), "AF_UNIX", backlog=16)
        threading.Thread(target=serve, args=(listener, SwdPort(board), folder / f"{uid}.uses"),
                         daemon=True).start()  # fmt: skip
        lines += [f"[boards.twin-{number}]", f'kind = "{kind}"', f'probe = "{uid}"',
                  f'serial = "./{tty.name}"', "emulated = true", ""]  # fmt: skip
    (folder / "tinyhil-map.toml").write_text("\n".join(lines))
    print(f"ready: {folder / 'tinyhil-map.toml'}", flush=True)
    if sys.stdin.isatty():  # by hand: until it is killed
        threading.Event().wait()
    sys.stdin.read()


if __name__ == "__main__":
    given = dict(enumerate(sys.argv))
    main(Path(sys.argv[1]), int(given.get(2, "1")), given.get(3, "stm32f746"))
