"""Reads the tables of this folder: one CSV per source, described in sources.toml."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from tinyhil.errors import StoreError

PUBLISHED = "published"
EARLIER = "measured earlier"


@dataclass(frozen=True)
class Reference:
    """One row from elsewhere.

    `origin` is "published" (somebody else's number) or "measured earlier" (with this project's
    method, by the versions that `conditions` names); `note` is what is special about this row.
    `latency_s` in seconds, as published; `instructions` counted in an emulator; bytes for
    `peak_ram`, `arena` and `flash`; `accuracy` in per cent. `outcome` says why a row has no numbers.
    `url` is for readers; nothing is fetched.
    """

    network: str
    engine: str
    board: str
    core: str
    clock_hz: int | None
    origin: str
    source: str
    date: str
    url: str
    conditions: str
    note: str = ""
    latency_s: float | None = None
    instructions: int | None = None
    peak_ram: int | None = None
    arena: int | None = None
    flash: int | None = None
    macs: int | None = None
    accuracy: float | None = None
    bit_exact: bool | None = None
    model_sha256: str = ""
    outcome: str = ""


@cache
def load_references() -> tuple[Reference, ...]:
    """All rows of all sources; StoreError names file and line where one is damaged."""
    folder = resources.files(__package__)
    sources = tomllib.loads((folder / "sources.toml").read_text("utf-8"))
    rows = []
    for file, source in sources.items():
        lines = (folder / f"{file}.csv").read_text("utf-8").splitlines()
        for number, row in enumerate(csv.DictReader(lines), 2):
            try:
                rows.append(_reference(row, source))
            except (KeyError, TypeError, ValueError) as error:
                raise StoreError(f"results/reference/{file}.csv line {number}: {error!r}") from error
    return tuple(rows)


def references_for(model: str, references: Iterable[Reference]) -> list[Reference]:
    """The rows about the network `model`, under any name that the tables have for it."""
    names = next((group for group in SAME if model in group), {model})
    return [row for row in references if row.network in names]


SAME = ({"te_vww", "mcunet-vww1"},)
"""Names of one network: TinyEngine ships mcunet-vww1 as vww.tflite."""


def published_latencies(network: str, board: str) -> dict[str, float]:
    """Engine -> the shortest time in seconds that was published for it with `network` on `board`."""
    fastest: dict[str, float] = {}
    for row in references_for(network, load_references()):
        if row.origin == PUBLISHED and row.board == board and row.latency_s is not None:
            fastest[row.engine] = min(row.latency_s, fastest.get(row.engine, row.latency_s))
    return fastest


def _reference(row: dict[str, str], source: dict[str, str]) -> Reference:
    def number(column: str, scale: float = 1.0) -> float | None:
        return round(float(row[column]) * scale, 9) if row.get(column) else None

    def integer(column: str, scale: float = 1.0) -> int | None:
        value = number(column, scale)
        return None if value is None else round(value)

    exact = row.get("bit_exact", "")
    return Reference(
        network=row["network"],
        engine=row["engine"],
        board=row["board"],
        core=row.get("core") or source.get("core", ""),
        clock_hz=integer("clock_mhz", 1e6),
        origin=source["origin"],
        source=source["title"],
        date=row.get("date") or source["date"],
        url=source.get("url", ""),
        conditions=source.get("conditions", ""),
        note=row.get("note", ""),
        latency_s=number("latency_ms", 1e-3),
        instructions=integer("instructions"),
        peak_ram=integer("ram_kib", 1024) if row.get("ram_kib") else integer("ram"),
        arena=integer("arena"),
        flash=integer("flash_kib", 1024) if row.get("flash_kib") else integer("flash"),
        macs=integer("macs"),
        accuracy=number("accuracy"),
        bit_exact=None if not exact else exact == "yes",
        model_sha256=row.get("model_sha256", ""),
        outcome=row.get("outcome", ""),
    )
