"""Training alone: the same bits from the same seed, whatever the machine is doing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")

import torch

from tinyhil.nas.arch import parse
from tinyhil.nas.data import Images
from tinyhil.nas.session import ticker
from tinyhil.nas.synthetic import figures
from tinyhil.nas.torchnet import Net
from tinyhil.nas.train import Recipe, accuracy, mean_loss, train, tune

ARCH = parse("r12 | s8 k3e1:8 | k3e3:8/2 k5e2 | k3e2:16 | fc2")
DATA = figures(12, 120)
RECIPE = Recipe(epochs=1, batch=16, shift=1, seed=3)


def moved(images: Images, offset: int) -> Images:
    """The same values in memory that begins `offset` bytes behind a multiple of 64."""
    raw = np.empty(images.nbytes + 128, np.uint8)
    first = -raw.ctypes.data % 64 + offset
    out = raw[first : first + images.nbytes].view(np.float32).reshape(images.shape)
    out[...] = images
    return out


def bits(net: Net) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in net.state_dict().values())


def test_training_gives_the_same_bits_on_any_number_of_threads_and_at_any_place_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = set()
    for threads, offset in ((1, 0), (2, 4), (2, 16), (1, 52)):

        def placed(images: Images, offset: int = offset) -> torch.Tensor:
            whole = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
            return torch.from_numpy(moved(whole, offset))

        monkeypatch.setattr("tinyhil.nas.train.images_to_torch", placed)
        torch.set_num_threads(threads)
        found.add(bits(train(ARCH, DATA, RECIPE)))
    assert len(found) == 1


def test_training_further_does_not_depend_on_the_threads_of_whoever_asks() -> None:
    torch.manual_seed(0)
    start = Net(ARCH).state_dict()
    found = set()
    for threads in (1, 2):
        net = Net(ARCH)
        net.load_state_dict(start)
        torch.set_num_threads(threads)
        found.add(bits(tune(net, DATA, RECIPE)))
    assert len(found) == 1


def test_another_seed_gives_another_network() -> None:
    assert bits(train(ARCH, DATA, RECIPE)) != bits(train(ARCH, DATA, replace(RECIPE, seed=4)))


def test_accuracy_and_loss_do_not_depend_on_the_batches_they_are_counted_in() -> None:
    net = train(ARCH, DATA, RECIPE)
    with torch.no_grad():
        said = net(torch.from_numpy(DATA.valid.images.transpose(0, 3, 1, 2).copy()))
    true = torch.from_numpy(DATA.valid.labels)
    for batch in (4, 256):
        assert accuracy(net, DATA.valid, batch) == int((said.argmax(1) == true).sum()) / len(true)
        loss = float(torch.nn.functional.cross_entropy(said, true))
        assert mean_loss(net, DATA.valid, batch) == pytest.approx(loss, rel=1e-5)


def test_the_time_left_counts_the_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    tick = ticker(said.append)
    for second, step in ((100.0, 1), (104.0, 2), (120.0, 11), (121.0, 12)):  # long after `tick` was made
        monkeypatch.setattr("tinyhil.nas.session.time.monotonic", lambda second=second: second)
        tick(step, 100, 0.5)
    assert said == ["  training: step 11/100, loss 0.500, about 178 s left"]
