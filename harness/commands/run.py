"""`tinyhil run`: measure models on boards with engines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tinyhil.errors import MissingTool, ModelError, TinyhilError, UsageError
from tinyhil.harness.boards import all_boards, get_board
from tinyhil.harness.settings import Settings, load_settings, override

if TYPE_CHECKING:
    from tinyhil.harness.engine import Options
    from tinyhil.harness.measure import Case, Network
    from tinyhil.harness.runner import Runner
    from tinyhil.results.record import Measurement


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
@click.option("--target", help="The emulator to use in place of any board: qemu, unicorn or renode.")
@click.option("--prefer", type=click.Choice(["speed", "ram", "flash"]), default="speed", show_default=True)
@click.option("--float-io", is_flag=True, help="Quantise float inputs on the device, not on the host.")
@click.option("--without", multiple=True, callback=_names, help="Turn an optimisation off (see `plan`).")
@click.option("--together", is_flag=True, help="All MODELS in one firmware, compared with one for each.")
@click.option("--repeats", type=int, help="Timed inferences per input.")
@click.option("--timeout", type=float, help="Seconds for one measurement.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the records to this file.")
def run(
    models: Sequence[Path],
    boards: tuple[str, ...],
    engine: tuple[str, ...],
    emulate: bool,
    target: str | None,
    prefer: str,
    float_io: bool,
    without: tuple[str, ...],
    together: bool,
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
        load_settings(Path.cwd()),
        boards=boards,
        engine=engine,
        target=target,
        repeats=repeats,
        timeout=timeout,
    )
    if not settings.boards:
        raise UsageError(f"which board? --board NAME; known are {', '.join(all_boards())}")
    options = Options(prefer, float_io, frozenset(without))
    networks, unreadable = _networks(models)
    runner = Runner(settings, emulate=emulate)
    if together:
        records, worst = _measure_together(runner, networks, settings, options)
    else:
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
    from tinyhil.harness.engines import get_engine, table_of
    from tinyhil.harness.measure import Case

    engines = [get_engine(name, table_of(name, settings.engines)) for name in settings.engine]
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


def _measure_together(
    runner: Runner, networks: Sequence[Network], settings: Settings, options: Options
) -> tuple[list[Measurement], int]:
    """All records, and 1 if any network failed; one table per board."""
    from tinyhil.harness.commands.together import joint_lines, measure_together

    if tuple(settings.engine) != ("tinyengine",) or len({n.name for n in networks}) < 2:
        raise UsageError("--together takes two or more models with names of their own, and tinyengine alone")
    records: list[Measurement] = []
    for board in settings.boards:
        joint = measure_together(runner, networks, get_board(board), options)
        records += [*joint.together, *joint.alone]
        for line in joint_lines(joint):
            click.echo(line)
    return records, 1 if any(record.error for record in records) else 0


def _measure_all(runner: Runner, cases: Sequence[Case]) -> tuple[list[Measurement], int]:
    """All records, and the exit code: 1 if a network failed, else that of the first other error, else 0."""
    from tinyhil.harness.terminal import summary_lines

    records: list[Measurement] = []
    codes: list[int] = []
    if cases:
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
            if isinstance(error, MissingTool):
                records.append(runner.missing(case, error))
            continue
        records.append(record)
        if record.error:
            codes.append(1)
            click.echo(f"tinyhil: {record.error.code}: {record.error.message}", err=True)
    for line in summary_lines(records) if records else ():
        click.echo(line)
    return records, 1 if 1 in codes else next(iter(codes), 0)
