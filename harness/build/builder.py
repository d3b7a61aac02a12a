"""Builds programs: at most one PlatformIO run for all of them, none for those built before.

The cache folder holds what was built, by content:

    firmware/<id>/      firmware.elf and the C it was made of
    runtime/<key>/      shared objects
    platformio-<...>/   PlatformIO's own state, private to tinyhil
    work-<...>/         one project, for the time of one run
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tinyhil.errors import BuildError, DoesNotFit
from tinyhil.harness.build.elf import read_image, read_text
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.build.fit import explain_log
from tinyhil.harness.build.platformio import check_platformio, run_platformio, write_project
from tinyhil.harness.build.project import PROJECT, Program, Shared, Step, Unit, make_unit
from tinyhil.harness.build.toolchain import toolchain_for
from tinyhil.harness.deadline import Deadline


def build(
    programs: Sequence[Program], deadline: Deadline, *, cache_dir: Path, jobs: int | None = None
) -> list[Firmware | BuildError | DoesNotFit]:
    """One firmware, or what stood in its way, per program and in the same order.

    `jobs` is how many commands run at once, by default one per core. Raises MissingTool if there is
    no compiler or no PlatformIO, and BuildError if PlatformIO itself fails or the deadline passes.
    """
    units = [
        make_unit(program, toolchain_for(program.board)) if program.sources.elf is None else program
        for program in programs
    ]
    missing = {u.id: u for u in units if isinstance(u, Unit) and not _elf(cache_dir, u).exists()}
    logs = _run(list(missing.values()), deadline, cache_dir, jobs or os.cpu_count() or 1) if missing else {}
    return [
        _finished(unit)
        if isinstance(unit, Program)
        else explain_log(unit.program, logs[unit.id])
        if unit.id in logs
        else _firmware(cache_dir, unit)
        for unit in units
    ]


def _finished(program: Program) -> Firmware | BuildError:
    """The user's own program as firmware: it says itself which build it is."""
    path = program.sources.elf
    assert path is not None
    try:
        image = read_image(path)
        identity = read_text(path, "th_build_id")
    except (OSError, BuildError) as error:
        return BuildError(f"{program.sources.engine}: {path} cannot be read as an ELF: {error}")
    if not identity:
        return BuildError(
            f"{program.sources.engine}: {path} has no th_build_id: it was not linked with tinyhil's runtime, "
            "or stripped of its symbols. docs/engines-peers.md says what such a program is made of."
        )
    native = program.board.is_native
    return Firmware(
        id=identity,
        elf=path.resolve(),
        board=program.board,
        emulated=program.emulated,
        sources=program.sources,
        flash=0 if native else image.flash,
        static_ram=0 if native else image.static_ram,
        instrumentation=image.instrumentation,
        sections=image.sections,
        symbols=image.symbols,
        compiler="not known: built elsewhere",
        flags="",
    )


def firmware_id(program: Program) -> str:
    """The id that the firmware of `program` has, or would have: the hash of all that goes into it."""
    return make_unit(program, toolchain_for(program.board)).id


def _elf(cache_dir: Path, unit: Unit) -> Path:
    return cache_dir / "firmware" / unit.id / "firmware.elf"


def _firmware(cache_dir: Path, unit: Unit) -> Firmware:
    path = _elf(cache_dir, unit)
    image = read_image(path)
    native = unit.program.board.is_native  # the host's sizes say nothing about any board
    return Firmware(
        id=unit.id,
        elf=path,
        board=unit.program.board,
        emulated=unit.program.emulated,
        sources=unit.program.sources,
        flash=0 if native else image.flash,
        static_ram=0 if native else image.static_ram,
        instrumentation=image.instrumentation,
        sections=image.sections,
        symbols=image.symbols,
        compiler=unit.compiler,
        flags=unit.flags,
    )


def _run(units: Sequence[Unit], deadline: Deadline, cache_dir: Path, jobs: int) -> dict[str, str]:
    """Builds `units` and puts what succeeded into the cache; the logs of the others by unit id."""
    check_platformio()
    cache_dir.mkdir(parents=True, exist_ok=True)
    _sweep(cache_dir)
    with tempfile.TemporaryDirectory(prefix="work-", dir=cache_dir) as folder:
        project = Path(folder).resolve()
        shared = {unit.shared.key: unit.shared for unit in units}
        steps = [step for one in shared.values() for step in _prepare_shared(project, cache_dir, one)]
        for unit in units:
            _write_all(project, unit.files)
            steps += unit.objects
        links = [unit.link for unit in units]
        write_project(project, {"steps": [_as_json(step, project) for step in (*steps, *links)]})
        said = run_platformio(project, cache_dir, deadline, jobs)
        for one in shared.values():
            _keep_shared(project, cache_dir, one)
        return {unit.id: log for unit in units if (log := _keep(project, cache_dir, unit, said)) is not None}


def _sweep(cache_dir: Path) -> None:
    """Removes the projects of runs that were killed: older than a day, so nobody's."""
    for leftover in cache_dir.glob("work-*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > 24 * 3600:
                shutil.rmtree(leftover)


def _prepare_shared(project: Path, cache_dir: Path, shared: Shared) -> Iterable[Step]:
    """The steps that are still to do: none if the objects are in the cache, and then they are linked in."""
    _write_all(project, shared.files)
    kept = cache_dir / "runtime" / shared.key
    if not kept.is_dir():
        return shared.steps
    for name in shared.objects:
        shutil.copyfile(kept / Path(name).name, project / name)
    return ()


def _keep_shared(project: Path, cache_dir: Path, shared: Shared) -> None:
    if all((project / name).exists() for name in shared.objects):
        _move(
            cache_dir / "runtime" / shared.key, {Path(name).name: project / name for name in shared.objects}
        )


def _keep(project: Path, cache_dir: Path, unit: Unit, said: str) -> str | None:
    """Puts the ELF and the C it came from into the cache; if there is none, returns why."""
    if (project / unit.link.target).exists():
        files = {str(Path(name).relative_to(unit.id)): project / name for name in unit.files}
        _move(cache_dir / "firmware" / unit.id, {"firmware.elf": project / unit.link.target, **files})
        return None
    logs = (project / unit.link.log, project / f"runtime-{unit.shared.key}" / "log.txt")
    words = "".join(path.read_text(encoding="utf-8", errors="replace") for path in logs if path.exists())
    return words or f"PlatformIO made no firmware and gave no reason. Its last words:\n{said[-2000:]}"


def _move(folder: Path, files: Mapping[str, Path]) -> None:
    """Makes `folder` with `files` in one instant, so that nobody ever sees half of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix="new-", dir=folder.parent))
    for name, source in files.items():
        (half / name).parent.mkdir(parents=True, exist_ok=True)
        source.replace(half / name)
    try:
        half.rename(folder)
    except OSError:  # another process was first: the same content
        shutil.rmtree(half)


def _write_all(project: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _as_json(step: Step, project: Path) -> dict[str, object]:
    command = [word.replace(PROJECT, str(project)) for word in step.command]
    return {"target": step.target, "inputs": list(step.inputs), "command": command, "log": step.log}
