"""Packages that PlatformIO fetches and builds (`lib_deps`), as static libraries for one board's core.

They are built once and kept in the cache below `libraries/<key>/`, a whole PlatformIO project each. The
key is the hash of the packages' names, the bytes of those that lie on this machine, compiler and flags.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyhil.errors import BuildError, MissingTool, UsageError
from tinyhil.harness.boards import Board
from tinyhil.harness.build.platformio import check_platformio, run_platformio, write_project
from tinyhil.harness.build.toolchain import Toolchain, toolchain_for
from tinyhil.harness.deadline import Deadline

_LOCAL = re.compile(r"(?:(?P<name>[^=/:]+)=)?(?:(?P<scheme>file|symlink)://)?(?P<path>[^=]+)")
_SAID = "libraries.json"
_failed: dict[Path, MissingTool | BuildError] = {}  # of this process: a minute of trying is enough for all
_TREE = 64 << 20  # bytes of a local package; more is surely a mistaken path


@dataclass(frozen=True)
class Packages:
    """What was built: folders of headers, static libraries, and each package as (name, version), the
    asked-for ones first."""

    includes: tuple[Path, ...]
    libraries: tuple[Path, ...]
    packages: tuple[tuple[str, str], ...]


def build_packages(
    lib_deps: Sequence[str], flags: Sequence[str], board: Board, deadline: Deadline, *, cache_dir: Path
) -> Packages:
    """The packages `lib_deps`, compiled for the core of `board` with `flags`; from the cache if there.

    A package is named as in platformio.ini: `owner/name@version`, `name=file://FOLDER`, a folder or an
    archive; relative paths are relative to the working directory. MissingTool if PlatformIO cannot get
    one (no network?), UsageError for a path that is not there, BuildError if one does not compile.
    """
    toolchain = toolchain_for(board)
    local = [_local(name) for name in lib_deps]
    key = _key(local, flags, toolchain)
    kept = cache_dir / "libraries" / key
    if kept in _failed:
        raise _failed[kept]
    if not (kept / _SAID).is_file():
        try:
            _build([name for name, _ in local], flags, toolchain, deadline, cache_dir, kept)
        except (MissingTool, BuildError) as error:
            _failed[kept] = error
            raise
    said: Mapping[str, Any] = json.loads((kept / _SAID).read_text(encoding="utf-8"))
    return Packages(
        includes=tuple(kept / name for name in said["includes"]),
        libraries=tuple(kept / name for name in said["libraries"]),
        packages=tuple((str(name), str(version)) for name, version in said["packages"]),
    )


def _local(name: str) -> tuple[str, Path | None]:
    """`name` with an absolute path if it names something on this machine, and that path."""
    match = _LOCAL.fullmatch(name.strip())
    path = Path(match["path"]).expanduser().resolve() if match else Path()
    if match is None or not (match["scheme"] or path.exists()):
        return name.strip(), None
    if not path.exists():
        raise UsageError(f"lib_deps {name!r}: there is no {path}")
    prefix = f"{match['name']}=" if match["name"] else ""
    return f"{prefix}{match['scheme'] or 'file'}://{path}", path


def _key(local: Sequence[tuple[str, Path | None]], flags: Sequence[str], toolchain: Toolchain) -> str:
    digest = hashlib.sha256(
        json.dumps([[n for n, _ in local], list(flags), toolchain.machine, toolchain.version]).encode()
    )
    for path in (path for _, path in local if path):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        if sum(file.stat().st_size for file in files) > _TREE:
            raise UsageError(f"lib_deps: {path} holds over {_TREE >> 20} MiB; is that one library?")
        for file in files:
            digest.update(f"{file.relative_to(path)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _build(
    lib_deps: Sequence[str],
    flags: Sequence[str],
    toolchain: Toolchain,
    deadline: Deadline,
    cache_dir: Path,
    kept: Path,
) -> None:
    check_platformio()
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=cache_dir) as folder:
        project = Path(folder).resolve() / "project"
        project.mkdir()
        prefix = "arm-none-eabi-" if toolchain.cc.startswith("arm-none-eabi-") else ""
        wanted = {
            "cc": toolchain.cc,
            "cxx": toolchain.cxx,
            "ar": f"{prefix}ar",
            "ranlib": f"{prefix}ranlib",
            "flags": [
                *toolchain.machine, *toolchain.compile, *flags, "-w", f"-ffile-prefix-map={project}=.",
            ],
        }  # fmt: skip
        write_project(project, {"libraries": wanted}, lib_deps)
        words = run_platformio(project, cache_dir, deadline, 1)
        made = project / _SAID
        if not made.is_file():
            raise MissingTool(
                f"PlatformIO could not get lib_deps {', '.join(lib_deps)}: {_last_words(words)}\n"
                "The first use of a package needs the network; a folder (`name=file://FOLDER`) or a kit "
                "does not. docs/engines-peers.md says more."
            )
        said = json.loads(made.read_text(encoding="utf-8"))
        if not said["libraries"] or not all((project / name).is_file() for name in said["libraries"]):
            raise BuildError(f"lib_deps {', '.join(lib_deps)} did not compile:\n{_compilers_words(words)}")
        for key in ("includes", "libraries"):
            said[key] = [_relative(project / name, project) for name in said[key]]
        made.write_text(json.dumps(said), encoding="utf-8")
        if not kept.exists():
            project.rename(kept)


def _relative(path: Path, project: Path) -> str:
    """Relative inside the project, so that it may move; a symlinked package stays where it is."""
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)


def _compilers_words(words: str) -> str:
    """The first errors of the compiler, else the end of what was said."""
    errors = [line for line in words.splitlines() if "error:" in line]
    return "\n".join(errors[:8]) or words[-2000:]


def _last_words(words: str) -> str:
    """What PlatformIO said of the error: its last lines that are no rule or summary."""
    if "HTTPClientError" in words:  # all that it says after a minute of trying
        return "its registry cannot be reached from here (HTTPClientError)."
    lines = [line.strip() for line in words.splitlines() if line.strip(" =-\t")]
    errors = [line for line in lines if "Error" in line or "error" in line]
    return " ".join((errors or lines)[-3:])[:800] or "it gave no reason"
