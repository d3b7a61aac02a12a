"""A seeded detection set of simple shapes, written to disk in Pascal VOC's layout. Labelled synthetic:
it shows that every step works, and says nothing of accuracy on photographs."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from tinyhil.errors import MissingTool
from tinyhil.nas.data import smooth_images
from tinyhil.nas.size import square

SHAPES = ("cross", "disc", "square", "triangle")  # sorted, as the loader sorts class names
Mask = npt.NDArray[np.bool_]


def write_shapes(root: Path, train: int, test: int, size: int = 64, seed: int = 0) -> Path:
    """`train` and `test` pictures of `size` pixels a side, one to four shapes each, below `root`; gives the
    year's folder. A shape that is mostly covered by a later one is marked difficult."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingTool("writing pictures needs Pillow: pip install pillow") from error
    year = root / "VOCdevkit" / "VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (year / name).mkdir(parents=True, exist_ok=True)
    names = [f"{number:06d}" for number in range(1, train + test + 1)]
    for number, name in enumerate(names):
        pixels, objects = draw(size, np.random.default_rng([seed, number]))
        Image.fromarray(pixels).save(year / "JPEGImages" / f"{name}.jpg", quality=95)
        (year / "Annotations" / f"{name}.xml").write_bytes(_annotation(name, size, objects))
    for part, chosen in (("trainval", names[:train]), ("test", names[train:])):
        (year / "ImageSets" / "Main" / f"{part}.txt").write_text("".join(f"{name}\n" for name in chosen))
    return year


Drawn = tuple[str, tuple[int, int, int, int], bool]


def draw(size: int, random: np.random.Generator) -> tuple[npt.NDArray[np.uint8], list[Drawn]]:
    """A picture [size,size,3] and what is in it: name, 1-based inclusive edges, difficult."""
    image = smooth_images(1, square(size), 3, int(random.integers(1 << 31)))[0] * 0.5
    masks: list[tuple[str, Mask]] = []
    for _ in range(int(random.integers(1, 5))):
        name = SHAPES[int(random.integers(len(SHAPES)))]
        mask = _mask(name, size, random)
        tone = random.uniform(-1, 1, 3)
        tone[int(random.integers(3))] = random.choice([-1.0, 1.0])  # it stands out from the soft ground
        image[mask] = 0.15 * image[mask] + 0.85 * tone
        masks.append((name, mask))
    image += random.normal(0, 0.03, image.shape).astype(np.float32)
    pixels = np.clip((image + 1) * 127.5, 0, 255).astype(np.uint8)
    drawn: list[Drawn] = []
    for at, (name, mask) in enumerate(masks):
        rows, columns = np.nonzero(mask)
        seen = mask.copy()
        for _, later in masks[at + 1 :]:
            seen &= ~later
        edges = (columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1)
        left, top, right, bottom = map(int, edges)
        drawn.append((name, (left, top, right, bottom), bool(seen.sum() < 0.5 * mask.sum())))
    return pixels, drawn


def _mask(name: str, size: int, random: np.random.Generator) -> Mask:
    width, height = random.uniform(0.18, 0.5, 2) * size
    if name == "disc":
        height = width
    x = random.uniform(width / 2, size - width / 2)
    y = random.uniform(height / 2, size - height / 2)
    rows, columns = np.mgrid[0:size, 0:size] + 0.5
    across, down = 2 * (columns - x) / width, 2 * (rows - y) / height  # -1..1 inside
    inside = np.maximum(abs(across), abs(down)) <= 1
    match name:
        case "disc":
            inside &= across**2 + down**2 <= 1
        case "triangle":
            inside &= abs(across) <= (down + 1) / 2
        case "cross":
            inside &= np.minimum(abs(across), abs(down)) <= 0.35
    return np.asarray(inside, np.bool_)


def _annotation(name: str, size: int, objects: list[Drawn]) -> bytes:
    top = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, tag: str, text: object = None) -> ElementTree.Element:
        child = ElementTree.SubElement(parent, tag)
        child.text = None if text is None else str(text)
        return child

    add(top, "folder", "VOC2007")
    add(top, "filename", f"{name}.jpg")
    add(add(top, "source"), "database", "synthetic shapes")
    sides = add(top, "size")
    for tag, value in (("width", size), ("height", size), ("depth", 3)):
        add(sides, tag, value)
    for kind, edges, difficult in objects:
        thing = add(top, "object")
        add(thing, "name", kind)
        add(thing, "truncated", 0)
        add(thing, "difficult", int(difficult))
        box = add(thing, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True):
            add(box, tag, value)
    ElementTree.indent(top)
    return ElementTree.tostring(top)
