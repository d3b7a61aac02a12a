"""Building: many programs in one run, nothing built twice, every refusal in words."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from build_programs import sources

from tinyhil.errors import BuildError, DoesNotFit, MissingTool
from tinyhil.harness.boards import Board, all_boards, get_board
from tinyhil.harness.build import Firmware, Program, build, builder, toolchain
from tinyhil.harness.build.project import make_unit
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.engine import Layer

CHIPS = [board for board in all_boards().values() if not board.is_native]
F746 = get_board("stm32f746")
STACK_OVERFLOW = """
#include "tinyhil_network.h"
static int __attribute__((noinline)) deeper(int n, volatile int *from) {
    volatile int here[64];
    here[n & 63] = *from;
    return n ? deeper(n - 1, here) + here[1] : here[0];
}
static int run(void) { volatile int one = 1; return deeper(100000, &one); }
const struct th_network th_network = {.run = run};
"""
UNDEFINED = """
#include "tinyhil_network.h"
static int run(void) { __asm volatile("udf #1"); return 0; }
const struct th_network th_network = {.run = run};
"""


def one(program: Program, cache_dir: Path) -> Firmware | BuildError | DoesNotFit:
    return build([program], Deadline.after(120), cache_dir=cache_dir)[0]


def made(program: Program, cache_dir: Path) -> Firmware:
    firmware = one(program, cache_dir)
    assert isinstance(firmware, Firmware), firmware
    return firmware


def emulate(qemu: str, firmware: Firmware) -> tuple[int, str]:
    """Exit status and output of a firmware that ends by itself."""
    assert firmware.board.twin is not None
    line = ["-nographic", "-monitor", "none", "-serial", "stdio"]
    exits = ["-semihosting-config", "enable=on,target=native"]
    command = [qemu, "-M", firmware.board.twin.machine, *line, *exits, "-kernel", str(firmware.elf)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.strip()


@pytest.mark.usefixtures("own_runtime")
def test_every_board_is_built_for_chip_and_twin_in_one_run_and_the_twins_run(
    qemu: str, cache_dir: Path
) -> None:
    programs = [Program(sources(), chip, emulated) for chip in CHIPS for emulated in (True, False)]
    built = build(programs, Deadline.after(300), cache_dir=cache_dir)
    for program, firmware in zip(programs, built, strict=True):
        assert isinstance(firmware, Firmware), firmware
        assert firmware.id.encode() in firmware.elf.read_bytes()
        assert firmware.symbols["_stack_start"].address % 0x8000 == 0
        rtt = 0 if program.emulated else 24 + 2 * 24 + 2 * 512  # control block, two rings
        assert 16 + rtt <= firmware.instrumentation <= 16 + rtt + 32
        assert "-mfloat-abi=hard" in firmware.flags
        assert "12." in firmware.compiler or "gcc" in firmware.compiler
        if program.emulated:
            # 37: FPU, .data, .bss, arena and constants were all as the C language promises
            assert emulate(qemu, firmware) == (37, firmware.id)


@pytest.mark.usefixtures("cross_compiler")
@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
@pytest.mark.parametrize("emulated", [True, False], ids=["twin", "chip"])
def test_runtime_and_hardware_layer_compile_without_a_warning(
    chip: Board, emulated: bool, tmp_path: Path
) -> None:
    tools = toolchain.toolchain_for(chip)
    strict = dataclasses.replace(tools, compile=(*tools.compile, "-Werror", "-Wshadow", "-Wundef"))
    unit = make_unit(Program(sources(), chip, emulated), strict)
    for name, text in unit.shared.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for step in unit.shared.steps:
        done = subprocess.run(step.command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), step.target


@pytest.mark.usefixtures("own_runtime")
@pytest.mark.parametrize("name", ["stm32f746", "stm32f412", "stm32h743"])
def test_a_crash_reaches_the_fault_handler_even_when_the_stack_is_gone(
    name: str, qemu: str, cache_dir: Path
) -> None:
    programs = [Program(sources(text), get_board(name), True) for text in (UNDEFINED, STACK_OVERFLOW)]
    crashed, overflowed = build(programs, Deadline.after(120), cache_dir=cache_dir)
    assert isinstance(crashed, Firmware)
    assert isinstance(overflowed, Firmware)
    assert emulate(qemu, crashed) == (70, crashed.id)
    assert emulate(qemu, overflowed) == (71, overflowed.id)


@pytest.mark.usefixtures("own_runtime", "cross_compiler")
def test_what_was_built_before_is_not_built_again(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(Program(sources(status=1), F746, True), cache_dir)

    def no_run(*_: object) -> str:
        raise AssertionError("PlatformIO was started")

    monkeypatch.setattr(builder, "run_platformio", no_run)
    renamed = made(Program(sources(status=1, name="same text"), F746, True), cache_dir)
    assert (renamed.id, renamed.elf, renamed.sources.network) == (first.id, first.elf, "same text")
    with pytest.raises(AssertionError, match="PlatformIO was started"):
        build([Program(sources(status=2), F746, True)], Deadline.after(10), cache_dir=cache_dir)


@pytest.mark.usefixtures("own_runtime", "cross_compiler")
def test_the_same_program_gives_the_same_bytes_wherever_it_is_built(tmp_path: Path) -> None:
    program = Program(sources(), F746, False)
    a, b = (made(program, tmp_path / name) for name in ("a", "elsewhere/b"))
    assert a.elf != b.elf
    assert a.elf.read_bytes() == b.elf.read_bytes()
    assert str(tmp_path).encode() not in a.elf.read_bytes()


@pytest.mark.usefixtures("own_runtime", "cross_compiler")
def test_a_broken_program_is_named_with_its_layer_and_the_others_are_built(cache_dir: Path) -> None:
    broken = dataclasses.replace(
        sources("int conv_3(void) { return missing_kernel; }", name="broken net"),
        layers=(Layer("conv 3", "Conv2D", "conv_3", 10),),
    )
    programs = [Program(sources(status=3), F746, True), Program(broken, F746, True)]
    good, bad = build(programs, Deadline.after(120), cache_dir=cache_dir)
    assert isinstance(good, Firmware)
    assert isinstance(bad, BuildError)
    for word in ("broken net", "test", "stm32f746", "conv 3 (Conv2D)", "missing_kernel", "network.c:1"):
        assert word in str(bad)


@pytest.mark.usefixtures("own_runtime", "cross_compiler")
def test_an_undefined_symbol_is_the_linkers_word(cache_dir: Path) -> None:
    bad = one(
        Program(sources("int kernel(void); int nothing(void) { return kernel(); }"), F746, True), cache_dir
    )
    assert isinstance(bad, BuildError)
    assert "undefined reference to `th_network'" in str(bad)


@pytest.mark.usefixtures("own_runtime", "cross_compiler")
@pytest.mark.parametrize("emulated", [True, False], ids=["twin", "chip"])
def test_the_linker_holds_the_boards_sizes(emulated: bool, cache_dir: Path) -> None:
    big_flash = Program(sources(weights=1024 * 1024 + 5000, name="heavy"), F746, emulated)
    big_ram = Program(sources(arena=320 * 1024, name="wide"), F746, emulated)
    fits = Program(sources(arena=300 * 1024, weights=900 * 1024), F746, emulated)
    flash, ram, good = build([big_flash, big_ram, fits], Deadline.after(120), cache_dir=cache_dir)
    assert isinstance(flash, DoesNotFit)
    assert "heavy does not fit stm32f746: code and weights take " in str(flash)
    assert "1,048,576 of flash" in str(flash)
    assert "stm32f767" in str(flash)
    assert isinstance(ram, DoesNotFit)
    assert "an arena of 327,680, a stack of 8,192, static data and the harness's own buffers take " in str(
        ram
    )
    assert isinstance(good, Firmware)


@pytest.mark.usefixtures("own_runtime", "cross_compiler")
def test_a_missing_compiler_is_said_with_the_line_that_installs_it(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    toolchain._version.cache_clear()
    toolchain._newlib_version.cache_clear()
    with pytest.raises(MissingTool, match="apt install gcc-arm-none-eabi libnewlib-arm-none-eabi"):
        build([Program(sources(status=4), F746, True)], Deadline.after(10), cache_dir=cache_dir)


@pytest.mark.usefixtures("own_runtime", "cross_compiler")
def test_a_build_ends_at_its_deadline(cache_dir: Path) -> None:
    with pytest.raises(BuildError, match="deadline"):
        build([Program(sources(status=5), F746, True)], Deadline.after(0.05), cache_dir=cache_dir)
    assert not list(cache_dir.glob("work-*"))


@pytest.mark.usefixtures("own_runtime", "cross_compiler")
def test_no_registry_is_ever_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every proxy-aware client in PlatformIO would come to this socket first."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        done = threading.Event()

        def listen() -> None:
            while not done.is_set():
                try:
                    server.accept()[0].close()
                    asked.append(1)
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        try:
            made(Program(sources(), F746, True), tmp_path)
        finally:
            done.set()
            thread.join()
    assert asked == []


@pytest.mark.usefixtures("own_runtime", "cross_compiler")
def test_two_builds_of_the_same_programs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    programs = [Program(sources(status=status), F746, True) for status in (6, 7)]
    with ThreadPoolExecutor(2) as pool:
        results = list(
            pool.map(lambda _: build(programs, Deadline.after(120), cache_dir=tmp_path, jobs=1), range(2))
        )
    assert results[0] == results[1]
    assert all(isinstance(firmware, Firmware) for firmware in results[0])
    assert not list(tmp_path.glob("*/new-*"))


@pytest.mark.usefixtures("own_runtime")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs the host's compiler: apt install gcc libc6-dev")
def test_the_native_program_is_stopped_by_the_sanitizers(cache_dir: Path) -> None:
    text = """
    #include "tinyhil_network.h"
    static uint8_t arena[8];
    static uint8_t *volatile data = arena;
    static volatile int last = 7;
    static int run(void) { data[last] = 1; return %s; }
    const struct th_network th_network = {.arena = arena, .arena_size = sizeof arena, .run = run};
    """
    native = get_board("native")
    good, beyond, shifted = build(
        [Program(sources(text % body), native, False) for body in ("5", "data[last + 1]", "1 << (last * 8)")],
        Deadline.after(120),
        cache_dir=cache_dir,
    )
    outcomes = []
    for firmware in (good, beyond, shifted):
        assert isinstance(firmware, Firmware)
        assert (firmware.flash, firmware.static_ram) == (0, 0)  # the host's sizes are no board's
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        done = subprocess.run([firmware.elf], capture_output=True, text=True, env=environment, timeout=60)
        outcomes.append((done.returncode, done.stderr))
    assert outcomes[0] == (5, "")
    assert outcomes[1][0] != 0
    assert "AddressSanitizer: global-buffer-overflow" in outcomes[1][1]
    assert outcomes[2][0] != 0
    assert "shift exponent 56 is too large" in outcomes[2][1]
