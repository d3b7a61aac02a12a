"""One measurement, start to end: bytes → Graph → Sources → Firmware → RawRun → Measurement.

Each arrow is a function elsewhere; here they are joined, and here a number becomes true or becomes
an error: outputs are compared with the reference before any count is kept, and touched memory with
the plan.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyhil.errors import Incorrect, TinyhilError, UsageError
from tinyhil.harness.boards import Board
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.engine import Engine, Identified, Options, Port, Sources
from tinyhil.harness.model.graph import DType, Graph
from tinyhil.harness.model.oracle import reference_for
from tinyhil.harness.model.tflite_reader import read_tflite
from tinyhil.harness.samples import samples
from tinyhil.harness.targets.recorder import parse
from tinyhil.harness.targets.target import Job, RawRun, Target
from tinyhil.harness.timing.block_costs import CORES
from tinyhil.harness.timing.conditions import conditions_of
from tinyhil.harness.timing.estimate import Estimate as Cycles
from tinyhil.harness.timing.runs import RunEstimate, estimate_runs
from tinyhil.results.record import (
    Correctness,
    EngineId,
    Estimate,
    Failure,
    LayerResult,
    Measurement,
    Model,
    PeakRam,
    PlannedBuffer,
)

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Network:
    """A model file that has been read, with the samples and the outputs every engine must give."""

    name: str
    data: bytes
    graph: Graph

    @classmethod
    def load(cls, path: Path) -> Network:
        """Reads `path`; MalformedModel or UnsupportedOperator if it is not an int8 network."""
        data = path.read_bytes()
        return cls(path.stem, data, read_tflite(data, path.stem))

    @cached_property
    def inputs(self) -> Mapping[str, tuple[Array, ...]]:
        """Sample name → one array per network input."""
        return samples(self.graph)

    @cached_property
    def expected(self) -> tuple[str, Mapping[str, tuple[Array, ...]]]:
        """Who computed the reference, and sample name → one array per network output."""
        reference, run = reference_for(self.data, self.graph)
        return reference, {name: tuple(run(arrays)) for name, arrays in self.inputs.items()}

    @property
    def model(self) -> Model:
        """The network's part of a record."""
        return Model(
            self.name, hashlib.sha256(self.data).hexdigest(), self.graph.total_macs, self.graph.params
        )


@dataclass(frozen=True)
class Case:
    """What is asked: one network by one engine on one board."""

    network: Network
    engine: Engine
    board: Board
    options: Options = field(default_factory=Options)

    def generate(self) -> Sources:
        """The engine's C; UnsupportedOperator or DoesNotFit if it cannot be."""
        return self.engine.generate(self.network.graph, self.board, self.options)

    @property
    def identity(self) -> EngineId:
        """Who a row of this case is about, where there are no sources to say so."""
        if isinstance(self.engine, Identified):
            return self.engine.identity(self.network.graph)
        return EngineId(self.engine.name, "")


def measure(
    case: Case, firmware: Firmware, target: Target, deadline: Deadline, *, repeats: int = 1
) -> Measurement:
    """Runs `firmware` on `target` with all samples and judges what came back.

    A wrong output or unplanned memory gives a record with `error` set and without counts.
    Raises BenchError and HardFault: then nothing is known of the network.
    """
    network, sources = case.network, firmware.sources
    inputs = tuple(_to_device(arrays, sources) for arrays in network.inputs.values())
    with tempfile.TemporaryDirectory(prefix="tinyhil-trace-") as folder:
        trace = Path(folder) / "trace" if case.board.core in CORES else None
        raw = target.run(firmware, Job(inputs, repeats, trace), deadline)
        counts, notes = _counts(firmware, raw)
    correct = _judge(network, sources, raw)
    error = _memory_error(sources, raw)
    if not correct.bit_exact:
        error = Incorrect(
            f"{network.name}: output differs from {correct.reference} by up to {correct.max_abs_diff} "
            f"({sources.engine} on {case.board.name}); no latency is shown for a wrong answer. "
            "Please report it with the model file."
        )
    record = Measurement(
        model=network.model,
        engine=EngineId(sources.engine, sources.version),
        board=case.board.name,
        mode=raw.mode,
        kind="measured" if raw.cycles else "counted",
        clock_hz=raw.hello.clock_hz or case.board.clock_hz,  # QEMU tells none, it stands for the board's
        peak_ram=_peak_ram(firmware, raw),
        flash=firmware.flash,
        correct=correct,
        memory=tuple(PlannedBuffer(**asdict(buffer)) for buffer in sources.buffers),
        provenance=_provenance(case, firmware, raw) | notes,
        created=_now(),
    )
    if error is not None:
        return replace(record, error=Failure(error.code, str(error)))
    return replace(record, **counts)


def failed(case: Case, error: TinyhilError, mode: str) -> Measurement:
    """The record of a case that gave no numbers, so that a missing row says why."""
    return Measurement(
        model=case.network.model,
        engine=case.identity,
        board=case.board.name,
        mode=mode,
        kind="measured" if mode == "hardware" else "counted",
        clock_hz=case.board.clock_hz,
        error=Failure(error.code, str(error)),
        created=_now(),
    )


def _to_device(arrays: Sequence[Array], sources: Sources) -> tuple[bytes, ...]:
    return tuple(quantize(array, port).tobytes() for array, port in zip(arrays, sources.inputs, strict=True))


