"""The bench map: which board hangs on which probe, serial port and power switch. Pure.

`tinyhil-map.toml` lists the boards of one desk; Zephyr twister's hardware map (YAML) says the same
in other words and is taken too.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tinyhil.errors import UsageError

_KEYS = ("kind", "probe", "serial", "transport", "power", "target", "pack", "labgrid", "emulated")
TRANSPORTS = ("serial", "rtt")
_ID = re.compile(r"[A-Za-z0-9_.:-]+")
# Zephyr's names of the boards that tinyhil has; twister writes them as `platform`.
_ZEPHYR = {
    "stm32f746g_disco": "stm32f746",
    "nucleo_f767zi": "stm32f767",
    "nucleo_h743zi": "stm32h743",
    "nucleo_f412zg": "stm32f412",
    "nucleo_f429zi": "stm32f429",
    "nucleo_l4r5zi": "nucleo-l4r5zi",
    "stm32f4_disco": "stm32f407",
}


@dataclass(frozen=True)
class Place:
    """One board on the bench.

    `kind` names a boards/*.toml. `probe` is the debug probe's full unique id, or `remote:HOST:PORT` of
    a `pyocd server`. `serial` is a device path, `usb:NUMBER` for the port of the USB device with that
    serial number, pyserial's URL of a port elsewhere, or empty: the port of the probe itself, or of the
    labgrid place. `power` is the command (no shell) that cycles its power, empty if there is
    none. `target` and `pack` override the board kind's pyOCD target and add a CMSIS-Pack. `labgrid` is
    the labgrid place to acquire first. `emulated` says that the probe leads to an emulated board: its
    cycles are never shown. `transport` is `serial` or `rtt`, or empty for what the board kind says.
    """

    name: str
    kind: str
    probe: str
    serial: str = ""
    power: tuple[str, ...] = ()
    target: str = ""
    pack: str = ""
    labgrid: str = ""
    emulated: bool = False
    transport: str = ""


def read_map(path: Path) -> tuple[Place, ...]:
    """The places in the file at `path`, none if there is no such file; UsageError if it is not a map."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a bench map: {error}") from error
    return parse_twister(text, path) if path.suffix in (".yaml", ".yml") else parse_map(text, path)


def parse_map(text: str, path: Path) -> tuple[Place, ...]:
    """The places in tinyhil's own format. `path` is named in errors and is what relative paths
    (of `serial` and `pack`) are relative to."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error
    unknown = sorted(set(table) - {"boards"})
    boards = table.get("boards", {})
    if unknown or not isinstance(boards, dict):
        what = f"unknown key {unknown[0]!r}" if unknown else "boards is not a table"
        raise UsageError(f"{path}: {what}; a map holds tables [boards.NAME] (docs/hardware.md)")
    return _checked([_place(name, entry, path) for name, entry in boards.items()], path)


def parse_twister(text: str, path: Path) -> tuple[Place, ...]:
    """The connected boards of a twister hardware map whose platform tinyhil knows; others are skipped."""
    try:
        rows = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: not a twister hardware map: a list of boards is expected")
    places = []
    for number, row in enumerate(rows):
        platform = str(row.get("platform", "")).split("/")[0].split("@")[0]
        if not row.get("connected") or platform not in _ZEPHYR:
            continue
        entry = {
            "kind": _ZEPHYR[platform],
            "probe": str(row.get("probe_id") or row.get("id") or ""),
            "serial": str(row.get("serial") or row.get("serial_pty") or ""),
        }
        places.append(_place(f"{platform}-{number}", entry, path))
    return _checked(places, path)


def places_of(places: Iterable[Place], kind: str) -> tuple[Place, ...]:
    """The places that hold a board of `kind`."""
    return tuple(place for place in places if place.kind == kind)


def find_place(places: Sequence[Place], name: str) -> Place:
    """The place called `name` or with exactly that probe id; UsageError lists the known ones."""
    for place in places:
        if name in (place.name, place.probe):
            return place
    known = ", ".join(place.name for place in places) or "none: the map is empty or missing"
    raise UsageError(f"no board {name!r} on this bench; known are {known}")


def write_map(places: Iterable[Place]) -> str:
    """The map as TOML, what `read_map` reads back."""
    lines = ["# The boards on this bench; docs/hardware.md explains the keys."]
    for place in places:
        lines += ["", f"[boards.{_toml(place.name)}]", f"kind = {_toml(place.kind)}"]
        lines.append(f"probe = {_toml(place.probe)}")
        lines += [f"{key} = {_toml(value)}" for key in ("serial", "transport", "target", "pack", "labgrid")
                  if (value := getattr(place, key))]  # fmt: skip
        if place.power:
            lines.append(f"power = [{', '.join(map(_toml, place.power))}]")
        if place.emulated:
            lines.append("emulated = true")
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def _place(name: str, entry: object, path: Path) -> Place:
    where = f"{path}: board {name!r}"
    if not isinstance(entry, Mapping):
        raise UsageError(f"{where} is not a table")
    unknown = sorted(set(entry) - set(_KEYS))
    if unknown:
        raise UsageError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}")
    for key in ("kind", "probe"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            raise UsageError(
                f"{where}: {key} is missing; `tinyhil boards --discover` shows what is connected"
            )
    if not _ID.fullmatch(entry["probe"]):
        raise UsageError(
            f"{where}: probe {entry['probe']!r} is not a unique id: letters, digits and _ . : - only"
        )
    return Place(
        name=name,
        kind=entry["kind"],
        probe=entry["probe"],
        serial=_device(_text(entry, "serial", where), path),
        power=_command(entry.get("power", ()), where),
        target=_text(entry, "target", where),
        pack=_beside(_text(entry, "pack", where), path),
        labgrid=_text(entry, "labgrid", where),
        emulated=_flag(entry, "emulated", where),
        transport=_transport(entry, where),
    )


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str):
        raise UsageError(f"{where}: {key} must be text, not {value!r}")
    return value


def _transport(entry: Mapping[str, Any], where: str) -> str:
    value = _text(entry, "transport", where)
    if value not in ("", *TRANSPORTS):
        raise UsageError(f"{where}: transport {value!r} is none of {', '.join(TRANSPORTS)}")
    return value


def _flag(entry: Mapping[str, Any], key: str, where: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise UsageError(f"{where}: {key} must be true or false, not {value!r}")
    return value


def _command(value: object, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise UsageError(f"{where}: power: {error}") from error
    if isinstance(value, Sequence) and all(isinstance(word, str) for word in value):
        return tuple(value)
    raise UsageError(f"{where}: power must be a command, as text or as a list of words")


def _device(serial: str, path: Path) -> str:
    """Only names with a slash are files: COM3, usb:... and addresses (rfc2217://...) are not."""
    is_file = "/" in serial and "://" not in serial and not serial.startswith("usb:")
    return _beside(serial, path) if is_file else serial


def _beside(name: str, path: Path) -> str:
    return str(path.parent / name) if name else ""


def _checked(places: Sequence[Place], path: Path) -> tuple[Place, ...]:
    """No probe and no port twice: two names for one board would defeat every lock."""
    for key in ("probe", "serial"):
        seen: dict[str, str] = {}
        for place in places:
            value = getattr(place, key)
            if value and value in seen:
                raise UsageError(
                    f"{path}: boards {seen[value]!r} and {place.name!r} have the same {key} {value!r}"
                )
            seen[value] = place.name
    return tuple(places)
