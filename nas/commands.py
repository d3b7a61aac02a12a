"""The command line's face of the search: `zoo` makes the shipped networks, `search` finds new ones."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from tinyhil.errors import UsageError
from tinyhil.nas import cost
from tinyhil.nas.zoo import architectures, make, networks
from tinyhil.results.quantities import parse_duration, parse_size


@click.command("zoo")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--name", "names", multiple=True, help="Only this network; repeat for more. See --list.")
@click.option("--list", "show", is_flag=True, help="List every architecture with its MACs and weights.")
def zoo(folder: Path | None, names: tuple[str, ...], show: bool) -> None:
    """Make the shipped networks as .tflite files in FOLDER.

    Without --name these are the networks that the bench runs. Files that are already what this
    version makes are left alone.
    """
    if show or folder is None:
        for name, arch in architectures().items():
            mark = "*" if name in networks() else " "
            click.echo(
                f"{mark} {name:20} {cost.macs(arch):>12,} MACs {cost.weights(arch):>10,} weights  {arch}"
            )
        return
    for name in names or networks():
        path = make(name, folder)
        click.echo(f"{path} {path.stat().st_size:,} bytes")


DATA_HELP = (
    "digits, figures, keywords, FILE.npz, imagenet:DIR, vww:DIR, voc:DIR, speech:DIR or speech12:DIR, with "
    "options behind it as in imagenet:DIR,size=96,limit=200. An unknown name lists what each of them takes."
)
INTERRUPTED = 130  # what a shell says of a command that Ctrl-C ended
_COUNTS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}


def parse_time(text: str) -> tuple[float | None, float | None]:
    """(milliseconds, count) of `5ms`, `0.1s`, or of a count such as `1.5M` or `900000`."""
    count = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(k|M|G|)\s*", text)
    if count:
        return None, float(count[1]) * _COUNTS[count[2]]
    return 1e3 * parse_duration(text), None


Command = Callable[..., None]


def resumable(command: Command) -> Command:
    """`command`, which keeps what it does in `folder`, so that Ctrl-C ends with a word on how to go on."""

    @wraps(command)
    def run(**options: Any) -> None:
        try:
            command(**options)
        except KeyboardInterrupt:
            kept = f"What was done is kept in {options['folder']}; the same command goes on from there."
            click.echo(f"\nStopped. {kept}", err=True)
            sys.exit(INTERRUPTED)

    return run


def parse_numbers(text: str) -> list[float]:
    """The numbers above 0 in `5,10,12.5`."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < number < float("inf") for number in found):
        raise UsageError(f"{text!r} is no list of numbers above 0, as in 5,10,50")
    return found


