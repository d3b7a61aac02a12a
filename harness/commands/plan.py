"""The command line's face of TinyEngine: plan, export-c, ablate."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from tinyhil.errors import UsageError
from tinyhil.harness.boards import get_board

ABLATION = (
    "kernels", "fusion", "overlap", "dead-channels", "fold-pad", "gemm", "block", "dense", "linear-add",
)  # fmt: skip

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
def export_c(models: Sequence[Path], board: str, prefer: str, float_io: bool, out: Path | None) -> None:
    """Write MODELS as a C project: network.h, sources, an example, README and PlatformIO file.

    Several models become one project with one arena: network_NAME.h each, networks.h for all.
    """
    from tinyhil.harness.engine import Options
    from tinyhil.harness.model.tflite_reader import load_tflite
    from tinyhil.harness.tinyengine.export import export_c as project

    folder = out or Path("_".join([*(model.stem for model in models), "c"]))
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; choose another folder with --out")
    graphs = {model.stem: load_tflite(model) for model in models}
    if len(graphs) < len(models):
        raise UsageError("two models have the same name; rename one, the C functions are called by it")
    files = project(graphs, get_board(board), Options(prefer, float_io))
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    click.echo(f"{len(files)} files in {folder}")


@click.command()
@_model
@_board
@_prefer
def ablate(model: Path, board: str, prefer: str) -> None:
    """Turn each optimisation off in turn and measure MODEL: what is it worth?"""
    from tinyhil.harness.engine import Options
    from tinyhil.harness.engines import get_engine
    from tinyhil.harness.measure import Case, Network
    from tinyhil.harness.runner import Runner
    from tinyhil.harness.settings import load_settings

    network, engine, kind = Network.load(model), get_engine("tinyengine"), get_board(board)
    runs = [("everything on", frozenset[str]()), *((f"without {n}", frozenset({n})) for n in ABLATION)]
    cases = [Case(network, engine, kind, Options(prefer, disabled=off)) for _, off in runs]
    runner = Runner(load_settings(Path.cwd()), emulate=True)
    runner.prepare(cases)
    click.echo(f"{'':<24}{'instructions':>14}{'':>8}{'peak RAM':>10}{'flash':>10}")
    base, failed = 0, False
    for (name, _), case in zip(runs, cases, strict=True):
        record = runner.measure(case)
        if record.error or record.instructions is None:
            failed = True
            click.echo(f"{name:<24}{record.error.code if record.error else 'not counted':>14}")
            continue
        base = base or record.instructions
        ram = f"{record.peak_ram.total:,}" if record.peak_ram else "-"
        factor = f"{record.instructions / base:.2f}x"
        click.echo(f"{name:<24}{record.instructions:>14,}{factor:>8}{ram:>10}{record.flash or 0:>10,}")
    sys.exit(1 if failed else 0)
