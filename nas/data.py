"""Data sets in memory: what the search trains on, chooses by and is finally judged by.

Images are float32 [N,H,W,C] in [-1, 1], labels int64 [N]. Every set has three parts. The search
sees `train` (weights, batch-norm statistics, calibration) and `valid` (choosing); `test` is looked
at once, at the end.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyhil.errors import MissingTool, UsageError
from tinyhil.nas.size import Size, square

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
    """A named set with its three parts. `note` says where it comes from and goes into reports. `movable` are
    the axes of an image [H,W,C] along which it may be moved in training without becoming another thing."""

    name: str
    classes: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    note: str = ""
    movable: tuple[int, ...] = (0, 1)

    @property
    def size(self) -> Size:
        """Height and width of its images."""
        return Size(*self.train.images.shape[1:3])


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
    everything = Split(resize(images, square(resolution)), raw.target.astype(np.int64))
    note = "scikit-learn's digits (real handwriting, 8x8)"
    return partition("digits", tuple("0123456789"), everything, seed, note, (0.15, 0.2))


def load_npz(path: Path, seed: int = 0) -> Dataset:
    """A data set of one's own: an .npz file with `images` [N,H,W,C] or [N,H,W] and `labels` [N].

    uint8 images are taken as 0..255, float ones as [-1, 1]. `valid_images`/`valid_labels` and
    `test_images`/`test_labels` may bring those parts; else they are cut off by `seed`. Nothing in the
    file is executed. UsageError says what is wrong with it.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: cannot be read as an .npz file: {error}") from error
    if not {"images", "labels"} <= set(arrays):
        raise UsageError(f"{path}: needs arrays `images` and `labels`; it has {', '.join(sorted(arrays))}")
    parts = [_part(arrays, prefix, path) for prefix in ("", "valid_", "test_")]
    train, valid, test = parts
    assert train is not None
    shapes = {part.images.shape[1:] for part in parts if part is not None}
    if len(shapes) > 1:
        raise UsageError(f"{path}: its parts hold images of different shapes: {sorted(shapes)}")
    count = int(max(part.labels.max() for part in parts if part is not None)) + 1
    classes, note = tuple(map(str, range(count))), f"from {path.name}"
    if valid is None and test is None:
        return partition(path.stem, classes, train, seed, note, (0.15, 0.2))
    if valid is None or test is None:
        raise UsageError(f"{path}: give both valid_ and test_ arrays, or neither")
    return Dataset(path.stem, classes, train, valid, test, note)


def _part(arrays: dict[str, npt.NDArray[np.generic]], prefix: str, path: Path) -> Split | None:
    if f"{prefix}images" not in arrays:
        return None
    images, labels = arrays[f"{prefix}images"], arrays.get(f"{prefix}labels")
    if labels is None or labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise UsageError(f"{path}: `{prefix}labels` must be one whole number per image")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise UsageError(f"{path}: `{prefix}images` must be [N,H,W,C] or [N,H,W], not {list(images.shape)}")
    if int(labels.min()) < 0:
        raise UsageError(f"{path}: `{prefix}labels` must not be negative")
    if images.dtype == np.uint8:
        return Split(images.astype(np.float32) / 127.5 - 1, labels.astype(np.int64))
    if images.dtype.kind == "f" and float(np.abs(images).max()) <= 1.0:
        return Split(images.astype(np.float32), labels.astype(np.int64))
    raise UsageError(f"{path}: `{prefix}images` must be uint8, or float in [-1, 1], not {images.dtype}")


def resize(images: Images, size: Size) -> Images:
    """Bilinear resize of images [N,H,W,C] to `size`, sample points at pixel centres."""
    for axis, new in ((1, size.height), (2, size.width)):
        old = images.shape[axis]
        if old == new:
            continue
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(at).astype(np.intp)
        high = np.minimum(low + 1, old - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = new
        part = (at - low).astype(np.float32).reshape(shape)
        images = images.take(low, axis) * (1 - part) + images.take(high, axis) * part
    return images


def smooth_images(count: int, size: Size, channels: int, seed: int) -> Images:
    """Seeded pictures of soft blobs and gradients: not noise, so that every layer has work to do."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(-1, 1, (count, 6, 6, channels)).astype(np.float32)
    fine = random.uniform(-0.3, 0.3, (count, 24, 24, channels)).astype(np.float32)
    mixed = resize(coarse, size) * 1.3 + resize(fine, size)
    return np.asarray(np.clip(mixed, -1, 1), np.float32)
