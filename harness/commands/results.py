"""What reads the store: compare, history, ci-summary, report, export."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tinyhil.errors import UsageError
from tinyhil.harness.settings import DEFAULT_RULES, Settings, load_settings
from tinyhil.results.compare import Finding
from tinyhil.results.record import Measurement
from tinyhil.results.store import Store

_store_option = click.option(
    "--store", type=click.Path(path_type=Path), help="Results file (default: the project's)."
)
_fail_option = click.option("--fail", "rules", default=DEFAULT_RULES, show_default=True, help="Rules.")
_unlike_option = click.option(
    "--unlike", is_flag=True, help="Compare rows that are not alike, and mark them."
)


def open_store(store: Path | None) -> tuple[Settings, Store]:
    """The project's settings and its results (or those in `store`), for reading."""
    settings = load_settings(Path.cwd())
    path = store or settings.path(settings.store)
    if not path.exists():
        raise UsageError(f"{path}: no results yet; `tinyhil run MODEL --board NAME` makes some")
    return settings, Store.open(path, readonly=True)


@click.command()
@click.argument("sides", nargs=-1, metavar="[HEAD] BASE")
@_fail_option
@_unlike_option
@_store_option
@click.option("--engines", is_flag=True, help="Compare the engines of the newest records instead.")
@click.option("--layers", is_flag=True, help="With --engines: every layer, side by side.")
@click.option("--model", help="With --engines: only this network.")
@click.option("--board", help="With --engines: only this board.")
def compare(
    sides: Sequence[str],
    rules: str,
    unlike: bool,
    store: Path | None,
    engines: bool,
    layers: bool,
    model: str | None,
    board: str | None,
) -> None:
    """Hold HEAD (default: the newest records) against BASE: a saved name, git:REV, or a JSON file.

    Exits 1 if something got worse than the rules allow. With --engines there is no BASE: the engines of
    each network and board are held against tinyengine, whose ratio is 1.
    """
    if engines:
        _engines(store, layers, model, board)
        return
    if layers or model or board:
        raise click.UsageError("--layers, --model and --board go with --engines")
    if not 1 <= len(sides) <= 2:
        raise click.UsageError("compare with what? A saved name, git:REV, or a JSON file")
    findings = _findings(sides, rules, unlike, store)[1]
    for finding in findings:
        click.echo(finding.message())
    sys.exit(1 if any(finding.failed for finding in findings) else 0)


def _findings(
    sides: Sequence[str], rules: str, unlike: bool, store: Path | None
) -> tuple[list[Measurement], list[Finding]]:
    from tinyhil.harness.reporting import load_baseline, noise_runs
    from tinyhil.results.compare import compare as compare_records
    from tinyhil.results.gates import parse_rules

    with open_store(store)[1] as opened:
        base = load_baseline(sides[-1], opened)
        head = load_baseline(sides[0], opened) if len(sides) == 2 else opened.latest()
        noise = noise_runs(opened)
    return head, compare_records(head, base, parse_rules(rules), noise=noise, allow_unlike=unlike)


def _engines(store: Path | None, layers: bool, model: str | None, board: str | None) -> None:
    from tinyhil.harness.reporting import ceilings
    from tinyhil.harness.versus import versus_lines
    from tinyhil.results.reference import load_references

    with open_store(store)[1] as opened:
        records = [r for r in opened.latest() if model in (None, r.model.name) and board in (None, r.board)]
    if not records:
        raise UsageError(f"no record of {model or 'any network'} on {board or 'any board'}")
    for line in versus_lines(records, references=load_references(), ceilings=ceilings(), layers=layers):
        click.echo(line)


