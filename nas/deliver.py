"""From a found architecture to what a user takes away: weights, .tflite, C, and a card that says all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Engine, Options
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.reference import Interpreter
from tinyhil.nas import cost
from tinyhil.nas.arch import Arch
from tinyhil.nas.data import Dataset, Split
from tinyhil.nas.evolution import Budget, Judge
from tinyhil.nas.meter import HarnessMeter, Measured, measured_from, narrowed, write_graph
from tinyhil.nas.network import FloatNetwork
from tinyhil.nas.quantize import calibrate, quantize, quantize_images
from tinyhil.nas.search import beyond
from tinyhil.nas.size import Size
from tinyhil.nas.space import Space
from tinyhil.nas.supertrain import at_resolution
from tinyhil.nas.torchnet import Net, to_float
from tinyhil.nas.train import Recipe, accuracy, mean_loss, tune


@dataclass(frozen=True)
class Form:
    """How a network is written: the bits of its weights, whether it is trained on their grid before that,
    and what its firmware is to prefer. Activations always have eight bits."""

    bits: int = 8
    trained: bool = False
    prefer: str = "speed"


INT8 = Form()


@dataclass(frozen=True)
class Delivered:
    """A trained network as a file, what its firmware did, and how often it is right on the test part,
    in float and as written. `beyond` says in words what it takes beyond the budget, "" if it fits."""

    name: str
    arch: Arch
    path: Path
    measured: Measured
    float_accuracy: float
    int8_accuracy: float
    beyond: str = ""


def deliver(
    net: Net, name: str, data: Dataset, meter: HarnessMeter, folder: Path, budget: Budget, form: Form = INT8
) -> Delivered:
    """`net` quantised on training images, written to `folder` with its float weights, measured bit for
    bit, judged on the test part."""
    graph = written(net, name, data, form.bits)
    path = write_graph(graph, folder / f"{name}.tflite")
    save_weights(net, folder / f"{name}.pt")
    measured = measured_from(net.arch, meter.record(meter.case(path, form.prefer)))
    test = at_resolution(data.test, net.arch.resolution)
    right = accuracy(net, test), int8_accuracy(graph, test)
    return Delivered(name, net.arch, path, measured, *right, beyond(measured, budget))


def written(net: Net, name: str, data: Dataset, bits: int = 8) -> Graph:
    """The int8 graph of `net`, its weights in `bits` bits."""
    return narrowed(to_int8(to_float(net), name, data), bits)


def to_int8(network: FloatNetwork, name: str, data: Dataset, images: int = 200) -> Graph:
    """The int8 graph, calibrated on `images` training images."""
    chosen = Split(data.train.images[:images], data.train.labels[:images])
    sized = at_resolution(chosen, network.arch.resolution).images.astype(np.float64)
    return quantize(network, calibrate(network, sized, 50), name)


def int8_accuracy(graph: Graph, split: Split) -> float:
    """Share of `split` that the int8 graph names correctly, by the reference interpreter."""
    run = Interpreter(graph)
    named = [int(run(image[None])[0].argmax()) for image in quantize_images(split.images, graph)]
    return float(np.mean(np.array(named) == split.labels))


def finished(net: Net, data: Dataset, recipe: Recipe, folder: Path) -> Net:
    """`net` trained further alone by `recipe`. What came out is kept in `folder` under a name that says
    all that went in, so a search that is resumed trains nothing twice."""
    digest = hashlib.sha256(repr((str(net.arch), recipe, data.name, data.note)).encode())
    for name, tensor in net.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    path = folder / f"{digest.hexdigest()[:16]}.pt"
    if path.exists():
        net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        return net.eval()
    net = tune(net, resized(data, net.arch.resolution), recipe)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(net, path)
    return net


def save_weights(net: Net, path: Path) -> None:
    """The weights and statistics of `net` as a file, whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    torch.save(net.state_dict(), part)
    part.replace(path)


def best_alone(nets: Sequence[Net], data: Dataset) -> tuple[Net, float]:
    """The one that names most of the validation part correctly, and the share that it does; of equals,
    the one with the smaller loss."""

    def worth(net: Net) -> tuple[float, float]:
        valid = at_resolution(data.valid, net.arch.resolution)
        return accuracy(net, valid), -mean_loss(net, valid)

    best = max(nets, key=worth)
    return best, worth(best)[0]


def resized(data: Dataset, size: Size) -> Dataset:
    """`data` with all images at `size`."""
    return replace(
        data,
        train=at_resolution(data.train, size),
        valid=at_resolution(data.valid, size),
        test=at_resolution(data.test, size),
    )


def scaled_mobilenet(space: Space) -> Arch:
    """MobileNetV2 at the width and resolution of `space`, with its stages: kernel 3, expansion 6."""
    return space.build([[(3, 6)] * most for _, _, most in space.family.stages])


def best_mobilenet(spaces: tuple[Space, ...], judge: Judge) -> Arch | None:
    """The scaled MobileNetV2 with the most MACs that is within the budget; None where none is."""
    by_size = sorted(map(scaled_mobilenet, spaces), key=cost.macs, reverse=True)
    return next((arch for arch in by_size if judge.fits(arch)), None)


def write_project(
    graph: Graph, engine: Engine, board: Board, folder: Path, prefer: str = "speed"
) -> list[Path]:
    """The C of `graph` for `board` in `folder`, as the engine writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in engine.generate(graph, board, Options(prefer)).files.items():
        path = folder / Path(name).name
        path.write_text(text)
        written.append(path)
    return written


def row(one: Delivered) -> dict[str, Any]:
    """One network as plain data for the card."""
    return {
        "name": one.name, "architecture": str(one.arch), "file": one.path.name,
        "macs": cost.macs(one.arch), "weights": cost.weights(one.arch),
        "test_accuracy_float": one.float_accuracy, "test_accuracy_int8": one.int8_accuracy,
        "run_time": one.measured.sample.total, "unit": one.measured.unit,
        "peak_ram": one.measured.ram, "planned_arena": one.measured.planned, "flash": one.measured.flash,
        "beyond_the_budget": one.beyond,
    }  # fmt: skip


def write_card(folder: Path, title: str, facts: Mapping[str, Any], networks: list[Delivered]) -> None:
    """`card.json` with everything, and `card.md` for people."""
    rows = [row(one) for one in networks]
    (folder / "card.json").write_text(json.dumps({**facts, "networks": rows}, indent=1, default=str) + "\n")
    lines = [f"# {title}", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items() if not isinstance(value, dict | list)]
    lines += [
        "",
        "| network | test accuracy int8 (float) | run time | peak RAM | flash | MACs |",
        "|" + "---|" * 6,
    ]
    for one in networks:
        lines.append(
            f"| {one.name} | {one.int8_accuracy:.1%} ({one.float_accuracy:.1%}) "
            f"| {one.measured.sample.total:,} {one.measured.unit} | {one.measured.ram:,} B "
            f"| {one.measured.flash:,} B | {cost.macs(one.arch):,} |"
        )
    lines += [""] + [f"**{one.name} is beyond the budget: {one.beyond}**\n" for one in networks if one.beyond]
    lines += [*(f"- {one.name}: `{one.arch}`" for one in networks), ""]
    (folder / "card.md").write_text("\n".join(lines))
