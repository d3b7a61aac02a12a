"""What is connected: probes, the chips behind them, and the serial ports of the same USB devices."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyocd.core import exceptions
from pyocd.core.session import Session
from pyocd.probe.aggregator import DebugProbeAggregator
from serial.tools import list_ports

from tinyhil.errors import BenchError
from tinyhil.harness.bench.lock import locked
from tinyhil.harness.bench.map import Place
from tinyhil.harness.boards import Board
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.pyocd_chip import IDCODE, no_scripts

_PATIENCE = 1.0  # seconds for a probe that somebody else holds


@dataclass(frozen=True)
class Found:
    """One probe. `kinds` are the board kinds whose chip has the id that was read (F405 and F407 share
    one); `serial` is the port of the same USB device; `note` says why either is empty."""

    probe: str
    product: str
    kinds: tuple[str, ...]
    serial: str
    emulated: bool
    note: str = ""

    def place(self, name: str) -> Place:
        """An entry of the bench map, with the first of `kinds`."""
        serial = "" if self.serial and not self.emulated else self.serial
        return Place(name, self.kinds[0], self.probe, serial, emulated=self.emulated)


def discover(boards: Mapping[str, Board]) -> list[Found]:
    """Every probe that pyOCD can see. Chips are looked at without stopping them; a probe that is in use
    is listed and left alone."""
    try:
        probes = DebugProbeAggregator.get_all_connected_probes()
    except (exceptions.Error, OSError) as error:
        raise BenchError(f"the USB bus cannot be searched for probes: {error}") from error
    ports = {port.serial_number: port.device for port in list_ports.comports() if port.serial_number}
    return [_look(probe, boards, ports) for probe in sorted(probes, key=lambda probe: str(probe.unique_id))]


def _look(probe: Any, boards: Mapping[str, Board], ports: Mapping[str, str]) -> Found:
    uid, note = str(probe.unique_id), ""
    kinds: tuple[str, ...] = ()
    serial = ports.get(uid, "")
    try:
        with locked([Place(uid, "", uid)], Deadline.after(_PATIENCE)):
            kinds = _kinds(_device_ids(probe), boards)
            note = "" if kinds else "no board kind of tinyhil has this chip"
    except BenchError as error:
        note = str(error)
    except (exceptions.Error, OSError) as error:
        note = f"no chip answers: {error}"
    if not serial:
        note = f"{note}; no serial port of its own" if note else "no serial port of its own: name one"
    product = f"{probe.vendor_name} {probe.product_name}"
    return Found(uid, product, kinds, serial, bool(getattr(probe, "is_emulated", False)), note)


def _device_ids(probe: Any) -> dict[int, int]:
    """Address → DEV_ID, for each place where some STM32 has it."""
    found: dict[int, int] = {}
    options = {"target_override": "cortex_m", "connect_mode": "attach", "auto_unlock": False}
    with no_scripts(options) as safe, Session(probe, options=safe) as session:
        for address in IDCODE:
            with contextlib.suppress(exceptions.Error):
                found[address] = session.target.read32(address) & 0xFFF
    return found


def _kinds(ids: Mapping[int, int], boards: Mapping[str, Board]) -> tuple[str, ...]:
    def matches(settings: Mapping[str, Any]) -> bool:
        return "chip_id" in settings and ids.get(settings.get("chip_id_at", IDCODE[0])) == settings["chip_id"]

    return tuple(name for name, board in boards.items() if matches(board.extra.get("pyocd", {})))


def new_places(found: Sequence[Found], known: Sequence[Place]) -> list[Place]:
    """Map entries for what was found with a chip that tinyhil knows and is not in the map yet."""
    probes, names = {place.probe for place in known}, {place.name for place in known}
    places: list[Place] = []
    for entry in found:
        if entry.probe in probes or not entry.kinds:
            continue
        number = 1
        while f"{entry.kinds[0]}-{number}" in names:
            number += 1
        place = entry.place(f"{entry.kinds[0]}-{number}")
        names.add(place.name)
        places.append(place)
    return places
