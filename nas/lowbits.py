"""The winner with weights of four bits: trained a little on the coarser grid, then written as INT4.

While it trains, every weight is rounded to its grid on the way in, and the gradient passes the rounding
as if it were not there (straight-through). Grids are symmetric, per output channel; the classifier has one.
Batch normalisation scales whole channels, so folding it afterwards keeps every weight on its grid, and
what is written is exactly what was trained. Activations keep their eight bits.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrize

from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.requantise import requantise, weight_bytes, weighted_layers
from tinyhil.nas.data import Dataset
from tinyhil.nas.deliver import Delivered, finished, int8_accuracy, to_int8, write_project
from tinyhil.nas.meter import HarnessMeter, Measured, measured_from, write_graph
from tinyhil.nas.supertrain import at_resolution
from tinyhil.nas.torchnet import ConvBN, Net, to_float
from tinyhil.nas.train import Recipe, accuracy

BITS = 4
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # parts of a channel's largest weight that its grid may reach to
PREFER = "flash"  # what fewer bits are for


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


def narrowed(graph: Graph, bits: int = BITS) -> Graph:
    """The int8 `graph` with all its weights in `bits` bits."""
    return requantise(graph, dict.fromkeys(weighted_layers(graph), bits))


@dataclass(frozen=True)
class Narrow:
    """A network in four-bit weights beside itself in eight, both built for little flash.

    Accuracies are shares of the test part: of the int8 network, of it with its weights merely rounded to
    four bits, and (in `delivered`) of the one that was trained on them. Bytes are those of the weights.
    """

    delivered: Delivered
    int8: Measured
    int8_accuracy: float
    rounded_accuracy: float
    int8_bytes: int
    int4_bytes: int

    def __str__(self) -> str:
        four = self.delivered
        return (
            f"test accuracy {four.int8_accuracy:.1%} after training on four bits, "
            f"{self.rounded_accuracy:.1%} by rounding alone, {self.int8_accuracy:.1%} with eight; "
            f"weights {self.int4_bytes:,} B against {self.int8_bytes:,}; where flash is preferred, "
            f"flash {four.measured.flash:,} B against {self.int8.flash:,}, "
            f"RAM {four.measured.ram:,} B against {self.int8.ram:,}, "
            f"run time {four.measured.sample.total:,} {four.measured.unit} against {self.int8.sample.total:,}"
        )


def deliver_int4(
    net: Net, name: str, data: Dataset, meter: HarnessMeter, recipe: Recipe, folder: Path
) -> Narrow:
    """`net` with weights of four bits: trained on them by `recipe`, written to `folder` as .tflite and as
    C, measured bit for bit beside its int8 self."""
    eight = to_int8(to_float(net), f"{name}-int8", data)
    trained = settled(finished(on_grid(net), data, recipe, folder / "tuned"))
    four = narrowed(to_int8(to_float(trained), f"{name}-int4", data))
    rounded = narrowed(eight)
    test = at_resolution(data.test, net.arch.resolution)

    def measured(graph: Graph, path: Path) -> Measured:
        return measured_from(net.arch, meter.record(meter.case(write_graph(graph, path), PREFER)))

    before = measured(eight, folder / "sampled" / f"{name}-int8.tflite")
    path = folder / f"{name}-int4.tflite"
    delivered = Delivered(
        f"{name}-int4",
        net.arch,
        path,
        measured(four, path),
        accuracy(trained, test),
        int8_accuracy(four, test),
    )
    write_project(four, meter.engine, meter.board, folder / "c-int4", PREFER)
    layers = weighted_layers(eight)
    return Narrow(
        delivered, before, int8_accuracy(eight, test), int8_accuracy(rounded, test),
        weight_bytes(eight, dict.fromkeys(layers, 8)), weight_bytes(four, dict.fromkeys(layers, BITS)),
    )  # fmt: skip
