"""What the page shows, worked out from records; the template only places it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tinyhil.results.history import detect_steps
from tinyhil.results.metrics import METRICS, TIME_METRICS, Metric, latency, layer_values
from tinyhil.results.quantities import format_duration, format_interval, format_size, significant
from tinyhil.results.record import Measurement
from tinyhil.results.reference.loader import Reference
from tinyhil.results.report.figures import (
    Figure,
    Point,
    Series,
    history_line,
    layer_bars,
    memory_map,
    roofline,
    scatter,
)


@dataclass(frozen=True)
class BoardLimits:
    """What the report draws as a board's limits: bytes, and the core's MACs per cycle where known."""

    ram: int | None = None
    flash: int | None = None
    macs_per_cycle: float | None = None


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


@dataclass(frozen=True)
class Network:
    """All that is shown of one network."""

    anchor: str
    name: str
    sentence: str
    table: Table
    elsewhere: Table | None
    figures: tuple[Figure, ...]
    failures: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    trimmed: bool = False


@dataclass(frozen=True)
class Tile:
    """A headline number."""

    number: str
    words: str
    look: str = ""


MODES = {
    "hardware": "hardware",
    "qemu": "QEMU",
    "unicorn": "Unicorn",
    "renode": "Renode",
    "native": "host",
}
TIME = tuple(METRICS[name] for name in TIME_METRICS)


def engine_colours(records: Sequence[Measurement], first: str) -> dict[str, int]:
    """A colour number for each engine: `first` gets 0, the others follow by name."""
    names = sorted({r.engine.name for r in records} - {first})
    return {name: index for index, name in enumerate([first, *names])}


def ordered(records: Sequence[Measurement], first: str) -> list[Measurement]:
    """By network, board and mode; in each the engine `first` first."""
    return sorted(
        records, key=lambda r: (r.model.name, r.board, r.mode, r.engine.name != first, r.engine.name)
    )


def slug(*words: str) -> str:
    """A name for files and anchors: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")[:60] or "x"


def tiles(records: Sequence[Measurement], baseline: str) -> tuple[Tile, ...]:
    """The headline: how much was measured, how much of it is correct, and who is fastest."""
    failed = sum(r.error is not None for r in records)
    checked = [r for r in records if r.correct is not None and r.error is None]
    exact = sum(r.correct is not None and r.correct.bit_exact for r in checked)
    networks = len({r.model.name for r in records})
    engines = len({r.engine.name for r in records})
    boards = len({r.board for r in records})
    result = [
        Tile(
            str(networks), f"network{_s(networks)}, {engines} engine{_s(engines)}, {boards} board{_s(boards)}"
        ),
        Tile(
            f"{exact} of {len(checked)}",
            "bit-exact with the reference",
            "" if exact == len(checked) else "warn",
        ),
    ]
    contests = [group for group in _contests(records) if len(group) > 1]
    if contests:
        won = sum(_fastest(group) == baseline for group in contests)
        result.append(Tile(f"{won} of {len(contests)}", f"comparisons in which {baseline} is fastest"))
    if failed:
        result.append(Tile(str(failed), f"run{_s(failed)} ended with an error", "bad"))
    return tuple(result)


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def time_metric(records: Sequence[Measurement]) -> Metric | None:
    """The best kind of time that at least one record has: measured, else counted, else estimated."""
    return next((m for m in TIME if any(_value(r, m) is not None for r in records)), None)


def _value(record: Measurement, metric: Metric) -> float | None:
    return metric.of(record) if record.error is None else None


def _contests(records: Sequence[Measurement]) -> list[list[Measurement]]:
    """Records that may be ranked against each other: same network, board and mode, without error."""
    groups: dict[tuple[str, str, str, str], list[Measurement]] = {}
    for record in records:
        if record.error is None and time_metric([record]) is not None:
            key = (record.model.name, record.model.sha256, record.board, record.mode)
            groups.setdefault(key, []).append(record)
    return list(groups.values())


def _fastest(group: Sequence[Measurement]) -> str | None:
    metric = time_metric(group)
    known = [(value, r.engine.name) for r in group if metric and (value := _value(r, metric)) is not None]
    return min(known)[1] if known else None


