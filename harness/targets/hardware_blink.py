"""Which port belongs to which probe, proved: each board gets firmware with a number of its own, and
the port on which that number comes is its port. It replaces what was in the boards' flash."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyhil.errors import BenchError, TinyhilError
from tinyhil.harness.bench.lock import locked
from tinyhil.harness.bench.map import Place
from tinyhil.harness.boards import get_board
from tinyhil.harness.build import Program, build
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.engine import Sources
from tinyhil.harness.targets.hardware_line import Line, open_line, transport
from tinyhil.harness.targets.pyocd_chip import connected, flash_segments
from tinyhil.harness.wire import Conversation

_HELLO_SECONDS = 3.0

# A network of nothing: the runtime around it says hello with its build id.
_NOTHING = """
#include "tinyhil_network.h"

/* blink {nonce} */
static uint8_t arena[16] __attribute__((section(".arena"), aligned(16)));

static int run(void) {{
    return 0;
}}

const struct th_network th_network = {{.arena = arena, .arena_size = sizeof arena, .run = run}};
"""


@dataclass(frozen=True)
class Blink:
    """What came of one board. `heard_on` is the map entry whose port it answered on, None if none."""

    place: Place
    heard_on: Place | None
    note: str = ""

    @property
    def good(self) -> bool:
        """Whether the board answers on the port that the map gives it."""
        return self.heard_on == self.place


def blink(places: Sequence[Place], cache_dir: Path, deadline: Deadline) -> list[Blink]:
    """Flashes each of `places` in turn and listens on the ports of all of them."""
    results = []
    for place in places:
        try:
            with locked([place], deadline):
                results.append(Blink(place, _heard_on(place, places, cache_dir, deadline)))
        except BenchError as error:
            results.append(Blink(place, None, str(error)))
    return results


def _heard_on(place: Place, places: Sequence[Place], cache_dir: Path, deadline: Deadline) -> Place | None:
    board = get_board(place.kind)
    firmware = _firmware(place, cache_dir, deadline)
    ordered = [place, *(other for other in places if other != place)]
    with contextlib.ExitStack() as stack:
        chip = stack.enter_context(connected(place, board, deadline))
        chip.flash(flash_segments(firmware.elf), deadline)
        lines: list[tuple[Place, Line]] = []
        for other in ordered:
            if other != place and transport(other, firmware) == "rtt":
                continue  # that is in another chip
            with contextlib.suppress(BenchError):  # in use, or not there: then it is not heard on
                lines.append((other, stack.enter_context(open_line(chip, other, firmware))))
        chip.halt_at_reset()
        for _, line in lines:
            line.clear()
        chip.resume()
        for other, line in lines:
            if _says(line, firmware.id, deadline.within(_HELLO_SECONDS)):
                return other
    return None


def _says(line: Line, build_id: str, deadline: Deadline) -> bool:
    try:
        return Conversation(line, deadline, retry=0.5).hello().build_id == build_id
    except (TinyhilError, EOFError):
        return False


def _firmware(place: Place, cache_dir: Path, deadline: Deadline) -> Firmware:
    text = _NOTHING.format(nonce=secrets.token_hex(8))
    sources = Sources(
        engine="blink", version="1", network="blink", files={"network.c": text},
        layers=(), inputs=(), outputs=(), arena=16,
    )  # fmt: skip
    (made,) = build([Program(sources, get_board(place.kind), emulated=False)], deadline, cache_dir=cache_dir)
    if isinstance(made, Exception):
        raise made
    return made
