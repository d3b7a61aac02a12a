"""The compilers: which program, which flags, which version. Data for the steps in project.py."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tinyhil.errors import MissingTool
from tinyhil.harness.boards import Board

CROSS_HINT = "apt install gcc-arm-none-eabi libnewlib-arm-none-eabi"
HOST_HINT = "apt install gcc libc6-dev"


@dataclass(frozen=True)
class Toolchain:
    """A compiler with the flags that one kind of target needs; `version` is what it says of itself.

    `machine` goes to every compilation and to the link, `compile` and `link` to one of them.
    """

    cc: str
    cxx: str
    version: str
    machine: tuple[str, ...]
    compile: tuple[str, ...]
    link: tuple[str, ...]


COMMON = ("-g", "-ffunction-sections", "-fdata-sections", "-fno-common", "-Wall")


def toolchain_for(board: Board) -> Toolchain:
    """The host's compiler for the native board, GNU Arm Embedded for all others; MissingTool."""
    return _host() if board.is_native else _cross(board)


def _cross(board: Board) -> Toolchain:
    return Toolchain(
        cc="arm-none-eabi-gcc",
        cxx="arm-none-eabi-g++",
        version=_newlib_version(),
        machine=("-mthumb", f"-mcpu={board.core}", f"-mfpu={board.fpu}", "-mfloat-abi=hard"),
        compile=COMMON,
        link=(
            "--specs=nano.specs",
            "-nostartfiles",
            "-Wl,--gc-sections",
            "-Wl,--build-id=none",
            "-Wl,--undefined=th_build_id",
        ),
    )


def _host() -> Toolchain:
    return Toolchain(
        cc="cc",
        cxx="c++",
        version=_version("cc", HOST_HINT),
        machine=("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
        compile=(*COMMON, "-fno-omit-frame-pointer"),
        link=(),
    )


@cache
def _version(program: str, hint: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise MissingTool(f"{program} is not on PATH, so no firmware can be built: {hint}")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=20)
    if said.returncode != 0:
        raise MissingTool(f"{path} does not run: {said.stderr.strip()[:200]}; try again after: {hint}")
    return said.stdout.splitlines()[0]


@cache
def _newlib_version() -> str:
    """The cross compiler's version, once it is known that it has its C library too."""
    version = _version("arm-none-eabi-gcc", CROSS_HINT)
    command = ["arm-none-eabi-gcc", "-print-file-name=nano.specs"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    if not Path(found.stdout.strip()).is_absolute():
        raise MissingTool(f"arm-none-eabi-gcc has no newlib (nano.specs is missing): {CROSS_HINT}")
    return version


def hal_defines(board: Board) -> tuple[str, ...]:
    """The board file's `[hal]` values and the baud rate as -DTH_...: numbers unsigned, pins as letters."""
    table: Mapping[str, object] = board.extra.get("hal", {})
    values = {**table, "baud": board.extra.get("serial", {}).get("baud", 115200)}
    return tuple(
        f"-DTH_{key.upper()}=" + (f"'{value}'" if isinstance(value, str) else f"{value}u")
        for key, value in sorted(values.items())
    )
