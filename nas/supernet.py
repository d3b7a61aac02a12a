"""The super-network: one set of weights that holds every network of a family.

A sub-network takes, of the largest network's weights: the centre of each depthwise kernel, the
first channels of each layer (sorted by importance beforehand), the first blocks of each stage. In
training, batch normalisation uses the batch's own statistics; a sub-network that is to be judged is
copied out into a stand-alone `Net`, whose statistics are then measured on training images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.nn import functional

from tinyhil.nas.arch import Arch, Kind, Layer, layers
from tinyhil.nas.torchnet import BN_EPSILON, ConvBN, Net, conv_same, has_bn, key, resized


class Shared(nn.Module):
    """Weight and batch-norm parameters of one layer of the largest network."""

    def __init__(self, layer: Layer, transform_from: tuple[int, ...] = ()) -> None:
        super().__init__()
        model = ConvBN(layer)
        self.weight = model.weight
        self.gamma = nn.Parameter(torch.ones(layer.cout))
        self.beta = nn.Parameter(torch.zeros(layer.cout))
        # Optional: a matrix per smaller kernel, shared by all channels, applied to the crop.
        self.transforms = nn.ParameterDict(
            {
                str(size): nn.Parameter(torch.eye(size * size))
                for size in transform_from
                if size < layer.kernel
            }
        )

    def take(self, layer: Layer) -> torch.Tensor:
        """The part of the weight [cout, cin/groups, k, k] that `layer` uses."""
        if layer.kind is not Kind.DEPTHWISE:
            return self.weight[: layer.cout, : layer.cin]
        size = self.weight.shape[-1]
        weight = self.weight[: layer.cout]
        for smaller in range(size - 2, layer.kernel - 1, -2):
            weight = weight[..., 1:-1, 1:-1]
            if str(smaller) in self.transforms:
                matrix = self.transforms[str(smaller)]
                weight = (weight.flatten(1) @ matrix).view(layer.cout, 1, smaller, smaller)
        return weight


class SuperNet(nn.Module):
    """Shared weights of all networks that `largest` contains.

    `transform` adds the kernel-transform matrices of once-for-all; without it a smaller kernel is
    the centre of the larger one, as in the paper.
    """

    def __init__(self, largest: Arch, *, transform: bool = False) -> None:
        super().__init__()
        self.largest = largest
        kernels = tuple(sorted({k for block in largest.blocks for k in range(3, block.kernel, 2)}))
        self.shared = nn.ModuleDict()
        for name, layer in named_layers(largest):
            if has_bn(layer):
                self.shared[name] = Shared(layer, kernels if transform else ())
        dense = layers(largest)[-1]
        self.fc = nn.Linear(dense.cin, dense.cout)

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Logits [N,classes] of sub-network `arch` for x [N,C,H,W], resized to its resolution."""
        x = resized(x, arch.resolution)
        block, shortcut = -1, x
        for name, layer in named_layers(arch):
            if layer.block != block:
                block, shortcut = layer.block, x
            match layer.kind:
                case Kind.ADD:
                    x = x + shortcut
                case Kind.POOL:
                    x = x.mean((2, 3))
                case Kind.DENSE:
                    x = functional.linear(x, self.fc.weight[:, : layer.cin], self.fc.bias)
                case _:
                    x = self._convolve(self._layer(name), layer, x)
        return x

    def _layer(self, name: str) -> Shared:
        layer = self.shared[name]
        assert isinstance(layer, Shared)
        return layer

    def _convolve(self, shared: Shared, layer: Layer, x: torch.Tensor) -> torch.Tensor:
        groups = layer.cin if layer.kind is Kind.DEPTHWISE else 1
        x = conv_same(x, shared.take(layer), layer.stride, groups)
        gamma, beta = shared.gamma[: layer.cout], shared.beta[: layer.cout]
        x = functional.batch_norm(x, None, None, gamma, beta, training=True, eps=BN_EPSILON)
        return functional.relu6(x) if layer.relu6 else x

    @torch.no_grad()
    def extract(self, arch: Arch) -> Net:
        """Sub-network `arch` alone, with copies of its weights; its statistics are not measured yet."""
        net = Net(arch).to(self.fc.weight.device)
        for name, layer in named_layers(arch):
            if layer.kind is Kind.DENSE:
                net.fc.weight.copy_(self.fc.weight[:, : layer.cin])
                net.fc.bias.copy_(self.fc.bias)
            elif has_bn(layer):
                conv, shared = net.convs[key(layer)], self._layer(name)
                assert isinstance(conv, ConvBN)
                conv.weight.copy_(shared.take(layer))
                conv.bn.weight.copy_(shared.gamma[: layer.cout])
                conv.bn.bias.copy_(shared.beta[: layer.cout])
        return net

    @torch.no_grad()
    def sort_channels(self) -> None:
        """Bring the channels with the largest L1 norm to the front, without changing what the largest
        network computes: narrower sub-networks then keep the channels that matter."""
        members: dict[str, list[tuple[torch.Tensor, int]]] = {}  # group of channels: tensor, its axis
        readers: dict[str, list[tuple[torch.Tensor, int]]] = {}
        group = stream = ""
        block = -1
        for name, layer in named_layers(self.largest):
            if layer.block != block:
                block, stream = layer.block, group
            if layer.kind is Kind.DENSE:
                readers.setdefault(group, []).append((self.fc.weight, 1))
            if not has_bn(layer):
                continue
            shared = self._layer(name)
            if layer.kind is Kind.POINTWISE:
                readers.setdefault(group, []).append((shared.weight, 1))
            if layer.kind is not Kind.DEPTHWISE:
                # What a residual block adds must stand in the order of what it is added to.
                group = stream if layer.residual and not layer.relu6 else name
            members.setdefault(group, []).extend([(shared.weight, 0), (shared.gamma, 0), (shared.beta, 0)])
        for group, reading in readers.items():
            importance = torch.stack([_norm(tensor, axis) for tensor, axis in reading]).sum(0)
            order = importance.argsort(descending=True, stable=True)
            for tensor, axis in [*members[group], *reading]:
                tensor.copy_(tensor.index_select(axis, order))


def _norm(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    """L1 norm of `tensor` per index along `axis`."""
    return tensor.abs().sum([dim for dim in range(tensor.ndim) if dim != axis])


def named_layers(arch: Arch) -> Iterator[tuple[str, Layer]]:
    """The layers of `arch` under the names that they have in every network of the family: by stage
    and position in the stage, so that networks of different depth share their first blocks."""
    places = [f"s{stage}b{at}" for stage, blocks in enumerate(arch.stages) for at in range(len(blocks))]
    for layer in layers(arch):
        part = layer.name.partition(".")[2]
        yield (f"{places[layer.block]}_{part}" if layer.block >= 0 else layer.name), layer


@torch.no_grad()
def recalibrate(net: Net, batches: Iterable[torch.Tensor]) -> Net:
    """Measure the batch-norm statistics of `net` on `batches` [N,C,H,W]; returned for evaluation.

    With `momentum=None` PyTorch keeps the plain mean over the batches, which is all that is needed.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    net.train()
    for images in batches:
        net(images)
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()
