"""Libraries that PlatformIO fetches and builds: a package of our own stands for the real one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from peer_kits import CONTRACT, RunAll, tool

from tinyhil.errors import BuildError, MissingTool, UsageError
from tinyhil.harness.boards import get_board
from tinyhil.harness.build import Program, firmware_id, libraries
from tinyhil.harness.engine import Options, Sources
from tinyhil.harness.engines import get_engine, table_of
from tinyhil.harness.model import reference
from tinyhil.harness.model.random_graphs import random_inputs, random_network
from tinyhil.harness.peers.kit import find_kit, kit_status

F746 = get_board("stm32f746")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One for all tests of this file, so that equal packages are built once."""
    folder = tmp_path_factory.getbasetemp() / "packages"
    monkeypatch.setenv("TINYHIL_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contract library as a PlatformIO package: sources, headers and a manifest."""
    folder = tmp_path_factory.mktemp("package") / "contract"
    shutil.copytree(CONTRACT / "include", folder / "src")
    for name in ("contract.c", "fixed_point.h"):
        shutil.copy(CONTRACT / name, folder / "src")
    manifest = {"name": "contract-nn", "version": "0.3.1", "frameworks": "other", "platforms": "other"}
    (folder / "library.json").write_text(json.dumps(manifest))
    tool("arm-none-eabi-gcc")
    return folder


def generate(package: Path) -> Sources:
    table = {"lib_deps": [f"contract-nn=file://{package}"], "flags": ["-O1"]}
    return get_engine("cmsis-nn", table).generate(random_network(21, 7), F746, Options())


def test_a_package_is_built_by_platformio_linked_and_exact(package: Path, run_all: RunAll) -> None:
    graph = random_network(21, 7)
    sources, arrays = generate(package), random_inputs(graph)
    assert any("arm_" in layer.kernel for layer in sources.layers)
    (run,) = run_all(F746, [sources], [arrays])
    for got, want in zip(run.outputs[0], reference.run(graph, arrays), strict=True):
        np.testing.assert_array_equal(np.frombuffer(got, want.dtype), want.reshape(-1))


def test_the_record_says_which_package_and_how_it_was_compiled(package: Path) -> None:
    sources = generate(package)
    assert sources.version == "0.3.1"
    flags = sources.notes["library_flags"].split()
    assert {"-O1", "-mcpu=cortex-m7", "-mfloat-abi=hard"} <= set(flags)
    assert sources.notes["library_flags_differ"] == "-O1 -O2"


def test_what_is_in_the_package_is_in_the_firmwares_id_and_not_where_it_lies(
    package: Path, tmp_path: Path
) -> None:
    first = firmware_id(Program(generate(package), F746, True))
    copy = shutil.copytree(package, tmp_path / "copy")
    assert firmware_id(Program(generate(copy), F746, True)) == first
    with (copy / "src" / "contract.c").open("a") as file:
        file.write("\nint one_more_function(void);\nint one_more_function(void) { return 1; }\n")
    assert firmware_id(Program(generate(copy), F746, True)) != first


def test_an_archive_and_a_relative_folder_will_do(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = shutil.make_archive(str(tmp_path / "packed"), "gztar", package)
    monkeypatch.chdir(package.parent)
    for name in (archive, "contract-nn=file://contract"):
        kit = find_kit("cmsis-nn", {"lib_deps": [name], "flags": ["-O1"]}, F746)
        assert (kit.core, kit.version) == ("cortex-m7", "0.3.1")
        assert (kit.includes[0] / "arm_nnfunctions.h").is_file()


def test_a_package_that_does_not_compile_is_the_compilers_word(tmp_path: Path) -> None:
    tool("arm-none-eabi-gcc")
    (tmp_path / "broken.c").write_text("int broken(void) { return nothing; }\n")
    (tmp_path / "library.json").write_text('{"name": "broken", "version": "1.0.0"}')
    with pytest.raises(BuildError, match=r"broken\.c.*'nothing' undeclared"):
        find_kit("cmsis-nn", {"lib_deps": [str(tmp_path)]}, F746)


def test_a_registry_that_cannot_be_reached_is_a_missing_tool_with_the_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PlatformIO itself takes a minute to give up; what it says then is from a real run."""
    monkeypatch.setattr(libraries, "run_platformio", lambda *_: "Resolving...\nHTTPClientError: \n")
    with pytest.raises(
        MissingTool, match=r"(?s)no kit of tflm.*cannot be reached.*needs the network"
    ) as caught:
        find_kit("tflm", {"lib_deps": ["owner/tflm@1.2.3"]}, F746)
    assert "owner/tflm@1.2.3" in str(caught.value)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"lib_deps": ["x"], "kit": "y"}, "either `kit` or `lib_deps`"),
        ({"lib_deps": "owner/name"}, "must be a list"),
        ({"lib_deps": []}, "names no package"),
        ({"lib_deps": ["a=file:///nowhere/at/all"]}, "there is no /nowhere/at/all"),
    ],
)
def test_what_is_wrong_with_the_table_is_said(table: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_kit("cmsis-nn", table, F746)


def test_the_doctor_does_not_fetch_anything(cache: Path) -> None:
    usable, words = kit_status("cmsis-nn", {"lib_deps": ["owner/name@1.0"]}, {"f746": F746})
    assert usable
    assert "owner/name@1.0" in words
    assert not list(cache.glob("libraries/*owner*"))


def test_a_variant_of_an_engine_uses_its_table() -> None:
    tables = {"cmsis-nn": {"kit": "here"}}
    assert table_of("cmsis-nn+passes", tables) == {"kit": "here"}
    assert table_of("cmsis-nn+passes", {**tables, "cmsis-nn+passes": {"kit": "there"}}) == {"kit": "there"}
    assert table_of("tflm", tables) == {}
