"""What Renode is told, and how its log is read; a run only where Renode is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tinyhil.errors import MissingTool, UsageError
from tinyhil.harness.boards import get_board
from tinyhil.harness.build import Firmware, Program, build
from tinyhil.harness.build.firmware import Symbol
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.counts import marks_of, split_runs
from tinyhil.harness.targets.renode import (
    RenodeTarget,
    command_line,
    find_renode,
    read_log,
    script,
    stretches,
)
from tinyhil.harness.targets.target import Job
from tinyhil.harness.timing.microbench import loops, microbench_sources


@pytest.fixture
def firmware(tmp_path: Path) -> Firmware:
    """Firmware as the builder describes it; nothing is compiled."""
    symbols = {"th_run_begin": Symbol(0x08000100, 4), "th_run_end": Symbol(0x08000200, 4)}
    symbols |= {loop.symbol: Symbol(0x08001000 + 64 * n, 32) for n, loop in enumerate(loops())}
    return Firmware(
        id="0123",
        elf=tmp_path / "my firmware.elf",
        board=get_board("stm32f746"),
        emulated=False,
        sources=microbench_sources(),
        flash=0,
        static_ram=0,
        instrumentation=0,
        sections={},
        symbols=symbols,
        compiler="",
        flags="",
    )


def test_the_script_loads_the_flashed_elf_and_hooks_every_mark(firmware: Firmware) -> None:
    lines = script(firmware, 4321).splitlines()
    assert lines[0].startswith("mach create")
    assert "machine LoadPlatformDescription @platforms/cpus/stm32f746.repl" in lines
    assert any(line.startswith("sysbus LoadELF @") and line.endswith("my\\ firmware.elf") for line in lines)
    assert 'emulation CreateServerSocketTerminal 4321 "line" false' in lines
    assert "connector Connect sysbus.usart1 line" in lines
    hooks = [line for line in lines if "AddHook" in line]
    assert len(hooks) == 2 + len(loops())
    assert all("ExecutedInstructions" in hook for hook in hooks)
    assert lines[-1] == "start"


def test_renode_starts_without_windows_and_logs_to_standard_output(tmp_path: Path) -> None:
    words = command_line("/opt/renode/renode", tmp_path / "run.resc")
    assert words == [
        "/opt/renode/renode",
        "--disable-gui",
        "--console",
        "--plain",
        str(tmp_path / "run.resc"),
    ]


def test_the_log_becomes_exact_counts_of_run_and_layers(firmware: Firmware) -> None:
    first, second = (firmware.symbols[loop.symbol].address for loop in loops()[:2])
    log = "\n".join(
        f"12:00:00.1 [INFO] cpu: tinyhil-mark {mark:x} {count}"
        for mark, count in [
            (0x08000100, 1000),
            (first, 1010),
            (second, 1110),
            (0x08000200, 1160),
            (0x08000100, 9999),
        ]
    )
    (run,) = split_runs(stretches(read_log("noise\n" + log + "\nnoise")), marks_of(firmware))
    assert run.instructions == 160
    assert run.layer_instructions[:3] == (100, 50, None)


def test_boards_and_firmware_that_renode_cannot_run_are_refused(firmware: Firmware) -> None:
    with pytest.raises(UsageError, match="linked for the QEMU twin"):
        script(replace(firmware, emulated=True), 1)
    with pytest.raises(UsageError, match="nucleo-l4r5zi"):
        script(replace(firmware, board=get_board("nucleo-l4r5zi")), 1)


def test_without_renode_the_message_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingTool, match=r"builds\.renode\.io"):
        find_renode({})
    with pytest.raises(MissingTool, match="TINYHIL_RENODE"):
        find_renode({"TINYHIL_RENODE": "/nowhere/renode"})


@pytest.mark.skipif(shutil.which("renode") is None, reason="needs Renode: a portable release on PATH")
def test_a_run_counts_the_loops(tmp_path: Path) -> None:
    program = Program(microbench_sources(), get_board("stm32f746"), emulated=False)
    (made,) = build([program], Deadline.after(240), cache_dir=tmp_path, jobs=1)
    assert isinstance(made, Firmware)
    run = RenodeTarget().run(made, Job(((bytes(4),),)), Deadline.after(120))
    assert run.instructions is not None
    assert run.instructions[0] > 700_000
