"""Kits: what is accepted, what is refused and with which words, what is read from the library itself."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peer_kits import KitMaker, make_library, tool, write_toml

from tinyhil.errors import MissingTool, UsageError
from tinyhil.harness.boards import get_board
from tinyhil.harness.peers.archive import objects
from tinyhil.harness.peers.kit import (
    find_kit,
    kit_folders,
    kit_notes,
    kit_status,
    library_flags,
    read_kit,
    variable_of,
)

F746 = get_board("stm32f746")
F407 = get_board("stm32f407")
NATIVE = get_board("native")


def kit_of(folder: Path, core: str, flags: tuple[str, ...]) -> dict[str, str]:
    """A minimal kit whose library was compiled with exactly these flags; the engine's table for it."""
    make_library(folder, core, flags)
    (folder / "include").mkdir()
    write_toml(folder, name="cmsis-nn", version="1", core=core)
    return {"kit": str(folder)}


def test_a_library_tells_how_it_was_built(contract_kit: KitMaker) -> None:
    (member,) = objects(contract_kit("cortex-m7") / "libcontract.a")
    assert (member.name, member.machine, member.architecture) == ("contract.o", "EM_ARM", "v7E-M")
    assert (member.fpu, member.hard_float) == ("fpv5", True)
    assert member.producer.startswith("GNU C")
    assert "-mcpu=cortex-m7" in member.producer.split()


def test_the_kit_of_the_boards_core_is_taken(contract_kit: KitMaker) -> None:
    table = {"kit": [str(contract_kit("cortex-m4")), str(contract_kit("cortex-m7"))]}
    assert find_kit("cmsis-nn", table, F746).core == "cortex-m7"
    assert find_kit("cmsis-nn", table, F407).core == "cortex-m4"


def test_a_core_without_a_kit_is_a_missing_tool_that_names_those_there_are(contract_kit: KitMaker) -> None:
    with pytest.raises(MissingTool, match=r"no kit of cmsis-nn for cortex-m7.*only for cortex-m4"):
        find_kit("cmsis-nn", {"kit": str(contract_kit("cortex-m4"))}, F746)


def test_the_table_goes_before_the_variable() -> None:
    environ = {variable_of("cmsis-nn"): "/a:/b"}
    assert kit_folders("cmsis-nn", {}, environ) == (Path("/a"), Path("/b"))
    assert kit_folders("cmsis-nn", {"kit": "/c"}, environ) == (Path("/c"),)
    assert kit_folders("tflm", {}, environ) == ()


def test_a_soft_float_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="soft-float ABI"):
        find_kit("cmsis-nn", kit_of(tmp_path, "cortex-m7", ("-mfloat-abi=soft",)), F746)


def test_a_library_for_another_core_than_its_kit_says_is_refused(tmp_path: Path) -> None:
    flags = ("-g", "-mfloat-abi=hard")
    table = kit_of(tmp_path, "cortex-m4", flags)
    write_toml(tmp_path, name="cmsis-nn", version="1", core="cortex-m7")
    with pytest.raises(UsageError, match=r"built with -mcpu=cortex-m4.*stm32f746"):
        find_kit("cmsis-nn", table, F746)


def test_an_fpu_that_the_board_lacks_is_seen_even_without_debug_information(tmp_path: Path) -> None:
    table = kit_of(tmp_path, "cortex-m7", ("-mfloat-abi=hard",))
    write_toml(tmp_path, name="cmsis-nn", version="1", core="cortex-m4")
    with pytest.raises(UsageError, match="FPv5"):
        find_kit("cmsis-nn", table, F407)


def test_a_library_of_the_host_is_no_library_of_a_board(tmp_path: Path) -> None:
    table = kit_of(tmp_path, "native", ())
    write_toml(tmp_path, name="cmsis-nn", version="1", core="cortex-m7")
    with pytest.raises(UsageError, match=r"built for (X86_64|AARCH64)"):
        find_kit("cmsis-nn", table, F746)
    assert find_kit("cmsis-nn", kit_again(tmp_path, "native"), NATIVE).core == "native"


def kit_again(folder: Path, core: str) -> dict[str, str]:
    write_toml(folder, name="cmsis-nn", version="1", core=core)
    return {"kit": str(folder)}


