"""Object detection data in Pascal VOC's layout: pictures, one XML file each, and lists of names.

    VOC2007/JPEGImages/000005.jpg  VOC2007/Annotations/000005.xml  VOC2007/ImageSets/Main/trainval.txt

Annotations are untrusted files: they may declare no entities, and every number in them is checked.
Edges are 1-based and inclusive in the files; here a box is (left, top, right, bottom) as shares of the
picture in 0..1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from tinyhil.errors import MissingTool, UsageError
from tinyhil.nas.loaders import PICTURES
from tinyhil.nas.size import Size

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]
Corners = tuple[float, float, float, float]

MAX_XML = 1 << 20  # bytes; a crowded picture takes 20 kB
MAX_OBJECTS = 2000


@dataclass(frozen=True)
class Thing:
    """One object in a picture: class index and box. `difficult` ones are not counted when judging."""

    label: int
    box: Corners
    difficult: bool = False


@dataclass(frozen=True, eq=False)
class Scenes:
    """Pictures [N,H,W,3] uint8, stretched to one size, and what is in each."""

    images: Pixels
    things: tuple[tuple[Thing, ...], ...]

    def __len__(self) -> int:
        return len(self.things)

    def take(self, indices: Sequence[int]) -> Scenes:
        """The scenes at `indices`, in that order."""
        return Scenes(self.images[list(indices)], tuple(self.things[i] for i in indices))


@dataclass(frozen=True, eq=False)
class DetectionSet:
    """A named set: `train` for weights and calibration, `valid` to choose by, `test` for the end."""

    name: str
    classes: tuple[str, ...]
    train: Scenes
    valid: Scenes
    test: Scenes
    note: str = ""


@dataclass(frozen=True)
class Annotation:
    """What one XML file says: size in pixels as it is given there (None if not), and named boxes in pixels,
    from 0 and exclusive at the right and lower edge."""

    size: tuple[int, int] | None
    objects: tuple[tuple[str, Corners, bool], ...]


@dataclass(frozen=True)
class Entry:
    """One listed picture, its annotation's file, and what that says."""

    picture: Path
    file: Path
    annotation: Annotation


@dataclass(frozen=True)
class Listing:
    """A set before its pictures are read: class names, and what each part consists of."""

    classes: tuple[str, ...]
    train: tuple[Entry, ...]
    valid: tuple[Entry, ...]
    test: tuple[Entry, ...]


def voc(
    root: Path, size: Size, classes: Sequence[str] | None = None, limit: int | None = None, seed: int = 0
) -> DetectionSet:
    """The set that `listing` finds at `root`, its pictures stretched to `size`."""
    found = listing(root, classes, limit, seed)
    fit, valid, test = (_scenes(part, found.classes, size) for part in (found.train, found.valid, found.test))
    return DetectionSet(root.name, found.classes, fit, valid, test, "Pascal VOC layout")


