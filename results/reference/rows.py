"""Records of engines with kits as rows of peers_kits.csv, so that no number there is typed by hand.

    tinyhil run models/ --board stm32f746,nucleo-l4r5zi --engine cmsis-nn,cmsis-nn+passes,tflm \\
        --emulate --json out.json
    python -m tinyhil.results.reference.rows out.json > peers_kits.csv

Several files are joined, such as those of kits with other flags. Rows with an error or a wrong output are
refused: they are no reference.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from tinyhil.errors import UsageError
from tinyhil.results.export import read_json
from tinyhil.results.notes import library_optimisation
from tinyhil.results.record import Measurement

COLUMNS = (
    "network", "engine", "board", "core", "instructions", "arena", "ram", "flash", "macs", "bit_exact",
    "model_sha256", "note",
)  # fmt: skip


def row_of(record: Measurement) -> dict[str, object]:
    """The row of one record; UsageError if it is no good measurement in an emulator with a kit."""
    said, ram = record.provenance, record.peak_ram
    exact = record.correct is not None and record.correct.bit_exact
    if record.error is not None or not exact or record.instructions is None or ram is None:
        raise UsageError(f"{record.model.name} by {record.engine.name}: not exact, or nothing was counted")
    note = f"library {library_optimisation(record)}"
    if "arena_persistent" in said:
        note += f"; {said['library_kernels']} kernels"
        note += f"; arena persistent {said['arena_persistent']}, else {said['arena_non_persistent']}"
    core = next((w for w in said.get("flags", "").split() if w.startswith("-mcpu=")), "")
    return {
        "network": record.model.name,
        "engine": record.engine.name,
        "board": record.board,
        "core": core.removeprefix("-mcpu="),
        "instructions": record.instructions,
        "arena": said.get("arena_needed") or ram.planned_arena,
        "ram": ram.total,
        "flash": record.flash,
        "macs": record.model.macs,
        "bit_exact": "yes",
        "model_sha256": record.model.sha256[:12],
        "note": note,
    }


def write_rows(records: Iterable[Measurement], out: TextIO) -> None:
    """The CSV of all records that were made with a library, sorted; one row for equal ones."""
    rows = [row_of(record) for record in records if "library" in record.provenance or record.error]
    unique = {tuple(row.items()): row for row in rows}.values()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        sorted(unique, key=lambda r: tuple(str(r[c]) for c in ("network", "core", "engine", "note")))
    )


def main(files: Sequence[str]) -> None:
    """Reads JSON files of records, writes the CSV to standard output."""
    write_rows([record for name in files for record in read_json(Path(name))], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
