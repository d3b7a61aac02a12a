"""Height and width: the one type for the size of an input and of every map behind it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Size:
    """Height and width of an input or a map, in pixels (of sound: time steps and coefficients)."""

    height: int
    width: int

    def __str__(self) -> str:
        """`32` for a square, `49x10` for any other."""
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def longer(self) -> int:
        """The longer side."""
        return max(self.height, self.width)

    def scaled(self, longer: int) -> Size:
        """The same proportions with `longer` as the longer side, each side at least 1."""
        sides = (max(1, round(side * longer / self.longer)) for side in (self.height, self.width))
        return Size(*sides)


POINT = Size(1, 1)


def square(side: int) -> Size:
    """A square."""
    return Size(side, side)


@lru_cache(maxsize=1 << 12)
def strided(size: Size, stride: int) -> Size:
    """The output map of a layer under SAME padding."""
    return Size(-(-size.height // stride), -(-size.width // stride))
