"""Data sets as users have them on disk: ImageNet folders, Visual Wake Words, Google Speech Commands.

Each loader reads the layout of the original download and gives a `Dataset` in memory. The search's
validation part is always cut from the training part; what the set calls validation (or testing) is
kept for the end.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tinyhil.errors import MissingTool, UsageError
from tinyhil.nas.audio import RATE, TIME, mfcc
from tinyhil.nas.data import Dataset, Images, Split

PICTURES = (".jpeg", ".jpg", ".png")
PERSON_AREA = 0.005  # of the image: Visual Wake Words counts a person from here on
TEN_WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")

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
        raise UsageError(f"{root}: no folder for {', '.join(missing[:5]) or 'any class'} in train/ and val/")

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


def visual_wake_words(
    annotations: Path, images: Path, size: int, limit: int | None = None, seed: int = 0
) -> Dataset:
    """Person or no person, from COCO: `annotations` has instances_train2017.json and
    instances_val2017.json (or 2014), `images` the folders train2017/ and val2017/.

    A picture counts as "person" if one person's box covers more than half a percent of it; pictures
    whose persons are all smaller are left out, as the set's authors do.
    """
    train, val = (_wake_words(annotations, images, part, limit) for part in ("train", "val"))
    load = _pictures(size)
    return _three("vww", ("no person", "person"), train, val, load, seed, "Visual Wake Words from COCO")


def speech_commands(root: Path, words: int = 35, limit: int | None = None, seed: int = 0) -> Dataset:
    """Google Speech Commands v2: `root/<word>/*.wav`, validation_list.txt and testing_list.txt.

    `words` is 35 (every folder), or 12: ten commands, `unknown` (all other words) and `silence` (cut
    from _background_noise_). Each second becomes 49 x 10 MFCCs.
    """
    if not (root / "testing_list.txt").is_file():
        raise UsageError(f"{root} has no testing_list.txt: it is not the unpacked Speech Commands set")
    if words not in (12, 35):
        raise UsageError(f"Speech Commands is used with 12 or 35 words, not {words}")
    testing = set((root / "testing_list.txt").read_text().split())
    folders = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("_"))
    names = tuple(folders) if words == 35 else (*TEN_WORDS, "unknown", "silence")
    train: list[Labelled] = []
    test: list[Labelled] = []
    for folder in folders:
        label = names.index(folder if folder in names else "unknown")
        for path in sorted((root / folder).glob("*.wav"))[:limit]:
            # The set's own validation files are used for training: the search cuts its own part.
            (test if f"{folder}/{path.name}" in testing else train).append((path, label))
    if words == 12:
        quiet = sorted((root / "_background_noise_").glob("*.wav"))
        train += [(path, names.index("silence")) for path in quiet]
        test += [(path, names.index("silence")) for path in quiet]

    def load(files: Iterable[Labelled]) -> Images:
        return np.stack([mfcc(read_wav(path)) for path, _ in files]).astype(np.float32)[..., None]

    made = _three(f"gsc{words}", names, train, test, load, seed, "Google Speech Commands v2")
    return replace(made, movable=TIME)


def read_wav(path: Path) -> Any:
    """One second of a 16 kHz mono 16-bit file as float32 [16000] in [-1, 1], padded or cut."""
    try:
        with wave.open(str(path)) as file:
            if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE):
                raise UsageError(f"{path} is not 16 kHz, mono, 16 bit")
            data = np.frombuffer(file.readframes(RATE), "<i2")
    except (wave.Error, EOFError, OSError) as error:
        raise UsageError(f"{path} is not a readable .wav file: {error}") from error
    sound = np.zeros(RATE, np.float32)
    sound[: len(data)] = data / 32768
    return sound


def _wake_words(annotations: Path, images: Path, part: str, limit: int | None) -> list[Labelled]:
    found = sorted(annotations.glob(f"instances_{part}*.json"))
    if not found:
        raise UsageError(f"{annotations} has no instances_{part}2017.json (or 2014): COCO's annotations")
    try:
        table = json.loads(found[0].read_text())
        person = {c["id"] for c in table["categories"] if c["name"] == "person"}
        sizes = {i["id"]: (i["file_name"], i["width"] * i["height"]) for i in table["images"]}
        largest = dict.fromkeys(sizes, 0.0)
        for box in table["annotations"]:
            if box["category_id"] in person and box["image_id"] in sizes:
                area = box["bbox"][2] * box["bbox"][3] / sizes[box["image_id"]][1]
                largest[box["image_id"]] = max(largest[box["image_id"]], area)
    except (ValueError, KeyError, TypeError, ZeroDivisionError, IndexError) as error:
        raise UsageError(f"{found[0]} is not a COCO instances file: {error!r}") from error
    folder = images / found[0].stem.removeprefix("instances_")
    labelled: list[list[Labelled]] = [[], []]
    for image, share in sorted(largest.items()):
        if share == 0.0 or share > PERSON_AREA:
            label = int(share > 0.0)
            labelled[label].append((_inside(folder, sizes[image][0]), label))
    return [*labelled[0][:limit], *labelled[1][:limit]]


def _inside(folder: Path, name: str) -> Path:
    """`folder`/`name`, where the name comes from a file that is not trusted."""
    if Path(name).name != name or name in ("", ".", ".."):
        raise UsageError(f"the image name {name!r} leads out of {folder}")
    return folder / name


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
