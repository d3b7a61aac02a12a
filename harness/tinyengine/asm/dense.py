"""Fully-connected layers: the packed weights, and the layer's function around the micro-kernels of
own_products.py and dense_pass.py. The input is widened to 16-bit pairs first, or, where its size is a
multiple of four, on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.dense_pass import DensePass, Registers
from tinyhil.harness.tinyengine.asm.emit import c_file
from tinyhil.harness.tinyengine.asm.gemm_stream import recipe_of
from tinyhil.harness.tinyengine.asm.own_products import Fours, OwnProducts
from tinyhil.harness.tinyengine.asm.post import as_int32, is_uniform, offset, words
from tinyhil.harness.tinyengine.asm.requant import Proved, Recipe, live_bias
from tinyhil.harness.tinyengine.ctext import c_array, safe_comment
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.work import ConvWork, Work

Passes = Sequence[tuple[DensePass, int]]  # micro-kernels, and the turns of each


def pack(
    weights: npt.NDArray[np.int8], bias: npt.NDArray[np.int64], recipe: Recipe, passes: Passes
) -> npt.NDArray[np.int32]:
    """The stream of each pass, one after the other; `weights` [channels, inputs], `bias` [channels]."""
    channels, inputs = weights.shape
    fours = np.zeros((channels, (inputs + 3) // 4, 4), np.int64)
    fours.reshape(channels, -1)[:, :inputs] = weights
    products = (fours[..., 0::2] * fours[..., 1::2]).sum(axis=(1, 2))  # of each channel's own weights
    proved, uniform = isinstance(recipe, Proved), is_uniform(recipe)
    stream: list[int] = []
    first = 0
    for p, turns in passes:
        stream.append((fours.shape[1] - p.fours.rest) * (4 if p.direct else 8))
        if uniform:
            stream += [*([offset(recipe, 0)] if proved else []), *words(recipe, 0, p.post)]
        for _ in range(turns):
            after = first + p.outputs
            pairs = [range(c, min(c + 2, after)) for c in range(first, after, 2)]
            for c, *odd in pairs:
                stream.append(int(bias[c] - products[c]))
                other = offset(recipe, c) >> 8
                stream += [256 * int(bias[d]) + offset(recipe, d) + int(bias[c]) + other for d in odd]
            stream += np.concatenate([_words(fours[pair]) for pair in pairs], axis=1).reshape(-1).tolist()
            for pair in [] if uniform else pairs:
                stream += [offset(recipe, pair[0])] if proved else []
                stream += [word for c in pair for word in words(recipe, c, p.post)]
            first = after
    return as_int32(stream)


def _words(channels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[fours of inputs, words] of weights [one or two channels, fours, 4]: two channels in each lane, or the
    four weights of one."""
    if len(channels) == 1:
        return np.asarray(((channels[0] & 0xFF) << np.array([0, 8, 16, 24])).sum(axis=1, keepdims=True))
    lanes = 256 * channels[1] + channels[0] & 0xFFFF
    return np.asarray(lanes[:, :2] | lanes[:, 2:] << 16)


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

    @property
    def _fours(self) -> int:
        return (self._inputs + 3) // 4

    @cached_property
    def stream(self) -> npt.NDArray[np.int32]:
        """Packed weights and constants."""
        flat = self.work.weights.reshape(self.work.weights.shape[0], -1)
        return pack(flat, live_bias(flat, self.work.folded_bias), self.recipe, self.passes)

    @cached_property
    def passes(self) -> Passes:
        """As many outputs at a time as the core can, then the rest."""
        wide = Registers.of(self.core).wide
        turns, rest = divmod(self.work.y.channels, wide)
        sizes = [*([(wide, turns)] if turns else []), *([(rest, 1)] if rest else [])]
        return tuple(
            (DensePass.of(self._fours, outputs, self.recipe, self.core, self.direct), times)
            for outputs, times in sizes
        )

    @property
    def own_products(self) -> OwnProducts:
        """What runs before the passes."""
        return OwnProducts(Fours.of(self._fours), self.direct, self.core)

    @property
    def _kernels(self) -> tuple[OwnProducts | DensePass, ...]:
        return self.own_products, *(p for p, _ in self.passes)

    @property
    def scratch(self) -> int:
        """The widened input."""
        return 0 if self.direct else 8 * self._fours

    @property
    def shared(self) -> Mapping[str, int]:
        """Code that other layers may use too."""
        parts = {f"{p.name}.c": p.code_bytes for p in self._kernels}
        return parts if self.direct else {**parts, "th_expand.c": 200}

    @property
    def flash(self) -> int:
        """Weights, constants and the layer's own calls."""
        return int(self.stream.nbytes) + 60

    @cached_property
    def instructions(self) -> int:
        """Counted on the generated code; the widening by estimate."""
        own = self.own_products
        per_row = sum(p.instructions(turns, self._fours) + 12 for p, turns in self.passes)
        per_row += own.instructions(self._fours // own.fours.unroll) + 15
        return 20 + self.work.x.pixels * (per_row + (0 if self.direct else 7 * self._fours + 20))

    @property
    def gaps(self) -> tuple[int | None, ...]:
        """A row is read completely before its outputs are written; directly, it is read for each turn."""
        more = self.work.y.channels - self._inputs
        return (max(0, (self.work.x.pixels - 1) * more) + (self.work.y.channels if self.direct else 0),)

    def emit(self, symbol: str) -> Code:
        """The layer's function; micro-kernels come as helper files."""
        files = {f"{p.name}.c": p.text() for p in self._kernels}
        files |= {name: c_file(name) for name in ("th_asm.h", *(() if self.direct else ("th_expand.c",)))}
        if self.core == "native":
            files |= {name: c_file(name) for name in ("th_twin.h", "th_twin.c")}
        return Code(self._definition(symbol), files, ('"th_asm.h"',))

    def _definition(self, symbol: str) -> str:
        w = self.work
        comment = safe_comment(f"Fully connected: {w.x.pixels} x {self._inputs} -> {w.y.channels}")
        own, inputs = self.own_products, "x" if self.direct else "inputs"
        calls, at, out = [], 0, 0
        for p, turns in self.passes:
            calls.append(f"        {p.name}({inputs}, {symbol}_stream + {at}, y + {out}, {turns}, own);")
            at, out = at + p.stream_words(self._fours, turns), out + turns * p.outputs
        looped = (self._fours - own.fours.rest) * (4 if self.direct else 2)  # bytes, or words
        lines = [
            f"static const int32_t {symbol}_stream[{self.stream.size}] = {{",
            c_array(self.stream),
            "};",
            "",
            own.prototype,
            *(p.prototype for p, _ in self.passes),
            "",
            f"/* {comment}. */",
            f"void {symbol}(const int8_t *x, int8_t *y{'' if self.direct else ', uint8_t *scratch'})",
            "{",
            *([] if self.direct else ["    uint32_t *inputs = (uint32_t *)(void *)scratch;"]),
            f"    for (uint32_t row = 0; row < {w.x.pixels}; row++) {{",
            *([] if self.direct else [f"        th_widen(inputs, x, {self._inputs});"]),
            f"        int32_t own = {own.name}({inputs}, {inputs} + {looped});",
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
