"""The super-network: its parts are its sub-networks, and training it can be interrupted."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")

from tinyhil.errors import UsageError  # noqa: E402
from tinyhil.nas.arch import layers  # noqa: E402
from tinyhil.nas.data import Dataset, Split, resize, smooth_images  # noqa: E402
from tinyhil.nas.network import forward  # noqa: E402
from tinyhil.nas.size import Size, square  # noqa: E402
from tinyhil.nas.space import Family, Space  # noqa: E402
from tinyhil.nas.supernet import SuperNet, recalibrate  # noqa: E402
from tinyhil.nas.supertrain import (  # noqa: E402
    Covered,
    SuperRecipe,
    _draw,
    calibration_batches,
    inherit,
    train_supernet,
)
from tinyhil.nas.torchnet import images_to_torch, resized, to_float  # noqa: E402
from tinyhil.nas.train import accuracy, device_of, pick_device  # noqa: E402

FAMILY = Family(stem=8, first=8, stages=((16, 2, 3), (24, 1, 2), (32, 1, 1)), classes=3, channels=1)
SPACES = tuple(Space(width, square(size), FAMILY) for width in (0.5, 1.0) for size in (8, 12))
COVERED = Covered(SPACES)
RECIPE = SuperRecipe(largest=1, epochs=2, subnets=2, batch=40, rate=0.05, seed=4)


def toy_data(seed: int = 0) -> Dataset:
    """Three kinds of picture, bright on the left, on the right, or nowhere, under noise."""
    source = np.random.default_rng(seed)
    labels = source.integers(0, 3, 240)
    images = source.normal(0, 0.3, (240, 12, 12, 1)).astype(np.float32)
    images[labels == 0, :, :6] += 0.7
    images[labels == 1, :, 6:] += 0.7
    whole = Split(np.clip(images, -1, 1), labels.astype(np.int64))
    parts = [whole.take(np.arange(start, stop)) for start, stop in ((0, 160), (160, 200), (200, 240))]
    return Dataset("toy", ("left", "right", "none"), *parts)


def images(count: int, size: Size) -> torch.Tensor:
    return images_to_torch(smooth_images(count, size, 1, 5))


@pytest.fixture(scope="module")
def net() -> SuperNet:
    torch.manual_seed(1)
    made = SuperNet(COVERED.largest)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.rand_like(parameter) * 0.3)
    return made


@pytest.mark.parametrize("size", [None, Size(12, 5)])
@pytest.mark.parametrize("seed", range(4))
def test_an_extracted_network_computes_what_it_computes_inside(
    net: SuperNet, seed: int, size: Size | None
) -> None:
    arch = COVERED.sample(random.Random(seed))
    arch = replace(arch, resolution=size or arch.resolution)
    x = images(16, arch.resolution)
    alone = net.extract(arch).train()
    with torch.no_grad():
        torch.testing.assert_close(alone(x), net(x, arch), rtol=1e-4, atol=1e-4)


def test_images_are_brought_to_the_resolution_of_each_sub_network(net: SuperNet) -> None:
    x = images(4, square(12))
    for arch in (Space(1.0, square(8), FAMILY).largest(), Space(1.0, Size(10, 6), FAMILY).smallest()):
        with torch.no_grad():
            torch.testing.assert_close(net(x, arch), net(resized(x, arch.resolution), arch))


def test_each_step_draws_widths_resolutions_depths_and_kernels() -> None:
    drawn = [arch for step in range(12) for arch in _draw(COVERED, RECIPE, step)]
    assert {arch.resolution for arch in drawn} == {square(8), square(12)}
    assert {arch.width for arch in drawn} == {0.5, 1.0}
    assert {len(arch.stages[1]) for arch in drawn} == {2, 3}
    assert {block.kernel for arch in drawn for block in arch.blocks} == {3, 5, 7}
    assert drawn[:2] == _draw(COVERED, RECIPE, 0), "a step's draw follows from the seed and its number"


def test_a_smaller_kernel_is_the_centre_of_the_larger_one(net: SuperNet) -> None:
    largest, smallest = net.extract(COVERED.largest), net.extract(Space(1.0, square(12), FAMILY).smallest())
    big, small = largest.convs["b1_dw"].weight, smallest.convs["b1_dw"].weight
    assert big.shape[-1] == 7
    assert small.shape[-1] == 3
    torch.testing.assert_close(small, big[: len(small), :, 2:5, 2:5])


def test_transform_matrices_begin_as_the_crop_and_are_trained() -> None:
    torch.manual_seed(3)
    with_transform = SuperNet(COVERED.largest, transform=True)
    plain = SuperNet(COVERED.largest)
    plain.load_state_dict({k: v for k, v in with_transform.state_dict().items() if "transforms" not in k})
    arch, x = Space(1.0, square(12), FAMILY).smallest(), images(8, square(12))
    torch.testing.assert_close(with_transform(x, arch), plain(x, arch))
    with_transform(x, arch).sum().backward()
    matrices = [p for name, p in with_transform.named_parameters() if "transforms.3" in name]
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in matrices)


def test_sorting_channels_changes_their_order_and_not_the_function(net: SuperNet) -> None:
    x = images(8, square(12))
    with torch.no_grad():
        before = net(x, COVERED.largest)
        net.sort_channels()
        torch.testing.assert_close(net(x, COVERED.largest), before, rtol=1e-3, atol=1e-3)
    read = net.shared["s1b0_project"].weight.detach().abs().sum((0, 2, 3))
    assert bool((read.diff() <= 1e-6).all()), "the most important channels must come first"


def test_recalibrated_statistics_are_the_mean_over_the_batches(net: SuperNet) -> None:
    arch = COVERED.largest
    batches = [images_to_torch(smooth_images(8, square(12), 1, seed)) for seed in range(3)]
    alone = recalibrate(net.extract(arch), batches)
    seen = []
    with torch.no_grad():
        for batch in batches:
            stem = torch.nn.functional.conv2d(
                torch.nn.functional.pad(batch, (0, 1, 0, 1)), alone.convs["stem"].weight, None, 2
            )
            seen.append(stem.mean((0, 2, 3)))
    torch.testing.assert_close(
        alone.convs["stem"].bn.running_mean, torch.stack(seen).mean(0), rtol=1e-4, atol=1e-5
    )
    assert not alone.training


def test_folding_batch_norm_keeps_the_network(net: SuperNet) -> None:
    arch = COVERED.sample(random.Random(2))
    x = smooth_images(4, arch.resolution, 1, 9)
    alone = recalibrate(net.extract(arch), [images_to_torch(x)])
    with torch.no_grad():
        wanted = alone(images_to_torch(x)).numpy()
    np.testing.assert_allclose(forward(to_float(alone), x.astype(np.float64)), wanted, atol=1e-4)


def test_images_are_resized_alike_in_numpy_and_in_pytorch() -> None:
    pictures = smooth_images(3, square(12), 1, 1)
    for size in (square(8), square(17), Size(24, 9)):
        ours = images_to_torch(resize(pictures, size))
        theirs = resized(images_to_torch(pictures), size)
        assert theirs.shape == (3, 1, size.height, size.width)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


class Killed(Exception):
    """Stands for the process's end."""


