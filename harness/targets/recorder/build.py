"""Compiling the recorder with the host's C compiler, and the option that loads it into QEMU."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

from tinyhil.errors import MissingTool
from tinyhil.harness.targets.recorder.trace import CacheModel

_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden")


def _source_folder() -> Path:
    return Path(str(resources.files("tinyhil"))) / "harness" / "targets" / "recorder"


def _first_line(tool: str) -> str:
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.partition("\n")[0]


def plugin_api(qemu_version: str) -> int:
    """The plug-in interface that a QEMU speaks, from the first line of its `--version`.

    1 until 8.x, 2 in 9.0, 3 in 9.1; later ones still load a plug-in that asks for 3.
    """
    match = re.search(r"version (\d+)\.(\d+)", qemu_version)
    if match is None:
        raise MissingTool(f"qemu-system-arm says {qemu_version!r}, which names no version")
    version = int(match[1]), int(match[2])
    return 1 if version < (9, 0) else 2 if version < (9, 1) else 3


def _compiler() -> str:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise MissingTool(
            "the emulators' recorder needs a C compiler on this computer (cc, gcc or clang); install one"
        )
    return compiler


def _library(cache_dir: Path, name: str, sources: list[Path], identity: str, extra: list[str]) -> Path:
    """A shared library of the C files in `sources`, from `cache_dir` if it was built before."""
    compiler = _compiler()
    flags = [*_FLAGS, *extra]
    if sys.platform == "darwin":
        flags += ["-undefined", "dynamic_lookup"]
    digest = hashlib.sha256("\0".join([identity, _first_line(compiler), *flags]).encode())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    library = cache_dir / f"{name}-{digest.hexdigest()[:16]}.so"
    if library.exists():
        return library
    cache_dir.mkdir(parents=True, exist_ok=True)
    # Built aside and moved in one step: two runs may build at the same time.
    with tempfile.TemporaryDirectory(dir=cache_dir) as folder:
        fresh = Path(folder) / library.name
        command = [compiler, *flags, *(str(s) for s in sources if s.suffix == ".c"), "-o", str(fresh)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise MissingTool(f"{compiler} cannot build the emulators' recorder:\n{done.stderr.strip()}")
        fresh.replace(library)
    return library


def build_recorder(cache_dir: Path) -> Path:
    """The compiled plug-in for the installed QEMU; built on first use, then taken from `cache_dir`.

    The file's name carries the hash of the sources, the flags, the compiler and the QEMU version.
    Raises MissingTool without QEMU or a C compiler, or when the compiler refuses.
    """
    qemu = shutil.which("qemu-system-arm")
    if qemu is None:
        raise MissingTool(
            "qemu-system-arm is not installed; `make bench` installs it, or use your package manager"
        )
    version = _first_line(qemu)
    sources = sorted(_source_folder().glob("*.[ch]"))
    return _library(cache_dir, "recorder", sources, version, [f"-DQEMU_PLUGIN_API={plugin_api(version)}"])


def build_twin_recorder(cache_dir: Path) -> Path:
    """The recorder for the Unicorn twin, built and kept in the same way. Raises MissingTool."""
    folder = _source_folder()
    shared = [p for p in sorted(folder.glob("*.[ch]")) if p.stem in {"block", "cache", "step"}]
    return _library(cache_dir, "twin", [*shared, folder / "twin" / "twin.c"], "unicorn", [])


def plugin_argument(
    library: Path,
    out: Path,
    marks: Iterable[int] = (),
    *,
    edges: bool = False,
    icache: CacheModel | None = None,
    dcache: CacheModel | None = None,
    regions: Mapping[str, tuple[int, int]] | None = None,
) -> list[str]:
    """QEMU's `-plugin …` words. `marks` are function entry addresses (the Thumb bit is ignored).

    `regions` maps a name (at most four, [a-z0-9_], 15 characters) to its first address and the one
    after its last. Without `edges` and caches only executions are counted, which costs least.
    """
    words = [str(library), f"out={out}"]
    if any("," in word for word in words):
        raise MissingTool(f"QEMU cannot load a plug-in from, or write to, a path with a comma: {words}")
    addresses = ":".join(f"0x{mark:x}" for mark in marks)
    words += [f"marks={addresses}"] if addresses else []
    words += ["edges=1"] if edges else []
    words += [f"icache={icache}"] if icache else []
    words += [f"dcache={dcache}"] if dcache else []
    words += [f"region={name}:0x{low:x}:0x{high:x}" for name, (low, high) in (regions or {}).items()]
    return ["-plugin", ",".join(words)]
