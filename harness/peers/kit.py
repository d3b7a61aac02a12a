"""Library kits: a peer's code stays on the user's disk, and the harness checks what it is before it links it.

A kit is a folder, made by the library's own build:

    kit.toml             what it is, see below
    include/             the library's headers
    lib*.a               the static library

    name = "cmsis-nn"            # the engine that it is for
    version = "7.0.0"
    commit = "4ab83cc"           # optional
    core = "cortex-m7"           # GCC's name of the core it was compiled for; "native" for the host
    flags = "-O3"                # optional: how it was compiled, for where the objects do not tell
    includes = ["include"]       # optional, these are the defaults
    libraries = ["lib*.a"]
    defines = []                 # optional: macros that its headers want

`[engines.NAME] kit = "FOLDER"` (or a list, one per core) points to it, or the variable TINYHIL_KIT_NAME.

Or PlatformIO makes the kit: `[engines.NAME] lib_deps = ["owner/name@version"]`, compiled with `flags`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tinyhil.errors import MissingTool, UsageError
from tinyhil.harness.boards import Board
from tinyhil.harness.build.libraries import build_packages
from tinyhil.harness.build.toolchain import toolchain_for
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.peers.archive import Object, objects
from tinyhil.harness.settings import load_settings

_FILE = "kit.toml"
_ARCHITECTURE = {"cortex-m4": "v7E-M", "cortex-m7": "v7E-M"}
_TEXTS = ("name", "version", "core", "commit", "flags")
_LISTS: Mapping[str, tuple[str, ...]] = {"includes": ("include",), "libraries": ("lib*.a",), "defines": ()}
_PACKAGE_LISTS: Mapping[str, tuple[str, ...]] = {"lib_deps": (), "flags": ("-O2",)}
_MINUTES = 10  # for fetching and compiling packages, once
# Switches that change no instruction of what is linked.
_SILENT = ("-W", "-g", "-std=", "-ffile-prefix-map", "-fno-common", "-march=", "-mtune=", "-D", "-I", "-M")


@dataclass(frozen=True)
class Kit:
    """A kit as its kit.toml says. `includes` and `libraries` exist; nothing else has been checked yet."""

    folder: Path
    name: str
    version: str
    core: str
    commit: str
    flags: str
    includes: tuple[Path, ...]
    libraries: tuple[Path, ...]
    defines: tuple[str, ...]


def variable_of(engine: str) -> str:
    """The environment variable that points to the kit of `engine`."""
    return "TINYHIL_KIT_" + engine.upper().replace("-", "_")


def kit_folders(
    engine: str, table: Mapping[str, Any], environ: Mapping[str, str] = os.environ
) -> tuple[Path, ...]:
    """The folders that the user points to: the engine's table first, else the variable."""
    named = table.get("kit", ())
    if isinstance(named, str):
        named = (named,)
    if not named:
        named = [part for part in environ.get(variable_of(engine), "").split(os.pathsep) if part]
    return tuple(Path(str(folder)).expanduser() for folder in named)


def find_kit(engine: str, table: Mapping[str, Any], board: Board) -> Kit:
    """The kit of `engine` for `board`, checked; MissingTool without one, UsageError for a wrong one."""
    if "lib_deps" in table:
        kit = _kit_of_packages(engine, table, board)
        check_kit(kit, board)
        return kit
    folders = kit_folders(engine, table)
    if not folders:
        raise MissingTool(f"no kit of {engine} for {board.core}: {how_to(engine)}")
    kits = [read_kit(folder) for folder in folders]
    for kit in kits:
        if kit.name != engine:
            raise UsageError(f"{kit.folder / _FILE}: this is a kit of {kit.name!r}, not of {engine!r}")
    fitting = [kit for kit in kits if kit.core == board.core]
    if not fitting:
        have = ", ".join(f"{kit.core} ({kit.folder})" for kit in kits)
        raise MissingTool(
            f"no kit of {engine} for {board.core} ({board.name}), only for {have}: {how_to(engine)}"
        )
    check_kit(fitting[0], board)
    return fitting[0]


def _kit_of_packages(engine: str, table: Mapping[str, Any], board: Board) -> Kit:
    """The packages that the user's table names, compiled by PlatformIO for the core of `board`."""
    where = f"[engines.{engine}]"
    if "kit" in table:
        raise UsageError(f"{where}: give either `kit` or `lib_deps`")
    lists = {key: table.get(key, default) for key, default in _PACKAGE_LISTS.items()}
    for key, value in lists.items():
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{where}: {key} must be a list of texts, not {value!r}")
    names, flags = lists["lib_deps"], tuple(lists["flags"])
    if not names:
        raise UsageError(f'{where}: lib_deps names no package; it wants ["owner/name@version"]')
    settings = load_settings(Path.cwd())
    try:
        made = build_packages(names, flags, board, Deadline.after(_MINUTES * 60), cache_dir=settings.cache)
    except MissingTool as error:
        raise MissingTool(f"no kit of {engine} for {board.core}: {error}") from error
    (_, version), *others = made.packages
    return Kit(
        folder=made.libraries[0].parent,
        name=engine,
        version="; ".join([version, *(" ".join(package) for package in others)]),
        core=board.core,
        commit="",
        flags=" ".join(flags),
        includes=made.includes,
        libraries=made.libraries,
        defines=tuple(word.removeprefix("-D") for word in flags if word.startswith("-D")),
    )


def how_to(engine: str) -> str:
    """How to point to a kit and what it is, in one line."""
    return (
        f'set {variable_of(engine)} or `[engines.{engine}] kit = "FOLDER"` in tinyhil.toml. A kit is a '
        "folder with the library's headers in include/, the static library that its own build made, and "
        f"a {_FILE} (name, version, core, flags). Or PlatformIO fetches the library, with `lib_deps`. "
        "docs/engines-peers.md says more."
    )


