"""One detector from pictures to firmware: trained, quantised, judged, measured, written. Resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyhil.errors import BenchError, UsageError
from tinyhil.harness.boards import Board, get_board
from tinyhil.harness.engine import Engine, Options
from tinyhil.harness.engines import get_engine, table_of
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.runner import Runner
from tinyhil.harness.settings import load_settings, override
from tinyhil.harness.tinyengine.detect import Head, write_head
from tinyhil.harness.tinyengine.export import export_c
from tinyhil.nas import cost
from tinyhil.nas.arch import Arch
from tinyhil.nas.detect.device import Pixels8, detector_case, reference_boxes
from tinyhil.nas.detect.score import Precision, mean_average_precision
from tinyhil.nas.detect.synthetic import write_shapes
from tinyhil.nas.detect.yolo import anchors_of, as_floats, boxes_of, detector_arch, train_detector
from tinyhil.nas.meter import write_graph
from tinyhil.nas.quantize import calibrate, quantize, quantize_images
from tinyhil.nas.torchnet import Net, to_float
from tinyhil.nas.train import Recipe, pick_device
from tinyhil.nas.voc import DetectionSet, Scenes, voc
from tinyhil.results.record import Measurement

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What is asked. `data` is a folder in VOC's layout or `synthetic`; `arch` any architecture, whose
    classifier gives way to the head; `pictures` of the test part also run on the board; `limit` is a
    number of pictures per list; `weights` a file that the backbone begins with."""

    data: str
    arch: Arch
    board: str
    engine: str = "tinyengine"
    anchors: int = 3
    epochs: int = 40
    threshold: float = 0.05
    overlap: float = 0.45
    boxes: int = 32
    pictures: int = 4
    limit: int | None = None
    seed: int = 0
    emulate: bool = True
    device: str = "cpu"
    weights: Path | None = None


def run_detection(ask: Request, folder: Path, say: Say) -> dict[str, Any]:
    """Does all of it in `folder`, and gives what `card.json` there says. BenchError where the detector could
    not be measured: then its other files are there, and the card is not."""
    if ask.arch.channels != 3:
        raise UsageError(f"pictures have 3 channels, but the architecture takes {ask.arch.channels}")
    settings = override(load_settings(Path.cwd()), store=folder.resolve() / "results.db")
    engine, board = get_engine(ask.engine, table_of(ask.engine, settings.engines)), get_board(ask.board)
    folder.mkdir(parents=True, exist_ok=True)
    data = load(ask, folder)
    counts = " + ".join(str(len(part)) for part in (data.train, data.valid, data.test))
    say(f"data: {data.note}; {counts} pictures to train, choose by and test")
    head = Head(
        anchors_of(data.train, ask.anchors, ask.seed), data.classes, ask.threshold, ask.overlap, ask.boxes
    )
    net = trained(ask, head, data.train, folder / "training", say)
    network = to_float(net)
    calibration = as_floats(data.train.images[:200]).astype(np.float64)
    graph = quantize(network, calibrate(network, calibration), "detector")
    path = write_graph(graph, folder / "detector.tflite")
    write_head(head, folder / "head.json")
    if ask.engine == "tinyengine":
        write_c(graph, board, head, folder / "c")
    say("judging the test part")
    truth, inputs = data.test.things, quantize_images(as_floats(data.test.images), graph)
    judged = mean_average_precision(boxes_of(net, head, data.test), truth)
    reference, given = reference_boxes(path, head, inputs)
    int8 = mean_average_precision(given, truth)
    say(f"measuring on {board.name}")
    shown, runner = inputs[: ask.pictures], Runner(settings, emulate=ask.emulate)
    record = measured(runner, path, head, shown, engine, board)
    facts = {
        "data": data.note, "classes": list(data.classes), "test_pictures": len(data.test), "seed": ask.seed,
        "epochs": ask.epochs, "began_with": ask.weights and ask.weights.name,
        "architecture": str(net.arch), "macs": cost.macs(net.arch),
        "weights": cost.weights(net.arch), "head": asdict(head),
        **_precision("float", judged, data.classes), **_precision("int8", int8, data.classes),
        "grids_by": reference, "pictures_on_board": len(shown),
        "boxes_on_board": sum(map(len, given[: len(shown)])), **_figures(record),
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def load(ask: Request, folder: Path) -> DetectionSet:
    """The data; synthetic ones are written to `folder` first, in the layout that is then read."""
    if ask.data != "synthetic":
        return voc(Path(ask.data), ask.arch.resolution, limit=ask.limit, seed=ask.seed)
    train, test = ask.limit or 1500, ask.limit or 200
    root = folder / f"shapes-{ask.arch.resolution}-{train}-{ask.seed}"
    if not (root / "complete").exists():
        write_shapes(root, train, test, ask.arch.resolution.longer, ask.seed)
        (root / "complete").touch()
    found = voc(root / "VOCdevkit", ask.arch.resolution, seed=ask.seed)
    return DetectionSet(
        "synthetic", found.classes, found.train, found.valid, found.test, "synthetic shapes, seeded"
    )


def trained(ask: Request, head: Head, scenes: Scenes, folder: Path, say: Say) -> Net:
    """The trained network; its state is kept in `folder` under a name that says all that went in."""
    arch, recipe = detector_arch(ask.arch, head), Recipe(ask.epochs, batch=32, rate=0.02, seed=ask.seed)
    digest = hashlib.sha256(repr((str(arch), head, recipe, scenes.things)).encode())
    digest.update(scenes.images.tobytes())
    if ask.weights is not None:
        digest.update(ask.weights.read_bytes())

    def progress(done: int, of: int, loss: float) -> None:
        if done % max(1, of // 10) == 0:
            say(f"training: epoch {done} of {of}, loss {loss:.2f}")

    file, device = folder / f"{digest.hexdigest()[:16]}.pt", pick_device(ask.device)
    return train_detector(arch, head, scenes, recipe, progress, file, device, ask.weights)


def measured(
    runner: Runner, path: Path, head: Head, pictures: Pixels8, engine: Engine, board: Board
) -> Measurement:
    """The record of the detector on `pictures`; BenchError with its own words if it has no numbers."""
    record = runner.measure(detector_case(path, head, pictures, engine, board))
    if record.error is not None:
        raise BenchError(f"{path}: {record.error.code}: {record.error.message}")
    return record


def write_c(graph: Graph, board: Board, head: Head, folder: Path) -> None:
    """The C project with its detector in `folder`."""
    for name, text in export_c({graph.name: graph}, board, Options(), head).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _precision(kind: str, found: Precision, classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        f"map_{kind}": found.mean,
        f"map_{kind}_11_points": found.mean_eleven,
        f"ap_{kind}": {classes[label]: value for label, value in found.every.items()},
    }


def _figures(record: Measurement) -> dict[str, Any]:
    layer = record.layers[-1] if record.layers else None
    return {
        "board": record.board, "mode": record.mode, "engine": record.engine.name,
        "instructions": record.instructions, "cycles": record.cycles,
        "boxes_instructions": layer and layer.instructions, "boxes_cycles": layer and layer.cycles,
        "cycles_estimated": record.cycles_est and asdict(record.cycles_est), "clock_hz": record.clock_hz,
        "peak_ram": record.peak_ram and record.peak_ram.total, "flash": record.flash,
    }  # fmt: skip
