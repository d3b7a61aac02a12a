"""What evolution changes in a network: its space, depths, kernels and expansions; the rest follows."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tinyhil.errors import UsageError
from tinyhil.nas.arch import Arch
from tinyhil.nas.space import Space

Genes = list[list[tuple[int, int]]]


def genes_of(arch: Arch) -> Genes:
    """(kernel, expansion) of each block of each searched stage."""
    return [[(block.kernel, block.expansion) for block in stage] for stage in arch.stages[1:]]


def space_of(arch: Arch, spaces: Sequence[Space]) -> Space:
    """The one of `spaces` that `arch` belongs to."""
    for space in spaces:
        if (space.width, space.resolution) == (arch.width, arch.resolution):
            return space
    raise UsageError(f"{arch} belongs to none of the spaces {', '.join(map(str, spaces))}")


def mutate(arch: Arch, spaces: Sequence[Space], probability: float, source: random.Random) -> Arch:
    """Each kernel, expansion and depth, and the space itself, redrawn with `probability`."""
    space = space_of(arch, spaces)
    if source.random() < probability:
        space = source.choice(spaces)
    family = space.family
    genes = genes_of(arch)
    for number, stage in enumerate(genes):
        if source.random() < probability:
            depth = source.choice(family.depths(number))
            del stage[depth:]
            while len(stage) < depth:
                stage.append((source.choice(family.kernels), source.choice(family.expansions)))
        for at, (kernel, expansion) in enumerate(stage):
            new_kernel = source.choice(family.kernels) if source.random() < probability else kernel
            new_expansion = source.choice(family.expansions) if source.random() < probability else expansion
            stage[at] = (new_kernel, new_expansion)
    return space.build(genes)


def cross(one: Arch, other: Arch, spaces: Sequence[Space], source: random.Random) -> Arch:
    """Space, depths, and each block's kernel and expansion from either parent."""
    space = space_of(source.choice((one, other)), spaces)
    genes: Genes = []
    for first, second in zip(genes_of(one), genes_of(other), strict=True):
        length = len(source.choice((first, second)))
        stage = []
        for at in range(length):
            having = [parent for parent in (first, second) if at < len(parent)]
            stage.append((source.choice(having)[at][0], source.choice(having)[at][1]))
        genes.append(stage)
    return space.build(genes)
