"""The command line's face of sweeps."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tinyhil.harness.settings import load_settings, override

if TYPE_CHECKING:
    from tinyhil.harness.sweep.sweep import Outcome
    from tinyhil.results.record import Measurement


@click.command()
@click.argument("plan_file", metavar="PLAN.toml", type=click.Path(path_type=Path))
@click.option("--subset", metavar="I/N", help="Only part I of N, for shards that run side by side.")
@click.option("-j", "--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True)
@click.option("--executor", default="threads", show_default=True, help="threads, dask, or tcp://HOST:PORT.")
@click.option("--retry-failed", is_flag=True, help="Measure again what failed in an earlier sweep.")
@click.option("--emulate", is_flag=True, help="Use the emulator twin even if the board is on the bench.")
@click.option("--repeats", type=int, help="Timed inferences per input.")
@click.option("--timeout", type=float, help="Seconds for one measurement.")
@click.option("--dry-run", is_flag=True, help="Print the items, measure nothing.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the table to this file.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the records to this file.")
def sweep(
    plan_file: Path,
    subset: str | None,
    jobs: int,
    executor: str,
    retry_failed: bool,
    emulate: bool,
    repeats: int | None,
    timeout: float | None,
    dry_run: bool,
    csv_file: Path | None,
    json_file: Path | None,
) -> None:
    """Measure every network of PLAN.toml on every board with every engine and set of options.

    What the store knows is not measured again, so a sweep that was stopped goes on where it was.
    Exits 0 only if every row is correct; 1 if a network failed; 10 if only the bench failed.
    """
    started = time.monotonic()
    from tinyhil.harness.runner import Runner
    from tinyhil.harness.sweep import plan as plans
    from tinyhil.harness.sweep.progress import Reporter
    from tinyhil.harness.sweep.sweep import Sweep
    from tinyhil.harness.sweep.work import exit_code
    from tinyhil.harness.sweep.workers import open_workers

    plan, files = plans.read_plan(plan_file)
    items = plan.items(files)
    if subset:
        items = plans.subset(items, *plans.parse_subset(subset))
    if dry_run:
        click.echo("\n".join(map(str, items)))
        return
    settings = override(load_settings(Path.cwd()), repeats=repeats, timeout=timeout)
    runner = Runner(settings, emulate=emulate)
    with Reporter(len(items)) as reporter, open_workers(executor, jobs) as workers:
        outcome = Sweep(runner, items, workers, reporter, retry_failed).run()
    _write(outcome.rows.values(), csv_file, json_file)
    for line in summary_lines(outcome, len(items), time.monotonic() - started):
        click.echo(line)
    sys.exit(exit_code(bool(outcome.failures), bool(outcome.bench)))


def _write(records: Iterable[Measurement], csv_file: Path | None, json_file: Path | None) -> None:
    """The table in the order of the plan. The CSV has no dates: the same measurements, the same bytes."""
    from tinyhil.results.export import write_csv, write_json

    records = list(records)
    if csv_file:
        write_csv(csv_file, [replace(record, created="") for record in records])
    if json_file:
        write_json(json_file, records)


def summary_lines(outcome: Outcome, total: int, seconds: float) -> list[str]:
    """How it went in how many seconds of wall time, and the first cause of each kind of failure."""
    from tinyhil.harness.sweep.work import counted, first_causes, pace

    numbers = {
        "measured": outcome.measured,
        "known": outcome.known,
        "failed": len(outcome.failures),
        "left to do, the bench failed": len(outcome.bench),
    }
    lines = [f"{total} items: {counted(numbers)}"]
    paces = {"built": pace(outcome.built, outcome.build_seconds), "run": pace(outcome.measured, seconds)}
    lines.append(", ".join([f"{seconds:.1f} s wall time", *(f"{p} {w}" for w, p in paces.items() if p)]))
    for cause in first_causes([*outcome.failures, *outcome.bench]):
        lines += [f"{cause.code} × {len(cause.items)}, first {cause.items[0]}", f"  {cause.message}"]
    return lines