@click.command()
@click.option("--board", default="stm32f746", show_default=True, help="The board the network is for.")
@click.option("--engine", default="tinyengine", show_default=True, help="The engine that will run it.")
@click.option("--data", default="digits", show_default=True, help=DATA_HELP)
@click.option("--sram", default="64KiB", show_default=True, help="Peak RAM that it may touch.")
@click.option("--flash", default="256KiB", show_default=True, help="Flash that its firmware may take.")
@click.option("--latency", help="Run time: 5ms, or a count of what the target counts, such as 1.5M.")
@click.option(
    "--out", "folder", type=click.Path(path_type=Path), required=True, help="Folder of results and state."
)
@click.option("--seed", default=0, show_default=True)
@click.option("--quick", is_flag=True, help="A much smaller search, to see that everything works.")
@click.option(
    "--weights-bits",
    "bits",
    type=click.Choice(["8", "4"]),
    default="8",
    show_default=True,
    help="4: also deliver the winner with weights of four bits, trained on them and measured.",
)
@click.option("--qat", is_flag=True, help="Train on the grid of eight bits that the weights will have.")
@click.option(
    "--figures",
    is_flag=True,
    help="Only draw the paper's figures; with --data also those that need training.",
)
@click.option(
    "--fps", default="5,10", show_default=True, help="With --figures: frames a second, as in 5,10,50."
)
@click.option(
    "--at-flash",
    default="96KiB,128KiB",
    show_default=True,
    help="With --figures: where 8 and 4 bits are compared.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Search with so many seeds, and compare the networks found by mean and spread.",
)
@click.option(
    "--rank",
    type=click.IntRange(3),
    help="Only measure how well inherited accuracy ranks networks, on this many trained alone (10, say).",
)
@click.option("--check", is_flag=True, help="Only judge the predictions of RAM, flash and run time.")
@click.option("--learned", default=24, show_default=True, help="With --check: networks to learn from.")
@click.option("--judged", default=40, show_default=True, help="With --check: networks to judge by.")
@click.option("--transfer", multiple=True, help="With --check: move the model to this board by ten networks.")
@click.option("--curve", default=0, help="With --check: measure so many, and show what choosing them pays.")
@click.option("--device", default="auto", show_default=True, help="Where to train: cpu, cuda, or auto.")
@click.option("--hardware", is_flag=True, help="Measure on the board on the bench, not on its emulator.")
@click.option("-j", "--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True)
@click.option("--executor", default="threads", show_default=True, help="threads, dask, or tcp://HOST:PORT.")
@resumable
def search(
    board: str,
    engine: str,
    data: str,
    sram: str,
    flash: str,
    latency: str | None,
    folder: Path,
    seed: int,
    quick: bool,
    bits: str,
    qat: bool,
    figures: bool,
    fps: str,
    at_flash: str,
    seeds: int,
    rank: int | None,
    check: bool,
    learned: int,
    judged: int,
    transfer: tuple[str, ...],
    curve: int,
    device: str,
    hardware: bool,
    jobs: int,
    executor: str,
) -> None:
    """Find the best network for DATA within a budget, measured, as .tflite and as C.

    Everything is kept in the folder: a search that was interrupted goes on where it stopped.
    """
    asked = click.get_current_context().get_parameter_source("data")
    trained = asked is not click.core.ParameterSource.DEFAULT
    if figures:
        from tinyhil.nas.comparisons import comparison_figures
        from tinyhil.nas.figures import stage_one_figures

        for path in (*stage_one_figures(folder, seed=seed), *comparison_figures(folder)):
            click.echo(path)
        if not trained:
            return
    if rank is not None:
        from tinyhil.nas.datasets import load
        from tinyhil.nas.rank import rank_on

        click.echo(rank_on(load(data), folder, rank, seed, lambda text: click.echo(text, err=True)))
        return
    from tinyhil.harness.sweep.workers import open_workers

    if check:
        from tinyhil.nas.check import check as judge
        from tinyhil.nas.check import curve as learning
        from tinyhil.nas.meter import HarnessMeter

        model = None
        with open_workers(executor, jobs) as workers:
            for number, name in enumerate((board, *transfer)):
                folder.mkdir(parents=True, exist_ok=True)
                meter = HarnessMeter(name, engine, folder, workers, emulate=not hardware)
                if curve:
                    learning(meter.board, engine, meter, curve, judged, seed, click.echo)
                    continue
                few = min(10, learned) if number else learned
                moved = judge(meter.board, engine, meter, few, judged, seed, click.echo, model)
                model = model or moved
        return
    from tinyhil.nas.deliver import INT8
    from tinyhil.nas.lowbits import QAT
    from tinyhil.nas.session import Request, effort_for, run_search
    from tinyhil.nas.study import seeds_compared, trained_figures

    milliseconds, count = parse_time(latency) if latency else (None, None)
    request = Request(
        board,
        engine,
        data,
        parse_size(sram),
        parse_size(flash),
        milliseconds,
        count,
        seed,
        quick,
        not hardware,
        device,
        int(bits),
        QAT if qat else INT8,
    )

    def say(text: str) -> None:
        click.echo(text, err=True)

    effort = effort_for(request)
    with open_workers(executor, jobs) as workers:
        if figures:
            rates, flashes = parse_numbers(fps), [parse_size(text) for text in at_flash.split(",")]
            paths = trained_figures(request, rates, flashes, seeds, folder, workers, say, effort)
        elif seeds > 1:
            paths = seeds_compared(request, seeds, folder, workers, say, effort)
        else:
            run_search(request, folder, workers, say, effort)
            paths = [folder / "card.md"]
    for path in paths:
        click.echo(path.read_text() if path.suffix == ".md" else path)
