"""The command line's face of the harness: run, boards, report, export."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tinyhil.errors import ModelError, TinyhilError, UsageError
from tinyhil.harness.boards import all_boards, get_board
from tinyhil.harness.settings import Settings, load_settings, override

if TYPE_CHECKING:
    from tinyhil.harness.engine import Options
    from tinyhil.harness.measure import Case, Network
    from tinyhil.harness.runner import Runner
    from tinyhil.results.record import Measurement
    from tinyhil.results.store import Store


def _names(_: click.Context, __: click.Parameter, values: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path), required=True)
@click.option(
    "--board", "boards", multiple=True, callback=_names, help="Board kind; repeat or separate by commas."
)
@click.option(
    "--engine", "engine", multiple=True, callback=_names, help="Engine; repeat or separate by commas."
)
@click.option("--emulate", is_flag=True, help="Use the emulator twin even if the board is on the bench.")
@click.option("--prefer", type=click.Choice(["speed", "ram", "flash"]), default="speed", show_default=True)
@click.option("--float-io", is_flag=True, help="Quantise float inputs on the device, not on the host.")
@click.option("--without", multiple=True, callback=_names, help="Turn an optimisation off (see `plan`).")
@click.option("--repeats", type=int, help="Timed inferences per input.")
@click.option("--timeout", type=float, help="Seconds for one measurement.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the records to this file.")
def run(
    models: Sequence[Path],
    boards: tuple[str, ...],
    engine: tuple[str, ...],
    emulate: bool,
    prefer: str,
    float_io: bool,
    without: tuple[str, ...],
    repeats: int | None,
    timeout: float | None,
    json_file: Path | None,
) -> None:
    """Measure MODELS (.tflite files or folders) on each board with each engine.

    Exits 0 only if every run is correct; 10 if only the bench failed.
    """
    from tinyhil.harness.engine import Options
    from tinyhil.harness.runner import Runner

    settings = override(
        load_settings(Path.cwd()), boards=boards, engine=engine, repeats=repeats, timeout=timeout
    )
    if not settings.boards:
        raise UsageError(f"which board? --board NAME; known are {', '.join(all_boards())}")
    options = Options(prefer, float_io, frozenset(without))
    networks, unreadable = _networks(models)
    runner = Runner(settings, emulate=emulate)
    records, worst = _measure_all(runner, _cases(networks, settings, options))
    if json_file:
        from tinyhil.results.export import write_json

        write_json(json_file, records)
    sys.exit(1 if unreadable else worst)


def _networks(models: Sequence[Path]) -> tuple[list[Network], int]:
    """Every network that can be read, and how many files could not; each of those says why."""
    from tinyhil.harness.measure import Network

    networks, unreadable = [], 0
    for file in [file for model in models for file in _model_files(model)]:
        try:
            networks.append(Network.load(file))
        except ModelError as error:
            unreadable += 1
            click.echo(f"tinyhil: {error.code}: {error}", err=True)
    return networks, unreadable


def _cases(networks: Sequence[Network], settings: Settings, options: Options) -> list[Case]:
    from tinyhil.harness.engines import get_engine
    from tinyhil.harness.measure import Case

    engines = [get_engine(name, settings.engines.get(name)) for name in settings.engine]
    boards = [get_board(name) for name in settings.boards]
    return [Case(*parts, options) for parts in product(networks, engines, boards)]


def _model_files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(path.glob("*.tflite"))
        if not files:
            raise UsageError(f"{path} holds no .tflite file")
        return files
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder")
    return [path]


def _measure_all(runner: Runner, cases: Sequence[Case]) -> tuple[list[Measurement], int]:
    """All records, and the exit code: 1 if a network failed, else that of the first other error, else 0."""
    from tinyhil.harness.terminal import summary_lines

    records: list[Measurement] = []
    codes: list[int] = []
    click.echo(f"building {len(cases)} firmware{'s' if len(cases) > 1 else ''}", err=True)
    runner.prepare(cases)
    for number, case in enumerate(cases, 1):
        name = f"{case.network.name} {case.engine.name} {case.board.name}"
        click.echo(f"[{number}/{len(cases)}] {name}", err=True)
        try:
            record = runner.measure(case)
        except TinyhilError as error:
            codes.append(error.exit_code)
            click.echo(f"tinyhil: {error.code}: {error}", err=True)
            continue
        records.append(record)
        if record.error:
            click.echo(f"tinyhil: {record.error.code}: {record.error.message}", err=True)
    for line in summary_lines(records) if records else ():
        click.echo(line)
    if any(record.error for record in records):
        return records, 1
    return records, codes[0] if codes else 0


@click.command()
@click.option("--discover", is_flag=True, help="List the debug probes that are connected.")
@click.option("--write", is_flag=True, help="With --discover: add new boards to the bench map.")
@click.option("--blink", is_flag=True, help="Prove by flashing which port belongs to which probe.")
def boards(discover: bool, write: bool, blink: bool) -> None:
    """The board kinds: core, clock, memories, and the emulator that stands in; and this bench."""
    from rich.console import Console
    from rich.table import Table

    from tinyhil.harness.bench_commands import prove_ports, show_bench, show_connected

    settings = load_settings(Path.cwd())
    if write and not discover:
        raise UsageError("--write goes with --discover")
    if discover:
        show_connected(settings, write)
    if blink:
        prove_ports(settings)
    if discover or blink:
        return

    table = Table(box=None, pad_edge=False)
    for head in ("board", "core", "clock MHz", "flash KiB", "RAM KiB", "twin"):
        table.add_column(head, justify="right" if "i" in head and " " in head else "left")
    for name, board in all_boards().items():
        twin = "the host" if board.is_native else board.twin.machine if board.twin else "-"
        clock = "-" if board.is_native else f"{board.clock_hz / 1e6:g}"
        sizes = (f"{memory.size / 1024:g}" for memory in (board.flash, board.ram))
        table.add_row(name, board.core, clock, *sizes, twin)
    Console().print(table)
    show_bench(settings)


def open_store(store: Path | None) -> tuple[Settings, Store]:
    """The project's settings and its results (or those in `store`), for reading."""
    from tinyhil.results.store import Store

    settings = load_settings(Path.cwd())
    path = store or settings.path(settings.store)
    if not path.exists():
        raise UsageError(f"{path}: no results yet; `tinyhil run MODEL --board NAME` makes some")
    return settings, Store.open(path, readonly=True)


@click.command()
@click.option("--store", type=click.Path(path_type=Path), help="Results file (default: the project's).")
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
@click.option("--store", type=click.Path(path_type=Path), help="Results file (default: the project's).")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--csv", "csv_file", type=click.Path(path_type=Path))
@click.option("--parquet", "parquet_file", type=click.Path(path_type=Path))
def export(
    store: Path | None, json_file: Path | None, csv_file: Path | None, parquet_file: Path | None
) -> None:
    """Write the newest results as JSON, CSV or Parquet."""
    from tinyhil.results.export import write_csv, write_json, write_parquet

    if not (json_file or csv_file or parquet_file):
        raise UsageError("export to what? --json FILE, --csv FILE or --parquet FILE")
    with open_store(store)[1] as opened:
        records = opened.latest()
    for file, write in ((json_file, write_json), (csv_file, write_csv), (parquet_file, write_parquet)):
        if file:
            write(file, records)
            click.echo(file)
