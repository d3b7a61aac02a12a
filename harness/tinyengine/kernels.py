"""Every kernel there is, in order of taste; `Options.disabled` names those to leave out."""

from __future__ import annotations

from collections.abc import Set

from tinyhil.harness.tinyengine.addition import LinearAdd
from tinyhil.harness.tinyengine.asm.conv import Convolution
from tinyhil.harness.tinyengine.asm.dense import Dense
from tinyhil.harness.tinyengine.block import Block
from tinyhil.harness.tinyengine.kernel import Kernel
from tinyhil.harness.tinyengine.low_bits import Int4
from tinyhil.harness.tinyengine.portable import Portable


def all_kernels(disabled: Set[str]) -> tuple[Kernel, ...]:
    """The kernels that may be chosen. The portable ones always stay: they compute everything."""
    fast: tuple[Kernel, ...] = (LinearAdd(), Dense(), Convolution(), Int4(), Block())
    if "kernels" in disabled:
        fast = ()
    return (*(k for k in fast if k.name not in disabled), Portable())
