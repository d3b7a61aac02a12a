"""Fully-connected layers: the packed weights, and the layer's function around the micro-kernel of
dense_pass.py. The input is widened to 16-bit pairs first, or, where its size is a multiple of four, on the
way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.dense_pass import DensePass, Registers
from tinyhil.harness.tinyengine.asm.emit import c_file
from tinyhil.harness.tinyengine.asm.expand import pair_order
from tinyhil.harness.tinyengine.asm.gemm import recipe_of
from tinyhil.harness.tinyengine.asm.post import Post, as_int32, is_uniform, offset, words
from tinyhil.harness.tinyengine.asm.requant import Proved, Recipe, live_bias
from tinyhil.harness.tinyengine.ctext import c_array, safe_comment
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.work import ConvWork, Work


def split(channels: int, wide: int) -> list[tuple[int, int]]:
    """Outputs at a time and how many times: `wide` as often as possible, then the rest."""
    turns, rest = divmod(channels, wide)
    return [(n, times) for n, times in ((wide, turns), (rest, 1)) if n and times]


def pack(
    weights: npt.NDArray[np.int8],
    bias: npt.NDArray[np.int64],
    order: npt.NDArray[np.intp],
    recipe: Recipe,
    wide: int,
    input_bytes: int,
) -> npt.NDArray[np.int32]:
    """The stream of each micro-kernel, one after the other; `weights` [channels, inputs], `order` as in
    gemm.pack."""
    channels, fours = weights.shape[0], order.shape[0] // 2 * 2
    padded = np.zeros((channels + channels % 2, weights.shape[1] + 1), np.int64)
    padded[:channels, :-1] = weights
    lanes = padded[:, order]  # [channels, pairs of inputs, 2]
    own = (lanes[:, 0:fours:2] * lanes[:, 1:fours:2]).sum(axis=(1, 2))  # of each channel's weights
    both = 256 * lanes[1::2] + lanes[::2] & 0xFFFF
    packed = both[..., 0] | both[..., 1] << 16  # [pairs of channels, pairs of inputs]
    proved, post, uniform = isinstance(recipe, Proved), Post.of(recipe), is_uniform(recipe)
    stream: list[int] = []
    first = 0
    for outputs, turns in split(channels, wide):
        stream.append(input_bytes)
        if uniform:
            stream += [*([offset(recipe, 0)] if proved else []), *words(recipe, 0, post)]
        for _ in range(turns):
            after = first + outputs
            pairs = [(c, min(c + 1, channels - 1)) for c in range(first, after, 2)]
            for even, odd in pairs:
                alone = 0 if even == odd else 256 * int(bias[odd]) + offset(recipe, odd)
                stream += [int(bias[even] - own[even]), int(bias[even]) + (offset(recipe, even) >> 8) + alone]
            here = packed[first // 2 : (after + 1) // 2]
            stream += here[:, :fours].reshape(len(pairs), -1, 2).swapaxes(0, 1).reshape(-1).tolist()
            stream += here[:, fours:].reshape(-1).tolist()
            for even, odd in [] if uniform else pairs:
                stream += [
                    *([offset(recipe, even)] if proved else []),
                    *words(recipe, even, post),
                    *words(recipe, odd, post),
                ]
            first = after
    return as_int32(stream)


@dataclass(frozen=True, eq=False)
class DenseCandidate:
    """One fully-connected layer; several rows of input are taken one after the other."""

    work: ConvWork
    recipe: Recipe
    core: str
    direct: bool = False

    @property
    def kernel(self) -> str:
        """With or without a widened copy of the input."""
        return "dense direct" if self.direct else "dense"

    @property
    def _inputs(self) -> int:
        return self.work.x.channels

    @cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """Inputs of each pair."""
        return pair_order(1, self._inputs)

    @cached_property
    def stream(self) -> npt.NDArray[np.int32]:
        """Packed weights and constants."""
        flat = self.work.weights.reshape(self.work.weights.shape[0], -1)
        bias = live_bias(flat, self.work.folded_bias)
        size = self._pairs // 2 * (4 if self.direct else 8)
        return pack(flat, bias, self.order, self.recipe, Registers.of(self.core).wide, size)

    @cached_property
    def passes(self) -> tuple[tuple[DensePass, int], ...]:
        """Micro-kernels and their turns."""
        return tuple(
            (DensePass.of(self._pairs, outputs, self.recipe, self.core, self.direct), turns)
            for outputs, turns in split(self.work.y.channels, Registers.of(self.core).wide)
        )

    @property
    def _pairs(self) -> int:
        return int(self.order.shape[0])

    @property
    def scratch(self) -> int:
        """The widened input."""
        return 0 if self.direct else 4 * int(self.order.shape[0])

    @property
    def shared(self) -> Mapping[str, int]:
        """Code that other layers may use too."""
        parts = {f"{p.name}.c": p.code_bytes for p, _ in self.passes}
        return parts if self.direct else {**parts, "th_expand.c": 200}

    @property
    def flash(self) -> int:
        """Weights, constants and the layer's own calls."""
        return int(self.stream.nbytes) + 60

    @cached_property
    def instructions(self) -> int:
        """Counted on the generated code; the widening by estimate."""
        per_row = (
            sum(p.instructions(turns, self._pairs) + 10 for p, turns in self.passes)
            + (0 if self.direct else 7 * self._inputs // 4)
            + 30
        )
        return 20 + self.work.x.pixels * per_row

    @property
    def gaps(self) -> tuple[int | None, ...]:
        """A row is read completely before its outputs are written; directly, it is read for each turn."""
        more = self.work.y.channels - self._inputs
        return (max(0, (self.work.x.pixels - 1) * more) + (self.work.y.channels if self.direct else 0),)

    def emit(self, symbol: str) -> Code:
        """The layer's function; micro-kernels come as helper files."""
        files = {f"{p.name}.c": p.text() for p, _ in self.passes}
        files |= {name: c_file(name) for name in ("th_asm.h", *(() if self.direct else ("th_expand.c",)))}
        if self.core == "native":
            files |= {name: c_file(name) for name in ("th_twin.h", "th_twin.c")}
        return Code(self._definition(symbol), files, ('"th_asm.h"',))

    def _definition(self, symbol: str) -> str:
        w = self.work
        comment = safe_comment(f"Fully connected: {w.x.pixels} x {self._inputs} -> {w.y.channels}")
        calls, at, out = [], 0, 0
        for p, turns in self.passes:
            source = "x" if self.direct else "inputs"
            calls.append(f"        {p.name}({source}, {symbol}_stream + {at}, y + {out}, {turns});")
            at, out = at + p.stream_words(self._pairs, turns), out + turns * p.outputs
        lines = [
            f"static const int32_t {symbol}_stream[{self.stream.size}] = {{",
            c_array(self.stream),
            "};",
            "",
            *(p.prototype for p, _ in self.passes),
            "",
            f"/* {comment}. */",
            f"void {symbol}(const int8_t *x, int8_t *y{'' if self.direct else ', uint8_t *scratch'})",
            "{",
            *([] if self.direct else ["    uint32_t *inputs = (uint32_t *)(void *)scratch;"]),
            f"    for (uint32_t row = 0; row < {w.x.pixels}; row++) {{",
            *([] if self.direct else [f"        th_widen(inputs, x, {self._inputs});"]),
            *calls,
            f"        x += {self._inputs};",
            f"        y += {w.y.channels};",
            "    }",
            "}",
        ]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Dense:
    """Fully-connected layers and 1x1 convolutions over a few pixels."""

    name: str = "dense"

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """Widened and direct, for up to three rows, where a recipe is proven."""
        if len(chain) != 1 or not isinstance(chain[0], ConvWork) or not chain[0].pointwise:
            return
        if chain[0].x.pixels > 3 or (not target.dsp and target.core != "native"):
            return
        work = chain[0]
        recipe = recipe_of(work)
        if recipe is None:
            return
        candidate = DenseCandidate(work, recipe, target.core)
        if candidate.scratch <= target.scratch_limit:
            yield candidate
        if work.x.channels % 4 == 0:
            yield replace(candidate, direct=True)
