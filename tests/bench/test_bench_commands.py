"""`tinyhil boards --discover/--write/--blink`, `lock` and `unlock`, on an emulated bench."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tinyhil.cli import cli
from tinyhil.errors import BenchError, BoardBusy, UsageError
from tinyhil.harness.bench.map import read_map, write_map
from tinyhil.harness.boards import all_boards


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, firmware_cache: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYHIL_CACHE", str(firmware_cache))
    return tmp_path


def tinyhil(*words: str) -> Result:
    return CliRunner().invoke(cli, words, standalone_mode=False)


def test_connected_boards_are_listed_with_chip_and_probe(plug_in: Callable[..., Any]) -> None:
    _, board = plug_in("T1")
    resets = board.resets
    said = tinyhil("boards", "--discover").output
    assert "T1  stm32f746" in said
    assert "not in the map" in said
    assert board.resets == resets  # looked at without disturbing what runs there


def test_new_boards_are_added_behind_what_the_map_says(plug_in: Callable[..., Any], project: Path) -> None:
    first, _ = plug_in("T1")
    plug_in("T2")
    file = project / "tinyhil-map.toml"
    file.write_text("# my desk\n" + write_map([first]))
    assert tinyhil("boards", "--discover", "--write").exit_code == 0
    known, new = read_map(file)
    assert known == first
    assert (new.name, new.kind, new.probe, new.emulated) == ("stm32f746-1", "stm32f746", "T2", True)
    assert file.read_text().startswith("# my desk\n")
    again = tinyhil("boards", "--discover", "--write").output
    assert "added" not in again


def test_a_board_in_use_and_an_unknown_chip_are_listed_and_left_alone(plug_in: Callable[..., Any]) -> None:
    _, busy = plug_in("T1")
    _, other = plug_in("T2")
    busy.faults.probe_in_use = True
    other.faults.device_id = 0x123
    said = tinyhil("boards", "--discover", "--write").output
    assert "T1  ?" in said
    assert "busy" in said
    assert "no board kind of tinyhil has this chip" in said
    assert not Path("tinyhil-map.toml").exists()


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs apt install gcc-arm-none-eabi")
def test_blinking_proves_which_port_belongs_to_which_probe(plug_in: Callable[..., Any]) -> None:
    from dataclasses import replace

    one, two = plug_in("T1")[0], plug_in("T2")[0]
    Path("tinyhil-map.toml").write_text(write_map([one, two]))
    said = tinyhil("boards", "--blink")
    assert said.output.count("answers on its own port") == 2

    swapped = [replace(one, serial=two.serial), replace(two, serial=one.serial)]
    Path("tinyhil-map.toml").write_text(write_map(swapped))
    said = tinyhil("boards", "--blink")
    assert isinstance(said.exception, BenchError)
    assert "board-T1: answers on the port of board-T2" in said.output


def test_blinking_needs_a_map() -> None:
    assert isinstance(tinyhil("boards", "--blink").exception, UsageError)


def test_a_board_can_be_kept_and_put_back(plug_in: Callable[..., Any]) -> None:
    place, _ = plug_in("T1")
    Path("tinyhil-map.toml").write_text(write_map([place]))
    assert "is kept out of use: soldering" in tinyhil("lock", place.name, "--why", "soldering").output
    assert "soldering" in tinyhil("boards").output
    assert isinstance(tinyhil("lock", place.name).exception, BoardBusy)
    assert "is free again; it was kept by" in tinyhil("unlock", "T1").output
    assert "was free already" in tinyhil("unlock", place.name).output
    assert isinstance(tinyhil("unlock", "T").exception, UsageError)


def test_every_board_kind_can_be_told_by_its_chip() -> None:
    ids = {
        name: (settings["chip_id"], settings.get("chip_id_at"))
        for name, board in all_boards().items()
        if (settings := board.extra.get("pyocd"))
    }
    assert len(ids) >= 7
    shared = [name for name in ids if list(ids.values()).count(ids[name]) > 1]
    assert shared == ["stm32f405", "stm32f407"]  # one die, two packages
