"""Search spaces, and stage 1 of the search: which (width, resolution) to search in at all.

A space is MCUNet's: the inverted-residual family at one width multiplier and one resolution, with
kernel and expansion free per block and depth free per stage. Stage 1 samples networks of each of
the 108 spaces and keeps those that fit the memory. The space whose fitting networks compute most
(largest mean MACs) is the one to search: more computation in the same memory is more capacity.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tinyhil.errors import UsageError
from tinyhil.nas.arch import Arch, Block, Kind, layers
from tinyhil.nas.size import Size, square

WIDTHS = tuple(tenths / 10 for tenths in range(2, 11))
RESOLUTIONS = tuple(map(square, range(48, 225, 16)))


class NothingFits(UsageError):
    """No network was found within the budget; the text says what the nearest one would need."""


@dataclass(frozen=True)
class Family:
    """What every space of a search has in common: the channels at width 1 and what may vary.

    `stages` are (channels, stride, most blocks); a stage has at least two blocks, unless one is the
    most. `kernels` and `expansions` are free per block.
    """

    stem: int = 32
    first: int = 16
    stages: tuple[tuple[int, int, int], ...] = (
        (24, 2, 4), (40, 2, 4), (80, 2, 4), (96, 1, 4), (192, 2, 4), (320, 1, 1),
    )  # fmt: skip
    kernels: tuple[int, ...] = (3, 5, 7)
    expansions: tuple[int, ...] = (3, 4, 6)
    classes: int = 1000
    channels: int = 3
    stem_stride: int = 2

    def depths(self, stage: int) -> range:
        """How many blocks stage number `stage` may have."""
        most = self.stages[stage][2]
        return range(min(2, most), most + 1)


IMAGENET = Family()


@dataclass(frozen=True)
class Space:
    """All networks of `family` at one width and one resolution."""

    width: float
    resolution: Size
    family: Family = IMAGENET

    def __str__(self) -> str:
        return f"w{self.width}-r{self.resolution}"

    def build(self, genes: Sequence[Sequence[tuple[int, int]]]) -> Arch:
        """The network with `genes`: for each stage, the (kernel, expansion) of each of its blocks."""
        family = self.family
        stem = scaled(family.stem, self.width)
        first = Block(3, 1, scaled(family.first, self.width))
        stages: list[tuple[Block, ...]] = [(first,)]
        for (channels, stride, _), stage in zip(family.stages, genes, strict=True):
            out = scaled(channels, self.width)
            stages.append(
                tuple(
                    Block(kernel, expansion, out, stride if number == 0 else 1)
                    for number, (kernel, expansion) in enumerate(stage)
                )
            )
        return Arch(
            self.resolution, stem, tuple(stages), family.classes, width=self.width,
            channels=family.channels, stem_stride=family.stem_stride,
        )  # fmt: skip

    def sample(self, source: random.Random) -> Arch:
        """A network drawn uniformly: depth per stage, then kernel and expansion per block."""
        family = self.family
        return self.build(
            [
                [
                    (source.choice(family.kernels), source.choice(family.expansions))
                    for _ in range(source.choice(family.depths(stage)))
                ]
                for stage in range(len(family.stages))
            ]
        )

    def largest(self) -> Arch:
        """The network that contains all others of the space."""
        gene = (max(self.family.kernels), max(self.family.expansions))
        return self.build([[gene] * most for _, _, most in self.family.stages])

    def smallest(self) -> Arch:
        """The network that all others contain."""
        gene = (min(self.family.kernels), min(self.family.expansions))
        return self.build([[gene] * min(self.family.depths(i)) for i in range(len(self.family.stages))])


def scaled(channels: int, width: float) -> int:
    """`channels` times `width` as the nearest multiple of 8, not more than a tenth below the product."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def grid(
    family: Family = IMAGENET,
    widths: Iterable[float] = WIDTHS,
    resolutions: Iterable[int | Size] = RESOLUTIONS,
) -> tuple[Space, ...]:
    """All spaces of widths x resolutions (a number is a square's side); the paper's 108 by default."""
    sizes = [size if isinstance(size, Size) else square(size) for size in resolutions]
    return tuple(Space(width, size, family) for width in widths for size in sizes)


def resolutions_within(size: Size, squares: Iterable[Size]) -> tuple[Size, ...]:
    """The resolutions to search for images of `size`: those of `squares` that are not larger, or `size`
    itself where all are. Images that are not square are searched as they are: what made them, a front end for
    sound, say, makes no others."""
    smaller = tuple(one for one in squares if one.height <= size.height)
    return smaller if size.height == size.width and smaller else (size,)


