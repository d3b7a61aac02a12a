"""Boxes out of a YOLOv2 grid: what the exported C computes, the same in Python, and that C.

The network's int8 output is a map [1,H,W,A*(5+C)]: for each cell and each of A anchors the values
x, y, width, height, objectness and C class scores (Redmon and Farhadi, 2017). A box's centre is the
cell's corner plus sigmoid(x, y), its size the anchor times exp(width, height), its score
sigmoid(objectness) * softmax(classes) of the best class. Then non-maximum suppression, class by class.

All of it is integer arithmetic. An int8 value has 256 states, so sigmoid and exp are tables; there is
nothing to round but table entries, and C and Python agree to the bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyhil.errors import UsageError
from tinyhil.harness.engine import Layer, Port, Sources
from tinyhil.harness.model.graph import DType
from tinyhil.harness.tinyengine.ctext import render, safe_comment

SIDE = 1 << 14  # a box coordinate that means the right or lower edge of the image
ONE = 1 << 15  # a score, a share or a sigmoid of 1
STRETCH = 1 << 12  # exp(0) of the table for sizes: up to 16 times an anchor fits uint16
BOX_BYTES = 12


@dataclass(frozen=True)
class Head:
    """What the grid means. `anchors` are (width, height) as shares of the image; `threshold` is the
    smallest score that counts and `overlap` the intersection over union beyond which the weaker of two
    boxes of one class goes, both in 0..1; `boxes` how many are kept at most."""

    anchors: tuple[tuple[float, float], ...]
    classes: tuple[str, ...]
    threshold: float = 0.05
    overlap: float = 0.45
    boxes: int = 32

    def __post_init__(self) -> None:
        sizes = [side for anchor in self.anchors for side in anchor]
        if not sizes or len(self.anchors) > 32 or not all(1 / SIDE <= side <= 1 for side in sizes):
            raise UsageError("detector: needs 1 to 32 anchors (width, height) as shares of the image")
        if not 1 <= len(self.classes) <= 1000:
            raise UsageError(f"detector: needs 1 to 1000 classes, not {len(self.classes)}")
        if not (0 < self.threshold < 1 and 0 < self.overlap <= 1 and 1 <= self.boxes <= 1000):
            raise UsageError("detector: threshold and overlap lie in 0..1, boxes in 1..1000")

    @property
    def channels(self) -> int:
        """Channels of the grid."""
        return len(self.anchors) * (5 + len(self.classes))


@dataclass(frozen=True)
class Box:
    """A box as the device gives it: edges in 1/16384 of the image, score in 1/32768, class index."""

    left: int
    top: int
    right: int
    bottom: int
    score: int
    label: int


@dataclass(frozen=True)
class Tables:
    """Functions of an int8 value, by value + 128 (`fade`: by how far a class is below the best one).

    uint16 [256] each: sigmoid in 1/32768, exp in 1/4096, exp(-difference) in 1/32768.
    """

    sigmoid: tuple[int, ...]
    stretch: tuple[int, ...]
    fade: tuple[int, ...]


def read_head(path: Path) -> Head:
    """The head described by a JSON file as `write_head` makes it; UsageError says what is wrong with it."""
    try:
        if path.stat().st_size > 1 << 20:
            raise ValueError("more than a megabyte")
        table = json.loads(path.read_text(encoding="utf-8"))
        anchors = tuple((float(width), float(height)) for width, height in table.pop("anchors"))
        classes = tuple(map(str, table.pop("classes")))
        rest = {name: kind(table.pop(name)) for name, kind in _REST.items() if name in table}
        if table:
            raise ValueError(f"{', '.join(map(repr, table))} not known")
        return Head(anchors, classes, **rest)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, UsageError) as error:
        raise UsageError(
            f"{path} does not describe a detector ({error}); it wants JSON with "
            '"anchors": [[width, height], ...] as shares of the image and "classes": [names]'
        ) from error


_REST: dict[str, Callable[[Any], Any]] = {"threshold": float, "overlap": float, "boxes": int}


def write_head(head: Head, path: Path) -> None:
    """`head` as JSON, for `read_head`."""
    path.write_text(json.dumps(asdict(head), indent=1) + "\n", encoding="utf-8")


def check_port(head: Head, port: Port) -> tuple[int, int]:
    """(rows, columns) of the grid; UsageError where `port` is not one of `head`."""
    if port.dtype is not DType.INT8 or len(port.shape) != 4 or port.shape[3] != head.channels:
        wanted = f"{len(head.anchors)} anchors x (5 + {len(head.classes)} classes) = {head.channels} channels"
        shape = "x".join(map(str, port.shape))
        raise UsageError(
            f"the network's output is {port.dtype.value} {shape}, the detector wants an int8 map of {wanted}"
        )
    return port.shape[1], port.shape[2]


def tables(port: Port) -> Tables:
    """The tables for values of `port`'s scale and zero point."""
    reals = [port.scale * (q - port.zero_point) for q in range(-128, 128)]
    return Tables(
        tuple(round(ONE / (1 + math.exp(-max(real, -80.0)))) for real in reals),
        tuple(min(round(STRETCH * math.exp(min(real, 3.0))), 0xFFFF) for real in reals),
        tuple(round(ONE * math.exp(-port.scale * step)) for step in range(256)),
    )


