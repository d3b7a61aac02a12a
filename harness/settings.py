"""What the user has set, from strongest to weakest: command line, TINYHIL_* variables,
`[tool.tinyhil]` in pyproject.toml or the tables of tinyhil.toml, defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import platformdirs

from tinyhil.errors import UsageError

#: How much each metric may grow where --hil-fail or --fail do not say.
DEFAULT_RULES = "cycles:2%,instructions:0,peak_ram:0,flash:0"

_LISTS = ("boards", "engine", "models")
_WORDS = ("target",)
_PATHS = ("store", "report", "cache", "map")
_NUMBERS: dict[str, type[float] | type[int]] = {
    "timeout": float,
    "lock_timeout": float,
    "repeats": int,
}


@dataclass(frozen=True)
class Settings:
    """Everything that can be set. Relative paths are relative to `root`, the project's folder.

    `timeout` is seconds for one measurement, from boot to the last byte, `lock_timeout` for waiting until
    a board is free. `target` names the emulator (qemu, unicorn, renode) that is to run everything,
    even if a board is there. `engine` lists the engines to run; `engines` holds their `[engines.NAME]`
    tables, for kits of third-party kernel libraries.
    """

    root: Path
    boards: tuple[str, ...] = ()
    engine: tuple[str, ...] = ("tinyengine",)
    models: tuple[str, ...] = ()
    target: str = ""
    store: Path = Path(".tinyhil/results.db")
    report: Path = Path(".tinyhil/report.html")
    cache: Path = field(default_factory=lambda: Path(platformdirs.user_cache_dir("tinyhil")))
    map: Path = Path("tinyhil-map.toml")
    timeout: float = 120.0
    lock_timeout: float = 60.0
    repeats: int = 1
    engines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def path(self, path: Path) -> Path:
        """`path` below the project's folder, unless it is absolute."""
        return self.root / path


def load_settings(root: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings of the project in `root`; UsageError names the file and the key that is wrong."""
    settings = Settings(root)
    for source, table in _tables(root):
        settings = _apply(settings, table, source)
    return _apply(settings, _environment(environ), "the environment")


def override(settings: Settings, **values: Any) -> Settings:
    """`settings` with the values of the command line that are not None or empty."""
    return replace(settings, **{key: value for key, value in values.items() if value not in (None, (), [])})


def _tables(root: Path) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for name, keys in (("pyproject.toml", ("tool", "tinyhil")), ("tinyhil.toml", ())):
        path = root / name
        if not path.is_file():
            continue
        try:
            table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: not valid TOML: {error}") from error
        for key in keys:
            table = table.get(key, {})
        found.append((name, dict(table)))
    return found


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    names = (*_LISTS, *_WORDS, *_PATHS, *_NUMBERS)
    found = {name: environ.get(f"TINYHIL_{name.upper()}") for name in names}
    return {
        name: value.split(",") if name in _LISTS else value
        for name, value in found.items()
        if value is not None
    }


def _apply(settings: Settings, table: Mapping[str, Any], source: str) -> Settings:
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name in _LISTS:
            items = value.split(",") if isinstance(value, str) else value
            values[name] = tuple(str(item).strip() for item in items)
        elif name in _WORDS:
            values[name] = str(value)
        elif name in _PATHS:
            values[name] = Path(str(value))
        elif name in _NUMBERS:
            values[name] = _number(name, value, source)
        elif name == "engines" and isinstance(value, Mapping):
            values[name] = {**settings.engines, **value}
        else:
            known = ", ".join(f.name for f in fields(Settings) if f.name != "root")
            raise UsageError(f"{source}: unknown key {key!r} in tinyhil's settings; known are {known}")
    return replace(settings, **values)


def _number(name: str, value: Any, source: str) -> float | int:
    number: float | int
    try:
        number = _NUMBERS[name](value)
    except (TypeError, ValueError):
        number = 0
    if number <= 0:
        raise UsageError(f"{source}: {name} must be a positive number, not {value!r}")
    return number
