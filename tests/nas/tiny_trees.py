"""Miniature data sets on disk, in the layout that the originals have."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from tinyhil.nas.audio import RATE
from tinyhil.nas.synthetic import tone_gesture

TONES = {"n01440764": (255, 0, 0), "n01443537": (0, 255, 0), "n01484850": (0, 0, 255)}
# Pictures of 100 x 50 pixels, where half a percent is 25 square pixels: a person of 10 x 10, one of 2 x 2
# (too small), a dog, and two without any box.
BOXES = [[1, 10, 10], [1, 2, 2], [18, 50, 50]]


def save_picture(path: Path, tone: tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new("RGB", size, tone).save(path)


def imagenet_tree(root: Path, each: int = 4) -> Path:
    """Three classes, `each` pictures of one tone to train, one a bit darker to validate."""
    for name, tone in TONES.items():
        for number in range(each):
            save_picture(root / "train" / name / f"{name}_{number}.JPEG", tone)
        dark = (tone[0] * 4 // 5, tone[1] * 4 // 5, tone[2] * 4 // 5)
        save_picture(root / "val" / name / f"ILSVRC2012_val_{name}.JPEG", dark)
    return root


def coco(part: str, boxes: list[list[int]], names: list[str] | None = None) -> dict[str, object]:
    """Annotations, each box as [category, width, height]."""
    images = [
        {"id": i, "file_name": names[i] if names else f"{part}_{i}.jpg", "width": 100, "height": 50}
        for i in range(len(boxes) + 2)
    ]
    found = [
        {"image_id": i, "category_id": kind, "bbox": [0, 0, width, height]}
        for i, (kind, width, height) in enumerate(boxes)
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    return {"images": images, "annotations": found, "categories": categories}


def coco_tree(root: Path) -> Path:
    """annotations/, train2017/ and val2017/; the picture with the person is white, the others black."""
    (root / "annotations").mkdir(parents=True)
    for part in ("train", "val"):
        file = root / "annotations" / f"instances_{part}2017.json"
        file.write_text(json.dumps(coco(part, BOXES)))
        for number in range(5):
            tone = (255, 255, 255) if number == 0 else (0, 0, 0)
            save_picture(root / f"{part}2017" / f"{part}_{number}.jpg", tone, (100, 50))
    return root


def save_sound(path: Path, sound: np.ndarray[tuple[int], np.dtype[np.float64]], rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())


def speech_tree(root: Path) -> Path:
    """Three words of four takes, background noise, and the two lists."""
    random = np.random.default_rng(0)
    for number, word in enumerate(("yes", "no", "cat")):
        for take in range(4):
            save_sound(root / word / f"{take:08x}_nohash_0.wav", tone_gesture(number, random))
    save_sound(root / "_background_noise_" / "pink_noise.wav", random.uniform(-0.1, 0.1, 2 * RATE))
    (root / "testing_list.txt").write_text("yes/00000003_nohash_0.wav\nno/00000003_nohash_0.wav\n")
    (root / "validation_list.txt").write_text("yes/00000002_nohash_0.wav\n")
    return root