def find_boxes(head: Head, port: Port, grid: npt.NDArray[np.int8]) -> list[Box]:
    """The boxes in `grid`, the network's output, best first: bit for bit what the C finds."""
    rows, columns = check_port(head, port)
    table = tables(port)
    least = _parts(head.threshold)
    anchors = _anchors(head)
    cells = grid.reshape(rows * columns, len(anchors), -1).astype(np.int64)
    found: list[Box] = []
    for place, anchor in np.argwhere(np.array(table.sigmoid)[cells[:, :, 4] + 128] >= least).tolist():
        x, y, w, h, objectness, *scores = cells[place, anchor].tolist()
        best = max(scores)
        score = (table.sigmoid[objectness + 128] << 15) // sum(table.fade[best - q] for q in scores)
        if score < least:
            continue
        row, column = divmod(place, columns)
        centre_x = ((column << 15) + table.sigmoid[x + 128]) // (2 * columns)
        centre_y = ((row << 15) + table.sigmoid[y + 128]) // (2 * rows)
        half_w = anchors[anchor][0] * table.stretch[w + 128] >> 13
        half_h = anchors[anchor][1] * table.stretch[h + 128] >> 13
        left, top = max(centre_x - half_w, 0), max(centre_y - half_h, 0)
        right, bottom = min(centre_x + half_w, SIDE), min(centre_y + half_h, SIDE)
        found.append(Box(left, top, right, bottom, score, scores.index(best)))
    found.sort(key=lambda box: -box.score)  # stable: of equals, the first one in the grid
    return _suppressed(found[: head.boxes], _parts(head.overlap))


def _suppressed(found: list[Box], overlap: int) -> list[Box]:
    kept: list[Box] = []
    for box in found:
        if not any(box.label == other.label and _overlap(box, other, overlap) for other in kept):
            kept.append(box)
    return kept


def _overlap(a: Box, b: Box, most: int) -> bool:
    """Whether intersection over union is beyond `most` / 32768."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    if width <= 0 or height <= 0:
        return False
    shared = width * height
    union = (a.right - a.left) * (a.bottom - a.top) + (b.right - b.left) * (b.bottom - b.top) - shared
    return shared << 15 > most * union


def _parts(share: float) -> int:
    return max(1, round(share * ONE))


def _anchors(head: Head) -> list[tuple[int, int]]:
    return [(round(width * SIDE), round(height * SIDE)) for width, height in head.anchors]


def pack(boxes: list[Box], head: Head) -> bytes:
    """`boxes` as `struct network_boxes` lies in the device's memory, the rest of it zero."""
    flat = np.array([list(asdict(box).values()) for box in boxes], "<u2")
    return np.array([len(boxes)], "<u4").tobytes() + flat.tobytes().ljust(head.boxes * BOX_BYTES, b"\0")


def unpack(data: bytes) -> list[Box]:
    """The boxes in a `struct network_boxes`."""
    count = int(np.frombuffer(data, "<u4", 1)[0])
    return [Box(*row) for row in np.frombuffer(data, "<u2", 6 * count, 4).reshape(count, 6).tolist()]


def detect_files(head: Head, port: Port, name: str) -> dict[str, str]:
    """network_detect.h and network_detect.c for a network called `name` whose output is `port`."""
    rows, columns = check_port(head, port)
    values = {
        "name": safe_comment(name) or "network",
        "classes": [safe_comment(text) for text in head.classes],
        "anchors": _anchors(head),
        "rows": rows,
        "columns": columns,
        "boxes": head.boxes,
        "threshold": _parts(head.threshold),
        "overlap": _parts(head.overlap),
        "tables": asdict(tables(port)),
    }
    return {f"network_detect.{kind}": render(f"detect.{kind}.j2", **values) for kind in ("h", "c")}


def with_boxes(sources: Sources, head: Head) -> Sources:
    """`sources` whose firmware also finds the boxes, as a layer of its own, and gives them as a second
    output."""
    if len(sources.inputs) != 1 or len(sources.outputs) != 1:
        raise UsageError(f"{sources.network}: a detector has one input and one output")
    files = {
        **sources.files,
        **detect_files(head, sources.outputs[0], sources.network),
        "th_network.c": render("detect_runtime.c.j2"),
    }
    size = 4 + head.boxes * BOX_BYTES
    return replace(
        sources,
        engine=f"{sources.engine}+boxes",  # its counts are not those of the network alone
        files=dict(sorted(files.items())),
        outputs=(*sources.outputs, Port("boxes", (size,), DType.UINT8, size)),
        layers=(*sources.layers, Layer("boxes", "DETECT", "network_detect", 0)),
        notes={**sources.notes, "detector": f"{head.boxes} boxes, threshold {head.threshold}"},
    )