def test_flags_come_from_the_objects_and_else_from_the_kit(tmp_path: Path) -> None:
    with_debug, without = tmp_path / "a", tmp_path / "b"
    for folder, flags in ((with_debug, ("-g", "-O3")), (without, ("-O3",))):
        folder.mkdir()
        kit_of(folder, "cortex-m7", (*flags, "-mfloat-abi=hard"))
        write_toml(folder, name="cmsis-nn", version="1", core="cortex-m7", flags="-Ofast")
    assert "-O3" in library_flags(read_kit(with_debug))
    assert library_flags(read_kit(without)) == ("-Ofast",)


def test_flags_that_differ_from_ours_are_listed(contract_kit: KitMaker) -> None:
    notes = kit_notes(read_kit(contract_kit("cortex-m7")), F746, ("-O2",))
    differ = notes["library_flags_differ"].split()
    assert {"-O1", "-O2"} <= set(differ)
    assert "-mcpu=cortex-m7" not in differ
    assert notes["library_compiler"].startswith("GNU C")
    assert notes["libraries"].startswith("cmsis-nn 0.1 abc1234 ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "not valid TOML"),
        ('version = "1"\ncore = "cortex-m7"', "`name` is missing"),
        ('name = "cmsis-nn"\nversion = "1"\ncore = "cortex-m7"\nflavour = 3', "unknown key 'flavour'"),
        ('name = "cmsis-nn"\nversion = "1"\ncore = "cortex-m7"', "no folder .*include"),
        ('name = "cmsis-nn"\nversion = "1"\ncore = "cortex-m7"\nincludes = []', r"no static library matches"),
        ('name = "cmsis-nn"\nversion = "1"\ncore = "cortex-m7"\nincludes = 3', "includes must be a list"),
    ],
)
def test_what_is_wrong_with_a_kit_is_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "kit.toml").write_text(text)
    with pytest.raises(UsageError, match=words):
        read_kit(tmp_path)


def test_a_folder_that_is_no_kit_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no kit\.toml"):
        read_kit(tmp_path)


def test_a_kit_of_another_engine_is_refused(contract_kit: KitMaker) -> None:
    with pytest.raises(UsageError, match="a kit of 'cmsis-nn', not of 'tflm'"):
        find_kit("tflm", {"kit": str(contract_kit("cortex-m7"))}, F746)


def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "lib.a").write_text("!<thin>\n")
    with pytest.raises(UsageError, match="not a static library"):
        objects(tmp_path / "lib.a")
    (tmp_path / "lib.a").write_text("!<arch>\n")
    with pytest.raises(UsageError, match="holds no object file"):
        objects(tmp_path / "lib.a")


def test_long_member_names_are_read(tmp_path: Path) -> None:
    source = tmp_path / "a_name_that_is_longer_than_fifteen_characters.c"
    source.write_text("int one(void); int one(void) { return 1; }\n")
    subprocess.run([tool("cc"), "-c", source], cwd=tmp_path, check=True)
    subprocess.run([tool("ar"), "rcs", "lib.a", f"{source.stem}.o"], cwd=tmp_path, check=True)
    assert [o.name for o in objects(tmp_path / "lib.a")] == [f"{source.stem}.o"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_library_is_an_error_and_never_a_crash(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, contract_kit: KitMaker
) -> None:
    whole = bytearray((contract_kit("native") / "libcontract.a").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(8, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(8, len(whole)))
    path = tmp_path_factory.getbasetemp() / "damaged.a"
    path.write_bytes(whole[:cut])
    with contextlib.suppress(UsageError):
        assert objects(path)


def test_the_doctor_tells_of_kits_that_are_there_missing_or_wrong(
    contract_kit: KitMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TINYHIL_KIT_CMSIS_NN", raising=False)
    boards = {"f746": F746, "f407": F407}
    usable, words = kit_status("cmsis-nn", {"kit": str(contract_kit("cortex-m7"))}, boards)
    assert (usable, words.split(" (")[0]) == (True, "0.1 for cortex-m7")
    usable, words = kit_status("cmsis-nn", {}, boards)
    assert not usable
    assert "TINYHIL_KIT_CMSIS_NN" in words
    usable, words = kit_status("cmsis-nn", kit_of(tmp_path, "cortex-m7", ("-mfloat-abi=soft",)), boards)
    assert not usable
    assert "soft-float" in words
