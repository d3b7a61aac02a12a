"""Weights of four bits: what is trained is what is written, and what is written is what runs."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")

from tinyhil.harness.model.graph import DType  # noqa: E402
from tinyhil.harness.model.oracle import has_tflm, tflm_run  # noqa: E402
from tinyhil.harness.model.reference import Interpreter  # noqa: E402
from tinyhil.harness.model.requantise import weighted_layers  # noqa: E402
from tinyhil.harness.model.tflite_reader import read_tflite  # noqa: E402
from tinyhil.harness.sweep.workers import open_workers  # noqa: E402
from tinyhil.nas.arch import Arch, parse  # noqa: E402
from tinyhil.nas.deliver import to_int8, write_card  # noqa: E402
from tinyhil.nas.evolution import Budget  # noqa: E402
from tinyhil.nas.latency import Sample  # noqa: E402
from tinyhil.nas.lowbits import QAT, OnGrid, deliver_int4, in_form, on_grid, settled  # noqa: E402
from tinyhil.nas.meter import HarnessMeter, Measured, narrowed  # noqa: E402
from tinyhil.nas.quantize import quantize_images  # noqa: E402
from tinyhil.nas.synthetic import figures  # noqa: E402
from tinyhil.nas.torchnet import Net, to_float  # noqa: E402
from tinyhil.nas.train import Recipe, tune  # noqa: E402

ARCH = parse("r12 | s8 k3e1:8 | k3e3:8/2 k5e2 | k3e2:16 | fc2")
DATA = figures(12, 160)
SHORT = Recipe(epochs=1, rate=0.02)
ROOMY = Budget(1 << 20, 1 << 20)


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return tune(Net(ARCH), DATA, Recipe(epochs=2))


def test_weights_on_their_grid_stay_there_and_take_fifteen_values_a_channel() -> None:
    torch.manual_seed(1)
    weight = torch.randn(6, 8, 3, 3) * torch.tensor([1e-3, 0.1, 1, 5, 40, 0]).reshape(6, 1, 1, 1)
    grid = OnGrid(4, per_channel=True)
    rounded = grid.rounded(weight)
    torch.testing.assert_close(grid.rounded(rounded), rounded)
    assert all(len(np.unique(row.numpy())) <= 15 for row in rounded.flatten(1))
    step = rounded.flatten(1).abs().amax(1) / 7
    assert ((rounded - weight).abs().flatten(1).mean(1) <= 0.5 * step + 1e-9).all()
    assert len(np.unique(OnGrid(4, per_channel=False).rounded(weight).numpy())) <= 15


def test_the_gradient_passes_the_rounding_unchanged() -> None:
    weight = torch.randn(4, 3, requires_grad=True)
    factor = torch.randn(4, 3)
    (OnGrid(4, per_channel=True)(weight) * factor).sum().backward()
    torch.testing.assert_close(weight.grad, factor)


@pytest.mark.parametrize("bits", [8, 4])
def test_what_was_trained_on_the_grid_is_written_without_another_rounding(net: Net, bits: int) -> None:
    trained = settled(tune(on_grid(net, bits), DATA, Recipe(epochs=1, rate=0.02)))
    network = to_float(trained)
    graph = narrowed(to_int8(network, "net", DATA), bits)
    names = weighted_layers(graph)
    assert len(names) == len(network.weights)
    for index, weights in zip(names.values(), network.weights.values(), strict=True):
        tensor = graph.tensors[graph.ops[index].inputs[1]]
        assert tensor.dtype is {8: DType.INT8, 4: DType.INT4}[bits]
        assert tensor.data is not None
        assert tensor.quant is not None
        axis = 3 if tensor.shape[0] == 1 and len(tensor.shape) == 4 else 0
        shape = [-1 if at == axis and tensor.quant.per_channel else 1 for at in range(len(tensor.shape))]
        written = tensor.data * np.array(tensor.quant.scale).reshape(shape)
        np.testing.assert_allclose(written, weights.weight, rtol=1e-4, atol=1e-7)
    assert not hasattr(net.fc, "parametrizations"), "the network itself is left alone"


@pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None,
    reason="needs apt install qemu-system-arm gcc-arm-none-eabi",
)
def test_the_winner_is_delivered_in_four_bits_exact_and_beside_its_eight(net: Net, tmp_path: Path) -> None:
    with open_workers("threads", 1) as workers:
        meter = HarnessMeter("stm32f746", "tinyengine", tmp_path, workers)
        narrow = deliver_int4(net, "winner", DATA, meter, SHORT, tmp_path, ROOMY)
    # A record has numbers only where the firmware's output was the reference's, byte for byte.
    assert narrow.delivered.path == tmp_path / "winner-int4.tflite"
    assert narrow.prefer == "flash"
    assert narrow.delivered.beyond == ""
    assert narrow.int4_bytes == pytest.approx(narrow.int8_bytes / 2, abs=8)
    assert narrow.delivered.measured.flash != narrow.int8.flash
    eight = tmp_path / "sampled" / "winner-int8.tflite"
    assert narrow.delivered.path.stat().st_size < eight.stat().st_size
    content = narrow.delivered.path.read_bytes()
    graph = read_tflite(content, "winner")
    image = quantize_images(DATA.test.images[:1], graph)
    if has_tflm():
        np.testing.assert_array_equal(tflm_run(content, [image])[0], Interpreter(graph)(image)[0])
    assert any((tmp_path / "c-int4").glob("*.c"))
    write_card(tmp_path, "Card", {"weights of four bits": str(narrow)}, [narrow.delivered])
    card = (tmp_path / "card.md").read_text()
    assert re.search(r"after training on four bits, .* by rounding alone, .* with eight", card)
    assert "winner-int4" in card


class Straw:
    """A meter whose firmware takes 900 instructions and 5,000 bytes of flash built for speed, 1,100 and 4,000
    built for flash."""

    engine = board = None

    def case(self, path: Path, prefer: str) -> str:
        return prefer

    def record(self, case: str) -> str:
        return case

    @staticmethod
    def measured(arch: Arch, prefer: str) -> Measured:
        time, flash = {"speed": (900, 5000), "flash": (1100, 4000)}[prefer]
        return Measured(Sample(arch, time, {}), "instructions", 100, 90, flash)


@pytest.mark.parametrize(
    ("flash", "latency", "prefer", "said"),
    [
        (4500, 2000.0, "flash", ""),
        (5500, 1000.0, "speed", ""),
        (4500, 1000.0, "flash", "run time 1,100 instructions where 1,000 are allowed (+10.0%)"),
    ],
)
def test_four_bits_prefer_flash_or_speed_whichever_fits_and_what_does_not_is_said(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    flash: int, latency: float, prefer: str, said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("tinyhil.nas.lowbits.measured_from", Straw.measured)
    projects: list[object] = []
    monkeypatch.setattr("tinyhil.nas.lowbits.write_project", lambda *rest: projects.append(rest[-1]))
    budget, meter = Budget(1000, flash, latency), cast(HarnessMeter, Straw())
    narrow = deliver_int4(net, "winner", DATA, meter, SHORT, tmp_path, budget)
    assert (narrow.prefer, narrow.delivered.beyond) == (prefer, said)
    assert projects == [prefer], "the C that is taken away is what was measured"
    assert f"where {prefer} is preferred" in str(narrow)
    write_card(tmp_path, "Card", {}, [narrow.delivered])
    assert ("**winner-int4 is beyond the budget: run time" in (tmp_path / "card.md").read_text()) == bool(
        said
    )


def test_training_on_eight_bits_is_kept_and_changes_what_is_trained(net: Net, tmp_path: Path) -> None:
    trained = in_form(net, QAT, DATA, SHORT, tmp_path)
    assert len(list(tmp_path.glob("*.pt"))) == 1
    again = in_form(net, QAT, DATA, replace(SHORT), tmp_path)
    for name, tensor in trained.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor)
    assert not torch.equal(trained.fc.weight, net.fc.weight)
    assert len(np.unique(trained.fc.weight.detach().numpy())) <= 255