def read_kit(folder: Path) -> Kit:
    """The kit in `folder`; UsageError says what is missing or wrong in it."""
    path = folder / _FILE
    if not path.is_file():
        raise UsageError(f"{folder}: not a library kit, it has no {_FILE}. docs/engines-peers.md shows one")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error
    unknown = sorted(set(table) - {*_TEXTS, *_LISTS})
    if unknown:
        raise UsageError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join((*_TEXTS, *_LISTS))}")
    texts = {key: str(table.get(key, "")) for key in _TEXTS}
    for key in ("name", "version", "core"):
        if not texts[key]:
            raise UsageError(f"{path}: `{key}` is missing")
    for key in set(table) & set(_LISTS):
        if not isinstance(table[key], list):
            raise UsageError(f"{path}: {key} must be a list of texts, not {table[key]!r}")
    lists = {key: tuple(map(str, table.get(key, default))) for key, default in _LISTS.items()}
    return Kit(
        folder=folder,
        **texts,
        includes=tuple(_headers(folder, name) for name in lists["includes"]),
        libraries=tuple(p for name in lists["libraries"] for p in _libraries(folder, name)),
        defines=lists["defines"],
    )


def _headers(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_dir():
        raise UsageError(f"{folder / _FILE}: there is no folder {path} with the library's headers")
    return path.resolve()


def _libraries(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise UsageError(f"{folder / _FILE}: no static library matches {folder / pattern}")
    return [path.resolve() for path in found]


@cache
def _objects(path: Path, changed: int) -> tuple[Object, ...]:
    del changed  # part of the key: a rebuilt library is read again
    return objects(path)


def members(kit: Kit) -> tuple[Object, ...]:
    """The objects of all libraries of `kit`; UsageError if one is no static library."""
    return tuple(o for path in kit.libraries for o in _objects(path, path.stat().st_mtime_ns))


def check_kit(kit: Kit, board: Board) -> None:
    """UsageError if a library of `kit` was built for another machine, core, FPU or float ABI than `board`."""
    for member in members(kit):
        wrong = _mismatch(member, board)
        if wrong:
            raise UsageError(
                f"{kit.folder}: {member.name} was built {wrong}, so it cannot run on {board.name} "
                f"({board.core}, {board.fpu or 'no FPU'}, hard-float). Build the library again for this core."
            )


def _mismatch(member: Object, board: Board) -> str:
    if board.is_native:
        return "for a microcontroller" if member.machine == "EM_ARM" and member.architecture else ""
    if member.machine != "EM_ARM":
        return f"for {member.machine.removeprefix('EM_')}"
    if member.architecture != _ARCHITECTURE.get(board.core, member.architecture):
        return f"for Arm{member.architecture}"
    cpu = next((word for word in member.producer.split() if word.startswith("-mcpu=")), "")
    if cpu and cpu.removeprefix("-mcpu=").split("+")[0] != board.core:
        return f"with {cpu}"
    if member.fpu == "fpv5" and not board.fpu.startswith("fpv5"):
        return "for an FPv5 unit"
    if not member.hard_float:
        return "for the soft-float ABI (no -mfloat-abi=hard)"
    return ""


def kit_status(engine: str, table: Mapping[str, Any], boards: Mapping[str, Board]) -> tuple[bool, str]:
    """Whether the kits of `engine` can be used, and which there are, or what is wrong or missing."""
    if "lib_deps" in table:
        return True, f"{', '.join(map(str, table['lib_deps']))}: fetched and built by PlatformIO when needed"
    folders = kit_folders(engine, table)
    if not folders:
        return False, how_to(engine)
    said = []
    for folder in folders:
        try:
            kit = read_kit(folder)
            board = next((b for b in boards.values() if b.core == kit.core), None)
            if kit.name != engine or board is None:
                return False, f"{folder}: a kit of {kit.name} for {kit.core}, which no board here has"
            check_kit(kit, board)
        except UsageError as error:
            return False, str(error)
        said.append(f"{kit.version} for {kit.core} ({' '.join(library_flags(kit)) or 'flags not recorded'})")
    return True, "; ".join(said)


def library_flags(kit: Kit) -> tuple[str, ...]:
    """How the library was compiled: from the objects' DWARF, and from kit.toml for objects without it."""
    found = members(kit)
    words = {word for o in found for word in o.producer.split() if word.startswith("-")}
    if not all(o.producer for o in found):
        words |= set(kit.flags.split())
    return tuple(sorted(word for word in words if not word.startswith(_SILENT)))


def kit_notes(kit: Kit, board: Board, cflags: Sequence[str]) -> dict[str, str]:
    """What a record says of the library: version, commit, compiler, flags, flags that differ from ours."""
    toolchain = toolchain_for(board)
    ours = {w for w in (*toolchain.machine, *toolchain.compile, *cflags) if not w.startswith(_SILENT)}
    theirs = library_flags(kit)
    differ = sorted(set(theirs) ^ ours)
    compilers = sorted({o.producer.split(" -")[0] for o in members(kit) if o.producer})
    return {
        "libraries": " ".join(word for word in (kit.name, kit.version, kit.commit, *theirs) if word),
        "library": kit.name,
        "library_version": kit.version,
        "library_commit": kit.commit,
        "library_compiler": ", ".join(compilers) or "not recorded in the library",
        "library_flags": " ".join(theirs) or "not recorded",
        "library_flags_differ": " ".join(differ) if theirs else "unknown",
    }
