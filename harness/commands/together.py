"""`tinyhil run --together`: several networks in one firmware, each measured in it and on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tinyhil.errors import TinyhilError
from tinyhil.harness.boards import Board
from tinyhil.harness.build import Program, build, check_fit
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.engine import Options
from tinyhil.harness.measure import Case, Network, measure
from tinyhil.harness.runner import Runner
from tinyhil.harness.tinyengine import TinyEngine
from tinyhil.results.record import Measurement, PeakRam


@dataclass(frozen=True)
class Joint:
    """What was counted: each network in the common firmware, and each in a firmware of its own."""

    together: tuple[Measurement, ...]
    alone: tuple[Measurement, ...]

    @property
    def peak_ram(self) -> int:
        """Bytes that the common firmware touches at most, whichever network runs."""
        ram = [record.peak_ram for record in self.together if record.peak_ram]
        return max(r.static for r in ram) + max(r.arena for r in ram) + max(r.stack for r in ram)

    @property
    def failed(self) -> bool:
        """Some network gave no numbers."""
        return any(record.error for record in (*self.together, *self.alone))


def measure_together(runner: Runner, networks: Sequence[Network], board: Board, options: Options) -> Joint:
    """Builds one firmware with all `networks` and one for each, runs every network in both, and stores
    the records. Those of the common firmware have the engine `tinyengine+others`: their flash is that of
    all. Raises what keeps the common firmware from being built, and BenchError."""
    engine, target = TinyEngine(), runner.target(board)
    names = ",".join(network.name for network in networks)
    graphs = {network.name: network.graph for network in networks}
    parts = engine.generate_together(graphs, board, options)
    largest = max(part.arena or 0 for part in parts)
    whole = replace(parts[0], network=names, arena=largest)
    check_fit(whole, board)
    cases = [Case(network, engine, board, options) for network in networks]
    runner.prepare(cases)
    deadline = Deadline.after(60 + 10 * runner.settings.timeout)
    program = Program(whole, board, emulated=target.mode == "qemu")
    firmware = build([program], deadline, cache_dir=runner.settings.cache)[0]
    if isinstance(firmware, TinyhilError):
        raise firmware
    records = []
    for case, part in zip(cases, parts, strict=True):
        own = replace(firmware, sources=replace(part, engine="tinyengine+others"))
        deadline = Deadline.after(runner.settings.timeout)
        record = measure(case, own, target, deadline, repeats=runner.settings.repeats)
        words = {**record.provenance, "together": names}
        records.append(runner.keep(replace(record, provenance=words)))
    return Joint(tuple(records), tuple(runner.measure(case) for case in cases))


def joint_lines(joint: Joint) -> list[str]:
    """The networks in both firmwares side by side, and what sharing saves."""
    lines = [
        f"{'':<24}{'instructions, counted':>29}{'estimated':>12}{'peak RAM, B':>22}{'flash, B':>11}",
        f"{'network':<24}{'alone':>15}{'together':>14}{'together':>12}{'alone':>11}{'together':>11}{'alone':>11}"
        "  output",
    ]
    for alone, both in zip(joint.alone, joint.together, strict=True):
        verdict = both.error.code if both.error else "exact"
        lines.append(
            f"{alone.model.name:<24}{_text(alone.instructions):>15}{_text(both.instructions):>14}{_time(both):>12}"
            f"{_total(alone.peak_ram):>11}{_total(both.peak_ram):>11}{_text(alone.flash):>11}  {verdict}"
        )
    if joint.failed:
        return lines
    ram = sum(record.peak_ram.total for record in joint.alone if record.peak_ram)
    flash = sum(record.flash or 0 for record in joint.alone)
    shared = joint.together[0].flash or 0
    return [
        *lines,
        "",
        f"one firmware: peak RAM {joint.peak_ram:,} B (apart, added up: {ram:,}), "
        f"flash {shared:,} B (apart, added up: {flash:,}; start-up code and runtime are in each)",
    ]


def _text(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _time(record: Measurement) -> str:
    """Estimated, in milliseconds."""
    estimate = record.cycles_est
    return f"{1e3 * estimate.value / record.clock_hz:.3g} ms" if estimate else "-"


def _total(ram: PeakRam | None) -> str:
    return _text(ram.total if ram else None)
