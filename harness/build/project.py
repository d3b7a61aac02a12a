"""From a program to the files and commands that build it. Pure: nothing is run or written here.

Every path in a `Unit` is relative to the project folder that the builder makes for one run:

    <id>/src/...          the engine's sources, and th_build_id
    <id>/firmware.ld      the linker script
    <id>/firmware.elf     the result
    <id>/log.txt          what compiler and linker said
    runtime-<key>/...     sources and objects that many programs share
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board, Memory, boards_folder
from tinyhil.harness.build.toolchain import Toolchain, hal_defines
from tinyhil.harness.engine import Sources

PROJECT = "@PROJECT@"  # stands for the project folder's absolute path; it must not get into the ELF
STACK = 8 * 1024  # bytes, unless a program says otherwise
GUARDS = 96  # bytes: canaries around the arena, and its alignment
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_C, _CXX, _ASM = (".c",), (".cc", ".cpp"), (".s", ".S")


@dataclass(frozen=True)
class Program:
    """What to build: one network's sources for one board, for the chip or for its emulator twin.

    `stack` is the size of the stack in bytes; a stack overflow faults.
    """

    sources: Sources
    board: Board
    emulated: bool
    stack: int = STACK


@dataclass(frozen=True)
class Step:
    """One command: what it makes, from which files, and where its messages go."""

    target: str
    inputs: tuple[str, ...]
    command: tuple[str, ...]
    log: str


@dataclass(frozen=True)
class Shared:
    """The objects that all programs of one board and kind share; `key` is the hash of their making."""

    key: str
    files: Mapping[str, str]
    steps: tuple[Step, ...]

    @property
    def objects(self) -> tuple[str, ...]:
        """The object files, relative to the project folder."""
        return tuple(step.target for step in self.steps)


@dataclass(frozen=True)
class Unit:
    """One program, ready to be built. `id` is the hash of everything that goes into the ELF; `flags` are
    the compiler's, without the engine's own macros, so that engines can be compared by them."""

    id: str
    program: Program
    files: Mapping[str, str]
    objects: tuple[Step, ...]
    link: Step
    shared: Shared
    compiler: str
    flags: str


def make_unit(program: Program, toolchain: Toolchain) -> Unit:
    """Files and commands of `program`; UsageError if the engine's file names are not plain."""
    sources, board = program.sources, program.board
    for name in sources.files:
        if not _NAME.fullmatch(name):
            raise UsageError(f"engine {sources.engine}: {name!r} is not a plain relative file name")
    shared = _shared(board, program.emulated, toolchain)
    script = "" if board.is_native else linker_script(program)
    marks = () if board.is_native or program.emulated else ("-DTINYHIL_LAYER_MARKS",)
    compiled = (*toolchain.machine, *toolchain.compile, *sources.cflags, *marks)
    flags = (*compiled, *(f"-D{define}" for define in sources.defines))
    link_flags = (*toolchain.machine, *toolchain.link, *(() if board.is_native else ("-T", "firmware.ld")))
    identity = _hash(
        dict(sources.files),
        [_folder_hash(folder) for folder in sources.includes],
        [_file_hash(library) for library in sources.libraries],
        flags,
        link_flags,
        script,
        shared.key,
        toolchain.version,
    )
    includes = (
        f"-I{identity}/src",
        f"-Iruntime-{shared.key}",
        *(f"-I{path.resolve()}" for path in sources.includes),
    )
    files = {f"{identity}/src/{name}": text for name, text in sources.files.items()}
    files[f"{identity}/build_id.c"] = f'const char th_build_id[] = "{identity}";\n'
    if script:
        files[f"{identity}/firmware.ld"] = script
    log = f"{identity}/log.txt"
    objects = [
        _compile(
            f"{identity}/src/{name}",
            f"{identity}/{name.replace('/', '__')}.o",
            flags,
            includes,
            log,
            toolchain,
        )
        for name in sorted(sources.files)
        if name.endswith((*_C, *_CXX, *_ASM))
    ]
    objects.append(_compile(f"{identity}/build_id.c", f"{identity}/build_id.o", flags, (), log, toolchain))
    return Unit(
        id=identity,
        program=program,
        files=files,
        objects=tuple(objects),
        link=_link(program, identity, tuple(step.target for step in objects), shared, toolchain),
        shared=shared,
        compiler=toolchain.version,
        flags=" ".join(compiled),
    )


