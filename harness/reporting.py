"""The report of the harness: records with the boards' limits, the history and the reference rows."""

from __future__ import annotations

import subprocess
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

NOISE = 1000  # newest records of real boards that the noise is learned from

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


def noise_runs(store: Store) -> list[Measurement]:
    """The records of which the store has sampled times: runs of one build among them teach the noise."""
    return [record for record in store.query(mode="hardware", limit=NOISE) if record.samples]


def load_baseline(name: str, store: Store) -> list[Measurement]:
    """What to compare with: `git:REV` (newest records of that revision), a JSON file, or a saved name.

    UsageError says what is missing, StoreError what is wrong with a file.
    """
    if name.startswith("git:"):
        revision = name.removeprefix("git:")
        commit = commit_of(revision)
        records = store.latest(revision=commit or revision)
        if not records:
            found = f"commit {commit}" if commit else "which git does not know here"
            raise UsageError(
                f"no records of revision {revision!r} ({found}) in {store.path}: measure that revision "
                "first, with nothing uncommitted"
            )
        return records
    if Path(name).is_file():
        return read_json(name)
    if Path(name).suffix == ".json":
        raise UsageError(f"{name}: there is no such file to compare with")
    return store.baseline(name)


def commit_of(revision: str) -> str:
    """The 12 digits that records of `revision` (a branch, a tag, HEAD~1) carry; "" if git knows none."""
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()[:12] if found.returncode == 0 else ""
