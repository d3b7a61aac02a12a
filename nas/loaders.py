"""Sets of pictures as users have them on disk: ImageNet folders, Visual Wake Words.

Each loader reads the layout of the original download and gives a `Dataset` in memory. The search's
validation part is always cut from the training part; what the set calls validation (or testing) is
kept for the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from tinyhil.errors import MissingTool, UsageError
from tinyhil.nas.data import Dataset, Images, Split

PICTURES = (".jpeg", ".jpg", ".png")
PERSON_AREA = 0.005  # of the image: Visual Wake Words counts a person from here on
COCO_PARTS = (("maxitrain", "minival"), ("train2017", "val2017"), ("train2014", "val2014"))
COCO_FOLDERS = ("all2014", "train2014", "val2014", "all2017", "train2017", "val2017")

Labelled = tuple[Path, int]


def image_folders(
    root: Path, size: int, classes: Sequence[str] | None = None, limit: int | None = None, seed: int = 0
) -> Dataset:
    """`root/train/<class>/*.JPEG` and `root/val/<class>/*.JPEG`, as ImageNet is unpacked.

    `classes` picks some of them, in that order (the ImageNet-100 list, say); `limit` is a number of
    images per class and part. Images are cropped to their central square and resized to `size`.
    """
    train, val = root / "train", root / "val"
    if not train.is_dir() or not val.is_dir():
        raise UsageError(f"{root} has no folders train/ and val/ with one folder per class in each")
    names = tuple(classes) if classes else tuple(sorted(p.name for p in train.iterdir() if p.is_dir()))
    missing = [name for name in names if not (train / name).is_dir() or not (val / name).is_dir()]
    if missing or not names:
        raise UsageError(
            f"{root}: no folder for {', '.join(missing[:5]) or 'any class'} in train/ and val/; ImageNet's "
            "val is unpacked flat, so sort its pictures into a folder per class as those of train are"
        )

    def listed(part: Path) -> list[Labelled]:
        return [
            (path, label)
            for label, name in enumerate(names)
            for path in sorted(p for p in (part / name).iterdir() if p.suffix.lower() in PICTURES)[:limit]
        ]

    load = _pictures(size)
    return _three(root.name, names, listed(train), listed(val), load, seed, "image folders")


def class_list(path: Path) -> tuple[str, ...]:
    """The first word of every line of a list of classes, such as the published ImageNet-100 list."""
    try:
        return tuple(line.split()[0] for line in path.read_text().splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a readable list of classes: {error}") from error


def visual_wake_words(root: Path, size: int, limit: int | None = None, seed: int = 0) -> Dataset:
    """Person or no person, from COCO: annotations/instances_train2017.json and instances_val2017.json (or
    2014) below `root`, pictures in train2017/ and val2017/. If instances_maxitrain.json and
    instances_minival.json are there, which is how the set's authors cut 2014's, those are taken.

    A picture counts as "person" if one person's annotated area, crowds included, is more than half a
    percent of it, and as "no person" in any other case.
    """
    for parts in COCO_PARTS:
        if all((root / "annotations" / f"instances_{part}.json").is_file() for part in parts):
            train, val = (_wake_words(root, part, limit) for part in parts)
            load = _pictures(size)
            names = ("no person", "person")
            return _three("vww", names, train, val, load, seed, f"Visual Wake Words from COCO, {parts[0]}")
    wanted = " or ".join(f"instances_{train}.json with instances_{val}.json" for train, val in COCO_PARTS)
    raise UsageError(f"{root}/annotations has not {wanted}")


def _wake_words(root: Path, part: str, limit: int | None) -> list[Labelled]:
    file = root / "annotations" / f"instances_{part}.json"
    try:
        table = json.loads(file.read_text())
        person = {c["id"] for c in table["categories"] if c["name"] == "person"}
        pictures = {i["id"]: (str(i["file_name"]), i["width"] * i["height"]) for i in table["images"]}
        largest = dict.fromkeys(pictures, 0.0)
        for thing in table["annotations"]:
            if thing["category_id"] in person and thing["image_id"] in pictures:
                share = thing["area"] / pictures[thing["image_id"]][1]
                largest[thing["image_id"]] = max(largest[thing["image_id"]], share)
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise UsageError(f"{file} is not a COCO instances file: {error!r}") from error
    labelled: list[list[Labelled]] = [[], []]
    for image, share in sorted(largest.items()):
        label = int(share > PERSON_AREA)
        if limit is None or len(labelled[label]) < limit:
            labelled[label].append((_picture_of(root, part, pictures[image][0]), label))
    return [*labelled[0], *labelled[1]]


def _picture_of(root: Path, part: str, name: str) -> Path:
    """Where the picture `name` of `part` is; the name comes from a file that is not trusted."""
    if Path(name).name != name or name in ("", ".", ".."):
        raise UsageError(f"the image name {name!r} leads out of {root}")
    folders = [part, *COCO_FOLDERS]
    for folder in folders:
        if (root / folder / name).is_file():
            return root / folder / name
    raise UsageError(f"{root}: {name} of instances_{part}.json is in none of {', '.join(folders)}")


def _pictures(size: int) -> Callable[[Iterable[Labelled]], Images]:
    """A function that reads pictures as [N,size,size,3] in [-1, 1]: central square, resized."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingTool("reading pictures needs Pillow: pip install pillow") from error

    def one(path: Path) -> Images:
        try:
            with Image.open(path) as picture:
                side = min(picture.size)
                left, top = ((edge - side) // 2 for edge in picture.size)
                square = picture.convert("RGB").crop((left, top, left + side, top + side))
                sized = square.resize((size, size), Image.Resampling.BILINEAR)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise UsageError(f"{path} is not a readable picture: {error}") from error
        return np.asarray(sized, np.float32) / np.float32(127.5) - 1

    return lambda files: np.stack([one(path) for path, _ in files])


def _three(
    name: str,
    classes: tuple[str, ...],
    train: list[Labelled],
    test: list[Labelled],
    load: Callable[[Iterable[Labelled]], Images],
    seed: int,
    note: str,
) -> Dataset:
    """The search's validation part is a tenth of `train` (10 000 at most), drawn by `seed`."""
    order = np.random.default_rng(seed).permutation(len(train))
    held = min(10_000, max(1, len(train) // 10))
    if len(train) < 2 or not test:
        raise UsageError(f"data set {name}: {len(train)} training and {len(test)} test files are too few")
    parts = ([train[i] for i in order[held:]], [train[i] for i in order[:held]], test)
    fit, valid, final = (
        Split(load(part), np.array([label for _, label in part], np.int64)) for part in parts
    )
    return Dataset(name, classes, fit, valid, final, note)
