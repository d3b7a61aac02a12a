"""`tinyhil bits`: a network with weights of fewer bits: what flash it saves, costs, and changes."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import numpy.typing as npt

from tinyhil.errors import UsageError
from tinyhil.harness.boards import get_board

if TYPE_CHECKING:
    from tinyhil.harness.measure import Network
    from tinyhil.harness.model.graph import Graph
    from tinyhil.results.record import Measurement

_AUTO = re.compile(r"auto:(\d{1,3})%?")


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--board", required=True, help="Board kind.")
@click.option("--prefer", type=click.Choice(["speed", "ram", "flash"]), default="flash", show_default=True)
@click.option(
    "--weights-bits", "specs", multiple=True,
    help="Bits per layer, as in conv0:8,dw*:4,*:2, or auto:50% for half the bytes where it hurts least. "
    "Repeat for more rows. Default: 8, 4 and 2 bits everywhere, and auto:50%.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Write the last network to this .tflite file.")
def bits(model: Path, board: str, prefer: str, specs: Sequence[str], out: Path | None) -> None:
    """MODEL with its weights on coarser grids: flash, instructions and estimated time, all counted on the
    emulator, and how far the outputs move from MODEL's own.

    Each row is a network of its own, exact against the reference on that network's file. Scales are chosen
    again for the coarser weights; nothing is trained again.
    """
    from tinyhil.harness.engine import Options
    from tinyhil.harness.engines import get_engine
    from tinyhil.harness.measure import Case, Network
    from tinyhil.harness.model.requantise import weight_bytes, weighted_layers
    from tinyhil.harness.runner import Runner
    from tinyhil.harness.settings import load_settings

    network = Network.load(model)
    assignments = {spec: _assignment(network, spec) for spec in specs or ("*:8", "*:4", "*:2", "auto:50%")}
    variants = {spec: _variant(network, spec, assignment) for spec, assignment in assignments.items()}
    if out:
        out.write_bytes(list(variants.values())[-1].data)
    engine, kind = get_engine("tinyengine"), get_board(board)
    cases = [Case(variant, engine, kind, Options(prefer)) for variant in variants.values()]
    runner = Runner(load_settings(Path.cwd()), emulate=True)
    runner.prepare(cases)
    for name, index in weighted_layers(network.graph).items():
        chosen = " ".join(f"{assignment[name]:>2}" for assignment in assignments.values())
        shape = network.graph.tensors[network.graph.ops[index].inputs[1]].shape
        click.echo(f"{name:<10}{'x'.join(map(str, shape)):<18}{chosen}")
    click.echo(
        f"\n{'weights':<26}{'weights, B':>12}{'flash, B':>11}{'instructions':>14}{'estimated':>12}"
        f"{'peak RAM':>10}{'noise':>10}  output"
    )
    failed = False
    for case, (spec, assignment) in zip(cases, assignments.items(), strict=True):
        record = runner.measure(case)
        failed |= record.error is not None
        click.echo(_row(spec, weight_bytes(network.graph, assignment), record, _noise(network, case.network)))
    sys.exit(1 if failed else 0)


def _assignment(network: Network, spec: str) -> dict[str, int]:
    from tinyhil.harness.model import reference
    from tinyhil.harness.model.requantise import assign_bits, parse_bits

    share = _AUTO.fullmatch(spec)
    if share is None:
        return parse_bits(spec, network.graph)
    inputs = list(network.inputs.values())

    def run(graph: Graph) -> list[npt.NDArray[Any]]:
        return [output for arrays in inputs for output in reference.run(graph, list(arrays))]

    return assign_bits(network.graph, int(share[1]) / 100, run, lambda text: click.echo(text, err=True))


def _variant(network: Network, spec: str, assignment: Mapping[str, int]) -> Network:
    """The network with these weights, as a file of its own; the network itself where nothing changes."""
    from tinyhil.harness.measure import Network
    from tinyhil.harness.model.requantise import requantise
    from tinyhil.harness.model.tflite_reader import read_tflite
    from tinyhil.harness.model.tflite_writer import write_tflite

    if set(assignment.values()) == {8}:
        return network
    name = f"{network.name}_{re.sub(r'[^a-z0-9]+', '_', spec.lower()).strip('_')}"
    if len(name) > 80:
        raise UsageError(f"{spec!r} is too long a text; use patterns such as conv*:4")
    data = write_tflite(requantise(network.graph, assignment))
    return Network(name, data, read_tflite(data, name))


def _noise(network: Network, variant: Network) -> float:
    """How far the outputs move, as a part of their own spread over the samples (root mean squares)."""
    _, before = network.expected
    _, after = variant.expected
    pairs = [
        (a.astype(np.float64), b.astype(np.float64))
        for name in before
        for a, b in zip(before[name], after[name], strict=True)
    ]
    moved = np.concatenate([(b - a).reshape(-1) for a, b in pairs])
    spread = np.concatenate([(a - a.mean()).reshape(-1) for a, _ in pairs])
    return float(np.sqrt(np.square(moved).mean() / max(np.square(spread).mean(), 1e-12)))


def _row(spec: str, weights: int, record: Measurement, noise: float) -> str:
    if record.error or record.instructions is None or record.peak_ram is None:
        return f"{spec:<26}{weights:>12,}  {record.error.code if record.error else 'not counted'}"
    time = f"{1e3 * record.cycles_est.value / record.clock_hz:.3g} ms" if record.cycles_est else "-"
    return (
        f"{spec:<26}{weights:>12,}{record.flash or 0:>11,}{record.instructions:>14,}{time:>12}"
        f"{record.peak_ram.total:>10,}{noise:>10.1%}  exact"
    )
