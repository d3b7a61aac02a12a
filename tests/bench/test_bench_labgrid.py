"""Boards that a labgrid coordinator shares out: against the real thing, on the loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import labgrid_lab
import pytest
from labgrid_lab import Lab
from small_network import INPUT, OUTPUT

from tinyhil.errors import BenchError, BoardBusy, MissingTool
from tinyhil.harness.bench import labgrid
from tinyhil.harness.bench.labgrid import acquired, held, identity, parse_show, serial_address
from tinyhil.harness.bench.map import Place, parse_map, write_map
from tinyhil.harness.commands.bench import unlock
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.hardware import HardwareTarget
from tinyhil.harness.targets.target import Job

SHOWN = """Place 'desk-3':
  matches:
    lab/desk-3/*
  acquired: here/tester
  acquired resources:
    lab/desk-3/NetworkSerialPort/serial
  created: 2026-11-23 04:49:30.977914
Acquired resource 'serial' (lab/desk-3/NetworkSerialPort/serial):
  {'acquired': 'desk-3',
   'cls': 'NetworkSerialPort',
   'params': {'extra': {'proxy_required': False},
              'host': 'lab7',
              'port': 34983}}
"""
FAR = Place("far", "stm32f746", "remote:lab7:5555", labgrid="desk-3")


def soon() -> Deadline:
    return Deadline.after(labgrid_lab.PATIENCE)


def use(
    place: Place, act: Callable[[Place], None] = lambda place: None, deadline: Deadline | None = None
) -> None:
    """Does `act` while the place is ours."""
    with acquired(place, deadline or soon()) as ours:
        act(ours)


def test_what_the_coordinator_tells_is_read() -> None:
    shared = parse_show(SHOWN)
    assert shared is not None
    assert (shared.name, shared.owner) == ("desk-3", "here/tester")
    assert serial_address(FAR, shared) == "rfc2217://lab7:34983?ign_set_control"
    free = parse_show(SHOWN.replace("acquired: here/tester", "acquired: None"))
    assert free is not None
    assert free.owner == ""


def test_a_port_without_rfc2217_is_a_plain_socket() -> None:
    shared = parse_show(SHOWN.replace("'port': 34983", "'port': 34983, 'protocol': 'raw'"))
    assert shared is not None
    assert serial_address(FAR, shared) == "socket://lab7:34983"


def test_a_port_behind_a_proxy_is_refused_with_the_way_out() -> None:
    shared = parse_show(SHOWN.replace("'proxy_required': False", "'proxy_required': True"))
    assert shared is not None
    with pytest.raises(BenchError, match="behind an SSH proxy; open a tunnel"):
        serial_address(FAR, shared)


def test_the_map_may_name_the_address_of_a_port() -> None:
    text = '[boards.far]\nkind = "stm32f746"\nprobe = "remote:lab7:5555"\nserial = "socket://lab7:4001"\n'
    (place,) = parse_map(text, Path("/desk/map.toml"))
    assert (place.probe, place.serial) == ("remote:lab7:5555", "socket://lab7:4001")


@pytest.mark.parametrize("said", ["", "Place 'desk-3':\n", SHOWN.replace("}}", "")])
def test_what_is_no_place_is_not_taken_for_one(said: str) -> None:
    assert parse_show(said) is None


def test_a_missing_client_says_how_to_get_it(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingTool, match="pipx install labgrid"), acquired(FAR, soon()):
        pass


def test_a_board_of_no_place_needs_no_client(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    here = Place("right", "stm32f746", "A2")
    with held([here], soon(), soon()) as place:
        assert place == here


def test_a_client_that_hangs_is_not_waited_for_for_ever(
    locks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labgrid-client").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "labgrid-client").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(BenchError, match="did not answer `acquire` in time"):
        use(FAR, deadline=Deadline.after(0.3))


@pytest.fixture(scope="module")
def running_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    pytest.importorskip("unicorn", reason="needs the emulator: pip install unicorn")
    if reason := labgrid_lab.missing():
        pytest.skip(reason)
    with labgrid_lab.running(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture
def lab(running_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The lab, with this process as one of its users."""
    for name in ("PATH", "LG_COORDINATOR", "LG_HOSTNAME", "LG_USERNAME", "TINYHIL_LOCKS"):
        monkeypatch.setenv(name, running_lab.environment[name])
    return running_lab


@pytest.mark.slow
def test_a_board_elsewhere_is_flashed_and_measured_and_free_again(
    lab: Lab, build_network: Callable[..., Any]
) -> None:
    job = Job(((INPUT,), (OUTPUT,)), repeats=2)
    run = HardwareTarget((lab.place,)).run(build_network(), job, soon())
    assert run.outputs[0] == (OUTPUT,)
    assert run.mode == "unicorn"
    assert run.provenance["probe"].endswith(lab.place.probe)
    assert lab.owner == "None"


def test_a_served_probe_of_an_emulated_board_is_not_taken_for_a_real_one(
    lab: Lab, build_network: Callable[..., Any]
) -> None:
    real = replace(lab.place, emulated=False)
    with pytest.raises(BenchError, match="is an emulated board, but the bench map says otherwise"):
        HardwareTarget((real,)).run(build_network(), Job(((INPUT,),)), soon())


def test_nobody_else_gets_it_meanwhile_and_everybody_after_an_error(lab: Lab) -> None:
    def look(place: Place) -> None:
        assert lab.owner == identity() == "here/tester"
        assert place.serial.startswith("rfc2217://127.0.0.1:")
        assert "already acquired by here/tester" in lab.client("acquire", user="anna", check=False)
        with pytest.MonkeyPatch.context() as other:
            other.setenv("LG_HOSTNAME", "there")  # the same person at another computer is somebody else
            with pytest.raises(BoardBusy, match="acquired by here/tester"):
                use(lab.place)
        raise KeyError

    with pytest.raises(KeyError):
        use(lab.place, look)
    assert lab.owner == "None"


def test_what_was_ours_before_stays_ours(lab: Lab) -> None:
    lab.client("acquire")
    with acquired(lab.place, soon()):
        pass
    assert lab.owner == "here/tester"
    lab.client("release")


def test_a_place_of_nearly_that_name_is_not_taken(lab: Lab) -> None:
    with pytest.raises(BenchError, match="knows no place desk, only desk-3"):
        use(replace(lab.place, labgrid="desk"))


def test_a_measurement_during_which_the_place_was_taken_away_is_dropped(lab: Lab) -> None:
    def take_away(place: Place) -> None:
        lab.client("release", "--kick", user="anna")
        lab.client("acquire", user="anna")

    with pytest.raises(BenchError, match="taken away during the measurement, it belongs to here/anna now"):
        use(lab.place, take_away)
    lab.client("release", user="anna")


def test_a_free_board_is_taken_before_a_busy_one_is_waited_for(lab: Lab) -> None:
    near = Place("near", "stm32f746", "A2")
    lab.client("acquire", user="anna")
    with held([lab.place, near], soon(), soon()) as place:
        assert place == near
    with (
        pytest.raises(BoardBusy, match=r"acquired by here/anna.*release --kick"),
        held([lab.place], Deadline.after(0.1), soon()),
    ):
        pass
    lab.client("release", user="anna")


HOLDER = """
import sys, time
from tinyhil.harness.bench.labgrid import held
from tinyhil.harness.bench.map import read_map
from tinyhil.harness.deadline import Deadline
from pathlib import Path
with held(read_map(Path(sys.argv[1])), Deadline.after(120), Deadline.after(120)):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_what_a_killed_holder_had_can_be_freed(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "map.toml").write_text(write_map([lab.place]))
    monkeypatch.setenv("TINYHIL_MAP", str(tmp_path / "map.toml"))
    monkeypatch.chdir(tmp_path)
    killed_holder(lab, tmp_path / "map.toml")
    unlock(["far"], standalone_mode=False)
    assert "left acquired by a tinyhil that died, is released" in capsys.readouterr().out
    assert lab.owner == "None"
    assert not labgrid.free(lab.place)


@pytest.mark.slow
def test_what_a_killed_holder_had_is_taken_over_and_given_back(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "map.toml").write_text(write_map([lab.place]))
    killed_holder(lab, tmp_path / "map.toml")
    with held([lab.place], soon(), soon()):
        pass
    assert lab.owner == "None"


def killed_holder(lab: Lab, bench_map: Path) -> None:
    """A tinyhil dies while it has the place."""
    command = [sys.executable, "-c", HOLDER, str(bench_map)]
    with subprocess.Popen(command, env=dict(lab.environment), stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGKILL)
    assert lab.owner == "here/tester"


def test_a_coordinator_that_is_down_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LG_COORDINATOR", "127.0.0.1:1")
    with pytest.raises(BenchError, match="Could not connect to coordinator"):
        use(lab.place)