def results_table(records: Sequence[Measurement], caption: str, baseline: str, network: bool) -> Table:
    """One row per record. Only columns that somebody fills; each kind of number in its own column.

    The best of each contest is marked; below a number stands its ratio to the engine `baseline`.
    """
    times = [m for m in TIME if any(_value(r, m) is not None for r in records)]
    if network:  # the summary has the latency; cycles are the same number, in the network's own table
        times = [m for m in times if m.kind == "counted"]
    waits = [k for k in ("measured", "estimated") if any((w := latency(r)) and w.kind == k for r in records)]
    sizes = [METRICS["peak_ram"], METRICS["flash"]]
    columns = [Column("Network" if network else "Engine", numeric=False)]
    columns += [Column("Engine", numeric=False)] if network else []
    columns += [Column("Board", numeric=False), Column("Output", numeric=False)]
    columns += [Column("Latency", kind) for kind in waits]
    columns += [Column(m.title.removeprefix("Estimated ").capitalize(), m.kind) for m in times]
    columns += [Column(m.title) for m in sizes]
    rows = []
    for record in records:
        group = next((g for g in _contests(records) if record in g), [record])
        rival = next((r for r in group if r.engine.name == baseline), None)
        row = [_network_cell(record)] if network else []
        row += [Cell(record.engine.name, record.engine.name, note=record.engine.version)]
        row += [
            Cell(record.board, record.board, note=MODES.get(record.mode, record.mode)),
            output_cell(record),
        ]
        row += [_latency_cell(record, kind, group, rival) for kind in waits]
        row += [_metric_cell(record, m, group, rival) for m in [*times, *sizes]]
        rows.append(tuple(row))
    return Table(caption, tuple(columns), tuple(rows))


def _network_cell(record: Measurement) -> Cell:
    macs = f"{record.model.macs / 1e6:,.2f} M MACs"
    return Cell(record.model.name, record.model.name, note=macs, look=f"link:{slug(record.model.name)}")


def output_cell(record: Measurement) -> Cell:
    """Whether the output was right; an error takes the place of all numbers."""
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
    value = _value(record, metric)
    if value is None:
        return Cell("–", "")
    values = [v for r in group if (v := _value(r, metric)) is not None]
    best = value == min(values) < max(values)
    notes = []
    if metric.layer and record.model.macs:
        notes.append(f"{significant(value / record.model.macs)}/MAC")
    notes += _ratio(value, _value(rival, metric) if rival else None, record is rival)
    return Cell(metric.format(value), value, " · ".join(notes), "best" if best else "", f"{value:,.0f}")


def network_view(
    records: Sequence[Measurement],
    references: Sequence[Reference],
    history: Sequence[Measurement],
    colours: Mapping[str, int],
    limits: Mapping[str, BoardLimits],
    baseline: str,
) -> Network:
    """Everything about one network: `records`, `references` and `history` are all of that network."""
    name = records[0].model.name
    figures: list[Figure] = []
    for group in _contests(records):
        figures += _layer_figures(group, colours, limits.get(group[0].board, BoardLimits()))
    for record in records:
        if record.memory and record.error is None:
            where = (name, record.engine.name, record.board, record.mode)
            figure = memory_map(slug(*where, "memory"), record.memory, [x.name for x in record.layers])
            title = f"Memory over the layers: {record.engine.name} on {record.board}"
            figures.append(replace(figure, title=title, folded=record.engine.name != records[0].engine.name))
    figures += _history_figures(history, colours)
    return Network(
        anchor=slug(name),
        name=name,
        sentence=_sentence(records),
        table=results_table(records, f"{name}: all engines", baseline, network=False),
        elsewhere=_elsewhere(name, references),
        figures=tuple(figures),
        failures=tuple(
            (f"{r.engine.name} on {r.board}: {r.error.code}", r.error.message) for r in records if r.error
        ),
        provenance=tuple(
            (f"{r.engine.name} on {r.board}, {MODES[r.mode]}", provenance_rows(r)) for r in records
        ),
    )


def _sentence(records: Sequence[Measurement]) -> str:
    model = records[0].model
    words = f"{model.macs / 1e6:,.2f} million MACs, {model.params:,} parameters."
    for group in _contests(records):
        metric = time_metric(group)
        known = sorted((v, r.engine.name) for r in group if metric and (v := _value(r, metric)) is not None)
        if metric and len(known) > 1:
            ratio = known[1][0] / known[0][0]
            words += (
                f" On {group[0].board} ({MODES[group[0].mode]}) {known[0][1]} is fastest; {known[1][1]} takes"
                f" {significant(ratio)} times its {metric.title.lower()}."
            )
    return words


def provenance_rows(record: Measurement) -> tuple[tuple[str, str], ...]:
    """What the record's numbers depend on, as name and value."""
    rows = {
        "model SHA-256": record.model.sha256,
        "engine": f"{record.engine.name} {record.engine.version}",
        "mode": f"{record.mode}, {record.kind}",
        "clock": f"{record.clock_hz / 1e6:g} MHz",
        "time": record.created,
        "timing model": record.cycles_est.model if record.cycles_est else "",
        "reference": record.correct.reference if record.correct else "",
        "samples": f"{len(record.samples)}, from {min(record.samples):,} to {max(record.samples):,}"
        if record.samples
        else "",
        **record.provenance,
    }
    return tuple((key, value) for key, value in rows.items() if value)


