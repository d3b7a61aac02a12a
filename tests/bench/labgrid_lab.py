"""A lab on the loopback: labgrid's coordinator and exporter, and an emulated board in another process.

The board's serial port is exported by labgrid (through ser2net), its probe is served by pyOCD: nothing
of the board can be reached but over TCP.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tinyhil.harness.bench.map import Place

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PLACE = "desk-3"
PATIENCE = 120  # seconds for one of the lab's programs to come up on a busy machine


def labgrid_folder() -> Path | None:
    """Where labgrid's commands are: in the environment that `make test` makes for it, or on the PATH."""
    for folder in (ROOT / ".venv" / "labgrid" / "bin", Path(shutil.which("labgrid-client") or "/-").parent):
        if (folder / "labgrid-coordinator").exists():
            return folder
    return None


def missing() -> str:
    """What the lab needs and this machine lacks; "" if all is there."""
    if labgrid_folder() is None:
        return "needs labgrid in an environment of its own: make setup-test"
    if shutil.which("ser2net", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        return "needs ser2net, which labgrid's exporter serves ports with: apt install ser2net"
    return ""


@dataclass(frozen=True)
class Lab:
    """A running lab. `environment` is what its users need."""

    environment: Mapping[str, str]
    place: Place

    def client(self, *words: str, user: str = "", check: bool = True) -> str:
        """What labgrid's own client says to `words`, perhaps as another user."""
        env = {**self.environment, **({"LG_USERNAME": user} if user else {})}
        command = ["labgrid-client", "-p", PLACE, *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout + done.stderr

    @property
    def owner(self) -> str:
        """HOST/USER of whoever has the place, "None" if nobody."""
        said = self.client("show")
        return next(line.split()[1] for line in said.splitlines() if line.startswith("  acquired:"))


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Lab]:
    """A lab with one place, until the block ends."""
    labgrid = labgrid_folder()
    assert labgrid is not None
    coordinator, probe = _free_port(), _free_port()
    environment = {
        **os.environ,
        "PATH": f"{labgrid}{os.pathsep}{os.environ['PATH']}",
        "LG_COORDINATOR": f"127.0.0.1:{coordinator}",
        "LG_HOSTNAME": "here",
        "LG_USERNAME": "tester",
        "TINYHIL_LOCKS": str(folder / "locks"),
    }
    there = {**environment, "PYTHONPATH": str(HERE / "twin"), "TINYHIL_TWINS": str(folder)}
    with contextlib.ExitStack() as programs:

        def start(*command: str, ready: str = "") -> None:
            log = (folder / f"{Path(command[0]).name}.log").open("w+")
            program = subprocess.Popen(
                command, cwd=folder, env=there, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
            )
            programs.callback(_stop, program)
            programs.callback(log.close)
            _wait_for(lambda: ready in Path(log.name).read_text(), command[0], program)

        start(sys.executable, str(HERE / "twin" / "twin_server.py"), str(folder), "1", ready="ready")
        port = (folder / "TWIN0001.tty").readlink()
        start(str(labgrid / "labgrid-coordinator"), "-l", f"127.0.0.1:{coordinator}", ready="listening on")
        (folder / "exporter.yaml").write_text(f"{PLACE}:\n  RawSerialPort:\n    port: {port}\n")
        exporter = ("-c", f"127.0.0.1:{coordinator}", "-n", "lab", "--hostname", "127.0.0.1", "exporter.yaml")
        start(str(labgrid / "labgrid-exporter"), *exporter, ready="connected to coordinator")
        pyocd = str(Path(sys.executable).with_name("pyocd"))
        start(pyocd, "server", "-u", "TWIN0001", "-p", str(probe), ready="Serving debug probe")

        place = Place("far", "stm32f746", f"remote:127.0.0.1:{probe}", labgrid=PLACE, emulated=True)
        lab = Lab(environment, place)
        lab.client("create")
        lab.client("add-match", f"lab/{PLACE}/*")
        yield lab


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(ready, what: str, program: subprocess.Popen[bytes]) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + PATIENCE
    while not ready():
        assert program.poll() is None, f"{what} ended with {program.returncode}"
        assert time.monotonic() < end, f"{what} is not ready after {PATIENCE} s"
        time.sleep(0.05)


def _stop(program: subprocess.Popen[bytes]) -> None:
    assert program.stdin is not None
    program.stdin.close()
    program.terminate()
    program.wait(PATIENCE)
