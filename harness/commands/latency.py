"""`tinyhil explain` and `tinyhil calibrate`: the timing model beside a run on a twin or a board."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from tinyhil.errors import TinyhilError, UsageError
from tinyhil.harness.boards import Board, boards_folder, get_board
from tinyhil.harness.build import Program, build
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.engine import Options
from tinyhil.harness.engines import get_engine, table_of
from tinyhil.harness.measure import Case, Network
from tinyhil.harness.runner import Runner
from tinyhil.harness.settings import load_settings
from tinyhil.harness.targets.counts import RunSegments, marks_of, split_runs
from tinyhil.harness.targets.qemu import QemuTarget
from tinyhil.harness.targets.recorder import Segment, parse
from tinyhil.harness.targets.target import Job
from tinyhil.harness.timing import llvm_mca
from tinyhil.harness.timing.block_costs import BlockCosts, block_costs
from tinyhil.harness.timing.calibrate import Sample, current_penalties, fit, sample, write_penalties
from tinyhil.harness.timing.estimate import Estimate, estimate_segment, total
from tinyhil.harness.timing.explain import as_text
from tinyhil.harness.timing.explain import explain as explain_segments
from tinyhil.harness.timing.image import load_elf
from tinyhil.harness.timing.llvm_mca import find_llvm_mca
from tinyhil.harness.timing.microbench import Loop, loops, microbench_sources


@dataclass(frozen=True)
class Traced:
    """One inference on the emulator twin, ready to be estimated."""

    firmware: Firmware
    costs: BlockCosts
    run: RunSegments[Segment]

    def layer(self, index: int) -> Estimate | None:
        """Estimated cycles of a layer; None if it was never entered."""
        segments = self.run.layers[index]
        return total(estimate_segment(self.costs, s) for s in segments) if segments else None


def trace_inference(firmware: Firmware, cache: Path, timeout: float) -> Traced:
    """Runs one inference on zeros in QEMU with the recorder. Raises as `QemuTarget.run`."""
    inputs = tuple(bytes(port.nbytes) for port in firmware.sources.inputs)
    with tempfile.TemporaryDirectory(prefix="tinyhil-explain-") as folder:
        path = Path(folder) / "trace"
        QemuTarget(cache).run(firmware, Job((inputs,), 1, path), Deadline.after(timeout))
        trace = parse(path)
    costs = block_costs(trace, firmware.board, load_elf(firmware.elf))
    return Traced(firmware, costs, split_runs(trace.segments, marks_of(firmware))[0])


def _layer_table(traced: Traced, clock_hz: int) -> str:
    whole = total(estimate_segment(traced.costs, s) for s in traced.run.segments)
    lines = [f"{'layer':<28}{'op':<20}{'MACs':>12}{'est. cycles':>13}{'share':>8}{'/MAC':>7}{'est. ms':>9}"]
    for index, layer in enumerate(traced.firmware.sources.layers):
        e = traced.layer(index)
        if e is None:
            continue
        each = f"{e.value / layer.macs:7.2f}" if layer.macs else " " * 7
        lines.append(
            f"{layer.name[:27]:<28}{layer.op[:19]:<20}{layer.macs:>12,}{e.value:>13,.0f}"
            f"{e.value / whole.value:>8.1%}{each}{1000 * e.value / clock_hz:>9.3f}"
        )
    lines.append(
        f"{'whole':<60}{whole.value:>13,.0f}  ({whole.low:,.0f} to {whole.high:,.0f})"
        f"{1000 * whole.value / clock_hz:>9.3f} ms"
    )
    return "\n".join(lines)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--board", "board_name", required=True, help="Board kind.")
@click.option("--engine", "engine_name", default="tinyengine", show_default=True)
@click.option("--layer", "layer_name", help="Explain only the layer with this name or index.")
@click.option("--top", default=10, show_default=True, help="How many of the hottest blocks to show.")
@click.option("--llvm-mca", "beside", is_flag=True, help="Show what llvm-mca says of these blocks, too.")
def explain(
    model: Path, board_name: str, engine_name: str, layer_name: str | None, top: int, beside: bool
) -> None:
    """Show where the estimated cycles of MODEL go: layers, kinds of work, hottest blocks, stalls."""
    settings = load_settings(Path.cwd())
    board = get_board(board_name)
    if beside:
        find_llvm_mca()  # before the work
    if board.is_native:
        raise UsageError("this computer has no timing model; name a board with a Cortex-M")
    engine = get_engine(engine_name, table_of(engine_name, settings.engines))
    firmware = Runner(settings, emulate=True).firmware(Case(Network.load(model), engine, board, Options()))
    traced = trace_inference(firmware, settings.cache, settings.timeout)
    click.echo(f"Estimated by {traced.costs.core.model} for {board.title}; not a measurement.\n")
    click.echo(_layer_table(traced, board.clock_hz))
    segments = traced.run.segments
    if layer_name is not None:
        segments = traced.run.layers[_layer_index(firmware, layer_name)]
    found = explain_segments(traced.costs, segments, load_elf(firmware.elf), top)
    click.echo("\n" + as_text(found))
    if beside:
        click.echo("\nCycles per round without the last branch, by our model and by llvm-mca\n")
        click.echo(llvm_mca.table(find_llvm_mca(), traced.costs.core, found.hottest))


def _layer_index(firmware: Firmware, name: str) -> int:
    names = [layer.name for layer in firmware.sources.layers]
    if name in names:
        return names.index(name)
    if name.isdigit() and int(name) < len(names):
        return int(name)
    raise UsageError(f"no layer is called {name!r}; there are {', '.join(names)}")


def _build_microbench(board: Board, emulated: bool, cache: Path) -> Firmware:
    made = build([Program(microbench_sources(), board, emulated)], Deadline.after(300), cache_dir=cache)[0]
    if isinstance(made, TinyhilError):
        raise made
    return made


def _measure_loops(board: Board, cache: Path, timeout: float) -> tuple[Mapping[str, int], str]:
    """Cycles of each loop on the real board; none, and why, if there is none on this bench."""
    target = Runner(load_settings(Path.cwd())).target(board)
    if target.mode == "qemu":
        return {}, f"No {board.name} on this bench"
    firmware = _build_microbench(board, False, cache)
    run = target.run(firmware, Job(((bytes(4),),), repeats=3), Deadline.after(timeout))
    if not run.layers:
        return {}, f"The {board.name} on this bench is emulated, so its counter counts no cycles"
    cycles = [layer.cycles for layer in run.layers[-1]]
    return {loop.name: c for loop, c in zip(loops(), cycles, strict=True) if c is not None}, ""


def _check_table(traced: Traced, core: str) -> tuple[str, int]:
    """The loops' estimates beside the counts derived by hand, and how many differ."""
    lines = [f"{'loop':<20}{'estimated':>12}{'by hand':>10}  derivation"]
    wrong = 0
    for index, loop in enumerate(loops()):
        e = traced.layer(index)
        if e is None:
            continue
        each = e.value / loop.iterations
        by_hand, why = loop.expected.get(core, (None, "only a board can tell"))
        if by_hand is not None and abs(each - by_hand) > _ENTRY / loop.iterations:
            wrong += 1
            why += "   DIFFERS"
        shown = f"{by_hand:>10g}" if by_hand is not None else f"{'':>10}"
        lines.append(f"{loop.name:<20}{each:>12.2f}{shown}  {why}")
    return "\n".join(lines), wrong