def linker_script(program: Program) -> str:
    """The linker script: the board's sizes at the origins of the chip or of its twin.

    On boards with `fast` memory outside the RAM the stack lies there, and the arena too if it fits
    beside it.
    """
    board, arena = program.board, program.sources.arena
    memories = board.memory_map(program.emulated)
    fast = memories.region(board.fast) if board.fast else None
    return _template(templates_folder(), "ld/firmware.ld.j2").render(
        board=board.name,
        title=board.title,
        flash=memories.flash,
        ram=memories.ram,
        fast=fast,
        stack=program.stack,
        stack_memory="FAST" if fast else "RAM",
        arena_memory="FAST" if fast and arena_is_fast(fast, program.stack, arena) else "RAM",
    )


def arena_is_fast(fast: Memory, stack: int, arena: int | None) -> bool:
    """Whether an arena of known size fits into the fast memory beside the stack."""
    return arena is not None and arena + stack + GUARDS <= fast.size


def templates_folder() -> Path:
    """The folder of the C sources, linker script template and PlatformIO platform."""
    return boards_folder().parent / "firmware_templates"


def _shared(board: Board, emulated: bool, toolchain: Toolchain) -> Shared:
    if board.is_native:
        hal, kind = "hal_native.c", "-DTINYHIL_NATIVE"
    elif emulated:
        hal, kind = "hal_mps2.c", "-DTINYHIL_EMULATED"
    else:
        hal, kind = f"hal_{board.family}.c", "-DTINYHIL_LAYER_MARKS"
        if not (templates_folder() / "hal" / hal).exists():
            raise UsageError(
                f"board {board.name}: family {board.family!r} has no firmware_templates/hal/{hal}"
            )
    files = _runtime_files(templates_folder(), hal, bare=not board.is_native)
    flags = (*toolchain.machine, *toolchain.compile, "-Wextra", "-O2", kind)
    if not board.is_native and not emulated:
        flags = (*flags, *hal_defines(board))
    key = _hash(files, flags, toolchain.version)
    folder = f"runtime-{key}"
    steps = tuple(
        _compile(
            f"{folder}/{name}", f"{folder}/{name}.o", flags, (f"-I{folder}",), f"{folder}/log.txt", toolchain
        )
        for name in sorted(files)
        if name.endswith(_C)
    )
    return Shared(key, {f"{folder}/{name}": text for name, text in files.items()}, steps)


@cache
def _runtime_files(root: Path, hal: str, bare: bool) -> Mapping[str, str]:
    """Name → text of the runtime, one hardware layer and, on bare metal, the start-up code."""
    paths = [*root.glob("runtime/*.[ch]"), *root.glob("hal/*.h"), root / "hal" / hal]
    if bare:
        paths += root.glob("startup/*.c")
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(paths)}


def _compile(
    source: str,
    target: str,
    flags: tuple[str, ...],
    includes: tuple[str, ...],
    log: str,
    toolchain: Toolchain,
) -> Step:
    language: tuple[str, ...] = ("-std=gnu11",)
    compiler = toolchain.cc
    if source.endswith(_CXX):
        language, compiler = ("-std=gnu++17", "-fno-exceptions", "-fno-rtti"), toolchain.cxx
    elif source.endswith(_ASM):
        language = ()
    anonymous = f"-ffile-prefix-map={PROJECT}=."
    command = (compiler, *language, *flags, anonymous, *includes, "-c", source, "-o", target)
    return Step(target, (source,), command, log)


def _link(
    program: Program, identity: str, objects: tuple[str, ...], shared: Shared, toolchain: Toolchain
) -> Step:
    sources = program.sources
    linker = toolchain.cxx if any(name.endswith(_CXX) for name in sources.files) else toolchain.cc
    script = () if program.board.is_native else ("-T", f"{identity}/firmware.ld")
    libraries = tuple(str(path.resolve()) for path in sources.libraries)
    if libraries:
        libraries = ("-Wl,--start-group", *libraries, "-Wl,--end-group")
    target = f"{identity}/firmware.elf"
    inputs = (*objects, *shared.objects)
    command = (
        linker,
        *toolchain.machine,
        *toolchain.link,
        *script,
        *inputs,
        *libraries,
        "-lm",
        "-o",
        target,
    )
    return Step(target, inputs, command, f"{identity}/log.txt")


@cache
def _template(root: Path, name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(root),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # plain text
    )
    return environment.get_template(name)


def _hash(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _folder_hash(folder: Path) -> str:
    """Of the names and bytes of all headers below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".h", ".hpp", ".inc") and p.is_file()):
        digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
