"""PlatformIO, driven offline: one project, written and run with tinyhil's own platform and private state."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tinyhil.errors import BuildError, MissingTool
from tinyhil.harness.build.project import templates_folder
from tinyhil.harness.deadline import Deadline

PLATFORMIO = "6.2."  # the release line that the stand-in tool-scons package is made for


def write_project(project: Path, plan: Mapping[str, object], lib_deps: Sequence[str] = ()) -> None:
    """platformio.ini and programs.json in `project`; the platform's builder carries out the `plan`.

    `lib_deps` are packages as PlatformIO names them: without any, nothing is asked of its registry.
    """
    platform = templates_folder().resolve() / "platformio"
    ini = (
        "[platformio]\ndefault_envs = firmware\n\n"
        "[env:firmware]\n"
        f"platform = symlink://{platform / 'platform'}\n"
        f"platform_packages = platformio/tool-scons@symlink://{platform / 'tool-scons'}\n"
        "lib_ldf_mode = off\nlib_compat_mode = off\n"
    )
    ini += "".join(["lib_deps =\n", *(f"    {name}\n" for name in lib_deps)]) if lib_deps else ""
    (project / "src").mkdir()
    (project / "platformio.ini").write_text(ini, encoding="utf-8")
    (project / "programs.json").write_text(json.dumps(plan), encoding="utf-8")


def check_platformio() -> None:
    """MissingTool unless PlatformIO can build without asking its registry for anything."""
    manifest = templates_folder() / "platformio" / "tool-scons" / "package.json"
    wanted = json.loads(manifest.read_text(encoding="utf-8"))["version"]
    try:
        scons = importlib.metadata.version("SCons")
        platformio = importlib.metadata.version("platformio")
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingTool(f"{error.name} is not installed in {sys.prefix}: pip install tinyhil") from error
    major, minor, patch = (int(part) for part in scons.split("."))
    if not platformio.startswith(PLATFORMIO) or wanted != f"{major}.{major * 10000 + minor * 100 + patch}.0":
        raise MissingTool(
            f"platformio {platformio} with SCons {scons} would ask PlatformIO's registry for tools; "
            "tinyhil builds offline: pip install platformio==6.2.0 SCons==4.11.1"
        )


def run_platformio(project: Path, cache_dir: Path, deadline: Deadline, jobs: int) -> str:
    """Runs PlatformIO in `project`; its output. What was built is seen by the files that exist."""
    place = hashlib.sha256(str(templates_folder().resolve()).encode()).hexdigest()[:8]
    environment = {
        **{
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PLATFORMIO_", "SCONSFLAGS"))
        },
        "PLATFORMIO_CORE_DIR": str(cache_dir.resolve() / f"platformio-{place}"),
        "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no",
        "PLATFORMIO_DISABLE_UPGRADE_CHECK": "true",
        "PLATFORMIO_NO_ANSI": "true",
        "SCONSFLAGS": "-k",  # one broken program must not keep the others from being built
        "LC_ALL": "C",
    }
    command = [sys.executable, "-m", "platformio", "run", "--disable-auto-clean", "-j", str(jobs)]
    with subprocess.Popen(
        command,
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            return process.communicate(timeout=deadline.remaining())[0]
        except subprocess.TimeoutExpired:
            raise BuildError(
                "the build did not end before its deadline; "
                "a longer --hil-timeout or fewer networks at once would help"
            ) from None
        finally:
            if process.returncode is None:  # the deadline, or Ctrl-C: the compilers go too
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