def quantize(array: Array, port: Port) -> Array:
    """A float input as the int8 tensor that `port` takes, as TFLM's QUANTIZE does it; int8 as it is."""
    if array.dtype != np.float32 or port.dtype is DType.FLOAT32:
        return array
    scaled = array / np.float32(port.scale)
    away = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))  # round half away from zero
    return np.clip(away.astype(np.int64) + port.zero_point, -128, 127).astype(np.int8)


def _from_device(data: bytes, port: Port, wanted: DType) -> Array:
    array: Array = np.frombuffer(data, port.dtype.numpy).reshape(port.shape)
    if wanted is DType.FLOAT32 and port.dtype is not DType.FLOAT32:
        real = (array.astype(np.int32) - port.zero_point).astype(np.float32)
        return real * np.float32(port.scale)
    return array


def _judge(network: Network, sources: Sources, raw: RawRun) -> Correctness:
    reference, expected = network.expected
    graph = network.graph
    digest, worst, exact = hashlib.sha256(), 0, True
    wanted = [outputs for outputs in expected.values() for _ in range(len(raw.outputs) // len(expected))]
    for outputs, answers in zip(raw.outputs, wanted, strict=True):
        for data, port, index, answer in zip(outputs, sources.outputs, graph.outputs, answers, strict=True):
            got = _from_device(data, port, graph.tensors[index].dtype).reshape(answer.shape)
            digest.update(data)
            exact = exact and got.tobytes() == answer.tobytes()
            step = port.scale if answer.dtype == np.float32 and port.scale else 1.0
            difference = np.abs(got.astype(np.float64) - answer.astype(np.float64)).max(initial=0.0) / step
            worst = max(worst, round(float(difference)) if np.isfinite(difference) else 255)
    return Correctness(exact, worst, reference, digest.hexdigest())


def _memory_error(sources: Sources, raw: RawRun) -> TinyhilError | None:
    if raw.overruns:
        return Incorrect(
            f"{sources.network}: memory was written beyond {', '.join(raw.overruns)}; "
            "nothing else in this run can be trusted"
        )
    if sources.arena is not None and not 0 <= sources.arena - raw.arena_touched <= sources.guard:
        return Incorrect(
            f"{sources.network}: the plan says {sources.arena} bytes of arena, "
            f"but {raw.arena_touched} were touched"
        )
    return None


def _peak_ram(firmware: Firmware, raw: RawRun) -> PeakRam:
    """What was touched; of the arena also the guard behind it, which is read and never written."""
    sources = firmware.sources
    arena = sources.arena if sources.arena is not None and sources.guard else raw.arena_touched
    return PeakRam(
        total=firmware.static_ram + arena + raw.stack_touched,
        static=firmware.static_ram,
        arena=arena,
        stack=raw.stack_touched,
        planned_arena=sources.arena,
    )


def _counts(firmware: Firmware, raw: RawRun) -> tuple[dict[str, Any], dict[str, str]]:
    """Counts of the inference with the median total, so that its layers add up to it; estimated
    cycles beside counted instructions where the emulator left a trace, and what is to be said of them."""
    totals = raw.cycles or raw.instructions
    if not totals:
        return {}, {}
    chosen = totals.index(statistics.median_low(totals))
    estimate, notes = _estimated(firmware, raw, chosen)
    counts = {
        "instructions": raw.instructions[chosen] if raw.instructions else None,
        "cycles": raw.cycles[chosen] if raw.cycles else None,
        "cycles_est": _estimate(estimate.whole) if estimate else None,
        "samples": totals,
        "layers": tuple(
            LayerResult(
                layer.name,
                layer.op,
                layer.macs,
                count.instructions,
                count.cycles,
                _estimate(estimate.layers[index]) if estimate else None,
                layer.traffic,
            )
            for index, (layer, count) in enumerate(
                zip(firmware.sources.layers, raw.layers[chosen] if raw.layers else (), strict=False)
            )
        ),
    }
    return counts, notes


def _estimated(firmware: Firmware, raw: RawRun, chosen: int) -> tuple[RunEstimate | None, dict[str, str]]:
    """The estimate of inference `chosen`, with its notes. One that is refused costs nothing but itself."""
    if raw.trace is None:
        return None, {}
    try:
        conditions = conditions_of(raw.hello, firmware.board)
        estimate = estimate_runs(parse(raw.trace), firmware, [chosen], conditions)[0]
    except UsageError as refusal:
        return None, {"estimate": f"none: {refusal}"}
    notes = "; ".join(estimate.whole.notes)
    return estimate, {"estimate": notes} if notes else {}


def _estimate(cycles: Cycles | None) -> Estimate | None:
    return Estimate(cycles.value, cycles.low, cycles.high, cycles.model) if cycles else None


def _provenance(case: Case, firmware: Firmware, raw: RawRun) -> dict[str, str]:
    options, ports = case.options, firmware.sources
    return {
        "build_id": firmware.id,
        "compiler": firmware.compiler,
        "flags": firmware.flags,
        "defines": " ".join(f"-D{name}" for name in firmware.sources.defines),
        "prefer": options.prefer,
        "float_io": str(any(p.dtype is DType.FLOAT32 for p in (*ports.inputs, *ports.outputs))).lower(),
        "disabled": ",".join(sorted(options.disabled)),
        **raw.hello.conditions(),
        "instrumentation_bytes": str(firmware.instrumentation),
        **firmware.sources.notes,
        **raw.provenance,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