@click.command()
@click.option("--model", help="Only this network.")
@click.option("--board", help="Only this board.")
@click.option("--engine", help="Only this engine.")
@click.option("--metric", default="instructions", show_default=True)
@_store_option
def history(
    model: str | None, board: str | None, engine: str | None, metric: str, store: Path | None
) -> None:
    """One line per network, board and engine: the values over time, and where they stepped."""
    from tinyhil.results.history import detect_steps
    from tinyhil.results.metrics import metric as find_metric

    wanted = find_metric(metric)
    with open_store(store)[1] as opened:
        records = opened.query(model=model, board=board, engine=engine)
    groups: dict[tuple[str, str, str, str], list[Measurement]] = {}
    for record in records:
        key = (record.model.name, record.board, record.engine.name, record.mode)
        if record.error is None and wanted.of(record) is not None:
            groups.setdefault(key, []).append(record)
    for (name, on, by, mode), rows in groups.items():
        values = [float(wanted.of(row) or 0) for row in rows]
        click.echo(f"{name} by {by} on {on} ({mode}): {len(values)} runs, now {values[-1]:,.0f} {metric}")
        for step in detect_steps(values):
            row = rows[step.index]
            click.echo(
                f"  {row.created} {row.provenance.get('git', '')}: "
                f"{step.before:,.0f} -> {step.after:,.0f} ({step.change:+.2%})"
            )


@click.command("ci-summary")
@click.argument("records", type=click.Path(path_type=Path, exists=True))
@click.option("--base", type=click.Path(path_type=Path, exists=True), help="Records to compare with (JSON).")
@_fail_option
@_unlike_option
def ci_summary(records: Path, base: Path | None, rules: str, unlike: bool) -> None:
    """Markdown of RECORDS (JSON) for a pull request, with what got worse against --base."""
    from tinyhil.results.compare import compare as compare_records
    from tinyhil.results.export import read_json
    from tinyhil.results.gates import parse_rules
    from tinyhil.results.markdown import summary_markdown

    head, before = read_json(records), read_json(base) if base else []
    both = [*head, *before]
    found = compare_records(head, before, parse_rules(rules), noise=both, allow_unlike=unlike)
    findings = found if base else []
    click.echo(summary_markdown(head, findings))


@click.command()
@_store_option
@click.option("--out", type=click.Path(path_type=Path), help="Where the page goes.")
def report(store: Path | None, out: Path | None) -> None:
    """Write the HTML report of the newest results; its path is the last line printed."""
    from tinyhil.harness.reporting import write_report

    settings, opened = open_store(store)
    path = out or settings.path(settings.report)
    with opened:
        write_report(path, opened.latest(), opened)
    click.echo(path)


@click.command()
@_store_option
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--csv", "csv_file", type=click.Path(path_type=Path))
@click.option("--parquet", "parquet_file", type=click.Path(path_type=Path))
@click.option(
    "--pytest-benchmark",
    "benchmark_file",
    type=click.Path(path_type=Path),
    help="JSON that pytest-benchmark's own tools read.",
)
@click.option("--all", "everything", is_flag=True, help="Every record, not only the newest of each.")
def export(
    store: Path | None,
    json_file: Path | None,
    csv_file: Path | None,
    parquet_file: Path | None,
    benchmark_file: Path | None,
    everything: bool,
) -> None:
    """Write the newest results as JSON, CSV, Parquet, or in pytest-benchmark's shape."""
    from tinyhil.results.export import write_csv, write_json, write_parquet, write_pytest_benchmark

    wanted = (
        (json_file, write_json),
        (csv_file, write_csv),
        (parquet_file, write_parquet),
        (benchmark_file, write_pytest_benchmark),
    )
    if not any(file for file, _ in wanted):
        raise UsageError("export to what? --json, --csv, --parquet or --pytest-benchmark, and a FILE")
    with open_store(store)[1] as opened:
        records = opened.query() if everything else opened.latest()
    for file, write in wanted:
        if file:
            write(file, records)
            click.echo(file)


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@_store_option
def import_(files: Sequence[Path], store: Path | None) -> None:
    """Add the records of FILES (JSON, or pytest-benchmark's shape) to the store, each once."""
    from tinyhil.results.export import read_json

    settings = load_settings(Path.cwd())
    records = [record for file in files for record in read_json(file)]
    with Store.open(store or settings.path(settings.store)) as opened:
        known = opened.query()
        fresh = [r for number, r in enumerate(records) if r not in known and r not in records[:number]]
        opened.add_all(fresh)
        click.echo(f"{len(fresh)} added, {len(records) - len(fresh)} known, {len(opened)} in {opened.path}")
