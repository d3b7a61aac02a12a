"""TinyEngine against its peers and its own bars: speed, memory and flash of every network, as tables.

    python benchmarks/tables.py [--models FOLDER] [--boards stm32f746,nucleo-l4r5zi] [NETWORK ...]

Networks are the .tflite files of FOLDER (default ../shared/models) and the published MCUNet architectures
with seeded weights. Peers' figures come from results/reference, bars from bars.toml beside this file. What
the store knows of a firmware is not measured again, so a killed run goes on where it was. A network that
does not fit a board is shown on the largest one, with the sentence that refuses it.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from tinyhil.errors import DoesNotFit, TinyhilError
from tinyhil.harness.boards import Board, get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.engines import get_engine
from tinyhil.harness.measure import Case, Network
from tinyhil.harness.runner import Runner
from tinyhil.harness.settings import load_settings
from tinyhil.nas import zoo
from tinyhil.results.record import Measurement
from tinyhil.results.reference.loader import PUBLISHED as PUBLISHED_ORIGIN
from tinyhil.results.reference.loader import Reference, load_references, published_latencies, references_for

LARGEST = "stm32h743"
PUBLISHED = ("mcunet-in0", "mcunet-in1", "mcunet-in2", "mcunet-in3", "mcunet-in4")
BARS: dict[str, Any] = tomllib.loads((Path(__file__).parent / "bars.toml").read_text())
ROOT = Path(__file__).resolve().parents[1]


@click.command()
@click.argument("names", nargs=-1)
@click.option("--models", type=click.Path(path_type=Path), default=ROOT.parent / "shared" / "models")
@click.option("--boards", default="stm32f746,nucleo-l4r5zi", show_default=True)
def main(names: Sequence[str], models: Path, boards: str) -> None:
    """Prints the tables; the exit code is 1 if an output was wrong."""
    runner = Runner(load_settings(Path.cwd()), emulate=True)
    networks = list(_networks(names, models, runner.settings.cache / "networks"))
    wrong = False
    for board in map(get_board, boards.split(",")):
        rows = []
        for number, network in enumerate(networks, 1):
            click.echo(f"[{number}/{len(networks)}] {network.name} on {board.name}", err=True)
            rows.append(_row(runner, network, board))
        wrong |= any(r.error for row in rows for r in (row.speed, row.ram) if r is not None)
        for table in (speed_lines, memory_lines, flash_lines):
            click.echo("\n".join(["", *table(board, rows)]))
        click.echo("\n! its output was wrong   * published elsewhere, not counted with this project's method")
        for row in rows:
            if row.refused:
                click.echo(f"\n{row.network.name}: {row.refused}")
            for record in (row.speed, row.ram):
                if record is not None and record.error:
                    click.echo(f"\n{record.error.code}: {record.error.message}")
    sys.exit(1 if wrong else 0)


def _networks(names: Sequence[str], models: Path, folder: Path) -> Iterable[Network]:
    files = {path.stem: path for path in sorted(models.glob("*.tflite"))}
    for name in names or (*files, *PUBLISHED):
        yield Network.load(files[name] if name in files else zoo.make(name, folder))


class Row:
    """One network on one board: the default plan, and the one that prefers RAM; on `board`, the largest,
    where `refused` says why the asked one cannot hold it."""

    def __init__(self, network: Network, board: Board, refused: str = "") -> None:
        self.network, self.board, self.refused = network, board, refused
        self.speed: Measurement | None = None
        self.ram: Measurement | None = None


def _row(runner: Runner, network: Network, board: Board) -> Row:
    row = Row(network, board)
    try:
        row.speed = _measured(runner, network, board, "speed")
    except DoesNotFit as refusal:
        row = Row(network, get_board(LARGEST), str(refusal))
        row.speed = _measured(runner, network, row.board, "speed")
    row.ram = _measured(runner, network, row.board, "ram")
    return row


def _measured(runner: Runner, network: Network, board: Board, prefer: str) -> Measurement:
    """From the store if it has this firmware, else measured and stored."""
    case = Case(network, get_engine("tinyengine"), board, Options(prefer))
    firmware = runner.firmware(case)
    known = runner.store.find(firmware.id, runner.target(board).mode)
    return known if known is not None and known.error is None else runner.measure(case)


def _peer(row: Row, engine: str, value: Callable[[Reference], int | None]) -> tuple[int | None, str]:
    """The smallest figure of a peer for the row's network and core, as a number and as text, which ends in
    `!` for a wrong output and in `*` for a figure that somebody published."""
    found = [
        (figure, "*" if reference.origin == PUBLISHED_ORIGIN else "!" if reference.bit_exact is False else "")
        for reference in references_for(row.network.name, load_references())
        if reference.engine == engine and reference.core == row.board.core
        if (figure := value(reference)) is not None
    ]
    figure, mark = min(found, default=(None, ""))
    return figure, _text(figure) + mark


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _against(value: float | None, bar: float | None) -> str:
    if value is None or bar is None:
        return ""
    return "ok" if value <= bar else f"miss by {value / bar - 1:.1%}"


def _name(row: Row) -> str:
    return row.network.name + (f" ({row.board.name})" if row.refused else "")


def speed_lines(board: Board, rows: Sequence[Row]) -> list[str]:
    """Instructions of the default plan beside the peers' and the bar, which is Cortex-M7's; its estimated
    milliseconds beside the best published ones."""
    lines = [
        f"speed on {board.title}, instructions counted, milliseconds estimated, default plan",
        f"{'network':<32}{'MACs':>12}{'CMSIS-NN':>14}{'TinyEngine (MIT)':>22}{'bar':>12}{'ours':>13}"
        f"{'published':>11}{'ours':>9}  verdict",
    ]
    for row in rows:
        _, cmsis = _peer(row, "cmsis-nn", lambda r: r.instructions)
        _, old = _peer(row, "tinyengine (MIT)", lambda r: r.instructions)
        bar = BARS["instructions"].get(row.network.name) if row.board.core == "cortex-m7" else None
        ours = row.speed.instructions if row.speed else None
        times = published_latencies(row.network.name, row.board.name).values()
        best, time = min((1e3 * seconds for seconds in times), default=None), _time(row.speed)
        verdict = ", ".join(filter(None, (_against(ours, bar), _against(time, best))))
        lines.append(
            f"{_name(row):<32}{row.network.graph.total_macs:>12,}{cmsis:>14}{old:>22}{_text(bar):>12}"
            f"{_text(ours):>13}{_text(best):>11}{_text(time):>9}  {verdict}"
        )
    return lines


def _time(record: Measurement | None) -> float | None:
    if record is None or record.cycles_est is None:
        return None
    return 1e3 * record.cycles_est.value / record.clock_hz


def memory_lines(board: Board, rows: Sequence[Row]) -> list[str]:
    """Peak RAM by painting, of the default plan and of the one that prefers RAM."""
    lines = [
        f"peak RAM on {board.title}, B, everything counted",
        f"{'network':<32}{'CMSIS-NN':>12}{'TinyEngine (MIT)':>18}{'default':>10}{'bar':>10}{'ours':>10}"
        f"{'instructions':>14}  verdict",
    ]
    for row in rows:
        cmsis, cmsis_text = _peer(row, "cmsis-nn", lambda r: r.peak_ram)
        old, old_text = _peer(row, "tinyengine (MIT)", lambda r: r.peak_ram)
        bar = BARS["peak_ram"].get(row.network.name)
        default, ours = (r.peak_ram.total if r and r.peak_ram else None for r in (row.speed, row.ram))
        verdicts = [_against(ours, bar)]
        verdicts += ["default above a peer" for p in (cmsis, old) if p and default and default >= p][:1]
        slower = ""
        if row.speed and row.ram and row.speed.instructions and row.ram.instructions:
            ratio = row.ram.instructions / row.speed.instructions
            slower = f"{ratio:.2f}x"
            verdicts += [f"more than {BARS['slower']}x"] if ratio > BARS["slower"] else []
        lines.append(
            f"{_name(row):<32}{cmsis_text:>12}{old_text:>18}{_text(default):>10}{_text(bar):>10}"
            f"{_text(ours):>10}{slower:>14}  {', '.join(filter(None, verdicts))}"
        )
    return lines


def flash_lines(board: Board, rows: Sequence[Row]) -> list[str]:
    """Flash of the default plan."""
    lines = [
        f"flash on {board.title}, B, default plan",
        f"{'network':<32}{'CMSIS-NN':>12}{'TinyEngine (MIT)':>18}{'ours':>12}{'prefer ram':>12}  verdict",
    ]
    for row in rows:
        cmsis, cmsis_text = _peer(row, "cmsis-nn", lambda r: r.flash)
        old, old_text = _peer(row, "tinyengine (MIT)", lambda r: r.flash)
        most = [b for b in (cmsis, old and old * BARS["flash_above_tinyengine"]) if b]
        ours, small = (r.flash if r else None for r in (row.speed, row.ram))
        verdict = _against(ours, min(most, default=None))
        lines.append(
            f"{_name(row):<32}{cmsis_text:>12}{old_text:>18}{_text(ours):>12}{_text(small):>12}  {verdict}"
        )
    return lines


if __name__ == "__main__":
    try:
        main()
    except TinyhilError as error:
        sys.exit(f"{error.code}: {error}")
