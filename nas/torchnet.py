"""The same networks in PyTorch, for training: an architecture as a module, and back with BN folded."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tinyhil.harness.model.shapes import same_pads
from tinyhil.nas.arch import Arch, Kind, Layer, layers
from tinyhil.nas.network import FloatNetwork, Weights, weight_shape
from tinyhil.nas.size import Size

BN_EPSILON = 1e-3


class ConvBN(nn.Module):
    """Convolution with TFLite's SAME padding, batch normalisation, optional ReLU6."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        groups = layer.cin if layer.kind is Kind.DEPTHWISE else 1
        shape = (layer.cout, layer.cin // groups, layer.kernel, layer.kernel)
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_normal_(self.weight, mode="fan_out" if groups == 1 else "fan_in")
        self.bn = nn.BatchNorm2d(layer.cout, eps=BN_EPSILON)
        self.stride, self.groups, self.relu6 = layer.stride, groups, layer.relu6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N,C,H,W] to [N,C',H',W']."""
        out = self.bn(conv_same(x, self.weight, self.stride, self.groups))
        return functional.relu6(out) if self.relu6 else out


def conv_same(x: torch.Tensor, weight: torch.Tensor, stride: int, groups: int) -> torch.Tensor:
    """Convolution whose padding is TFLite's SAME: where it is uneven, the extra row comes last."""
    top, bottom, left, right = same_pads(x.shape[-2:], weight.shape[-2:], (stride, stride))
    if (top, left) == (bottom, right):
        return functional.conv2d(x, weight, None, stride, (top, left), 1, groups)
    return functional.conv2d(
        functional.pad(x, (left, right, top, bottom)), weight, None, stride, 0, 1, groups
    )


class Net(nn.Module):
    """`arch` as a module that can be trained alone."""

    def __init__(self, arch: Arch) -> None:
        super().__init__()
        self.arch = arch
        self.plan = layers(arch)
        self.convs = nn.ModuleDict({key(layer): ConvBN(layer) for layer in self.plan if has_bn(layer)})
        last = self.plan[-1]
        self.fc = nn.Linear(last.cin, last.cout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N,C,H,W] to logits [N,classes], or to the grid's map [N,H',W',channels]."""
        block, shortcut = -1, x
        for layer in self.plan:
            if layer.block != block:
                block, shortcut = layer.block, x
            if layer.kind is Kind.ADD:
                x = x + shortcut
            elif layer.kind is Kind.POOL:
                x = x.mean((2, 3))
            elif not has_bn(layer):
                x = self.fc(x if layer.kind is Kind.DENSE else x.permute(0, 2, 3, 1))
            else:
                x = self.convs[key(layer)](x)
        return x


def key(layer: Layer) -> str:
    """The layer's name as a module name, which may hold no dot."""
    return layer.name.replace(".", "_")


def has_bn(layer: Layer) -> bool:
    """Convolutions are followed by batch normalisation, the classifier and a grid's head are not."""
    return layer.kind in (Kind.CONV, Kind.DEPTHWISE, Kind.POINTWISE) and layer.name != "head"


@torch.no_grad()
def to_float(net: Net) -> FloatNetwork:
    """The trained network in NumPy, batch normalisation folded into weights and biases."""
    made: dict[str, Weights] = {}
    for layer in net.plan:
        if layer is net.plan[-1]:
            weight = _numpy(net.fc.weight).reshape(weight_shape(layer))
            made[layer.name] = Weights(weight, _numpy(net.fc.bias))
        elif has_bn(layer):
            conv = net.convs[key(layer)]
            assert isinstance(conv, ConvBN)
            mean, variance = conv.bn.running_mean, conv.bn.running_var
            assert mean is not None
            assert variance is not None
            factor = _numpy(conv.bn.weight) / np.sqrt(_numpy(variance) + conv.bn.eps)
            weight = _numpy(conv.weight) * factor[:, None, None, None]
            axes = (1, 2, 3, 0) if layer.kind is Kind.DEPTHWISE else (0, 2, 3, 1)
            made[layer.name] = Weights(weight.transpose(axes), _numpy(conv.bn.bias) - _numpy(mean) * factor)
    return FloatNetwork(net.arch, made)


def _numpy(tensor: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return tensor.detach().cpu().double().numpy()


def resized(x: torch.Tensor, size: Size) -> torch.Tensor:
    """Images [N,C,H,W] at `size`, bilinear, as `data.resize` does it."""
    wanted = (size.height, size.width)
    if tuple(x.shape[-2:]) == wanted:
        return x
    return functional.interpolate(x, wanted, mode="bilinear", align_corners=False)


def images_to_torch(images: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> torch.Tensor:
    """[N,H,W,C] in NumPy to [N,C,H,W] in PyTorch."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