def _layer_figures(
    group: Sequence[Measurement], colours: Mapping[str, int], limits: BoardLimits
) -> list[Figure]:
    """Bars for each kind of time that the layers have, and a roofline for the best kind."""
    where = (group[0].model.name, group[0].board, group[0].mode)
    title = f"on {group[0].board}, {MODES[group[0].mode]}"
    figures: list[Figure] = []
    engines = [(r.engine.name, colours[r.engine.name]) for r in group]
    for metric in TIME:
        maps = [layer_values(r, metric) for r in group]
        names = list(dict.fromkeys(name for values in maps for name in values))
        series = [
            Series(label, colour, tuple(values.get(name) for name in names))
            for (label, colour), values in zip(engines, maps, strict=True)
            if values
        ]
        if series and names:
            figure = layer_bars(slug(*where, metric.name, "layers"), names, series, metric)
            figures.append(
                replace(figure, title=f"{metric.title} of each layer {title}", folded=bool(figures))
            )
    best = next((m for m in TIME if any(layer_values(r, m) for r in group)), None)
    points = []
    for record in group if best and best.layer else []:
        for layer in record.layers:
            value = best.layer(layer) if best and best.layer else None
            if value and layer.traffic and layer.macs:
                points.append(
                    Point(
                        record.engine.name,
                        layer.name,
                        colours[record.engine.name],
                        layer.macs / layer.traffic,
                        layer.macs / value,
                    )
                )
    if best and points:
        unit = "instruction" if best.name == "instructions" else "cycle"
        figure = roofline(slug(*where, "roofline"), points, unit, best.kind, engines, limits.macs_per_cycle)
        figures.append(replace(figure, title=f"Roofline {title}"))
    return figures


def _history_figures(history: Sequence[Measurement], colours: Mapping[str, int]) -> list[Figure]:
    series: dict[tuple[str, str, str, str], list[Measurement]] = {}
    for record in history:
        key = (record.model.name, record.engine.name, record.board, record.mode)
        series.setdefault(key, []).append(record)
    figures = []
    for key, runs in series.items():
        for metric in (time_metric(runs), METRICS["peak_ram"]):
            known = [(r.created, v) for r in runs if metric and (v := _value(r, metric)) is not None]
            if metric and len(known) > 1:
                dates, values = [date for date, _ in known], [value for _, value in known]
                subject = f"{key[1]} on {key[2]}, {MODES[key[3]]}"
                figures.append(
                    history_line(
                        slug(*key, metric.name, "history"),
                        f"History of {subject}",
                        colours.get(key[1], 0),
                        dates,
                        values,
                        detect_steps(values),
                        metric,
                    )
                )
    return figures


def _elsewhere(name: str, references: Sequence[Reference]) -> Table | None:
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
                Cell(row.engine, row.engine, note=row.note),
                Cell(row.board, row.board, note=clock),
                Cell(row.origin, row.origin, look="published" if row.origin == "published" else "earlier"),
                _reference_output(row),
                Cell(format_duration(row.latency_s), row.latency_s) if row.latency_s else missing,
                Cell(
                    METRICS["instructions"].format(row.instructions),
                    row.instructions,
                    hint=f"{row.instructions:,}",
                )
                if row.instructions
                else Cell("–", ""),
                Cell(format_size(row.peak_ram), row.peak_ram) if row.peak_ram else Cell("–", ""),
                Cell(format_size(row.flash), row.flash) if row.flash else Cell("–", ""),
                Cell(row.source, row.source, note=row.date, hint=row.conditions),
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


def overview_figures(
    records: Sequence[Measurement], colours: Mapping[str, int], limits: Mapping[str, BoardLimits]
) -> list[Figure]:
    """Per board and mode: time against RAM of all networks and engines."""
    figures = []
    for board, mode in dict.fromkeys((r.board, r.mode) for r in records):
        here = [r for r in records if (r.board, r.mode) == (board, mode)]
        metric = time_metric(here)
        if metric is None:
            continue
        points, engines = [], {}
        for record in here:
            value = _value(record, metric)
            if value and record.peak_ram and record.peak_ram.total:
                label = record.engine.name
                engines[label] = colours[label]
                points.append(
                    Point(
                        label,
                        record.model.name,
                        colours[label],
                        value,
                        record.peak_ram.total,
                        record.flash or 0,
                    )
                )
        if len(points) > 1:
            limit = limits.get(board, BoardLimits())
            figure = scatter(
                slug(board, mode, "overview"), points, metric, list(engines.items()), limit.ram, limit.flash
            )
            figures.append(replace(figure, title=f"{figure.title}: {board}, {MODES[mode]}"))
    return figures
