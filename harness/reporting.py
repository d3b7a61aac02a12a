"""The report of the harness: records with the boards' limits, the history and the reference rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinyhil.errors import UsageError
from tinyhil.harness.boards import all_boards
from tinyhil.results.export import read_json
from tinyhil.results.record import Measurement
from tinyhil.results.reference import load_references
from tinyhil.results.report import BoardLimits, render_report
from tinyhil.results.store import Store

HISTORY = 200  # newest records of the store that the report looks at for steps

# Armv7E-M: one SMLAD a cycle, two MACs each
CEILINGS = {"cortex-m7": 2.0, "cortex-m4": 2.0}


def ceilings() -> dict[str, float]:
    """Board → MACs per cycle that its core can do at most."""
    return {
        name: CEILINGS[board.core]
        for name, board in all_boards().items()
        if not board.is_native and board.core in CEILINGS
    }


def write_report(path: Path, records: Sequence[Measurement], store: Store) -> None:
    """Writes the HTML report of `records` to `path`."""
    limits = {
        name: BoardLimits(board.ram.size, board.flash.size, ceilings().get(name))
        for name, board in all_boards().items()
        if not board.is_native
    }
    page = render_report(
        records, references=load_references(), history=store.query(limit=HISTORY), limits=limits
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def load_baseline(name: str, store: Store) -> list[Measurement]:
    """What to compare with: `git:REV` (newest records of that revision), a JSON file, or a saved name.

    UsageError or StoreError say what is missing.
    """
    if name.startswith("git:"):
        revision = name.removeprefix("git:")
        records = store.latest(revision=revision)
        if not records:
            raise UsageError(
                f"no records of git revision {revision!r} in {store.path}: measure that revision first"
            )
        return records
    if Path(name).suffix == ".json" or Path(name).is_file():
        return read_json(name)
    return store.baseline(name)
