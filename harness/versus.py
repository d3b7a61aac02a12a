"""The engines of each network and board side by side, as text: `tinyhil compare --engines`.

Ratios have the baseline engine as 1 and exist only between good rows of one kind. Rows from elsewhere stand
in tables of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from tinyhil.harness.terminal import table_lines
from tinyhil.results.align import side_by_side
from tinyhil.results.metrics import METRICS, Latency, Metric, latency
from tinyhil.results.notes import compiled_with, notes_of, optimisation
from tinyhil.results.quantities import format_duration, format_interval, significant
from tinyhil.results.record import Measurement
from tinyhil.results.reference.loader import Reference, references_for
from tinyhil.results.report.contest import MODES, TIME, ordered, time_metric, value_of

WIDTH = 160


@dataclass(frozen=True)
class _Column:
    """A quantity: its head, a row's value or None, and how the value is written for that row."""

    head: str
    of: Callable[[Measurement], float | None]
    words: Callable[[Measurement, float], str]
    ratio: bool = True


def versus_lines(
    records: Sequence[Measurement],
    *,
    baseline: str = "tinyengine",
    references: Sequence[Reference] = (),
    ceilings: Mapping[str, float] | None = None,
    layers: bool = False,
) -> list[str]:
    """One table per network, board and mode. `references`: rows from elsewhere, shown below those of their
    board. `ceilings`: board → MACs per cycle. `layers`: also every layer of all engines, side by side."""
    lines: list[str] = []
    for group in _groups(ordered(records, baseline)):
        ceiling = (ceilings or {}).get(group[0].board)
        lines += [_title(group[0], ceiling), *table_lines(_table(group, baseline, ceiling), WIDTH)]
        lines += [f"  {r.engine.name}: {'; '.join(said)}" for r in group if (said := notes_of(r))]
        if layers:
            lines += ["", *_layer_lines([r for r in group if r.layers and r.error is None])]
        elsewhere = references_for(group[0].model.name, references)
        lines += _elsewhere(elsewhere, group[0].board)
        lines.append("")
    return [*lines, *_compiled(records)]


def _groups(records: Iterable[Measurement]) -> list[list[Measurement]]:
    groups: dict[tuple[str, str, str, str], list[Measurement]] = {}
    for record in records:
        groups.setdefault((record.model.name, record.model.sha256, record.board, record.mode), []).append(
            record
        )
    return list(groups.values())


def _title(record: Measurement, ceiling: float | None) -> str:
    where = f"{record.model.name} on {record.board}, {MODES[record.mode]}: {record.model.macs:,} MACs"
    return where + (f"; the core's ceiling is {1 / ceiling:g} cycles per MAC" if ceiling else "")


def _columns(group: Sequence[Measurement], ceiling: float | None) -> list[_Column]:
    columns = [_latency_column(kind) for kind in ("measured", "estimated")]
    for metric in TIME:
        if metric.kind == "counted":  # cycles are the latency once more
            columns.append(_Column(f"{metric.title.lower()}\n{metric.kind}", _reader(metric), _count))
        per_mac = f"{'instr' if metric.kind == 'counted' else 'cycles'}/MAC\n{metric.kind}"
        columns.append(_Column(per_mac, _per_mac(metric), lambda _, v: significant(v), ratio=False))
        if ceiling and metric.kind != "counted":
            columns.append(_Column("of the\nceiling", _share(metric, ceiling), _percent, ratio=False))
    columns += [_Column(f"{METRICS[m].words}\nB", _reader(METRICS[m]), _count) for m in ("peak_ram", "flash")]
    return [column for column in columns if any(column.of(r) is not None for r in group)]


def _latency_column(kind: str) -> _Column:
    def known(record: Measurement) -> Latency | None:
        found = latency(record)
        return found if found and found.kind == kind else None

    def words(record: Measurement, seconds: float) -> str:
        found = known(record)
        interval = f" ({format_interval(found.low, found.high)})" if found and kind == "estimated" else ""
        return format_duration(seconds) + interval

    return _Column(f"latency\n{kind}", lambda r: found.seconds if (found := known(r)) else None, words)


def _reader(metric: Metric) -> Callable[[Measurement], float | None]:
    return lambda record: value_of(record, metric)