#: Cycles of call, entry and cold caches that a loop's estimate may have beside its iterations.
_ENTRY = 200


def _samples(traced: Traced, measured: Mapping[str, int]) -> list[Sample]:
    chosen: list[Sample] = []
    for index, loop in enumerate(loops()):
        if loop.name in measured:
            chosen.append(_sample(loop, measured[loop.name], traced, index))
    return chosen


def _sample(loop: Loop, cycles: int, traced: Traced, index: int) -> Sample:
    return sample(loop.name, float(cycles), traced.costs, traced.run.layers[index])


@click.command()
@click.option("--board", "board_name", required=True, help="Board kind.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the board file here (default: in place).")
def calibrate(board_name: str, out: Path | None) -> None:
    """Measure about 25 small loops on the board and fit its memory penalties to them.

    Without the board on this bench the loops run on the emulator twin, and their estimates are held
    against counts derived by hand.
    """
    settings = load_settings(Path.cwd())
    board = get_board(board_name)
    traced = trace_inference(_build_microbench(board, True, settings.cache), settings.cache, settings.timeout)
    measured, why_not = _measure_loops(board, settings.cache, settings.timeout)
    if not measured:
        table, wrong = _check_table(traced, board.core)
        click.echo(f"{why_not}: nothing is fitted. The model's arithmetic:\n\n{table}")
        if wrong:
            raise click.exceptions.Exit(1)
        return
    found = fit(_samples(traced, measured), current_penalties(traced.costs))
    click.echo(f"{'loop':<20}{'cycles':>12}{'error before':>14}{'after':>9}")
    for (name, before, after), s in zip(found.errors(), found.samples, strict=True):
        click.echo(f"{name:<20}{s.measured:>12,.0f}{before:>14.1%}{after:>9.1%}")
    for key, value in found.after.items():
        click.echo(f"{key}: {found.before[key]:g} -> {value:g} cycles")
    source = boards_folder() / f"{board.name}.toml"
    target = out or source
    changed = {key: value for key, value in found.after.items() if value != found.before[key]}
    target.write_text(write_penalties(source.read_text(encoding="utf-8"), changed), encoding="utf-8")
    click.echo(f"written to {target}")
