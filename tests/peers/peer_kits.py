"""Kits that tests make for themselves, and the short way from sources to outputs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tinyhil.harness.boards import Board
from tinyhil.harness.build import Program, build
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.engine import Sources
from tinyhil.harness.targets.native import NativeTarget
from tinyhil.harness.targets.qemu import QemuTarget
from tinyhil.harness.targets.target import Job, RawRun

CONTRACT = Path(__file__).parent / "contract"
HARD = ("-mfloat-abi=hard",)
MACHINE = {
    "cortex-m4": ("-mthumb", "-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16"),
    "cortex-m7": ("-mthumb", "-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16"),
    "native": (),
}

KitMaker = Callable[..., Path]
Array = npt.NDArray[Any]
RunAll = Callable[[Board, Sequence[Sources], Sequence[Sequence[Array]]], list[RawRun]]


def tool(name: str) -> str:
    """The program, or a skip that says how to get it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install gcc gcc-arm-none-eabi qemu-system-arm")
    return found


def make_library(folder: Path, core: str, flags: Sequence[str]) -> Path:
    """libcontract.a in `folder`, compiled for `core` with the flags as they are."""
    prefix = "" if core == "native" else "arm-none-eabi-"
    command = [
        tool(f"{prefix}gcc"),
        *MACHINE[core],
        *flags,
        f"-I{CONTRACT / 'include'}",
        "-c",
        str(CONTRACT / "contract.c"),
    ]
    subprocess.run([*command, "-o", "contract.o"], cwd=folder, check=True, capture_output=True)
    library = folder / "libcontract.a"
    subprocess.run([tool(f"{prefix}ar"), "rcs", library, "contract.o"], cwd=folder, check=True)
    return library


def write_toml(folder: Path, **values: object) -> None:
    """kit.toml with these keys; texts and lists of texts."""
    lines = [f"{key} = {value!r}".replace("'", '"') for key, value in values.items()]
    (folder / "kit.toml").write_text("\n".join(lines) + "\n")


def make_kit_of_contract(folder: Path, core: str, flags: Sequence[str]) -> Path:
    """A whole kit, hard-float, with debug information and -O1."""
    make_library(folder, core, ("-g", "-O1", *(HARD if core != "native" else ()), *flags))
    shutil.copytree(CONTRACT / "include", folder / "include")
    write_toml(folder, name="cmsis-nn", version="0.1", commit="abc1234", core=core, flags="-O1")
    return folder


def outputs_of(
    board: Board, sources: Sequence[Sources], inputs: Sequence[Sequence[Array]], cache: Path
) -> list[RawRun]:
    """What came back of each network's one run; a build that failed is raised."""
    programs = [Program(s, board, emulated=not board.is_native) for s in sources]
    if not board.is_native:
        tool("arm-none-eabi-gcc")
        tool("qemu-system-arm")
    built = build(programs, Deadline.after(300), cache_dir=cache, jobs=1)
    target = NativeTarget() if board.is_native else QemuTarget(cache)
    runs = []
    for firmware, arrays in zip(built, inputs, strict=True):
        if isinstance(firmware, Exception):
            raise firmware
        job = Job((tuple(np.ascontiguousarray(a).tobytes() for a in arrays),))
        runs.append(target.run(firmware, job, Deadline.after(60)))
    return runs
