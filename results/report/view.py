"""What the page shows, worked out from records; the template only places it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tinyhil.results.align import side_by_side
from tinyhil.results.history import detect_steps
from tinyhil.results.metrics import METRICS, Metric, series
from tinyhil.results.quantities import significant
from tinyhil.results.record import Measurement
from tinyhil.results.reference.loader import Reference
from tinyhil.results.report.contest import MODES, TIME, contests, fastest, time_metric, value_of
from tinyhil.results.report.figure import Figure, shared
from tinyhil.results.report.layers import Series, layer_bars
from tinyhil.results.report.memory import memory_map
from tinyhil.results.report.plots import Point, history_line, roofline, scatter
from tinyhil.results.report.tables import Table, elsewhere_table, results_table, slug
from tinyhil.results.report.winners import median_lead


@dataclass(frozen=True)
class BoardLimits:
    """What the report draws as a board's limits: bytes, and the core's MACs per cycle where known."""

    ram: int | None = None
    flash: int | None = None
    macs_per_cycle: float | None = None


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


def engine_colours(records: Sequence[Measurement], first: str) -> dict[str, int]:
    """A colour number for each engine: `first` gets 0, the others follow by name."""
    names = sorted({r.engine.name for r in records} - {first})
    return {name: index for index, name in enumerate([first, *names])}


def tiles(records: Sequence[Measurement], baseline: str) -> tuple[Tile, ...]:
    """The headline: how much was measured, how much of it is correct, and who is fastest."""
    failed = sum(r.error is not None and not r.error.untried for r in records)
    untried = sum(r.error is not None and r.error.untried for r in records)
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
    races = [group for group in contests(records) if len(group) > 1]
    if races:
        won = sum(fastest(group) == baseline for group in races)
        result.append(Tile(f"{won} of {len(races)}", f"comparisons in which {baseline} is fastest"))
    lead = median_lead(records, baseline)
    if lead:
        ratio, metric = lead
        words = f"{metric.words} of the nearest rival over those of {baseline}, median"
        result.append(Tile(f"×{significant(ratio)}", words))
    if failed:
        result.append(Tile(str(failed), f"run{_s(failed)} ended with an error", "bad"))
    if untried:
        result.append(Tile(str(untried), "not run: a tool or a library kit is missing", "warn"))
    return tuple(result)


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def headline(records: Sequence[Measurement]) -> str:
    """`Who wins on stm32f746, QEMU`: the place only where it is one; else the table says it."""
    places = {(r.board, r.mode) for r in records}
    words = "Who wins" if len({r.engine.name for r in records}) > 1 else "Results"
    return words + "".join(f" on {b}, {MODES[m]}" for b, m in places if len(places) == 1)


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
    boards = {r.board for r in records}
    figures: list[Figure] = []
    for group in contests(records):
        figures += _layer_figures(group, colours, limits.get(group[0].board, BoardLimits()))
    for record in records:
        if record.memory and record.error is None:
            where = (name, record.engine.name, record.board, record.mode)
            figure = memory_map(slug(*where, "memory"), record.memory, [x.name for x in record.layers])
            subject = f"Memory over the layers: {record.engine.name}"
            folded = any(f.kind == "planned" for f in figures)
            figures.append(replace(_on(record, figure), subject=subject, folded=folded))
    figures = [*shared(figures), *_history_figures(history, colours)]
    return Network(
        anchor=slug(name),
        name=name,
        sentence=_sentence(records, limits),
        table=results_table(records, f"{name}: all engines", baseline, network=False),
        elsewhere=elsewhere_table(name, sorted(references, key=lambda row: row.board not in boards)),
        figures=tuple(figures),
        failures=tuple(
            (f"{r.engine.name} on {r.board}: {r.error.code}", r.error.message) for r in records if r.error
        ),
        provenance=tuple(
            (f"{r.engine.name} on {r.board}, {MODES[r.mode]}", provenance_rows(r)) for r in records
        ),
    )


def _sentence(records: Sequence[Measurement], limits: Mapping[str, BoardLimits]) -> str:
    model = records[0].model
    words = f"{model.macs / 1e6:,.2f} million MACs, {model.params:,} parameters."
    for group in contests(records):
        metric = time_metric(group)
        known = sorted((v, r.engine.name) for r in group if metric and (v := value_of(r, metric)) is not None)
        if metric is None or not known:
            continue
        (value, winner), unit = known[0], metric.words
        words += f" On {group[0].board} ({MODES[group[0].mode]}) {winner}"
        words += " is fastest:" if len(known) > 1 else " takes"
        words += f" {metric.format(value)} {unit}"
        ceiling = limits.get(group[0].board, BoardLimits()).macs_per_cycle
        if ceiling and model.macs:
            words += f", {significant(value / model.macs)} per MAC (the core's ceiling: {1 / ceiling:g})"
        if len(known) > 1:
            words += f"; {known[1][1]} takes {significant(known[1][0] / value)} times as many"
        words += "."
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
    figures: list[Figure] = []
    engines = [(r.engine.name, colours[r.engine.name]) for r in group]
    shown = [m for m in TIME if m.layer and any(m.layer(x) is not None for r in group for x in r.layers)]
    for metric in shown:
        rows = side_by_side([r.layers for r in group], metric.layer) if metric.layer else []
        columns = zip(engines, zip(*(row.values for row in rows), strict=True), strict=True)
        lines = [Series(*engine, values) for engine, values in columns if any(v is not None for v in values)]
        figure = layer_bars(slug(*where, metric.name, "layers"), [row.name for row in rows], lines, metric)
        figures.append(replace(_on(group[0], figure), folded=bool(figures)))
    best = shown[0] if shown else None
    points = [p for r in group if best for p in _roofline_points(r, best, colours[r.engine.name])]
    if best and points:
        unit = "instruction" if best.name == "instructions" else "cycle"
        figure = roofline(slug(*where, "roofline"), points, unit, best.kind, engines, limits.macs_per_cycle)
        figures.append(_on(group[0], figure))
    return figures


def _on(record: Measurement, figure: Figure) -> Figure:
    return replace(figure, boards=(record.board,), mode=MODES[record.mode])


def _roofline_points(record: Measurement, metric: Metric, colour: int) -> list[Point]:
    """One point per layer that has MACs, a time and a known traffic."""
    points = []
    for layer in record.layers:
        value = metric.layer(layer) if metric.layer else None
        if value and layer.traffic and layer.macs:
            intensity, rate = layer.macs / layer.traffic, layer.macs / value
            points.append(Point(record.engine.name, layer.name, colour, intensity, rate))
    return points


def _history_figures(history: Sequence[Measurement], colours: Mapping[str, int]) -> list[Figure]:
    """Time and RAM of each subject over its runs; folded where nothing ever changed."""
    figures = []
    for metric in (*TIME, METRICS["peak_ram"]):
        for subject, runs in series(history, metric).items():
            if len(runs) < 2:
                continue
            dates, values = zip(*runs, strict=True)
            steps = detect_steps(values)
            _, engine, board, mode = subject
            name = slug(*subject, metric.name, "history")
            title = f"History of {engine} on {board}, {MODES[mode]}"
            figure = history_line(name, title, colours.get(engine, 0), dates, values, steps, metric)
            figures.append(replace(figure, folded=not steps or metric.kind == "estimated"))
    return figures


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
            value = value_of(record, metric)
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
            figures.append(replace(figure, subject=f"{figure.title}: {board}, {MODES[mode]}"))
    return figures
