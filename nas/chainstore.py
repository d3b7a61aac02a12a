"""What is known of chains of layers, on disk: the next search begins where this one ended.

One SQLite file per version of all that the answers follow from. Several processes may use it at once. It is
a cache: what cannot be read is asked of the engine again, what cannot be written is not kept.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tinyhil.harness.settings import load_settings
from tinyhil.harness.tinyengine.paths import Option
from tinyhil.nas.prices import Conditions, Found, Price

T = TypeVar("T")

_WAIT = 30.0  # seconds for another process that is writing
_KEPT = 30 * 24 * 3600.0  # seconds for which the files of other versions stay
_ASKED = 500  # chains in one question: SQLite bounds the variables of a statement


def chains_folder() -> Path:
    """Where the user's cache keeps chains."""
    return load_settings(Path.cwd()).cache / "chains"


class ChainStore:
    """Options of chains by the chain's text, in `folder`, for one kind of core and options of the engine."""

    def __init__(self, folder: Path, conditions: Conditions) -> None:
        options = conditions.options
        asked = f"{version()} {conditions.core} {options.prefer} {sorted(options.disabled)}"
        self.path = folder / f"{hashlib.sha256(asked.encode()).hexdigest()[:24]}.db"

    def get(self, chains: Sequence[str]) -> dict[str, Found]:
        """Those of `chains` that are here and whole."""
        rows = self._select(chains)
        return {chain: _options(text) for chain, text, check in rows if _crc(text) == check}

    def put(self, found: Mapping[str, Found]) -> None:
        """Keep these."""
        rows = [(chain, text, _crc(text)) for chain, text in _texts(found)]
        if not self.path.exists():
            self._tidy()

        def write(base: sqlite3.Connection) -> None:
            base.execute("BEGIN IMMEDIATE")  # waits for its turn, where a read that becomes a write would not
            base.execute(
                "CREATE TABLE IF NOT EXISTS chains (chain TEXT PRIMARY KEY, options TEXT, crc INTEGER) "
                "WITHOUT ROWID"
            )
            base.executemany("INSERT OR REPLACE INTO chains VALUES (?, ?, ?)", rows)

        self._with(write)

    def _tidy(self) -> None:
        """Make the folder; files of versions that were not used for long go."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for other in self.path.parent.glob("*.db"):
                if other.stat().st_mtime < time.time() - _KEPT:
                    other.unlink()

    def _select(self, chains: Sequence[str]) -> list[Any]:
        def read(base: sqlite3.Connection) -> list[Any]:
            rows: list[Any] = []
            for start in range(0, len(chains), _ASKED):
                part = chains[start : start + _ASKED]
                marks = ",".join("?" * len(part))
                rows += base.execute(f"SELECT chain, options, crc FROM chains WHERE chain IN ({marks})", part)
            return rows

        return (self._with(read) or []) if self.path.exists() else []

    def _with(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `work` makes of the file, in one transaction. A file that is no database is thrown away; of
        any other trouble (no table yet, no room, no permission) nothing is said."""
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT)) as base, base:
                base.execute("PRAGMA synchronous = OFF")  # what a power cut takes is only asked again
                return work(base)
        except sqlite3.OperationalError:
            return None
        except sqlite3.DatabaseError:
            with suppress(OSError):
                self.path.unlink()
            return None


def _crc(text: object) -> int:
    return zlib.crc32(str(text).encode())


def _texts(found: Mapping[str, Found]) -> Iterator[tuple[str, str]]:
    for chain, options in found.items():
        rows = [
            [o.after, o.memory, c.kernel, c.scratch, c.flash, dict(c.shared), c.instructions, list(c.gaps)]
            for o in options
            for c in [o.candidate]
        ]
        yield chain, json.dumps(rows, separators=(",", ":"))


def _options(text: str) -> Found:
    found = []
    for after, memory, kernel, scratch, flash, shared, instructions, gaps in json.loads(text):
        price = Price(kernel, scratch, flash, shared, instructions, tuple(gaps))
        whole = flash + sum(shared.values())
        found.append(Option(0, after, price, memory, instructions, whole, scratch))
    return tuple(found)


@cache
def version() -> str:
    """A digest of all that the answers follow from: the engine, its arithmetic, and the typical weights."""
    here = Path(__file__).parent
    root = here.parent
    folders = [root / "harness" / "tinyengine", root / "harness" / "model", root / "firmware_templates"]
    own = [here / f"{name}.py" for name in ("arch", "network", "prices", "quantize", "size", "typical")]
    digest = hashlib.sha256(np.__version__.encode())
    for file in sorted([*(f for folder in folders for f in folder.rglob("*") if f.is_file()), *own]):
        if "__pycache__" not in file.parts:
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
