"""Miniature data sets on disk, in the layout that the originals have."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from tinyhil.nas.audio import RATE
from tinyhil.nas.speech import speaker_percent
from tinyhil.nas.synthetic import tone_gesture

TONES = {"n01440764": (255, 0, 0), "n01443537": (0, 255, 0), "n01484850": (0, 0, 255)}
# What is in pictures of 100 x 50 pixels, each as (category, annotated area, crowd). Half a percent is 25.
THINGS = {
    "person": (1, 26, 0),
    "crowd": (1, 2000, 1),
    "small_person": (1, 24, 0),
    "dog": (18, 2500, 0),
}


def save_picture(path: Path, tone: tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new("RGB", size, tone).save(path)


def imagenet_tree(root: Path, each: int = 4) -> Path:
    """Three synsets, `each` pictures of one tone to train, one a bit darker to validate. As in the original,
    one file is a PNG under a JPEG's name and one is CMYK; one ending is in lower case."""
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    for name, tone in TONES.items():
        for number in range(each):
            save_picture(root / "train" / name / f"{name}_{number}.JPEG", tone)
        picture = image.new("RGB", (40, 30), tone)
        picture.save(root / "train" / name / f"{name}_1.JPEG", format="PNG")
        picture.convert("CMYK").save(root / "train" / name / f"{name}_2.JPEG")
        (root / "train" / name / f"{name}_0.JPEG").rename(root / "train" / name / f"{name}_0.jpeg")
        dark = (tone[0] * 4 // 5, tone[1] * 4 // 5, tone[2] * 4 // 5)
        save_picture(root / "val" / name / f"ILSVRC2012_val_{name[1:]}.JPEG", dark)
    return root


def coco(names: list[str]) -> dict[str, object]:
    """An instances file: of each thing a picture, and one of nothing."""
    images = [
        {"id": i, "file_name": name, "width": 100, "height": 50, "license": 1} for i, name in enumerate(names)
    ]
    found = [
        {
            "id": i, "image_id": i, "category_id": kind, "area": area, "iscrowd": crowd,
            "bbox": [3.0, 2.0, 20.0, 20.0], "segmentation": [[3.0, 2.0, 23.0, 2.0, 23.0, 22.0]],
        }
        for i, (kind, area, crowd) in enumerate(THINGS.values())
    ]  # fmt: skip
    categories = [
        {"id": 1, "name": "person", "supercategory": "person"},
        {"id": 18, "name": "dog", "supercategory": "animal"},
    ]
    return {"info": {}, "licenses": [], "images": images, "annotations": found, "categories": categories}


def coco_tree(
    root: Path, parts: tuple[str, str] = ("train2017", "val2017"), folder: str | None = None
) -> Path:
    """annotations/ and pictures, white where the set counts a person; all in `folder` if it is given."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts):
        names = [f"{100 * number + i:012d}.jpg" for i in range(len(THINGS) + 1)]
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(coco(names)))
        for name, thing in zip(names, [*THINGS, "nothing"], strict=True):
            tone = (255, 255, 255) if thing in ("person", "crowd") else (0, 0, 0)
            save_picture(root / (folder or part) / name, tone, (100, 50))
    return root


def save_sound(path: Path, sound: np.ndarray[tuple[int], np.dtype[np.float64]], rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())


def speakers(low: float, high: float, count: int) -> list[str]:
    """Names that the hash of the set's authors places between `low` and `high` percent."""
    names = (f"{number:08x}" for number in range(10_000))
    return [name for name in names if low <= speaker_percent(name) < high][:count]


def speech_tree(root: Path) -> Path:
    """Three words, each said by seven speakers to train, one to choose by, two of each list; noise."""
    random = np.random.default_rng(0)
    validation, testing = speakers(0, 10, 2), speakers(10, 20, 2)
    everyone = [*speakers(28, 100, 7), *speakers(20, 28, 1), *validation, *testing]
    for number, word in enumerate(("yes", "no", "cat")):
        for speaker in everyone:
            save_sound(root / word / f"{speaker}_nohash_0.wav", tone_gesture(number, random))
    rising = np.linspace(0.01, 0.99, 12 * RATE)  # every sample says where in the file it stood
    save_sound(root / "_background_noise_" / "pink_noise.wav", rising)
    (root / "_background_noise_" / "README.md").write_text("Recordings of noise.")
    for part, names in (("validation", validation), ("testing", testing)):
        lines = [f"{word}/{name}_nohash_0.wav" for word in ("yes", "no", "cat") for name in names]
        (root / f"{part}_list.txt").write_text("\n".join(lines) + "\n")
    return root
