"""Training of one network: seeded, short, the same on every run of the same PyTorch build."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tinyhil.errors import UsageError
from tinyhil.nas.arch import Arch
from tinyhil.nas.data import Dataset, Images, Split
from tinyhil.nas.torchnet import Net, images_to_torch

CPU = torch.device("cpu")
Progress = Callable[[int, int, float], None]  # step done, steps in all, loss


@dataclass(frozen=True)
class Recipe:
    """How to train. SGD with momentum and a cosine schedule, as in the paper.

    `shift` pixels of random translation are the augmentation; `smoothing` is label smoothing.
    """

    epochs: int = 30
    batch: int = 64
    rate: float = 0.1
    momentum: float = 0.9
    decay: float = 5e-5
    smoothing: float = 0.0
    shift: int = 0
    seed: int = 0


def seed_everything(seed: int) -> None:
    """Make PyTorch's results depend on `seed` alone."""
    torch.manual_seed(seed)
    repeatable()


def repeatable() -> None:
    """Make PyTorch compute the same bits every time: how many threads share a sum changes its last bits. For
    networks this small one thread is as fast."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def pick_device(name: str) -> torch.device:
    """The device called `name`: cpu, cuda, or for auto the best there is; UsageError if it is absent."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {name!r}: cpu, cuda or auto")
    if name == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("PyTorch finds no GPU here: use --device cpu, or install PyTorch's CUDA build")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS is not deterministic
    return torch.device(name)


def device_of(module: nn.Module) -> torch.device:
    """Where the parameters of `module` are."""
    return next(module.parameters()).device


def train(arch: Arch, data: Dataset, recipe: Recipe, progress: Progress | None = None) -> Net:
    """A network trained from nothing on `data.train`, in evaluation mode."""
    seed_everything(recipe.seed)
    return tune(Net(arch), data, recipe, progress)


def tune(net: Net, data: Dataset, recipe: Recipe, progress: Progress | None = None) -> Net:
    """`net` trained further on `data.train`, whose images have its resolution; in evaluation mode."""
    repeatable()
    net.train()
    where = device_of(net)
    steps = recipe.epochs * -(-len(data.train) // recipe.batch)
    optimizer, schedule = make_optimizer(net, recipe, steps)
    random = np.random.default_rng(recipe.seed)
    done = 0
    for _ in range(recipe.epochs):
        for images, labels in batches(data, recipe, random):
            images, labels = images.to(where), labels.to(where)
            loss = functional.cross_entropy(net(images), labels, label_smoothing=recipe.smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            done += 1
            if progress is not None:
                progress(done, steps, float(loss.detach()))
    return net.eval()


def make_optimizer(
    module: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """SGD without weight decay on biases and batch-norm parameters, and its cosine schedule."""
    decayed = [p for p in module.parameters() if p.ndim > 1]
    plain = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, recipe.rate, recipe.momentum, nesterov=True)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))


def batches(
    data: Dataset, recipe: Recipe, random: np.random.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The training part once in random order as (images [N,C,H,W], labels [N]), each image moved by up to
    the recipe's shift along the axes that the data allow."""
    order = random.permutation(len(data.train))
    for start in range(0, len(order), recipe.batch):
        part = data.train.take(order[start : start + recipe.batch])
        images = _shifted(part.images, [recipe.shift * (axis in data.movable) for axis in (0, 1)], random)
        yield images_to_torch(images), torch.from_numpy(part.labels)


def _shifted(images: Images, shifts: list[int], random: np.random.Generator) -> Images:
    """`images` [N,H,W,C], each moved by up to `shifts` pixels down and across."""
    if not any(shifts):
        return images
    padded = np.pad(images, ((0, 0), *((shift, shift) for shift in shifts), (0, 0)), mode="edge")
    at = random.integers(0, 2 * np.array(shifts) + 1, (len(images), 2))
    height, width = images.shape[1:3]
    return np.stack([image[y : y + height, x : x + width] for image, (y, x) in zip(padded, at, strict=True)])


def accuracy(net: nn.Module, split: Split, batch: int = 256) -> float:
    """Share of `split` that `net` (in evaluation mode) names correctly, in 0..1."""
    return sum(int((said.argmax(1) == true).sum()) for said, true in _answers(net, split, batch)) / len(split)


def mean_loss(net: nn.Module, split: Split, batch: int = 256) -> float:
    """Mean cross-entropy of `net` (in evaluation mode) on `split`."""
    losses = (
        functional.cross_entropy(said, true, reduction="sum") for said, true in _answers(net, split, batch)
    )
    return sum(map(float, losses)) / len(split)


@torch.no_grad()
def _answers(net: nn.Module, split: Split, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits of `net` and the true labels, `batch` examples at a time, where `net` is."""
    where = device_of(net)
    for start in range(0, len(split), batch):
        images = images_to_torch(split.images[start : start + batch]).to(where)
        yield net(images), torch.from_numpy(split.labels[start : start + batch]).to(where)
