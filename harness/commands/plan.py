"""The command line's face of TinyEngine: plan, export-c, ablate."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tinyhil.errors import UsageError
from tinyhil.harness.boards import get_board

ABLATION = {
    "code generation": frozenset({"codegen"}),
    "fusion": frozenset({"fold-pad", "fuse-activation"}),
    "tiling": frozenset({"tiling"}),
    "unrolling": frozenset({"unrolling"}),
    "adaptive scheduling": frozenset({"adaptive"}),
    "in-place": frozenset({"overlap"}),
    "streaming": frozenset({"streaming"}),
    "dead channels": frozenset({"dead-channels"}),
}
"""What MCUNet's figure 5 adds one after the other, and what this engine adds to it, as names for
Options.disabled."""

if TYPE_CHECKING:
    from tinyhil.results.record import Measurement

_prefer = click.option(
    "--prefer", type=click.Choice(["speed", "ram", "flash"]), default="speed", show_default=True
)
_board = click.option("--board", required=True, help="Board kind.")
_model = click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))


@click.command()
@_model
@_board
@_prefer
@click.option("--without", multiple=True, help="Turn an optimisation off: a pass, a kernel, fusion, overlap.")
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON, on standard output.")
def plan(model: Path, board: str, prefer: str, without: tuple[str, ...], as_json: bool) -> None:
    """What TinyEngine would do with MODEL: kernels, estimated instructions, the arena over the layers, and
    how near it is to the smallest one possible."""
    from tinyhil.harness.engine import Options
    from tinyhil.harness.model.tflite_reader import load_tflite
    from tinyhil.harness.tinyengine import schedule_graph
    from tinyhil.harness.tinyengine.report import plan_lines, plan_record

    graph, kind = load_tflite(model), get_board(board)
    start = time.process_time()
    schedule = schedule_graph(graph, kind, Options(prefer, disabled=frozenset(without)))
    seconds = time.process_time() - start
    if as_json:
        click.echo(json.dumps(plan_record(schedule) | {"cpu_seconds": round(seconds, 3)}, indent=2))
        return
    for line in plan_lines(schedule):
        click.echo(line)
    click.echo(f"planned in {seconds:.2f} s of processor time")


@click.command("export-c")
@click.argument(
    "models", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@_board
@_prefer
@click.option("--float-io", is_flag=True, help="Quantise float inputs in the C code, not in yours.")
@click.option("--out", type=click.Path(path_type=Path), help="New folder (default: the models' names).")
@click.option(
    "--detect", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Also write network_detect.c: MODEL's output is a YOLOv2 grid with the anchors in this JSON file.",
)  # fmt: skip
def export_c(
    models: Sequence[Path], board: str, prefer: str, float_io: bool, out: Path | None, detect: Path | None
) -> None:
    """Write MODELS as a C project: network.h, sources, an example, README and PlatformIO file.

    Several models become one project with one arena: network_NAME.h each, networks.h for all.
    """
    from tinyhil.harness.engine import Options
    from tinyhil.harness.model.tflite_reader import load_tflite
    from tinyhil.harness.tinyengine.detect import read_head
    from tinyhil.harness.tinyengine.export import export_c as project

    folder = out or Path("_".join([*(model.stem for model in models), "c"]))
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; choose another folder with --out")
    graphs = {model.stem: load_tflite(model) for model in models}
    if len(graphs) < len(models):
        raise UsageError("two models have the same name; rename one, the C functions are called by it")
    files = project(
        graphs, get_board(board), Options(prefer, float_io), read_head(detect) if detect else None
    )
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    click.echo(f"{len(files)} files in {folder}")


Runs = list[tuple[str, frozenset[str]]]


def ablation_runs() -> tuple[Runs, Runs]:
    """Name and what is off: each idea off in turn, and all off with one after the other turned on."""
    one_off: Runs = [("everything", frozenset()), *((f"without {n}", off) for n, off in ABLATION.items())]
    off: frozenset[str] = frozenset().union(*ABLATION.values())
    cumulative: Runs = [("nothing", off)]
    for name, names in ABLATION.items():
        off -= names
        cumulative.append((f"+ {name}", off))
    return one_off, cumulative


@click.command()
@_model
@_board
@_prefer
def ablate(model: Path, board: str, prefer: str) -> None:
    """What is each optimisation worth? MODEL with each turned off in turn, and from nothing to all.

    Every row is built, run on the emulator and checked bit for bit.
    """
    from tinyhil.harness.engine import Options
    from tinyhil.harness.engines import get_engine
    from tinyhil.harness.measure import Case, Network
    from tinyhil.harness.runner import Runner
    from tinyhil.harness.settings import load_settings

    network, engine, kind = Network.load(model), get_engine("tinyengine"), get_board(board)
    one_off, cumulative = ablation_runs()
    cases = {
        off: Case(network, engine, kind, Options(prefer, disabled=off)) for _, off in one_off + cumulative
    }
    runner = Runner(load_settings(Path.cwd()), emulate=True)
    runner.prepare(list(cases.values()))
    records = {off: runner.measure(case) for off, case in cases.items()}
    for runs in (one_off, cumulative):
        heads = f"{'instructions':>14}{'':>8}{'cycles, estimated':>19}{'':>8}{'peak RAM':>10}{'flash':>10}"
        click.echo(f"{'':<30}{heads}")
        for name, off in runs:
            click.echo(_ablation_row(name, records[off], records[runs[0][1]]))
        click.echo("")
    sys.exit(1 if any(record.error for record in records.values()) else 0)


def _ablation_row(name: str, record: Measurement, first: Measurement) -> str:
    """One line; ratios are to the table's first row, whose counts are of the same kinds."""
    if record.error or record.instructions is None or not record.peak_ram:
        return f"{name:<30}{record.error.code if record.error else 'not counted':>14}"
    counted, estimated = f"{record.instructions:,}", "-"
    ratios = ["", ""]
    if first.instructions:
        ratios[0] = f"{record.instructions / first.instructions:.2f}x"
    if record.cycles_est:
        estimated = f"{record.cycles_est.value:,.0f}"
        ratios[1] = f"{record.cycles_est.value / first.cycles_est.value:.2f}x" if first.cycles_est else ""
    ram, flash = f"{record.peak_ram.total:,}", f"{record.flash or 0:,}"
    return f"{name:<30}{counted:>14}{ratios[0]:>8}{estimated:>19}{ratios[1]:>8}{ram:>10}{flash:>10}"
