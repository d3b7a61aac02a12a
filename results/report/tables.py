"""The tables of the report: which columns, which words in which cell. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tinyhil.results.metrics import METRICS, Metric, latency
from tinyhil.results.notes import compiled_with, notes_of, optimisation
from tinyhil.results.quantities import format_duration, format_interval, format_size, significant
from tinyhil.results.record import Measurement
from tinyhil.results.reference.loader import Reference
from tinyhil.results.report.contest import MODES, TIME, contests, value_of


@dataclass(frozen=True)
class Cell:
    """A table cell: words, the value to sort by, and how it looks."""

    words: str
    sort: str | float = ""
    note: str = ""
    look: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Column:
    """A table column; `kind` is shown as a badge."""

    title: str
    kind: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A sortable table; the first cell of a row is its header."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def slug(*words: str) -> str:
    """A name for files and anchors: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")[:60] or "x"


def results_table(records: Sequence[Measurement], caption: str, baseline: str, network: bool) -> Table:
    """One row per record. Only columns that tell something; each kind of number in its own column.

    The best of each contest is marked; below a number stands its ratio to the engine `baseline`.
    """
    times = [m for m in TIME if any(value_of(r, m) is not None for r in records)]
    if network:  # the summary has the latency; cycles are the same number, in the network's own table
        times = [m for m in times if m.kind == "counted"]
    waits = [k for k in ("measured", "estimated") if any((w := latency(r)) and w.kind == k for r in records)]
    sizes = [METRICS["peak_ram"], METRICS["flash"]]
    columns = [Column("Network" if network else "Engine", numeric=False)]
    columns += [Column("Engine", numeric=False)] if network else []
    boards = len({(r.board, r.mode) for r in records}) > 1
    columns += [Column("Board", numeric=False)] if boards else []
    columns += [Column("Output", numeric=False)]
    columns += [Column("Latency", kind) for kind in waits]
    columns += [Column(m.title.removeprefix("Estimated ").capitalize(), m.kind) for m in times]
    columns += [Column(m.title) for m in sizes]
    columns += [] if network else [Column("Notes", numeric=False)]
    rows = []
    for record in records:
        group = next((g for g in contests(records) if record in g), [record])
        rival = next((r for r in group if r.engine.name == baseline), None)
        row = [_network_cell(record)] if network else []
        row += [Cell(record.engine.name, record.engine.name, note=record.engine.version)]
        row += [Cell(record.board, record.board, note=MODES[record.mode])] if boards else []
        row += [output_cell(record)]
        row += [_latency_cell(record, kind, group, rival) for kind in waits]
        row += [_metric_cell(record, m, group, rival) for m in [*times, *sizes]]
        row += [] if network else [_notes_cell(record)]
        rows.append(tuple(row))
    return Table(caption, tuple(columns), tuple(rows))


def _network_cell(record: Measurement) -> Cell:
    macs = f"{record.model.macs / 1e6:,.2f} M MACs"
    return Cell(record.model.name, record.model.name, note=macs, look=f"link:{slug(record.model.name)}")


def output_cell(record: Measurement) -> Cell:
    """Whether the output was right; an error takes the place of all numbers."""
    if record.error is not None and record.error.untried:
        return Cell("not run", "3", look="warn", hint=record.error.message)
    if record.error is not None:
        return Cell(record.error.code, "3", look="bad", hint=record.error.message)
    if record.correct is None:
        return Cell("not checked", "2", look="warn")
    if record.correct.bit_exact:
        return Cell("bit-exact", "0", look="good", hint=f"all bytes as {record.correct.reference} gives them")
    return Cell(
        f"differs by {record.correct.max_abs_diff}",
        "1",
        look="warn",
        hint=f"reference: {record.correct.reference}",
    )


def _notes_cell(record: Measurement) -> Cell:
    """How it was compiled and what is not the same as with the others; all flags in the hint."""
    words = "; ".join(filter(None, (optimisation(record), *notes_of(record))))
    return Cell(words or "–", words, look="remark", hint="\n".join(compiled_with(record)))


def _latency_cell(
    record: Measurement, kind: str, group: Sequence[Measurement], rival: Measurement | None
) -> Cell:
    def seconds(r: Measurement | None) -> float | None:
        wait = latency(r) if r else None
        return wait.seconds if wait and wait.kind == kind else None

    wait, value = latency(record), seconds(record)
    if wait is None or value is None:
        return Cell("–", "")
    notes = [format_interval(wait.low, wait.high)] if kind == "estimated" else []
    known = [v for r in group if (v := seconds(r)) is not None]
    notes += _ratio(value, seconds(rival), record is rival)
    best = value == min(known) < max(known)
    return Cell(format_duration(value), value, " · ".join(notes), "best" if best else "")


def _ratio(value: float, rival: float | None, same: bool) -> list[str]:
    return [f"×{significant(value / rival)}"] if rival and not same else []


def _metric_cell(
    record: Measurement, metric: Metric, group: Sequence[Measurement], rival: Measurement | None
) -> Cell:
    value = value_of(record, metric)
    if value is None:
        return Cell("–", "")
    values = [v for r in group if (v := value_of(r, metric)) is not None]
    best = value == min(values) < max(values)
    notes = []
    if metric.layer and record.model.macs:
        notes.append(f"{significant(value / record.model.macs)}/MAC")
    if metric.unit != "cycles":  # the latency beside them has the ratio
        notes += _ratio(value, value_of(rival, metric) if rival else None, record is rival)
    return Cell(metric.format(value), value, " · ".join(notes), "best" if best else "", f"{value:,.0f}")


def elsewhere_table(name: str, references: Sequence[Reference]) -> Table | None:
    """Published and earlier rows of the network `name`, apart from our own."""
    if not references:
        return None
    words = ("Engine", "Board", "Origin", "Output")
    columns = (*words, "Latency", "Instructions", "Peak RAM", "Flash", "Source")
    kinds = {"Latency": "published", "Instructions": "counted"}
    rows = []
    for row in references:
        clock = f"{row.clock_hz / 1e6:g} MHz" if row.clock_hz else row.core
        missing = Cell(row.outcome or "–", "", look="warn" if row.outcome else "")
        rows.append(
            (
                Cell(row.engine, row.engine),
                Cell(row.board, row.board, note=clock),
                Cell(row.origin, row.origin, look="published" if row.origin == "published" else "earlier"),
                _reference_output(row),
                Cell(f"{row.latency_s * 1000:,.6g} ms", row.latency_s) if row.latency_s else missing,
                Cell(
                    METRICS["instructions"].format(row.instructions),
                    row.instructions,
                    hint=f"{row.instructions:,}",
                )
                if row.instructions
                else Cell("–", ""),
                Cell(format_size(row.peak_ram, exact=True), row.peak_ram) if row.peak_ram else Cell("–", ""),
                Cell(format_size(row.flash, exact=True), row.flash) if row.flash else Cell("–", ""),
                Cell(
                    row.source,
                    row.source,
                    note=", ".join(filter(None, [row.date, row.note])),
                    look="source",
                    hint=row.conditions,
                ),
            )
        )
    return Table(
        f"{name} elsewhere: not measured here",
        tuple(Column(c, kinds.get(c, ""), numeric=c not in (*words, "Source")) for c in columns),
        tuple(rows),
    )


def _reference_output(row: Reference) -> Cell:
    if row.bit_exact is None:
        return Cell("–", "")
    return Cell("bit-exact", "0", look="good") if row.bit_exact else Cell("differs", "1", look="warn")
