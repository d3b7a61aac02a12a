"""The micro-benchmark: loops that isolate one rule each, and the counts that hand derivation gives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from tinyhil.harness.engine import Layer, Port, Sources
from tinyhil.harness.model.graph import DType

_LOOP = re.compile(r"^    X\((\w+), (\d+)\)", re.MULTILINE)
_EXPECT = re.compile(
    r"expect m7 (?P<m7>[\d.]+): (?P<why7>.*?)\. "
    r"m4 (?P<m4>[\d.]+): (?P<why4>[^\n]*?) \*/\n    loop (?P<name>\w+)"
)


@dataclass(frozen=True)
class Loop:
    """One loop. `expected`: cycles per iteration by core, with the derivation; none where only a
    board can tell."""

    name: str
    iterations: int
    expected: Mapping[str, tuple[float, str]]

    @property
    def symbol(self) -> str:
        """The function's name in the firmware."""
        return f"mb_{self.name}"


def _folder() -> Path:
    return Path(str(resources.files("tinyhil"))) / "firmware_templates" / "microbench"


def loops() -> tuple[Loop, ...]:
    """All loops in the order in which the firmware runs them."""
    expected = {
        m["name"]: {"cortex-m7": (float(m["m7"]), m["why7"]), "cortex-m4": (float(m["m4"]), m["why4"])}
        for m in _EXPECT.finditer((_folder() / "loops.S").read_text(encoding="utf-8"))
    }
    text = (_folder() / "network.c").read_text(encoding="utf-8")
    return tuple(Loop(name, int(count), expected.get(name, {})) for name, count in _LOOP.findall(text))


def microbench_sources() -> Sources:
    """The firmware's sources, in the form in which engines hand over a network."""
    files = {name: (_folder() / name).read_text(encoding="utf-8") for name in ("loops.S", "network.c")}
    port = Port("unused", (4,), DType.INT8, 4)
    return Sources(
        engine="microbench",
        version="1",
        network="microbench",
        files=files,
        layers=tuple(Layer(loop.name, "LOOP", loop.symbol, 0) for loop in loops()),
        inputs=(port,),
        outputs=(port,),
        arena=0,
    )
