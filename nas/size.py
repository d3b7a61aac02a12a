"""Height and width: the one type for the size of an input and of every map behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from tinyhil.errors import UsageError


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


def parse_size(text: str) -> Size:
    """The size that is printed as `text`, a side or height x width; UsageError where it is none."""
    found = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", text)
    if found is None:
        raise UsageError(
            f"{text!r} is no size: give a whole side, such as 32, or height x width, such as 49x10"
        )
    return Size(int(found[1]), int(found[2] or found[1]))


POINT = Size(1, 1)


def square(side: int) -> Size:
    """A square."""
    return Size(side, side)


@lru_cache(maxsize=1 << 12)
def strided(size: Size, stride: int) -> Size:
    """The output map of a layer under SAME padding."""
    return Size(-(-size.height // stride), -(-size.width // stride))
