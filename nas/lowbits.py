"""Training on the weights' own grid, of eight bits or four; and the winner once more in four bits.

While a network trains so, every weight is rounded to its grid on the way in, and the gradient passes the
rounding as if it were not there (straight-through). Grids are symmetric, per output channel; the classifier
has one. Batch normalisation scales whole channels, so folding it afterwards keeps every weight on its grid,
and what is written is exactly what was trained. Activations have eight bits when written, and are not rounded
in training.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrize

from tinyhil.harness.model.requantise import weight_bytes, weighted_layers
from tinyhil.nas.data import Dataset
from tinyhil.nas.deliver import (
    Delivered,
    Form,
    finished,
    int8_accuracy,
    write_project,
    written,
)
from tinyhil.nas.evolution import Budget
from tinyhil.nas.meter import HarnessMeter, Measured, measured_from, narrowed, write_graph
from tinyhil.nas.search import beyond
from tinyhil.nas.supertrain import at_resolution
from tinyhil.nas.torchnet import ConvBN, Net
from tinyhil.nas.train import Recipe, accuracy

BITS = 4
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # parts of a channel's largest weight that its grid may reach to
QAT = Form(trained=True)
INT4 = Form(BITS, trained=True, prefer="flash")  # little flash is what fewer bits are for
PREFERENCES = ("flash", "speed")  # what four bits are built for, in this order, until they fit


class OnGrid(nn.Module):
    """Weights as the grid of `bits` bits would have them, one step per output channel, or one for all."""

    def __init__(self, bits: int, *, per_channel: bool) -> None:
        super().__init__()
        self.top, self.per_channel = (1 << bits - 1) - 1, per_channel

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """`weight` [Co,...] rounded to its grid; the gradient is that of `weight` itself."""
        return weight + (self.rounded(weight.detach()) - weight.detach())

    @torch.no_grad()
    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest weights on the grid whose step gives the least squared error."""
        rows = weight.flatten(1) if self.per_channel else weight.reshape(1, -1)
        largest = rows.abs().amax(1, keepdim=True).clamp_min(1e-12)
        best, least = rows, torch.full_like(largest, torch.inf)
        for clip in CLIPS:
            step = largest * clip / self.top
            grid = torch.clamp(torch.round(rows / step), -self.top, self.top) * step
            error = (grid - rows).square().sum(1, keepdim=True)
            best, least = torch.where(error < least, grid, best), torch.minimum(error, least)
        return best.reshape(weight.shape)


def on_grid(net: Net, bits: int = BITS) -> Net:
    """A copy of `net` that computes with weights of `bits` bits and can be trained further."""
    net = copy.deepcopy(net)
    for conv in net.convs.values():
        assert isinstance(conv, ConvBN)
        parametrize.register_parametrization(conv, "weight", OnGrid(bits, per_channel=True))
    parametrize.register_parametrization(net.fc, "weight", OnGrid(bits, per_channel=False))
    return net


def settled(net: Net) -> Net:
    """What `on_grid` made, as a plain network whose weights lie on their grids."""
    net = copy.deepcopy(net)
    for module in [*net.convs.values(), net.fc]:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return net.eval()


def in_form(net: Net, form: Form, data: Dataset, recipe: Recipe, folder: Path) -> Net:
    """`net` as it is to be written in `form`: trained further by `recipe` on its weights' grid where the form
    asks for that (kept in `folder` like everything that is trained), else as it is."""
    return settled(finished(on_grid(net, form.bits), data, recipe, folder)) if form.trained else net


@dataclass(frozen=True)
class Narrow:
    """A network in four-bit weights beside itself in eight, both built to prefer the same.

    That is little flash; where such firmware is beyond the budget, speed. Accuracies are shares of the test
    part: of the int8 network, of it with its weights merely rounded to four bits, and (in `delivered`) of the
    one that was trained on them. Bytes are those of the weights.
    """

    delivered: Delivered
    int8: Measured
    int8_accuracy: float
    rounded_accuracy: float
    int8_bytes: int
    int4_bytes: int
    prefer: str

    def __str__(self) -> str:
        four = self.delivered
        return (
            f"test accuracy {four.int8_accuracy:.1%} after training on four bits, "
            f"{self.rounded_accuracy:.1%} by rounding alone, {self.int8_accuracy:.1%} with eight; "
            f"weights {self.int4_bytes:,} B against {self.int8_bytes:,}; where {self.prefer} is preferred, "
            f"flash {four.measured.flash:,} B against {self.int8.flash:,}, "
            f"RAM {four.measured.ram:,} B against {self.int8.ram:,}, "
            f"run time {four.measured.sample.total:,} {four.measured.unit} against {self.int8.sample.total:,}"
        )


def deliver_int4(
    net: Net, name: str, data: Dataset, meter: HarnessMeter, recipe: Recipe, folder: Path, budget: Budget
) -> Narrow:
    """`net` with weights of four bits: trained on them by `recipe`, written to `folder` as .tflite and as
    C, measured bit for bit beside its int8 self. Of PREFERENCES the first takes it whose firmware is within
    `budget`; where none is, the first of all, and what is delivered says what it takes too much."""
    trained = in_form(net, INT4, data, recipe, folder / "tuned")
    eight, four = written(net, f"{name}-int8", data), written(trained, f"{name}-int4", data, BITS)
    test, layers = at_resolution(data.test, net.arch.resolution), weighted_layers(eight)
    path = write_graph(four, folder / f"{name}-int4.tflite")

    def measured(path: Path, prefer: str) -> Measured:
        return measured_from(net.arch, meter.record(meter.case(path, prefer)))

    tried = {}
    for prefer in PREFERENCES:
        tried[prefer] = measured(path, prefer)
        if not beyond(tried[prefer], budget):
            break
    prefer = next((name for name, one in tried.items() if not beyond(one, budget)), PREFERENCES[0])
    right = accuracy(trained, test), int8_accuracy(four, test)
    one = tried[prefer]
    delivered = Delivered(f"{name}-int4", net.arch, path, one, *right, beyond(one, budget))
    write_project(four, meter.engine, meter.board, folder / "c-int4", prefer)
    before = measured(write_graph(eight, folder / "sampled" / f"{name}-int8.tflite"), prefer)
    rounded = int8_accuracy(narrowed(eight, BITS), test)
    bytes_of = {bits: weight_bytes(eight, dict.fromkeys(layers, bits)) for bits in (8, BITS)}
    return Narrow(delivered, before, int8_accuracy(eight, test), rounded, bytes_of[8], bytes_of[BITS], prefer)
