"""Data sets in memory: what the search trains on, chooses by and is finally judged by.

Images are float32 [N,H,W,C] in [-1, 1], labels int64 [N]. Every set has three parts. The search
sees `train` (weights, batch-norm statistics, calibration) and `valid` (choosing); `test` is looked
at once, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyhil.errors import MissingTool, UsageError

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.intp]) -> Split:
        """The examples at `indices`, in that order."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named set with its three parts. `note` says where it comes from and goes into reports."""

    name: str
    classes: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    note: str = ""


def partition(
    name: str, classes: tuple[str, ...], everything: Split, seed: int, note: str, shares: tuple[float, float]
) -> Dataset:
    """`everything` shuffled by `seed` and cut in three; `shares` are those of valid and test."""
    order = np.random.default_rng(seed).permutation(len(everything))
    test, valid = round(shares[1] * len(order)), round(shares[0] * len(order))
    if min(test, valid, len(order) - test - valid) < 1:
        raise UsageError(f"data set {name}: {len(order)} examples are too few for three parts")
    parts = (order[test + valid :], order[test : test + valid], order[:test])
    train, held, final = (everything.take(part) for part in parts)
    return Dataset(name, classes, train, held, final, note)


def digits(resolution: int = 8, seed: int = 0) -> Dataset:
    """scikit-learn's 1797 handwritten digits (8x8, 17 grey levels), scaled to `resolution`."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingTool("the digits data need scikit-learn: pip install 'tinyhil[nas]'") from error
    raw = load_digits()
    images = (raw.images / 8.0 - 1.0).astype(np.float32)[..., None]
    everything = Split(resize(images, resolution), raw.target.astype(np.int64))
    note = "scikit-learn's digits (real handwriting, 8x8)"
    return partition("digits", tuple("0123456789"), everything, seed, note, (0.15, 0.2))


def resize(images: Images, size: int) -> Images:
    """Bilinear resize [N,H,W,C] to [N,size,size,C], sample points at pixel centres."""
    for axis in (1, 2):
        old = images.shape[axis]
        if old == size:
            continue
        at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.floor(at).astype(np.intp)
        high = np.minimum(low + 1, old - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = size
        part = (at - low).astype(np.float32).reshape(shape)
        images = images.take(low, axis) * (1 - part) + images.take(high, axis) * part
    return images


def smooth_images(count: int, size: int, channels: int, seed: int) -> Images:
    """Seeded pictures of soft blobs and gradients: not noise, so that every layer has work to do."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(-1, 1, (count, 6, 6, channels)).astype(np.float32)
    fine = random.uniform(-0.3, 0.3, (count, 24, 24, channels)).astype(np.float32)
    mixed = resize(coarse, size) * 1.3 + resize(fine, size)
    return np.asarray(np.clip(mixed, -1, 1), np.float32)
