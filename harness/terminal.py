"""Measurements as text tables for a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from rich.console import Console
from rich.table import Table

from tinyhil.results.record import Estimate, Measurement


def summary_lines(records: Sequence[Measurement], width: int = 132) -> list[str]:
    """One row per measurement; every figure says what kind it is in its column's head."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("network")
    table.add_column("engine")
    table.add_column("board")
    for head in (
        "instructions\ncounted",
        "cycles\nmeasured",
        "latency\nestimated",
        "peak RAM\nB",
        "flash\nB",
    ):
        table.add_column(head, justify="right")
    table.add_column("output")
    for record in records:
        table.add_row(*_row(record))
    return table_lines(table, width)


def table_lines(table: Table, width: int) -> list[str]:
    """The table as lines of text of at most `width` characters."""
    stream = StringIO()
    Console(file=stream, width=width, color_system=None).print(table)
    return [line.rstrip() for line in stream.getvalue().rstrip().splitlines()]


def _row(record: Measurement) -> list[str]:
    verdict = "exact" if record.correct and record.correct.bit_exact else "-"
    if record.error:
        verdict = "not run" if record.error.untried else record.error.code
    return [
        record.model.name,
        record.engine.name,
        f"{record.board} ({record.mode})",
        _number(record.instructions),
        _number(record.cycles),
        _latency(record.cycles_est, record.clock_hz),
        _number(record.peak_ram.total if record.peak_ram else None),
        _number(record.flash),
        verdict,
    ]


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _latency(estimate: Estimate | None, clock_hz: int) -> str:
    """Milliseconds with their interval, e.g. `12.3 ms (11.9-12.7)`."""
    if estimate is None:
        return "-"
    value, low, high = (1e3 * cycles / clock_hz for cycles in (estimate.value, estimate.low, estimate.high))
    return f"{_milliseconds(value)} ms ({_milliseconds(low)}-{_milliseconds(high)})"


def _milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
