"""Requantisation as instructions: what follows an accumulator until its byte can be stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from tinyhil.harness.tinyengine.asm.emit import Asm
from tinyhil.harness.tinyengine.asm.requant import Proved, Recipe


@dataclass(frozen=True)
class Post:
    """The part of a recipe that is code: the same for all channels of a layer.

    `shift` and `addend` are None where each channel brings its own in the stream. Constants of a channel
    follow in the order of `words`; `proved` takes 256 * x + offset, `rounded` takes x.
    """

    kind: Literal["proved", "rounded"]
    shift: int | None
    low: int
    high: int
    addend: int | None = None

    @staticmethod
    @lru_cache(maxsize=1024)
    def of(recipe: Recipe) -> Post:
        """The code of a recipe, every channel with its own addend. A shift is part of it where the layer has
        one scale: channels of several that happen to share a shift would ask for code that no other layer
        uses."""
        if isinstance(recipe, Proved):
            return Post("proved", recipe.shift, recipe.low, recipe.high)
        shift = int(recipe.shift[0]) if is_uniform(recipe) else None
        return Post("rounded", shift, recipe.low, recipe.high)

    @staticmethod
    @lru_cache(maxsize=1024)
    def common(recipe: Recipe) -> Post:
        """The same with one addend for all channels, where a proven recipe has that."""
        post = Post.of(recipe)
        if isinstance(recipe, Proved) and (recipe.addend == recipe.addend[0]).all():
            return replace(post, addend=int(recipe.addend[0]))
        return post

    @property
    def constants(self) -> int:
        """Words per channel: multiplier and, where channels differ, addend and shift."""
        return 1 + (self.addend is None) + (self.shift is None)

    @property
    def clamps(self) -> bool:
        """The activation's range is narrower than int8's."""
        return (self.low, self.high) != (-128, 127)

    @property
    def tag(self) -> str:
        """Part of a symbol name."""
        clamp = f"_{self.low + 128}to{self.high + 128}" if self.clamps else ""
        addend = "" if self.addend is None else f"a{self.addend & 0xFFFFFFFF:x}"
        return f"{self.kind[0]}{'v' if self.shift is None else self.shift}{addend}{clamp}"

    @property
    def c_fields(self) -> str:
        """The fields of `struct th_post`."""
        shift = -1 if self.shift is None else self.shift
        common = "0, 0" if self.addend is None else f"1, {self.addend}"
        return f"{{{int(self.kind == 'proved')}, {shift}, {self.low}, {self.high}, {common}}}"

    def finish(self, asm: Asm, registers: Sequence[str], multiplier: str, addend: str, shift: str) -> None:
        """Accumulators to clamped bytes in place; `proved` wants them scaled by 256, `rounded` plain."""
        if self.kind == "proved":
            for r in registers:
                asm.op(f"smmla {r}, {r}, {multiplier}, {addend}")
        else:
            for r in registers:
                asm.op(f"smmlar {r}, {r}, {multiplier}, {r}")
            for r in registers:
                asm.op(f"add {r}, {r}, {r}, asr #31")
            for r in registers:
                asm.op(f"add {r}, {r}, {addend}")
        if self.shift is None:
            for r in registers:
                asm.op(f"asr {r}, {r}, {shift}")

    def saturate(self, asm: Asm, r: str) -> None:
        """The last step of one accumulator: shift, saturate, clamp."""
        asm.op(f"ssat {r}, #8, {r}" + ("" if self.shift is None else f", asr #{self.shift}"))
        if self.low > -128:
            asm.op(f"cmp {r}, #{self.low}", "it lt", f"movlt {r}, #{self.low}")
        if self.high < 127:
            asm.op(f"cmp {r}, #{self.high}", "it gt", f"movgt {r}, #{self.high}")


def words(recipe: Recipe, channel: int, post: Post) -> list[int]:
    """The constants of one channel as they stand in the stream: multiplier[, addend][, shift]."""
    found = [int(recipe.multiplier[channel])]
    if post.addend is None:
        found.append(int(recipe.addend[channel]))
    if post.shift is None and not isinstance(recipe, Proved):
        found.append(int(recipe.shift[channel]))
    return found


def offset(recipe: Recipe, channel: int) -> int:
    """What `proved` adds to 256 * x; 0 for `rounded`."""
    return int(recipe.offset[channel]) if isinstance(recipe, Proved) else 0


def as_int32(values: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Words modulo 2^32 as int32."""
    return (np.array(values, dtype=np.int64) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def is_uniform(recipe: Recipe) -> bool:
    """All channels have the same constants."""
    own = [recipe.multiplier, recipe.addend, recipe.offset if isinstance(recipe, Proved) else recipe.shift]
    return all(bool((values == values[0]).all()) for values in own)
