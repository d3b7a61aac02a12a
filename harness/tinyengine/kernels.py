"""Every kernel there is, in order of taste; `Options.disabled` names those to leave out."""

from __future__ import annotations

from collections.abc import Sequence, Set

from tinyhil.harness.tinyengine.ablation import without
from tinyhil.harness.tinyengine.addition import LinearAdd
from tinyhil.harness.tinyengine.asm.conv import Convolution
from tinyhil.harness.tinyengine.asm.dense import Dense
from tinyhil.harness.tinyengine.block import Block
from tinyhil.harness.tinyengine.depthwise import Depthwise
from tinyhil.harness.tinyengine.kernel import Kernel
from tinyhil.harness.tinyengine.low_bits import LowBits
from tinyhil.harness.tinyengine.pipeline import PATCHES, PIPELINE
from tinyhil.harness.tinyengine.portable import Portable


def all_kernels(disabled: Set[str]) -> Sequence[Kernel]:
    """The kernels that may be chosen. The portable ones always stay: they compute everything."""
    layers: tuple[Kernel, ...] = (LinearAdd(), Dense(), Convolution(), LowBits(), Depthwise())
    fast = (*layers, Block(), PIPELINE, PATCHES)
    if "kernels" in disabled:
        fast = ()
    return without((*(k for k in fast if k.name not in disabled), Portable()), disabled)