def _per_mac(metric: Metric) -> Callable[[Measurement], float | None]:
    def of(record: Measurement) -> float | None:
        value = value_of(record, metric)
        return value / record.model.macs if value is not None and record.model.macs else None

    return of


def _share(metric: Metric, ceiling: float) -> Callable[[Measurement], float | None]:
    per_mac = _per_mac(metric)
    return lambda record: 1 / ceiling / value if (value := per_mac(record)) else None


def _count(_: Measurement, value: float) -> str:
    return f"{value:,.0f}"


def _percent(_: Measurement, value: float) -> str:
    return f"{value:.0%}"


def _table(group: Sequence[Measurement], baseline: str, ceiling: float | None) -> Table:
    rival = next((r for r in group if r.engine.name == baseline), None)
    columns = _columns(group, ceiling)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("engine", no_wrap=True)
    for column in columns:
        table.add_column(column.head, justify="right", no_wrap=True)
        if column.ratio:
            table.add_column("×", justify="right")
    table.add_column("compiled")
    table.add_column("output")
    for record in group:
        cells = [record.engine.name]
        for column in columns:
            value, base = column.of(record), column.of(rival) if rival else None
            cells.append("-" if value is None else column.words(record, value))
            if column.ratio:
                cells.append(f"{value / base:.2f}" if value is not None and base else "-")
        table.add_row(*cells, optimisation(record) or "-", _output(record))
    return table


def _output(record: Measurement) -> str:
    if record.error is not None:
        return "not run" if record.error.untried else record.error.code
    if record.correct is None:
        return "not checked"
    return "exact" if record.correct.bit_exact else f"differs by {record.correct.max_abs_diff}"


def _layer_lines(group: Sequence[Measurement]) -> list[str]:
    """Every layer by the best kind of time, a fused layer against the sum of its parts."""
    metric = time_metric(group)
    if metric is None or metric.layer is None:
        return []
    rows = side_by_side([r.layers for r in group], metric.layer)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(f"{metric.title.lower()} of each layer ({metric.kind})")
    for record in group:
        table.add_column(record.engine.name, justify="right")
    lost = 0
    for row in rows:
        first, *others = row.values
        behind = first is not None and any(v is not None and v < first for v in others)
        lost += behind
        cells = ["-" if v is None else f"{v:,.0f}" for v in row.values]
        table.add_row(row.name, cells[0] + (" <" if behind else "  "), *cells[1:])
    whole = [value_of(record, metric) for record in group]
    table.add_row("whole network", *("-" if v is None else f"{v:,.0f}" for v in whole))
    loser = group[0].engine.name
    return [*table_lines(table, WIDTH), f"  < marks the {lost} of {len(rows)} layers that {loser} loses"]


def _elsewhere(references: Sequence[Reference], board: str) -> list[str]:
    """Rows of the same board that this store did not measure: who says so, and under which conditions."""
    here = [row for row in references if row.board == board]
    others = len(references) - len(here)
    more = [f"  {others} rows of other boards or cores: `tinyhil report` shows them"] if others else []
    if not here:
        return more
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("elsewhere: engine", "origin"):
        table.add_column(head)
    for head in ("latency\npublished", "instructions\ncounted earlier", "peak RAM\nB", "flash\nB"):
        table.add_column(head, justify="right")
    table.add_column("source")
    for row in here:
        wait = format_duration(row.latency_s) if row.latency_s else row.outcome or "-"
        counts = (f"{v:,}" if v else "-" for v in (row.instructions, row.peak_ram, row.flash))
        source = ", ".join(filter(None, (row.source, row.date, row.note)))
        table.add_row(row.engine, row.origin, wait, *counts, source)
    return ["", *table_lines(table, WIDTH), *more]


def _compiled(records: Sequence[Measurement]) -> list[str]:
    """The flags of all sides: engines are compared although these differ, so they are shown."""
    users: dict[tuple[str, ...], list[str]] = {}
    for record in records:
        flags = compiled_with(record)
        name = f"{record.engine.name} {record.engine.version} on {record.board}"
        if flags and name not in users.setdefault(flags, []):
            users[flags].append(name)
    lines = ["compiled with"] if users else []
    for flags, names in users.items():
        lines += [f"  {', '.join(names)}", *(f"    {line}" for line in flags)]
    return lines
