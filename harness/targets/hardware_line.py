"""The line to a board's firmware: its serial port, or RTT through the debug probe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from tinyhil.harness.bench.map import Place
from tinyhil.harness.bench.port import open_port
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.targets.pyocd_chip import Chip
from tinyhil.harness.wire import Transport

#: What `transport` of a board or of its entry in the bench map may be, and what is dead when it is silent.
DEAD = {
    "serial": "the serial line is dead: wrong port, wrong baud rate, or a broken cable",
    "rtt": "RTT is dead: something has written over its control block, th_rtt",
}


class Line(Transport, Protocol):
    """The wire's transport, that forgets what came before a reset."""

    def clear(self) -> None:
        """Forgets what has come so far."""
        ...


def transport(place: Place, firmware: Firmware) -> str:
    """`serial` or `rtt`: what the bench map says, else the board's file."""
    return place.transport or str(firmware.board.extra["serial"].get("transport", "serial"))


@contextlib.contextmanager
def open_line(chip: Chip, place: Place, firmware: Firmware) -> Iterator[Line]:
    """The line to `firmware` on `chip`; see open_port for what a serial port may raise."""
    if transport(place, firmware) == "rtt":
        yield chip.rtt(firmware.symbols["th_rtt"].address)
        return
    with open_port(place, firmware.board.extra["serial"]["baud"]) as port:
        yield port