def listing(
    root: Path, classes: Sequence[str] | None = None, limit: int | None = None, seed: int = 0
) -> Listing:
    """A set in VOC's layout at `root`: one year's folder, or one that holds several (VOCdevkit).

    Trained on every `trainval` list, judged on every `test` list; where no year has a `test` list (as
    2012, whose test part was never published), on `val` after training on `train`. `classes` fixes
    names and order; else they are all that occur, sorted, as VOC's own. `limit` is a number
    of pictures per list. UsageError names the file that is wrong.
    """
    years = _years(root)
    tests = _listed(years, "test", limit)
    train = _listed(years, "trainval" if tests else "train", limit)
    tests = tests or _listed(years, "val", limit)
    if len(train) < 2 or not tests:
        raise UsageError(
            f"{root}: {len(train)} pictures to train and {len(tests)} to test with are too few; wanted are "
            "ImageSets/Main/trainval.txt and test.txt, or train.txt and val.txt, one picture's name a line"
        )
    entries = [Entry(*files, read_annotation(files[1])) for files in (*train, *tests)]
    names = tuple(classes or sorted({name for each in entries for name, _, _ in each.annotation.objects}))
    if not names:
        raise UsageError(f"{root}: there is no object in any of the {len(entries)} annotations")
    order = np.random.default_rng(seed).permutation(len(train)).tolist()
    held = max(1, len(train) // 10)
    fit, valid = (tuple(entries[at] for at in part) for part in (order[held:], order[:held]))
    return Listing(names, fit, valid, tuple(entries[len(train) :]))


def read_annotation(path: Path) -> Annotation:
    """One XML file of the layout. UsageError says what is wrong in which file."""
    try:
        if path.stat().st_size > MAX_XML:
            raise ValueError(f"more than {MAX_XML} bytes")
        top = _parse(path.read_bytes())
        if top.tag != "annotation":
            raise ValueError(f"the root is <{top.tag[:40]}>, not <annotation>")
        found = top.findall("object")
        if len(found) > MAX_OBJECTS:
            raise ValueError(f"{len(found)} objects are more than {MAX_OBJECTS}")
        return Annotation(_size(top), tuple(_object(each, at) for at, each in enumerate(found, 1)))
    except (OSError, ValueError, expat.ExpatError, ElementTree.ParseError, RecursionError) as error:
        raise UsageError(f"{path} is not a VOC annotation: {error}") from error


def _parse(data: bytes) -> ElementTree.Element:
    """The tree; ValueError if there is a document type, which is where entities would be declared."""

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type; VOC's files have none")

    guard = expat.ParserCreate()
    guard.StartDoctypeDeclHandler = refuse
    guard.Parse(data, True)
    return ElementTree.fromstring(data)


def _size(top: ElementTree.Element) -> tuple[int, int] | None:
    size = top.find("size")
    if size is None:
        return None
    width, height = (int(_number(size, side)) for side in ("width", "height"))
    return (width, height) if width > 0 and height > 0 else None  # some tools write zeros


def _object(thing: ElementTree.Element, at: int) -> tuple[str, Corners, bool]:
    name = (thing.findtext("name") or "").strip()
    if not re.fullmatch(r"[\w .,+-]{1,64}", name):
        raise ValueError(f"object {at} has no name, or one with odd characters: {name[:40]!r}")
    box = thing.find("bndbox")
    if box is None:
        raise ValueError(f"object {at} ({name}) has no <bndbox>")
    left, top, right, bottom = (_number(box, edge) for edge in ("xmin", "ymin", "xmax", "ymax"))
    if right < left or bottom < top:
        raise ValueError(f"object {at} ({name}): {left:g},{top:g} to {right:g},{bottom:g} is not a box")
    difficult = (thing.findtext("difficult") or "0").strip() == "1"
    return name, (left - 1, top - 1, right, bottom), difficult


def _number(parent: ElementTree.Element, name: str) -> float:
    text = (parent.findtext(name) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not -1e6 < value < 1e6:
        raise ValueError(f"<{name}> in <{parent.tag}> is {text[:40]!r}, not a number")
    return value


def _years(root: Path) -> list[Path]:
    """The folders at or below `root` that hold the layout."""
    wanted = ("JPEGImages", "Annotations", "ImageSets/Main")
    around = [root, *sorted(root.glob("VOC*")), *sorted(root.glob("VOCdevkit/VOC*"))]
    found = [folder for folder in around if all((folder / name).is_dir() for name in wanted)]
    if not found:
        raise UsageError(f"{root} is not in Pascal VOC's layout: it has no folders {', '.join(wanted)}")
    return found


def _listed(years: Sequence[Path], part: str, limit: int | None) -> list[tuple[Path, Path]]:
    """(picture, annotation) of every name in ImageSets/Main/`part`.txt."""
    found = []
    for year in years:
        file = year / "ImageSets" / "Main" / f"{part}.txt"
        try:
            lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} is not a list of names: {error}") from error
        for number, words in [(n, line.split()) for n, line in enumerate(lines, 1) if line.strip()][:limit]:
            name = words[0]  # a class's own list has 1, 0 or -1 behind it
            if not re.fullmatch(r"\w[\w.+-]{0,200}", name):
                raise UsageError(f"{file}, line {number}: {name[:60]!r} is not the name of a picture")
            pictures = [year / "JPEGImages" / (name + kind) for kind in (*PICTURES, ".JPG")]
            picture = next((each for each in pictures if each.is_file()), None)
            annotation = year / "Annotations" / f"{name}.xml"
            if picture is None or not annotation.is_file():
                missing = pictures[1] if picture is None else annotation
                raise UsageError(f"{file}, line {number}: {name} is listed, but {missing} is not there")
            found.append((picture, annotation))
    return found


def _scenes(part: Sequence[Entry], names: tuple[str, ...], size: Size) -> Scenes:
    images = np.empty((len(part), size.height, size.width, 3), np.uint8)
    things = []
    for at, entry in enumerate(part):
        picture = picture_of(entry)
        images[at] = stretched(picture, size)
        things.append(things_of(entry, names, picture.size))
    return Scenes(images, tuple(things))


def things_of(entry: Entry, names: tuple[str, ...], shape: tuple[int, int]) -> tuple[Thing, ...]:
    """What `entry` shows, for a picture of `shape` (width, height) pixels."""
    return tuple(_thing(each, names, shape, entry.file) for each in entry.annotation.objects)


def _thing(
    each: tuple[str, Corners, bool], names: tuple[str, ...], shape: tuple[int, int], file: Path
) -> Thing:
    name, box, difficult = each
    if name not in names:
        raise UsageError(f"{file}: class {name!r} is not one of {', '.join(names[:30])}")
    left, top, right, bottom = (
        min(max(edge / full, 0.0), 1.0) for edge, full in zip(box, shape * 2, strict=True)
    )
    if left >= right or top >= bottom:
        raise UsageError(f"{file}: a box of {name!r} lies outside of the picture of {shape} pixels")
    return Thing(names.index(name), (left, top, right, bottom), difficult)


def picture_of(entry: Entry) -> Image:
    """The picture of `entry` in RGB; UsageError where its size is not the one that was annotated."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingTool("reading pictures needs Pillow: pip install pillow") from error
    try:
        with Image.open(entry.picture) as picture:
            read = picture.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UsageError(f"{entry.picture} is not a readable picture: {error}") from error
    if entry.annotation.size not in (None, read.size):
        raise UsageError(
            f"{entry.file} was made for a picture of {entry.annotation.size} pixels, but "
            f"{entry.picture.name} has {read.size}: its boxes would lie in wrong places"
        )
    return read


def stretched(picture: Image, size: Size, part: Corners | None = None) -> Pixels:
    """The picture, or the `part` of it between (left, top, right, bottom) pixels, as [H,W,3] of `size`."""
    from PIL.Image import Resampling

    return np.asarray(picture.resize((size.width, size.height), Resampling.BILINEAR, part), np.uint8)