@pytest.mark.parametrize("step", [2, 5, 9])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, step: int) -> None:
    data = toy_data()
    whole = train_supernet(COVERED, data, RECIPE)

    def kill(done: int, total: int, loss: float) -> None:
        assert total == 12
        if done == step:
            raise Killed

    with pytest.raises(Killed):
        train_supernet(COVERED, data, RECIPE, tmp_path / "net.pt", kill)
    resumed = train_supernet(COVERED, data, RECIPE, tmp_path / "net.pt")
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0, msg=name)


class Code:
    """A thing that creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.file,)


def test_a_checkpoint_of_another_training_or_none_at_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    train_supernet(COVERED, toy_data(), SuperRecipe(largest=1, epochs=0, batch=80), path)
    with pytest.raises(UsageError, match="recipe"):
        train_supernet(COVERED, toy_data(), RECIPE, path)
    with pytest.raises(UsageError, match="data"):
        train_supernet(COVERED, toy_data(7), SuperRecipe(largest=1, epochs=0, batch=80), path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UsageError, match="not a checkpoint"):
        train_supernet(COVERED, toy_data(), RECIPE, path)
    torch.save({"identity": Code(tmp_path / "ran")}, path)
    with pytest.raises(UsageError, match="not a checkpoint"):
        train_supernet(COVERED, toy_data(), RECIPE, path)
    assert not (tmp_path / "ran").exists()


def test_sub_networks_inherit_what_was_learned() -> None:
    data = toy_data()
    recipe = SuperRecipe(largest=3, epochs=6, subnets=4, batch=40, rate=0.05)
    net = train_supernet(COVERED, data, recipe)
    source = random.Random(0)
    better = []
    for _ in range(4):
        arch = COVERED.sample(source)
        valid = Split(resize(data.valid.images, arch.resolution), data.valid.labels)
        alone = inherit(net, arch, calibration_batches(data, arch.resolution))
        assert accuracy(alone, valid) > 0.7, str(arch)
        better.append(accuracy(alone, valid) - accuracy(net.extract(arch).eval(), valid))
    assert sum(better) > 0, "without measured statistics the same weights must be worse"


def test_the_largest_network_contains_every_space() -> None:
    for space in SPACES:
        for mine, theirs in zip(
            (layer for layer in layers(space.largest()) if layer.weights),
            (layer for layer in layers(COVERED.largest) if layer.weights),
            strict=True,
        ):
            assert mine.cout <= theirs.cout
            assert mine.kernel <= theirs.kernel


def test_all_tensors_follow_the_network_to_its_device() -> None:
    """PyTorch's meta device holds shapes only; whatever stayed behind on the CPU would not meet it."""
    net = SuperNet(COVERED.largest).to("meta")
    arch = SPACES[0].largest()
    logits = net(torch.empty(2, 1, 12, 12, device="meta"), arch)
    assert (logits.device.type, tuple(logits.shape)) == ("meta", (2, 3))
    alone = net.extract(arch).eval()
    assert device_of(alone).type == "meta"
    assert alone(torch.empty(2, 1, 8, 8, device="meta")).device.type == "meta"
    assert {tensor.device.type for tensor in alone.state_dict().values()} == {"meta"}


def test_a_device_that_is_not_there_is_refused() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(UsageError, match="unknown device"):
        pick_device("tpu")
    if torch.cuda.is_available():
        assert pick_device("auto").type == "cuda"
    else:
        assert pick_device("auto").type == "cpu"
        with pytest.raises(UsageError, match="no GPU"):
            pick_device("cuda")
