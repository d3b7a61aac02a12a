"""How good are the boxes? Average precision as Pascal VOC counts it (Everingham et al., 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyhil.nas.voc import Corners, Thing


@dataclass(frozen=True)
class Found:
    """A box that a detector gives: class, corners as shares of the picture, score (any monotone scale)."""

    label: int
    box: Corners
    score: float


@dataclass(frozen=True)
class Precision:
    """Average precision per class that occurs, by index: over all points, and VOC 2007's 11 points."""

    every: dict[int, float]
    eleven: dict[int, float]

    @property
    def mean(self) -> float:
        """mAP over all points; 0 where nothing was there to find."""
        return float(np.mean(list(self.every.values()))) if self.every else 0.0

    @property
    def mean_eleven(self) -> float:
        """mAP by VOC 2007's 11 points."""
        return float(np.mean(list(self.eleven.values()))) if self.eleven else 0.0


def iou(a: Corners, b: Corners) -> float:
    """Intersection over union of two boxes; 0 where both are empty."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def mean_average_precision(
    found: Sequence[Sequence[Found]], truth: Sequence[Sequence[Thing]], overlap: float = 0.5
) -> Precision:
    """`found` and `truth` per picture, judged class by class.

    In order of score each box takes the object of its class and picture that it overlaps most. It is
    right if that overlap is at least `overlap` and no better box took the object before. Boxes on
    `difficult` objects count neither way, and such objects need not be found.
    """
    every, eleven = {}, {}
    labels = {thing.label for things in truth for thing in things if not thing.difficult}
    for label in sorted(labels):
        right, wanted = _judged(found, truth, label, overlap)
        every[label] = average_precision(right, wanted)
        eleven[label] = average_precision(right, wanted, eleven=True)
    return Precision(every, eleven)


def average_precision(right: Sequence[bool], wanted: int, *, eleven: bool = False) -> float:
    """Of boxes in order of score, each right or wrong, with `wanted` objects to find: the area under the
    precision-recall curve made monotone, or its mean at recalls 0, 0.1, ... 1."""
    hits = np.cumsum(np.asarray(right, np.int64))
    precision = hits / np.arange(1, len(hits) + 1)
    best: npt.NDArray[np.float64] = np.maximum.accumulate(precision[::-1])[::-1]
    if eleven:
        # In integers: a recall of exactly 3 tenths must not be missed by a rounding.
        reached = [best[10 * hits >= tenth * wanted] for tenth in range(11)]
        return float(np.mean([part.max(initial=0.0) for part in reached]))
    return float(best[np.asarray(right, np.bool_)].sum() / wanted)


def _judged(
    found: Sequence[Sequence[Found]], truth: Sequence[Sequence[Thing]], label: int, overlap: float
) -> tuple[list[bool], int]:
    """Right or wrong for each box of class `label` that counts, best first; and how many objects count."""
    objects = [[thing for thing in things if thing.label == label] for things in truth]
    boxes = [(one.score, at, one) for at, given in enumerate(found) for one in given if one.label == label]
    boxes.sort(key=lambda row: -row[0])
    taken: set[tuple[int, int]] = set()
    right: list[bool] = []
    for _, at, one in boxes:
        overlaps = [iou(one.box, thing.box) for thing in objects[at]]
        best = max(range(len(overlaps)), key=overlaps.__getitem__, default=-1)
        if best < 0 or overlaps[best] < overlap:
            right.append(False)
        elif not objects[at][best].difficult:
            right.append((at, best) not in taken)
            taken.add((at, best))
    return right, sum(not thing.difficult for things in objects for thing in things)
