"""Seeded synthetic sets, for tests and demonstrations without downloads. They are labelled as such.

They exercise the same paths as the real ones (vision with a wake-up class, sound through the MFCC
front end) and are hard enough that larger networks do better; they say nothing of real accuracy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinyhil.nas.audio import RATE, TIME, mfcc
from tinyhil.nas.data import Dataset, Images, Split, partition, smooth_images
from tinyhil.nas.size import square

KEYWORDS = ("rise", "fall", "hump", "dip", "double", "trill")


def figures(size: int = 48, count: int = 2000, seed: int = 0) -> Dataset:
    """Is there a figure? A head above a body, anywhere, in any size, tone and contrast, before soft
    clutter; the other half shows the same parts in a wrong arrangement (body above head)."""
    random = np.random.default_rng(seed)
    grounds = [smooth_images(1, square(size), 3, seed * 100_003 + i) for i in range(count)]
    images: Images = np.concatenate(grounds)
    labels = random.integers(0, 2, count)
    rows, columns = np.mgrid[0:size, 0:size]
    for image, label in zip(images, labels, strict=True):
        scale = random.uniform(0.12, 0.25) * size
        x, y = random.uniform(1.2 * scale, size - 1.2 * scale, 2)
        tone = random.uniform(-1, 1, 3)
        up = -1 if label else 1
        head = (columns - x) ** 2 + (rows - (y + up * 0.8 * scale)) ** 2 < (0.42 * scale) ** 2
        body = (abs(columns - x) < 0.7 * scale) & (abs(rows - (y - up * 0.25 * scale)) < 0.6 * scale)
        image[head | body] = 0.35 * image[head | body] + 0.65 * tone
    images += random.normal(0, 0.08, images.shape).astype(np.float32)
    everything = Split(np.clip(images, -1, 1), labels.astype(np.int64))
    note = "synthetic figures, seeded"
    return partition("figures", ("no figure", "figure"), everything, seed, note, (0.15, 0.2))


def keywords(count: int = 1200, seed: int = 0, noise: float = 1.0) -> Dataset:
    """Six tone gestures under `noise` times the usual noise, through the MFCC front end: 49 x 10."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(KEYWORDS), count)
    sounds = [tone_gesture(int(label), random, noise) for label in labels]
    features = np.stack([mfcc(sound) for sound in sounds]).astype(np.float32)[..., None]
    everything = Split(features, labels.astype(np.int64))
    made = partition("keywords", KEYWORDS, everything, seed, "synthetic tones, seeded", (0.15, 0.2))
    return replace(made, movable=TIME)


def tone_gesture(
    label: int, random: np.random.Generator, noise: float = 1.0
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """One second of sound [16000] in [-1, 1] with gesture `label` somewhere in it."""
    length = int(random.uniform(0.4, 0.7) * RATE)
    at = np.linspace(0, 1, length)
    hump = np.sin(np.pi * at)
    trill = 0.5 + 0.5 * np.sin(16 * np.pi * at)
    shape = (at, 1 - at, hump, 1 - hump, (2 * at) % 1, trill)[label]
    pitch = random.uniform(250, 600) * 2 ** (random.uniform(0.8, 1.4) * shape)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in (1, 2, 3)) * np.sin(np.pi * at) ** 0.3
    sound = random.normal(0, noise * random.uniform(0.01, 0.1), RATE)
    start = random.integers(0, RATE - length)
    sound[start : start + length] += random.uniform(0.15, 0.5) * voice
    return np.asarray(np.clip(sound, -1, 1), np.float64)
