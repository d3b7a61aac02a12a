"""Depthwise convolutions: four channels at a time into padded planes in scratch, one channel at a time
through the micro-kernel, outputs straight to their places in HWC.

Exactly in place is safe: a channel's outputs fall on bytes of the same channel of a map that is not
larger, and those have been copied before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.depthwise_tile import DepthwiseTile, pack_channel
from tinyhil.harness.tinyengine.asm.emit import c_file
from tinyhil.harness.tinyengine.asm.post import Post
from tinyhil.harness.tinyengine.asm.requant import Recipe, choose, live_bias, reach_of
from tinyhil.harness.tinyengine.ctext import c_array, safe_comment
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.work import DepthwiseWork, Work

_SLACK = 8  # bytes behind the last plane that wide loads may touch


@dataclass(frozen=True, eq=False)
class Planes:
    """Geometry of the padded planes of one depthwise convolution."""

    work: DepthwiseWork

    @property
    def row_bytes(self) -> int:
        """Bytes of a padded row, a multiple of four."""
        return (self.work.x.width + self.work.pads[2] + self.work.pads[3] + 3) // 4 * 4

    @property
    def plane_bytes(self) -> int:
        """Bytes of a padded plane."""
        return (self.work.x.height + self.work.pads[0] + self.work.pads[1]) * self.row_bytes

    def scratch(self, planes: int) -> int:
        """Bytes of that many planes."""
        return planes * self.plane_bytes + _SLACK

    @property
    def c_fields(self) -> str:
        """The fields of `struct th_planes`."""
        x, pads = self.work.x, self.work.pads
        first = pads[0] * self.row_bytes + pads[2]
        return f"{{{x.height}, {x.width}, {x.channels}, {self.row_bytes}, {self.plane_bytes}, {first}}}"


def tile_of(work: DepthwiseWork, recipe: Recipe, core: str) -> DepthwiseTile:
    """The micro-kernel that writes the work's outputs in HWC."""
    y = work.y
    return DepthwiseTile(
        work.kernel,
        work.strides,
        Planes(work).row_bytes,
        y.height,
        y.width,
        y.channels,
        Post.of(recipe),
        core,
    )


def recipe_of(work: DepthwiseWork) -> Recipe | None:
    """The cheapest proven requantisation of all channels."""
    flat = work.weights.reshape(-1, work.weights.shape[2]).T
    return choose(work.requant, reach_of(flat, work.folded_bias))


def stream_of(work: DepthwiseWork, tile: DepthwiseTile, recipe: Recipe) -> npt.NDArray[np.int32]:
    """The packed channels, one after the other."""
    bias = live_bias(work.weights.reshape(-1, work.weights.shape[2]).T, work.folded_bias)
    channels = range(work.weights.shape[2])
    parts = [pack_channel(tile, work.weights[:, :, c], int(bias[c]), recipe, c) for c in channels]
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class DepthwiseCandidate:
    """One depthwise convolution, HWC to HWC, `group` channels' planes at a time."""

    work: DepthwiseWork
    recipe: Recipe
    core: str
    group: int
    kernel: str = "depthwise"

    @cached_property
    def tile(self) -> DepthwiseTile:
        """The micro-kernel."""
        return tile_of(self.work, self.recipe, self.core)

    @cached_property
    def stream(self) -> npt.NDArray[np.int32]:
        """Packed weights and constants."""
        return stream_of(self.work, self.tile, self.recipe)

    @property
    def _planes(self) -> Planes:
        return Planes(self.work)

    @property
    def scratch(self) -> int:
        """The padded planes of one group."""
        return self._planes.scratch(self.group)

    @property
    def shared(self) -> Mapping[str, int]:
        """Code that other layers may use too."""
        return {f"{self.tile.name}.c": self.tile.code_bytes, "th_planes.c": 300}

    @property
    def flash(self) -> int:
        """Weights, constants and the layer's own loops."""
        return int(self.stream.nbytes) + 140

    @cached_property
    def instructions(self) -> int:
        """Counted on the generated micro-kernel; the rest by estimate."""
        w = self.work
        per_input = 2.3 if self.group == 4 else 9
        borders = self.scratch // 4
        loops = w.y.channels * 20 + w.x.channels * w.x.height * 3
        return int(w.y.channels * self.tile.instructions + per_input * w.x.nbytes + borders + loops)

    @property
    def gaps(self) -> tuple[int | None, ...]:
        """Nothing but exactly in place is safe, and the planner knows only "or lower"."""
        return (None,)

    def emit(self, symbol: str) -> Code:
        """The layer's function; the micro-kernel comes as a helper file."""
        files = {f"{self.tile.name}.c": self.tile.text()}
        files |= {name: c_file(name) for name in ("th_asm.h", "th_planes.c")}
        if self.core == "native":
            files |= {name: c_file(name) for name in ("th_twin.h", "th_twin.c")}
        return Code(self._definition(symbol), files, ('"th_asm.h"', "<string.h>"))

    def _definition(self, symbol: str) -> str:
        w, group, m = self.work, self.group, self.work.multiplier
        x, y = w.x, w.y
        comment = safe_comment(
            f"Depthwise {w.kernel[0]}x{w.kernel[1]}, stride {w.strides[0]}x{w.strides[1]}: "
            f"{x.height}x{x.width}x{x.channels} -> {y.height}x{y.width}x{y.channels}"
        )
        plane = self._planes.plane_bytes
        output = "c + i" if m == 1 else f"(c + i) * {m} + k"
        lines = [
            f"static const int32_t {symbol}_stream[{self.stream.size}] = {{",
            c_array(self.stream),
            "};",
            "",
            self.tile.prototype,
            "",
            f"/* {comment}. */",
            f"void {symbol}(const int8_t *x, int8_t *y, uint8_t *scratch)",
            "{",
            f"    static const struct th_planes planes = {self._planes.c_fields};",
            f"    const int32_t *stream = {symbol}_stream;",
            "    int8_t *plane = (int8_t *)scratch;",
            f"    memset(plane, {x.zero_point}, {group * plane});",
            f"    for (uint32_t c = 0; c < {x.channels}; c += {group}) {{",
            f"        uint32_t count = {x.channels} - c < {group} ? {x.channels} - c : {group};",
            "        th_planes_from_pixels(&planes, x + c, count, plane);",
            "        for (uint32_t i = 0; i < count; i++) {",
            *([f"            for (uint32_t k = 0; k < {m}; k++) {{"] if m > 1 else []),
            f"            {self.tile.name}(plane + i * {plane}u, stream, y + {output});",
            f"            stream += {self.tile.stream_words};",
            *(["            }"] if m > 1 else []),
            "        }",
            "    }",
            "}",
        ]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Depthwise:
    """Depthwise convolutions on padded planes."""

    name: str = "depthwise"

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """Four planes at a time, or one where memory is short."""
        if len(chain) != 1 or not isinstance(chain[0], DepthwiseWork) or chain[0].dilations != (1, 1):
            return
        if not target.dsp and target.core != "native":
            return
        recipe = recipe_of(chain[0])
        if recipe is None or not tile_of(chain[0], recipe, target.core).possible:
            return
        for group in (1, 4):
            candidate = DepthwiseCandidate(chain[0], recipe, target.core, group)
            if candidate.scratch <= target.scratch_limit and group <= max(1, chain[0].x.channels):
                yield candidate
