"""The networks that tinyhil ships: published architectures with seeded weights, and one trained one.

Seeded networks cost what the published ones cost (same layers, same shapes) and are made on the
spot, so nothing large is kept in the repository and nothing is downloaded. They classify nothing.
`digits` is really trained (train_digits.py) and comes as a file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from tinyhil.errors import UsageError
from tinyhil.harness.model.graph import Graph
from tinyhil.nas.arch import Arch, parse
from tinyhil.nas.data import Images, smooth_images
from tinyhil.nas.network import seeded
from tinyhil.nas.quantize import calibrate, quantize

SHIPPED = ("digits", "mcunet-vww1", "mcunet-in0", "mcunet-in1")
TRAINED = ("digits",)
CALIBRATION_IMAGES = 8
SEED = 20201
_SOURCES = ("arch.py", "data.py", "network.py", "quantize.py", "size.py", "zoo.py", "zoo.txt")


def networks() -> tuple[str, ...]:
    """Names of the networks that the bench runs; all of them fit an STM32F746."""
    return SHIPPED


@cache
def architectures() -> Mapping[str, Arch]:
    """Every architecture of zoo.txt by name, those too large for the bench as well."""
    found = {}
    for line in (_folder() / "zoo.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, text = line.partition(":")
            found[name] = parse(text)
    return found


def architecture(name: str) -> Arch:
    """The architecture called `name`; UsageError lists the known ones."""
    try:
        return architectures()[name]
    except KeyError:
        known = ", ".join(architectures())
        raise UsageError(f"unknown network {name!r}; known are {known}") from None


def make(name: str, folder: Path) -> Path:
    """`folder`/`name`.tflite, made there unless it is already what this version makes."""
    arch = architecture(name)
    folder.mkdir(parents=True, exist_ok=True)
    path, stamp = folder / f"{name}.tflite", folder / f".{name}.stamp"
    recipe = _recipe(name)
    if path.is_file() and stamp.is_file() and stamp.read_text() == _stamp(recipe, path.read_bytes()):
        return path
    content = trained(name).read_bytes() if name in TRAINED else _written(seeded_graph(name, arch))
    _replace(path, content)
    _replace(stamp, _stamp(recipe, content).encode())
    return path


def seeded_graph(name: str, arch: Arch, seed: int = SEED) -> Graph:
    """`arch` with random weights from `seed`, calibrated on seeded smooth images."""
    images = calibration_images(arch).astype(np.float64)
    network = seeded(arch, images, seed)
    return quantize(network, calibrate(network, images), name)


def calibration_images(arch: Arch) -> Images:
    """The seeded images [8,H,W,C] on which a seeded network is normalised and calibrated."""
    return smooth_images(CALIBRATION_IMAGES, arch.resolution, arch.channels, SEED)


def trained(name: str) -> Path:
    """The file of a trained network that comes with the package."""
    return _folder() / "models" / f"{name}.tflite"


def sample(name: str) -> Images:
    """One image [1,H,W,C] in [-1, 1] for network `name`: a real digit, or a seeded smooth one."""
    if name == "digits":
        return digit_samples()[0][:1]
    arch = architecture(name)
    return smooth_images(1, arch.resolution, arch.channels, SEED + 1)


def digit_samples() -> tuple[Images, tuple[int, ...]]:
    """Ten real digits of the test part, [10,8,8,1] in [-1, 1], and what they are."""
    rows = [line.split(":") for line in (_folder() / "models" / "digits.txt").read_text().splitlines()]
    images = [np.array(row[1].split(), np.float32).reshape(8, 8, 1) / 8 - 1 for row in rows]
    return np.stack(images), tuple(int(row[0]) for row in rows)


def _written(graph: Graph) -> bytes:
    from tinyhil.harness.model.tflite_writer import write_tflite

    return bytes(write_tflite(graph))


def _folder() -> Path:
    return Path(str(resources.files("tinyhil"))) / "nas"


@cache
def _recipe(name: str) -> str:
    """Changes whenever the file that `make` would write may change."""
    digest = hashlib.sha256(name.encode())
    sources = [trained(name)] if name in TRAINED else [_folder() / source for source in _SOURCES]
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _stamp(recipe: str, content: bytes) -> str:
    return f"{recipe} {hashlib.sha256(content).hexdigest()}\n"


def _replace(path: Path, content: bytes) -> None:
    """Write whole or not at all: a killed run leaves no half file."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
