"""The harness as the search's instrument: architectures in, what their firmware really did out.

Each network is written as .tflite, built, run and checked bit for bit by the same code as
`tinyhil run`. Results are kept in a file as they come, so nothing is measured twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tinyhil.errors import BenchError, UsageError
from tinyhil.harness.boards import get_board
from tinyhil.harness.build.elf import Image, read_image
from tinyhil.harness.engine import Options
from tinyhil.harness.engines import get_engine, table_of
from tinyhil.harness.measure import Case, Network
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.requantise import requantise, weighted_layers
from tinyhil.harness.model.tflite_reader import load_tflite
from tinyhil.harness.model.tflite_writer import write_tflite
from tinyhil.harness.runner import Runner
from tinyhil.harness.settings import load_settings, override
from tinyhil.harness.sweep.evaluate import evaluate
from tinyhil.harness.sweep.plan import Item, Source
from tinyhil.harness.sweep.workers import Workers
from tinyhil.nas.arch import Arch, layers, parse
from tinyhil.nas.codesize import Built, CodeSizes, learn
from tinyhil.nas.latency import Sample
from tinyhil.nas.ownplan import plan_of
from tinyhil.nas.planning import Planned, plan_from_json, plan_to_json
from tinyhil.nas.zoo import seeded_graph
from tinyhil.results.record import LayerResult, Measurement


@dataclass(frozen=True)
class Measured:
    """What one network's firmware did. `ram` is the touched peak, `planned` the arena that was planned,
    both in bytes like `flash`; the sample holds the run time in `unit`: "cycles" (measured),
    "cycles_est" (estimated) or "instructions" (counted). `layers` is the same for each layer that the
    engine ran, fused ones counted as one. `built` says what the code took, where the ELF is at hand, and
    `plan` what the engine planned for the very weights that ran, where that is known."""

    sample: Sample
    unit: str
    ram: int
    planned: int
    flash: int
    layers: tuple[int, ...] = ()
    built: Built | None = None
    plan: Planned | None = field(default=None, compare=False, repr=False)


Meter = Callable[[Sequence[Arch]], list[Measured]]


class HarnessMeter:
    """Measures seeded networks (run time and memory do not depend on the weights' values much) with
    `engine` on `board`, or on its emulator twin if `emulate`. `workers` measure; `folder` keeps files
    and results. Weights have `bits` bits, and firmware is built to `prefer` speed, RAM or flash."""

    def __init__(
        self, board: str, engine: str, folder: Path, workers: Workers, *, emulate: bool = True,
        bits: int = 8, prefer: str = "speed",
    ) -> None:  # fmt: skip
        self.board, self.folder = get_board(board), folder
        settings = load_settings(Path.cwd())
        self.engine = get_engine(engine, table_of(engine, settings.engines))
        self._runner = Runner(override(settings, store=folder.resolve() / "results.db"), emulate=emulate)
        self._workers = workers
        self._bits, self._options = bits, Options(prefer)
        self._usual = (bits, prefer) == (8, "speed")
        form = "" if self._usual else f"-int{bits}-{prefer}"
        self._file = folder / f"measured-{board}-{engine}{form}.jsonl"
        self._known = read_results(self._file)

    def __call__(self, archs: Sequence[Arch]) -> list[Measured]:
        """One result per architecture, in order. Raises the harness's errors: a network that does not
        build or is not bit-exact must not go unnoticed."""
        wanted = [arch for arch in dict.fromkeys(archs) if arch not in self._known]
        sources = [Source(str(self._write(arch))) for arch in wanted]
        items = [Item(source, self.engine.name, self.board.name, self._options) for source in sources]
        records = evaluate(items, self._runner, self._workers) if items else []
        for arch, record in zip(wanted, records, strict=True):
            own = self._plan(arch, record)
            self._keep(replace(measured_from(arch, record), built=self._built(record), plan=own))
        return [self._known[arch] for arch in archs]

    def case(self, path: Path, prefer: str = "speed") -> Case:
        """The case of one .tflite file, built with what the engine is to prefer."""
        return Case(Network.load(path), self.engine, self.board, Options(prefer))

    def record(self, case: Case) -> Measurement:
        """The full record of one case; BenchError with the record's own words if it has no numbers."""
        record = self._runner.measure(case)
        if record.error is not None:
            raise BenchError(f"{case.network.name}: {record.error.code}: {record.error.message}")
        return record

    def _plan(self, arch: Arch, record: Measurement) -> Planned | None:
        if self.engine.name != "tinyengine" or not self._usual:
            return None
        plan = plan_of(arch, load_tflite(self._path(arch)), self.board)
        return plan if plan is not None and len(plan.layers) == len(record.layers) else None

    def _built(self, record: Measurement) -> Built | None:
        build = record.provenance.get("build_id", "")
        folder = self._runner.settings.cache / "firmware" / build
        path, source = folder / "firmware.elf", folder / "src" / "layers.c"
        if not build or not path.exists():  # built on another machine
            return None
        return built_from(record, read_image(path), source.read_text() if source.exists() else "")

    def _path(self, arch: Arch) -> Path:
        name = "net-" + hashlib.sha256(str(arch).encode()).hexdigest()[:12]
        bits = "" if self._bits == 8 else f"-int{self._bits}"
        return self.folder / "sampled" / f"{name}{bits}.tflite"

    def _write(self, arch: Arch) -> Path:
        path = self._path(arch)
        return write_graph(narrowed(seeded_graph(path.stem, arch), self._bits), path)

    def _keep(self, one: Measured) -> None:
        self._known[one.sample.arch] = one
        with self._file.open("a") as file:
            file.write(json.dumps(to_json(one)) + "\n")


def narrowed(graph: Graph, bits: int) -> Graph:
    """The int8 `graph` with all its weights in `bits` bits."""
    return graph if bits == 8 else requantise(graph, dict.fromkeys(weighted_layers(graph), bits))


def learn_from(measured: Sequence[Measured], plan: Callable[[Arch], Planned]) -> CodeSizes | None:
    """The code sizes of `measured` networks, by the plans for their own weights where these are known, and
    else by those that `plan` gives; None where none of them was built here."""
    known = [(one, one.built) for one in measured if one.built is not None]
    if not known:
        return None
    return learn(
        [one.plan or plan(one.sample.arch) for one, _ in known],
        [built for _, built in known],
        [one.flash for one, _ in known],
    )


def write_graph(graph: Graph, path: Path) -> Path:
    """`graph` as a .tflite file at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(write_tflite(graph))
    return path


def measured_from(arch: Arch, record: Measurement) -> Measured:
    """The part of `record` that the search needs: the best kind of run time that there is."""
    for unit in ("cycles", "cycles_est", "instructions"):
        total = _cost(record, unit)
        if total is None:
            continue
        if record.peak_ram is None or record.flash is None:
            break
        planned = record.peak_ram.planned_arena
        arena = record.peak_ram.arena if planned is None else planned
        sample = Sample(arch, total, _parts(arch, record.layers, unit))
        costs = [_cost(row, unit) for row in record.layers]
        ran = tuple(cost for cost in costs if cost is not None)
        return Measured(sample, unit, record.peak_ram.total, arena, record.flash, ran)
    raise BenchError(f"the record of {arch} has no run time or no memory: the target cannot count either")


_LAYER = re.compile(r"layer_(\d+)_")
_HELPER = re.compile(r"th_(gemm|dw|expand|dense|sort|block)")
_LOOPS = re.compile(r"th_block_\w+(?=\()")


def built_from(record: Measurement, image: Image, source: str = "") -> Built | None:
    """The code sizes in `image`, the firmware of `record`, whose layers are the C text `source`; None where
    its layers cannot be told apart."""
    own: dict[int, int] = defaultdict(int)
    for name, symbol in image.symbols.items():
        if found := _LAYER.match(name):
            own[int(found[1])] += symbol.size
    if record.peak_ram is None or sorted(own) != list(range(len(record.layers))):
        return None
    helpers = {name: symbol.size for name, symbol in image.symbols.items() if _HELPER.match(name)}
    counts = [row.op.count("+") + 1 for row in record.layers]
    rows = tuple((count, own[at]) for at, count in enumerate(counts))
    loops = _called(source, len(rows))
    return Built(helpers, rows, record.peak_ram.stack, record.peak_ram.static, loops)


def _called(source: str, count: int) -> tuple[str, ...]:
    """The helper with the loops of each of `count` layers in the C text `source`, "" where there is none."""
    found = [""] * count
    layer = None
    for line in source.splitlines():
        if not line.startswith((" ", "}")) and (begun := _LAYER.search(line)):
            layer = int(begun[1])
        elif layer is not None and (call := _LOOPS.search(line)):
            found[layer] = call[0]
    return tuple(found)


def _cost(row: Measurement | LayerResult, unit: str) -> int | None:
    if unit == "cycles_est":
        return None if row.cycles_est is None else round(row.cycles_est.value)
    value: int | None = getattr(row, unit)
    return value


def _parts(arch: Arch, rows: Sequence[LayerResult], unit: str) -> Mapping[str, int]:
    """Cost per layer of `arch`, if the engine ran exactly these layers in this order; else nothing."""
    every = layers(arch)
    if [layer.macs for layer in every] != [row.macs for row in rows]:
        return {}
    costs = [_cost(row, unit) for row in rows]
    return {layer.name: cost for layer, cost in zip(every, costs, strict=True) if cost is not None}


def to_json(one: Measured) -> dict[str, Any]:
    """`one` as plain data."""
    return {
        "arch": str(one.sample.arch), "total": one.sample.total, "parts": dict(one.sample.parts),
        "unit": one.unit, "ram": one.ram, "planned": one.planned, "flash": one.flash,
        "layers": list(one.layers), "built": None if one.built is None else asdict(one.built),
        "plan": None if one.plan is None else plan_to_json(one.plan),
    }  # fmt: skip


def from_json(row: Mapping[str, Any]) -> Measured:
    """What `to_json` made."""
    sample = Sample(parse(row["arch"]), int(row["total"]), dict(row["parts"]))
    figures = (int(row["ram"]), int(row["planned"]), int(row["flash"]))
    built = row["built"] and Built(
        dict(row["built"]["helpers"]), tuple((int(n), int(size)) for n, size in row["built"]["own"]),
        int(row["built"]["stack"]), int(row["built"]["static"]), tuple(row["built"].get("loops", ())),
    )  # fmt: skip
    plan = row.get("plan") and plan_from_json(sample.arch, row["plan"])
    return Measured(sample, str(row["unit"]), *figures, tuple(map(int, row["layers"])), built, plan or None)


def read_results(path: Path) -> dict[Arch, Measured]:
    """Results kept in `path`; a last line cut off by a kill is dropped."""
    known: dict[Arch, Measured] = {}
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            one = from_json(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and not line.endswith("\n"):
                path.write_text("".join(lines[:-1]))
                break
            raise UsageError(
                f"{path}, line {number}: not a measurement ({error}); delete the file"
            ) from error
        known[one.sample.arch] = one
    return known
