"""Training a super-network: the largest network first, then four sub-networks a step.

Every draw (batches, sub-networks) follows from the seed and the step's number alone, so a training
that was killed goes on from its last checkpoint to the very same result.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tinyhil.errors import UsageError
from tinyhil.nas.arch import Arch
from tinyhil.nas.data import Dataset, Split, resize
from tinyhil.nas.size import Size
from tinyhil.nas.space import Space
from tinyhil.nas.supernet import SuperNet, recalibrate
from tinyhil.nas.torchnet import Net, images_to_torch, resized
from tinyhil.nas.train import (
    CPU,
    Progress,
    Recipe,
    accuracy,
    batches,
    device_of,
    make_optimizer,
    seed_everything,
)

FORMAT = 1


@dataclass(frozen=True)
class SuperRecipe:
    """How to train a super-network: `largest` epochs of the largest network, then `epochs` of
    `subnets` random sub-networks per step (the paper: twice as many, four)."""

    largest: int = 10
    epochs: int = 20
    subnets: int = 4
    batch: int = 64
    rate: float = 0.05
    decay: float = 5e-5
    shift: int = 0
    seed: int = 0
    transform: bool = False

    def phase(self, name: str) -> Recipe:
        """The recipe of one of the two phases, "largest" or "subnets"."""
        epochs = self.largest if name == "largest" else self.epochs
        return Recipe(epochs, self.batch, self.rate, decay=self.decay, shift=self.shift, seed=self.seed)


@dataclass(frozen=True)
class Covered:
    """The spaces that one super-network covers, and the smallest network that contains all of theirs."""

    spaces: tuple[Space, ...]

    @property
    def largest(self) -> Arch:
        """Every sub-network of every space is a part of this one."""
        wide = max(self.spaces, key=lambda space: space.width)
        sharp = max(self.spaces, key=lambda space: space.resolution.area)
        return Space(wide.width, sharp.resolution, wide.family).largest()

    def sample(self, source: random.Random) -> Arch:
        """A network of a space, both drawn uniformly."""
        return source.choice(self.spaces).sample(source)


def train_supernet(
    family: Covered,
    data: Dataset,
    recipe: SuperRecipe,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    device: torch.device = CPU,
) -> SuperNet:
    """A trained super-network, on `device`. With `checkpoint`, the state is kept there after every epoch,
    and a training that finds one of the same family, data and recipe continues from it."""
    seed_everything(recipe.seed)
    net = SuperNet(family.largest, transform=recipe.transform).to(device)
    identity = _identity(family, data, recipe)
    state = _load(checkpoint, identity) if checkpoint is not None and checkpoint.exists() else None
    per_epoch = -(-len(data.train) // recipe.batch)
    total = (recipe.largest + recipe.epochs) * per_epoch
    started = 0 if state is None else int(state["epoch"])
    if state is not None:
        net.load_state_dict(state["model"])
    for name, first in (("largest", 0), ("subnets", recipe.largest)):
        phase = recipe.phase(name)
        if started >= first + phase.epochs:
            continue
        if name == "subnets" and started <= first:
            net.sort_channels()
        optimizer, schedule = make_optimizer(net, phase, phase.epochs * per_epoch)
        if state is not None and first < started:
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
        for epoch in range(max(started, first), first + phase.epochs):
            order = np.random.default_rng((recipe.seed, epoch))
            for number, (images, labels) in enumerate(batches(data, phase, order)):
                step = epoch * per_epoch + number
                images, labels = images.to(device), labels.to(device)
                chosen = [family.largest] if name == "largest" else _draw(family, recipe, step)
                optimizer.zero_grad()
                loss = torch.zeros((), device=device)  # read only when told: a GPU need not be waited for
                for arch in chosen:
                    part = functional.cross_entropy(net(images, arch), labels) / len(chosen)
                    part.backward()  # type: ignore[no-untyped-call]
                    loss += part.detach()
                optimizer.step()
                schedule.step()
                if progress is not None:
                    progress(step + 1, total, float(loss))
            if checkpoint is not None:
                _save(checkpoint, identity, epoch + 1, net, optimizer, schedule)
    return net.eval()


def inherit(net: SuperNet, arch: Arch, images: Sequence[torch.Tensor]) -> Net:
    """Sub-network `arch` with inherited weights, its statistics measured on `images` [N,C,H,W] at
    its own resolution; ready to be judged or trained further."""
    where = device_of(net)
    return recalibrate(net.extract(arch), [part.to(where) for part in images])


def calibration_batches(
    data: Dataset, resolution: Size, count: int = 20, size: int = 64
) -> list[torch.Tensor]:
    """`count` batches of training images at `resolution`; the paper measures on 20 of 64."""
    order = np.random.default_rng(0).permutation(len(data.train))[: count * size]
    return list(torch.split(resized(images_to_torch(data.train.images[order]), resolution), size))


class Inherited:
    """Accuracy on the validation part with inherited weights: what stage 2 of the search maximises.

    `batches` and `size` are those of the statistics' measurement.
    """

    def __init__(self, net: SuperNet, data: Dataset, batches: int = 20, size: int = 64) -> None:
        self.net, self.data = net, data
        self._counts = (batches, size)
        self._at: dict[Size, tuple[list[torch.Tensor], Split]] = {}

    def __call__(self, arch: Arch) -> float:
        """Share of the validation part that `arch` names correctly, in 0..1."""
        if arch.resolution not in self._at:
            images = calibration_batches(self.data, arch.resolution, *self._counts)
            self._at[arch.resolution] = (images, at_resolution(self.data.valid, arch.resolution))
        images, valid = self._at[arch.resolution]
        return accuracy(inherit(self.net, arch, images), valid)


def at_resolution(split: Split, size: Size) -> Split:
    """`split` with its images resized to `size`."""
    return Split(resize(split.images, size), split.labels)


def _draw(family: Covered, recipe: SuperRecipe, step: int) -> list[Arch]:
    source = random.Random(f"{recipe.seed} {step}")
    return [family.sample(source) for _ in range(recipe.subnets)]


def _identity(family: Covered, data: Dataset, recipe: SuperRecipe) -> dict[str, str]:
    return {
        "format": str(FORMAT),
        "spaces": " ".join(map(str, family.spaces)),
        "largest": str(family.largest),
        "data": f"{data.name} {data.train.images.shape} {float(data.train.images.sum())}",
        "recipe": repr(asdict(recipe)),
    }


def _save(
    path: Path,
    identity: dict[str, str],
    epoch: int,
    net: SuperNet,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Whole or not at all: a kill in the middle leaves the previous checkpoint."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "identity": identity,
            "epoch": epoch,
            "model": net.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
        },
        part,
    )
    part.replace(path)


def _load(path: Path, identity: dict[str, str]) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        found = state["identity"]
    except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
        raise UsageError(f"{path} is not a checkpoint of a super-network ({error}); delete it") from error
    different = [name for name in identity if found.get(name) != identity[name]]
    if different:
        raise UsageError(
            f"{path} was trained with another {', '.join(different)}; use another folder or delete the file"
        )
    return state
