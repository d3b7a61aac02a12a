"""The objects of a detection set as a classification set: what a search for a detector's backbone judges by.

Each object gives the square around it, and each picture a square that shows none. A network that tells
these apart has the features that the head of a detector needs; the head itself, and the place of objects,
are left to `tinyhil detect`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinyhil.errors import UsageError
from tinyhil.nas.data import Dataset, Split
from tinyhil.nas.size import Size
from tinyhil.nas.voc import Corners, Entry, Pixels, listing, picture_of, stretched, things_of

NOTHING = "(nothing)"  # no class of a VOC file can be called so
TRIES = 20


def voc_crops(root: Path, size: Size, limit: int | None = None, seed: int = 0) -> Dataset:
    """The boxes of the set in VOC's layout at `root`, at `size`, and as many squares without any object as
    are found, one a picture. `limit` is a number of pictures per list; difficult objects are left out. The
    parts are cut by pictures, as those of a detector are."""
    found = listing(root, limit=limit, seed=seed)
    names = (*found.classes, NOTHING)
    parts = (found.train, found.valid, found.test)
    fit, valid, test = (_crops(part, names, size, (seed, at)) for at, part in enumerate(parts))
    return Dataset(root.name, names, fit, valid, test, "objects cut out, Pascal VOC layout")


def _crops(entries: Sequence[Entry], names: tuple[str, ...], size: Size, seed: tuple[int, int]) -> Split:
    random = np.random.default_rng(seed)
    images: list[Pixels] = []
    labels: list[int] = []
    for entry in entries:
        picture = picture_of(entry)
        width, height = picture.size
        things = things_of(entry, names[:-1], (width, height))
        boxes = [
            (left * width, top * height, right * width, bottom * height)
            for left, top, right, bottom in (thing.box for thing in things)
        ]
        for thing, box in zip(things, boxes, strict=True):
            if not thing.difficult:
                images.append(stretched(picture, size, around(box, width, height)))
                labels.append(thing.label)
        if (empty := beside(boxes, width, height, random)) is not None:
            images.append(stretched(picture, size, empty))
            labels.append(len(names) - 1)
    if not images:
        raise UsageError(f"{entries[0].file.parent}: no object to cut out in {len(entries)} annotations")
    return Split(np.stack(images).astype(np.float32) / np.float32(127.5) - 1, np.array(labels, np.int64))


def around(box: Corners, width: int, height: int) -> Corners:
    """The square around `box` (pixels), moved into the picture, and no larger than its shorter side."""
    left, top, right, bottom = box
    side = min(max(right - left, bottom - top), width, height)
    x = min(max((left + right - side) / 2, 0.0), width - side)
    y = min(max((top + bottom - side) / 2, 0.0), height - side)
    return (x, y, x + side, y + side)


def beside(boxes: Sequence[Corners], width: int, height: int, random: np.random.Generator) -> Corners | None:
    """A square of the picture, an eighth to a half of its shorter side, that meets none of `boxes`; None
    where none is found in a few tries."""
    for _ in range(TRIES):
        side = random.uniform(1 / 8, 1 / 2) * min(width, height)
        x, y = random.uniform(0, width - side), random.uniform(0, height - side)
        if all(x + side <= b[0] or b[2] <= x or y + side <= b[1] or b[3] <= y for b in boxes):
            return (x, y, x + side, y + side)
    return None
