"""Firmware that goes wrong ends in a clear message, an exit code and a readable store, in time."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import tiny_tflite

from tinyhil import cli
from tinyhil.harness import engines
from tinyhil.harness.boards import Board, get_board
from tinyhil.harness.build import Program, build
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.engine import Options, Sources
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.tflite_reader import read_tflite
from tinyhil.harness.tinyengine.engine import TinyEngine
from tinyhil.results.record import EngineId
from tinyhil.results.store import Store

CRASH = "*(volatile unsigned *)0xF0000000u = 1u;"
HANG = "for (;;) { }"
OVERRUN = "for (int i = 0; i < 16; i++) { a[NETWORK_ARENA_SIZE + i] = 1; }"


class Broken:
    """TinyEngine whose network does something bad before its first layer."""

    name = "tinyengine"

    def __init__(self, statement: str) -> None:
        self.statement = statement

    def generate(self, graph: Graph, board: Board, options: Options) -> Sources:
        sources = TinyEngine().generate(graph, board, options)
        text = sources.files["network.c"]
        call = f"{sources.layers[0].symbol}("
        assert text.count(call) == 1
        broken = text.replace(call, f"{self.statement} {call}")
        return replace(sources, files={**sources.files, "network.c": broken})


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, statement: str) -> int:
    (folder / "tiny.tflite").write_bytes(tiny_tflite())
    monkeypatch.chdir(folder)
    monkeypatch.setitem(engines.BUILT_IN, "tinyengine", lambda table: Broken(statement))
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "tiny.tflite", "--board", "stm32f746", "--emulate", "--timeout", "8"])
    return int(ended.value.code or 0)


def test_a_hard_fault_names_function_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, monkeypatch, CRASH) == 1
    said = capsys.readouterr().err
    assert "HardFault" in said
    assert "network_run" in said
    assert "network.c:" in said
    with Store.open(tmp_path / ".tinyhil" / "results.db", readonly=True) as store:
        (record,) = store.latest()
    assert record.error is not None
    assert record.error.code == "HardFault"
    assert record.instructions is None


def test_a_firmware_that_never_answers_ends_at_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    assert run(tmp_path, monkeypatch, HANG) == 10
    assert time.monotonic() - started < 8 + 300, "the build may take its time, the run may not"
    assert "NoAnswer" in capsys.readouterr().err


def test_memory_written_beyond_the_arena_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, monkeypatch, OVERRUN) == 1
    assert "beyond" in capsys.readouterr().err


def test_somebody_elses_program_that_crashes_is_listed_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    f746, graph = get_board("stm32f746"), read_tflite(tiny_tflite(), "tiny")
    crashing = Program(Broken(CRASH).generate(graph, f746, Options()), f746, emulated=True)
    (built,) = build([crashing], Deadline.after(120), cache_dir=tmp_path / "cache", jobs=1)
    assert isinstance(built, Firmware), built
    (tmp_path / "tiny.tflite").write_bytes(tiny_tflite())
    (tmp_path / "tinyhil.toml").write_text(
        f'[engines.external.tiny]\nelf = "{built.elf}"\nname = "theirs"\nversion = "3"\n'
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "tiny.tflite", "--board", "stm32f746", "--engine", "external", "--emulate"])
    assert ended.value.code == 1
    assert "theirs" in capsys.readouterr().out
    with Store.open(tmp_path / ".tinyhil" / "results.db", readonly=True) as store:
        (record,) = store.query(engine="theirs")
    assert record.engine == EngineId("theirs", "3")
    assert record.error is not None
    assert record.error.code == "HardFault"
