"""Sizes and symbols from the ELF, against binutils."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from build_programs import sources

from tinyhil.errors import BuildError
from tinyhil.harness.boards import get_board
from tinyhil.harness.build import Firmware, Program, build
from tinyhil.harness.build.elf import read_image
from tinyhil.harness.deadline import Deadline

LOADED = {".vectors", ".text", ".rodata", ".init_array", ".ARM.exidx", ".data"}


@pytest.fixture
def firmware(own_runtime: Path, cross_compiler: None, cache_dir: Path) -> Firmware:
    program = Program(sources(arena=5000, weights=3000), get_board("stm32f746"), emulated=True)
    made = build([program], Deadline.after(120), cache_dir=cache_dir)[0]
    assert isinstance(made, Firmware), made
    return made


def test_sizes_are_those_of_binutils(firmware: Firmware) -> None:
    said = subprocess.run(
        [shutil.which("arm-none-eabi-size") or "size", "-A", "-d", firmware.elf],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    sizes = {w[0]: int(w[1]) for w in map(str.split, said.splitlines()) if len(w) == 3 and w[1].isdigit()}
    for name, size in firmware.sections.items():
        assert sizes[name] == size
    assert firmware.flash == sum(size for name, size in sizes.items() if name in LOADED)
    assert firmware.static_ram == sizes.get(".data", 0) + sizes.get(".bss", 0)


def test_arena_stack_and_instrumentation_are_not_static_ram(firmware: Firmware) -> None:
    assert firmware.static_ram < 100
    assert firmware.sections[".arena"] >= 5000
    assert firmware.sections[".stack"] == 8192
    assert firmware.instrumentation == 16


def test_symbols_have_even_addresses_and_sizes(firmware: Firmware) -> None:
    assert firmware.symbols["arena"].size == 5000
    assert firmware.symbols["weights"].size == 3000
    main = firmware.symbols["main"]
    assert main.address % 2 == 0
    assert main.size > 0
    start, end = firmware.symbols["_arena_start"].address, firmware.symbols["_arena_end"].address
    assert (start % 16, end - start) == (0, 5000)
    assert firmware.symbols["_arena_guard_start"].address == start - 32
    assert firmware.symbols["_arena_guard_end"].address == end + 32


def test_a_file_that_is_no_elf_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "firmware.elf"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(BuildError, match="is not an ELF"):
        read_image(path)
