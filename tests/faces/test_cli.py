"""`tinyhil run` and its neighbours, with the real compiler and emulator."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_tflite


def tinyhil(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tinyhil", *arguments],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.tflite").write_bytes(tiny_tflite())
    return tmp_path


def test_run_measures_writes_and_keeps(folder: Path) -> None:
    done = tinyhil(folder, "run", "tiny.tflite", "--board", "stm32f746", "--emulate", "--json", "out.json")
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((folder / "out.json").read_text())
    assert record["schema"] == "tinyhil/1"
    assert record["correct"]["bit_exact"]
    assert record["mode"] == "qemu"
    report = tinyhil(folder, "report")
    assert Path(report.stdout.splitlines()[-1]).is_file()
    export = tinyhil(folder, "export", "--csv", "out.csv", "--parquet", "out.parquet")
    assert export.returncode == 0, export.stderr
    assert "tiny" in (folder / "out.csv").read_text()


def test_the_native_board_runs_under_sanitizers(folder: Path) -> None:
    done = tinyhil(folder, "run", "tiny.tflite", "--board", "native", "--json", "out.json")
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((folder / "out.json").read_text())
    assert record["correct"]["bit_exact"]
    assert record["instructions"] is None


def test_one_bad_file_does_not_stop_the_others(folder: Path) -> None:
    (folder / "bad.tflite").write_bytes(b"not a model")
    done = tinyhil(folder, "run", ".", "--board", "stm32f746", "--json", "out.json")
    assert done.returncode == 1
    assert "MalformedModel: bad" in done.stderr
    assert len(json.loads((folder / "out.json").read_text())) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "tiny.tflite", "--board", "nonesuch"], 2, "unknown board 'nonesuch'"),
        (["run", "tiny.tflite", "--board", "native", "--engine", "x"], 2, "unknown engine 'x'"),
        (["run", "tiny.tflite"], 2, "which board?"),
        (["run", "missing.tflite", "--board", "native"], 2, "no such file"),
        (["report"], 2, "no results yet"),
    ],
)
def test_wrong_usage_ends_with_one_sentence(
    folder: Path, arguments: list[str], code: int, words: str
) -> None:
    done = tinyhil(folder, *arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("tool", ["arm-none-eabi-gcc", "qemu-system-arm"])
def test_a_missing_tool_is_named_with_how_to_get_it(folder: Path, tmp_path: Path, tool: str) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*") if Path(place).is_dir() else ():
            link = programs / program.name
            if program.name != tool and not link.exists():
                link.symlink_to(program)
    done = tinyhil(
        folder,
        "run",
        "tiny.tflite",
        "--board",
        "stm32f746",
        PATH=str(programs),
        TINYHIL_CACHE=str(tmp_path / "c"),
    )
    assert done.returncode == 10
    assert tool in done.stderr
    assert "apt-get install" in done.stderr or "apt install" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        (
            ["run", "tiny.tflite", "--board", "native"],
            {"TINYHIL_CACHE": "/dev/null/cache"},
            "FileTrouble: /dev",
        ),
        (
            ["run", "tiny.tflite", "--board", "native"],
            {"TINYHIL_STORE": "/dev/null/results.db"},
            "StoreError",
        ),
        (["run", "tiny.tflite", "--board", "native", "--json", "/dev/null/o.json"], {}, "cannot be written"),
        (["export-c", "tiny.tflite", "--board", "native", "--out", "/dev/null/c"], {}, "FileTrouble: /dev"),
    ],
)
def test_a_place_that_cannot_be_written_is_the_benchs_fault(
    folder: Path, arguments: list[str], environ: dict[str, str], words: str
) -> None:
    done = tinyhil(folder, *arguments, **environ)
    assert done.returncode == 10, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_a_build_with_one_sentence(folder: Path) -> None:
    words = "['run', 'tiny.tflite', '--board', 'native,stm32f746']"
    started = subprocess.Popen(
        [sys.executable, "-c", f"""if True:
            import signal
            signal.signal(signal.SIGINT, signal.default_int_handler)  # even where the suite runs without
            from tinyhil.cli import main
            main({words})"""],
        cwd=folder, env={**os.environ, "TINYHIL_CACHE": str(folder / "cache")},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert started.stderr is not None
    assert started.stderr.readline() == "building 2 firmwares\n"
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: all of them get it
    _, said = started.communicate(timeout=120)
    assert started.returncode == 130, said
    assert said.strip() == "tinyhil: interrupted; what was measured until now is kept"