@dataclass(frozen=True)
class Need:
    """What a network takes: bytes of RAM and flash, its MACs, and its run time (0 where not asked)."""

    ram: int
    flash: int
    macs: int
    latency: float = 0.0

    def within(self, ram: int, flash: int, latency: float | None = None) -> bool:
        """Whether it fits; None is no limit."""
        return self.ram <= ram and self.flash <= flash and (latency is None or self.latency <= latency)


Needs = Callable[[Arch], Need]


def analytic_needs(overhead: float = 1.2) -> Needs:
    """Shapes alone: in-place activation peak times `overhead` (the published engine of 2020 used
    1.14 to 1.21 times that peak), and one byte of flash per weight."""

    def needs(arch: Arch) -> Need:
        peak = weights = macs = 0
        for layer in layers(arch):
            macs += layer.macs
            weights += layer.weights
            held = layer.held if layer.kind is Kind.DEPTHWISE else 0
            both = max if layer.kind is Kind.DEPTHWISE else sum
            peak = max(peak, both((layer.bytes_in, layer.bytes_out)) + held)
        return Need(round(peak * overhead), weights, macs)

    return needs


@dataclass(frozen=True)
class SpaceScore:
    """One space under one budget: how many networks were drawn, and the MACs of those that fit,
    sorted (their empirical distribution function is the paper's figure 3)."""

    space: Space
    drawn: int
    macs: tuple[int, ...]

    @property
    def fitting(self) -> int:
        """How many of the drawn networks fit."""
        return len(self.macs)

    @property
    def mean(self) -> float:
        """Mean MACs of the fitting networks, 0 where none fits."""
        return sum(self.macs) / len(self.macs) if self.macs else 0.0

    def quantile(self, share: float) -> int:
        """The MACs that `share` of the fitting networks do not exceed; 0 where none fits."""
        return self.macs[min(int(share * len(self.macs)), len(self.macs) - 1)] if self.macs else 0


@dataclass(frozen=True)
class Sampled:
    """Networks of one space with their needs, to be scored under any budget."""

    space: Space
    needs: tuple[Need, ...]

    def score(self, ram: int, flash: int, latency: float | None = None) -> SpaceScore:
        """The space under a budget of `ram` and `flash` bytes, and of run time if there is one."""
        fitting = sorted(need.macs for need in self.needs if need.within(ram, flash, latency))
        return SpaceScore(self.space, len(self.needs), tuple(fitting))


def sample_spaces(
    spaces: Sequence[Space],
    needs: Needs,
    count: int = 200,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    prepare: Callable[[Sequence[Arch]], None] = lambda archs: None,
) -> tuple[Sampled, ...]:
    """`count` networks of each space with their needs. A space's draw depends on `seed` and its own
    name only, so adding spaces changes none of the others. `prepare` is told of a space's networks before
    `needs` is asked."""
    found = []
    for number, space in enumerate(spaces):
        source = random.Random(f"{seed} {space}")
        drawn = [space.sample(source) for _ in range(count)]
        prepare(drawn)
        found.append(Sampled(space, tuple(map(needs, drawn))))
        if progress is not None:
            progress(number + 1, len(spaces))
    return tuple(found)


def rank(
    sampled: Iterable[Sampled], ram: int, flash: int, minimum: int, latency: float | None = None
) -> tuple[SpaceScore, ...]:
    """The spaces of which at least `minimum` networks fit, best first.

    Without a minimum, a space where a handful of small networks happen to fit would win.
    """
    scores = [one.score(ram, flash, latency) for one in sampled]
    kept = [score for score in scores if score.fitting >= max(minimum, 1)]
    return tuple(sorted(kept, key=lambda score: (-score.mean, str(score.space))))


def pick(
    sampled: Sequence[Sampled], ram: int, flash: int, minimum: int, latency: float | None = None
) -> Space:
    """The space to search; NothingFits says how far the nearest network is from fitting."""
    ranked = rank(sampled, ram, flash, minimum, latency)
    if ranked:
        return ranked[0].space
    needs = [need for one in sampled for need in one.needs]
    if not needs:
        raise UsageError("no network was sampled, so no search space can be chosen")

    def excess(need: Need) -> float:
        return max(need.ram / ram, need.flash / flash, need.latency / latency if latency else 0.0)

    best = min(needs, key=excess)
    most = max(one.score(ram, flash, latency).fitting for one in sampled)
    limit = f"run time {best.latency:,.0f} where {latency:,.0f} is allowed, " if latency else ""
    raise NothingFits(
        f"no search space has {minimum} networks within the budget (the best has {most} of "
        f"{len(sampled[0].needs)}). The network nearest to fitting takes {limit}RAM {best.ram:,} where "
        f"{ram:,} bytes are allowed, flash {best.flash:,} where {flash:,} are: raise the budget, add smaller "
        "widths or resolutions, or lower the minimum"
    )
