"""Project assembly: what a firmware is made of decides its name, and nothing else does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from build_programs import sources
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.harness.boards import get_board
from tinyhil.harness.build.project import PROJECT, Program, Unit, linker_script, make_unit
from tinyhil.harness.build.toolchain import Toolchain

GCC = Toolchain("gcc", "g++", "gcc 1.0", ("-mthumb",), ("-g",), ("-static",))
F746 = get_board("stm32f746")


def unit(toolchain: Toolchain = GCC, **changes: object) -> Unit:
    program = Program(sources(), F746, emulated=True)
    for key, value in changes.items():
        if key in ("board", "emulated", "stack"):
            program = dataclasses.replace(program, **{key: value})
        else:
            program = dataclasses.replace(
                program, sources=dataclasses.replace(program.sources, **{key: value})
            )
    return make_unit(program, toolchain)


def test_the_same_program_has_the_same_id_and_the_same_commands() -> None:
    assert unit() == unit()


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"network.c": "int x;"}},
        {"cflags": ("-O3",)},
        {"defines": ("FAST=1",)},
        {"stack": 16384},
        {"emulated": False},
        {"board": get_board("stm32f767")},
        {"toolchain": dataclasses.replace(GCC, version="gcc 2.0")},
        {"toolchain": dataclasses.replace(GCC, machine=("-marm",))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_goes_into_the_elf_changes_the_id(change: dict[str, object]) -> None:
    assert unit(**change).id != unit().id  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"network": "other"}, {"notes": {"plan": "x"}}], ids=["network", "notes"])
def test_what_stays_out_of_the_elf_does_not_change_the_id(change: dict[str, object]) -> None:
    assert unit(**change).id == unit().id  # type: ignore[arg-type]


def test_headers_and_libraries_count_by_content_not_by_place(tmp_path: Path) -> None:
    made = []
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "kernel.h").write_text(text)
        (folder / "lib.a").write_text(text)
        made.append(unit(includes=(folder,), libraries=(folder / "lib.a",)).id)
    assert made[0] == made[1] != made[2]


@given(st.text(max_size=20))
@settings(max_examples=60, deadline=None)
def test_a_file_name_either_stays_inside_its_folder_or_is_refused(name: str) -> None:
    try:
        made = unit(files={name: ""})
    except UsageError:
        return
    for path in made.files:
        assert Path(path).parts[0] in (made.id,)
        assert not {"..", ""} & set(path.split("/"))
        assert re.fullmatch(r"[A-Za-z0-9_./-]+", path)


@pytest.mark.parametrize("name", ["../evil.c", "/etc/x.c", "a b.c", "-o.c", "a/../b.c", "x\n.c", ""])
def test_file_names_that_are_not_plain_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not a plain relative file name"):
        unit(files={name: ""})


def test_commands_name_only_relative_files_so_that_the_place_does_not_get_into_the_elf() -> None:
    made = unit()
    for step in (*made.objects, *made.shared.steps, made.link):
        words = [word for word in step.command if PROJECT not in word]
        assert not [word for word in words if "/" in word.lstrip("-I") and word.lstrip("-I").startswith("/")]


def test_programs_of_one_board_share_the_runtime_and_others_do_not() -> None:
    assert unit().shared.key == unit(cflags=("-O3",)).shared.key
    assert unit().shared.key != unit(emulated=False).shared.key
    assert unit().shared.key != unit(board=get_board("stm32f412"), emulated=False).shared.key


def test_layer_marks_are_for_silicon_only() -> None:
    assert "-DTINYHIL_LAYER_MARKS" in unit(emulated=False).flags
    assert "-DTINYHIL_LAYER_MARKS" not in unit(emulated=True).flags


def test_the_board_files_clock_values_reach_the_hardware_layer() -> None:
    command = next(step.command for step in unit(emulated=False).shared.steps if "hal_stm32f7" in step.target)
    assert {"-DTH_PLL_N=432u", "-DTH_TX_PORT='A'", "-DTH_BAUD=921600u"} <= set(command)


@pytest.mark.parametrize(("emulated", "origin"), [(True, "0x00000000"), (False, "0x08000000")])
def test_the_linker_script_holds_the_boards_sizes_in_both_maps(emulated: bool, origin: str) -> None:
    script = linker_script(Program(sources(), F746, emulated))
    assert f"ORIGIN = {origin}, LENGTH = 1048576" in script
    assert "ORIGIN = 0x20000000, LENGTH = 327680" in script


@pytest.mark.parametrize(("arena", "memory"), [(100_000, "FAST"), (130_000, "RAM"), (None, "RAM")])
def test_an_arena_goes_to_fast_memory_only_if_it_is_known_to_fit(arena: int | None, memory: str) -> None:
    network = dataclasses.replace(sources(), arena=arena)
    script = linker_script(Program(network, get_board("stm32h743"), emulated=False))
    assert re.search(r"\.arena .*?> (\w+)", script, re.DOTALL)[1] == memory  # type: ignore[index]
    assert re.search(r"\.stack .*?> (\w+)", script, re.DOTALL)[1] == "FAST"  # type: ignore[index]


def test_a_family_without_hardware_layer_is_refused() -> None:
    with pytest.raises(UsageError, match=r"hal_z80\.c"):
        unit(board=dataclasses.replace(F746, family="z80"), emulated=False)
