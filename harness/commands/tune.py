"""`tinyhil tune`: measure the kernels that a network could use, and choose among them by that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tinyhil.errors import TinyhilError
from tinyhil.harness.boards import get_board

if TYPE_CHECKING:
    from tinyhil.harness.tinyengine.paths import Option
    from tinyhil.results.record import LayerResult, Measurement


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--board", required=True, help="Board kind.")
@click.option("--prefer", type=click.Choice(["speed", "ram", "flash"]), default="speed", show_default=True)
@click.option("--top", default=3, show_default=True, help="Candidates of each chain of layers.")
@click.option("--most", default=12, show_default=True, help="Firmwares to build at most.")
@click.option("--emulate", is_flag=True, help="Use the emulator twin even if the board is on the bench.")
def tune(model: Path, board: str, prefer: str, top: int, most: int, emulate: bool) -> None:
    """Measure candidate kernels of MODEL and keep their costs: `--engine tinyengine+tuned` chooses by them.

    Costs are measured cycles on a board, and estimated cycles on the emulator. What is known already is not
    measured again.
    """
    from tinyhil.harness.engine import Options
    from tinyhil.harness.measure import Case, Network
    from tinyhil.harness.runner import Runner
    from tinyhil.harness.settings import load_settings
    from tinyhil.harness.tinyengine.costs import add_costs, read_costs
    from tinyhil.harness.tinyengine.tuning import Planned, Space

    settings = load_settings(Path.cwd())
    network, kind, options = Network.load(model), get_board(board), Options(prefer)
    runner = Runner(settings, emulate=emulate)
    mode = runner.target(kind).mode

    def space() -> Space:
        return Space.of(network.graph, kind, options, mode, read_costs(settings.cache))

    def measured(here: Space, paths: Sequence[Sequence[Option]]) -> list[Measurement | None]:
        """Each of `paths` as a whole network; its layers' costs are kept at once."""
        cases = [Case(network, Planned(here.schedule(path)), kind, options) for path in paths]
        runner.prepare(cases)
        records: list[Measurement | None] = []
        for number, (case, path) in enumerate(zip(cases, paths, strict=True), 1):
            click.echo(f"[{number}/{len(paths)}] {network.name} {board}", err=True)
            record = runner.measure(case)
            if record.error:
                click.echo(f"tinyhil: {record.error.code}: {record.error.message}", err=True)
                records.append(None)
                continue
            layers = zip(path, record.layers, strict=True)
            add_costs(settings.cache, {here.key(o): _cost(layer) for o, layer in layers})
            records.append(record)
        return records

    first = space()
    paths = first.rounds(top, most)
    click.echo(f"building {len(paths)} firmwares", err=True)
    default = measured(first, paths)[0]
    if default is None:
        raise TinyhilError(f"the default plan of {network.name} failed on {board}; nothing can be compared")
    second = space()
    path = second.tuned() or second.default()
    tuned = measured(second, [path])[0]
    if tuned is None or _total(tuned) > _total(default):  # a layer's neighbours matter a little, too
        add_costs(settings.cache, {second.network: 0.0})
        tuned, path = default, second.default()
    for line in _table(default, first.default(), tuned, path):
        click.echo(line)


def _cost(layer: LayerResult) -> float:
    """Measured cycles, else estimated ones, else instructions."""
    if layer.cycles is not None:
        return float(layer.cycles)
    return layer.cycles_est.value if layer.cycles_est else float(layer.instructions or 0)


def _total(record: Measurement) -> float:
    return sum(_cost(layer) for layer in record.layers)


def _table(
    default: Measurement, before: Sequence[Option], tuned: Measurement, after: Sequence[Option]
) -> list[str]:
    """Both choices, step by step where they part."""
    from tinyhil.harness.tinyengine.tuning import NAME

    unit = "measured" if default.layers[0].cycles is not None else "estimated"
    lines = [f"{'steps':>7}  {'kernel':<28} {'cycles, ' + unit:>18}"]
    kept = {(o.first, o.after, o.candidate.kernel) for o in before}
    kept &= {(o.first, o.after, o.candidate.kernel) for o in after}
    for title, record, path in (("default", default, before), ("tuned", tuned, after)):
        lines.append(f"{title}:")
        for option, layer in zip(path, record.layers, strict=True):
            if (option.first, option.after, option.candidate.kernel) not in kept:
                steps = f"{option.first}-{option.after - 1}"
                lines.append(f"{steps:>7}  {option.candidate.kernel:<28} {_cost(layer):>18,.0f}")
        ram = record.peak_ram.total if record.peak_ram else 0
        memory = f"RAM {ram:,} B, flash {record.flash:,} B"
        lines.append(f"{'whole':>7}  {'':<28} {_total(record):>18,.0f}  {memory}")
    share = _total(tuned) / _total(default)
    lines.append(f"{share:.4f} of the default's cycles; --engine {NAME} uses it")
    return lines
