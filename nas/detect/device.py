"""The detector on a board: the harness's measurement, with the boxes as a second output that must be right
to the byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Engine, Options, Port, Sources
from tinyhil.harness.measure import Array, Case, Network
from tinyhil.harness.model.graph import DType, Graph, Tensor
from tinyhil.harness.model.oracle import reference_for
from tinyhil.harness.model.tflite_reader import read_tflite
from tinyhil.harness.tinyengine.detect import BOX_BYTES, SIDE, Box, Head, find_boxes, pack, with_boxes
from tinyhil.harness.tinyengine.emit import port
from tinyhil.nas.detect.score import Found

Pixels8 = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Detector(Network):
    """A network whose boxes are its last output. `inputs` are real pictures [N,H,W,C] int8 here, since a
    detector has little to do on noise; `plain` is the graph without the boxes."""

    head: Head
    pictures: Pixels8
    plain: Graph

    @cached_property
    def inputs(self) -> Mapping[str, tuple[Array, ...]]:
        """One sample per picture."""
        return {f"picture {at}": (picture[None],) for at, picture in enumerate(self.pictures)}

    @cached_property
    def expected(self) -> tuple[str, Mapping[str, tuple[Array, ...]]]:
        """The reference's grid, and the boxes that belong to it."""
        reference, run = reference_for(self.data, self.plain)
        grid_port = port(self.plain, self.plain.outputs[0])

        def answer(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
            grid = run(arrays)[0]
            return grid, np.frombuffer(pack(find_boxes(self.head, grid_port, grid), self.head), np.uint8)

        return reference, {name: answer(arrays) for name, arrays in self.inputs.items()}


class WithBoxes:
    """An engine, with decoding and suppression behind the network `plain` that it makes."""

    def __init__(self, engine: Engine, head: Head, plain: Graph) -> None:
        self.name = f"{engine.name}+boxes"
        self._engine, self._head, self._plain = engine, head, plain

    def generate(self, graph: Graph, board: Board, options: Options) -> Sources:
        """The C of the network and of its detector."""
        return with_boxes(self._engine.generate(self._plain, board, options), self._head)


def detector_case(path: Path, head: Head, pictures: Pixels8, engine: Engine, board: Board) -> Case:
    """What the runner measures: the detector in `path` on `pictures` int8. UsageError where the network is
    not one that `head` describes."""
    data = path.read_bytes()
    plain = read_tflite(data, path.stem)
    if len(plain.inputs) != 1 or len(plain.outputs) != 1:
        raise UsageError(f"{path}: a detector has one input and one output")
    boxes = Tensor("boxes", (4 + head.boxes * BOX_BYTES,), DType.UINT8)
    graph = replace(
        plain, tensors=(*plain.tensors, boxes), outputs=(*plain.outputs, len(plain.tensors)), file=b""
    )
    return Case(
        Detector(path.stem, data, graph, head, pictures, plain), WithBoxes(engine, head, plain), board
    )


def reference_boxes(path: Path, head: Head, pictures: Pixels8) -> tuple[str, list[list[Found]]]:
    """Who computed the grids of `pictures` [N,H,W,C] int8, and the boxes that the device finds in them."""
    data = path.read_bytes()
    graph = read_tflite(data, path.stem)
    reference, run = reference_for(data, graph)
    grid_port: Port = port(graph, graph.outputs[0])
    return reference, [
        [as_found(box) for box in find_boxes(head, grid_port, run([picture[None]])[0])]
        for picture in pictures
    ]


def as_found(box: Box) -> Found:
    """A box of the device in shares of the picture."""
    corners = (box.left / SIDE, box.top / SIDE, box.right / SIDE, box.bottom / SIDE)
    return Found(box.label, corners, float(box.score))
