"""Fused layers around a depthwise convolution: [convolution ->] depthwise [-> 1x1 [-> add]].

The wide tensor between the first convolution and the depthwise one never exists as a whole. A tile of
output rows at a time, the rows that its windows need are computed into padded planes, the depthwise
convolution runs over them, and its rows go on to the 1x1 convolution or to the output. Rows that two
tiles share are kept, so nothing is computed twice: the inverted residual block of MCUNet streamed by
rows. With all rows in one tile it is the fastest way to run the block; with one row, the smallest.

Alone, a depthwise layer first sorts its input rows into planes; its output may then lie over its input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tinyhil.harness.tinyengine.addition import Linear, find_linear
from tinyhil.harness.tinyengine.asm.gemm import recipe_of
from tinyhil.harness.tinyengine.asm.sort import PROTOTYPE, Sort
from tinyhil.harness.tinyengine.ctext import render, safe_comment, static_text
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.planes import Planes, planes_for
from tinyhil.harness.tinyengine.strips import SLACK, Strip
from tinyhil.harness.tinyengine.work import AddWork, ConvWork, DepthwiseWork, Work

_ALIGN = 8
_NAME = "@block@"  # stands for the name of a block's loops while their text is made


def _up(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


@dataclass(frozen=True, eq=False)
class Parts:
    """The works of a block; only the depthwise one is always there."""

    first: ConvWork | None
    depthwise: DepthwiseWork
    last: ConvWork | None
    add: AddWork | None


@dataclass(frozen=True, eq=False)
class Stages:
    """The code of a block's parts for one height of tile; None where a part is missing."""

    widen: Strip | None
    planes: Planes
    project: Strip | None
    linear: Linear | None


@dataclass(frozen=True, eq=False)
class BlockCandidate:
    """A block with `tile` output rows at a time."""

    parts: Parts
    stages: Stages
    tile: int

    @property
    def kernel(self) -> str:
        """What is fused, and how many rows at a time."""
        p = self.parts
        names = [
            *(["conv"] if p.first else []),
            "dw",
            *(["1x1"] if p.last else []),
            *(["add"] if p.add else []),
        ]
        return f"{'+'.join(names)} x{self.tile}"

    # -- memory

    @property
    def _several(self) -> bool:
        return self.tile < self.parts.depthwise.y.height

    @property
    def _planes_bytes(self) -> int:
        return _up(self.parts.depthwise.x.channels * self.stages.planes.plane_bytes + SLACK)

    @property
    def _block_bytes(self) -> int:
        strips = [s for s in (self.stages.widen, self.stages.project) if s is not None]
        return _up(max((s.block_bytes for s in strips), default=0))

    @property
    def _band_bytes(self) -> int:
        first = self.parts.first
        if first is None or not any(first.pads):
            return 0
        return _up(first.kernel[0] * self._band_stride + SLACK)

    @property
    def _band_stride(self) -> int:
        first = self.parts.first
        assert first is not None
        return (first.x.width + first.pads[2] + first.pads[3]) * first.x.channels

    @property
    def _tile_bytes(self) -> int:
        y = self.parts.depthwise.y
        return _up(self.tile * y.width * y.channels + SLACK) if self.parts.last else 0

    @property
    def _sum_bytes(self) -> int:
        last = self.parts.last
        return _up(self.tile * last.y.width * last.y.channels) if last is not None and self.parts.add else 0

    def _layout(self) -> dict[str, int | None]:
        """Offsets in the scratch. The band is only needed while planes are filled, the branch after."""
        at = self._planes_bytes
        places: dict[str, int | None] = dict.fromkeys(("blocks_at", "tile_at", "sum_at", "band_at"))
        for name, size in (
            ("blocks_at", self._block_bytes),
            ("tile_at", self._tile_bytes),
            ("sum_at", self._sum_bytes),
            ("band_at", self._band_bytes),
        ):
            if size:
                places[name] = at
                at += size
        places["end"] = at
        return places

    @property
    def scratch(self) -> int:
        """Planes, widened pixels, and the rows between the stages."""
        end = self._layout()["end"]
        assert end is not None
        return end

    @cached_property
    def gaps(self) -> tuple[int | None, ...]:
        """A tile's input rows are in the planes before its output is written."""
        dw = self.parts.depthwise
        first = self.parts.first
        source = first.x if first else dw.x
        out = (self.parts.last or dw).y
        row_out, row_in = out.width * out.channels, source.width * source.channels
        gap = -source.nbytes
        kh, stride = dw.kernel[0], dw.strides[0]
        for row in range(0, out.height - self.tile, self.tile):
            done = row + self.tile
            rows = min(dw.x.height, max(0, (done - 1) * stride + kh - dw.pads[0]))
            if first:  # the next row of the first convolution needs input from here on
                rows = min(first.x.height, max(0, rows * first.strides[0] - first.pads[0]))
            gap = max(gap, done * row_out - rows * row_in)
        return (gap, 0) if self.parts.add else (gap,)

    # -- cost

    @property
    def flash(self) -> int:
        """Weights, constants, and the call of the loops."""
        return sum(part.flash for _, part in self._stages if part is not None) + 32

    @property
    def shared(self) -> Mapping[str, int]:
        """Code that other layers may use too."""
        result: dict[str, int] = {}
        for _, part in self._stages:
            if part is not None:
                result |= part.shared
        if self.parts.first is None:
            result |= self._sort.shared
        return {**result, f"{self.kernel}: {self._comment()}": 250}

    @cached_property
    def instructions(self) -> int:
        """Counted on the generated parts; loops in C by estimate."""
        s, dw = self.stages, self.parts.depthwise
        out = (self.parts.last or dw).y
        channels = dw.x.channels
        total = 60 + self._planes_bytes // 4
        for row in range(0, dw.y.height, self.tile):
            count = min(self.tile, dw.y.height - row)
            total += 40 + s.planes.instructions(count)
            if s.project is not None:
                total += s.project.instructions(count * dw.y.width)
            if s.linear is not None:
                total += 10 + 9 * count * out.width * out.channels
            if row:
                shared_rows = max(dw.kernel[0] - dw.strides[0], 0)
                total += channels * (25 + shared_rows * s.planes.row_stride // 2)
        fill = 15 + (s.widen.instructions(dw.x.width) if s.widen is not None else self._sort.instructions)
        if self._band_bytes and self.parts.first is not None:
            fill += self.parts.first.kernel[0] * (40 + self._band_stride // 2)
        return total + dw.x.height * fill

    @cached_property
    def _sort(self) -> Sort:
        """What brings an input row into the planes where nothing computes it."""
        x = self.parts.depthwise.x
        return Sort(x.width, x.channels, self.stages.planes.core)

    # -- code

    def emit(self, symbol: str) -> Code:
        """The block's data and a call; its loops are a helper file that blocks of equal shape share."""
        add = self.parts.add
        data = [(f"{symbol}_{name}", part.data(f"{symbol}_{name}")) for name, part in self._stages if part]
        streams = [f"{name}_stream" if text else "0" for name, text in data]
        text, files = self._loops(_NAME)
        loops = f"th_block_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        files[f"{loops}.c"] = text.replace(_NAME, loops)
        inputs = ["x0", "x1"] if add else ["x0"]
        parameters = ", ".join(f"const int8_t *{x}" for x in inputs)
        definition = render(
            "block_call.c.j2",
            symbol=symbol,
            comment=safe_comment(self._comment()),
            loops=loops,
            data=[text for _, text in data if text],
            streams=streams,
            parameters=parameters,
            inputs=", ".join(inputs),
        )
        return Code(definition, files)

    @property
    def _stages(self) -> Sequence[tuple[str, Strip | Planes | None]]:
        """The parts in the order in which they run, and their names in C."""
        s = self.stages
        return ("widen", s.widen), ("depthwise", s.planes), ("project", s.project)

    def _loops(self, symbol: str) -> tuple[str, dict[str, str]]:
        """The C file with the function that computes the block, and the helper files that it needs."""
        s, dw = self.stages, self.parts.depthwise
        files = {"nn_math.h": static_text("nn_math.h"), **s.planes.files()}
        if s.widen is None:
            files |= self._sort.files()
        prototypes = list(s.planes.prototypes())
        definitions = [s.planes.definition(f"{symbol}_depthwise")]
        includes = {'"nn_math.h"', "<string.h>", *s.planes.includes()}
        if s.widen is None:
            includes.add('"th_asm.h"')
            prototypes.append(PROTOTYPE)
        for part, name in ((s.widen, "widen"), (s.project, "project")):
            if part is not None:
                files |= part.files()
                prototypes += part.prototypes()
                definitions.append(part.definition(f"{symbol}_{name}"))
                includes.update(part.includes())
        out = (self.parts.last or dw).y
        halo = max(dw.kernel[0] - dw.strides[0], 0)
        add = self.parts.add
        text = render(
            "block.c.j2",
            symbol=symbol,
            includes=sorted(includes, key=lambda i: (i[0] != "<", i)),
            stages=[name for name, part in self._stages if part is not None],
            comment=safe_comment(self._comment()),
            parameters="const int8_t *x0" + (", const int8_t *x1" if add else ""),
            prototypes=list(dict.fromkeys(prototypes)),
            definitions="\n".join(definitions),
            tile=self.tile,
            several=self._several,
            halo=halo,
            rows=s.planes.rows,
            channels=dw.x.channels,
            row_stride=s.planes.row_stride,
            plane_bytes=s.planes.plane_bytes,
            zero_point=dw.x.zero_point,
            height=dw.x.height,
            width=dw.x.width,
            stride=dw.strides[0],
            kernel_height=dw.kernel[0],
            pad_top=dw.pads[0],
            pad_left=dw.pads[2],
            out_height=dw.y.height,
            out_width=dw.y.width,
            out_row_bytes=out.width * out.channels,
            fill=self._fill(symbol),
            add=s.linear,
            add_full=add is not None and (add.low, add.high) == (-128, 127),
            add_low=add.low if add else 0,
            add_high=add.high if add else 0,
            **self._layout(),
        )
        return text, files

    def _comment(self) -> str:
        p, dw = self.parts, self.parts.depthwise
        kh, kw = dw.kernel
        chain = [f"{dw.x.height}x{dw.x.width}x{dw.x.channels}", f"depthwise {kh}x{kw} stride {dw.strides[0]}"]
        if p.first:
            chain.insert(0, f"{p.first.x.height}x{p.first.x.width}x{p.first.x.channels}, conv")
        if p.last:
            chain.append(f"{dw.y.height}x{dw.y.width}x{dw.y.channels}, 1x1")
        out = (p.last or dw).y
        chain.append(f"{out.height}x{out.width}x{out.channels}" + (", add." if p.add else "."))
        return " -> ".join(chain)

    def _fill(self, symbol: str) -> str:
        """C text that computes plane row `have`, image row `in`, at `to`."""
        dw, first = self.parts.depthwise, self.parts.first
        if first is None:
            row = dw.x.width * dw.x.channels
            lines = self._sort.call(f"x0 + in * {row}", "to", self.stages.planes.plane_bytes)
        elif not self._band_bytes:
            row = first.x.width * first.x.channels * first.strides[0]
            lines = [f"{symbol}_widen(x0 + in * {row}, {dw.x.width}, to, blocks, widen);"]
        else:
            top, _, left, right = first.pads
            c, zero = first.x.channels, first.x.zero_point
            row, stride = first.x.width * c, self._band_stride
            lines = [
                f"for (int32_t ky = 0; ky < {first.kernel[0]}; ky++) {{",
                f"    const int32_t iy = in * {first.strides[0]} + ky - {top};",
                f"    int8_t *const line = band + ky * {stride};",
                f"    if (iy < 0 || iy >= {first.x.height}) {{",
                f"        memset(line, {zero}, {stride});",
                "        continue;",
                "    }",
                *([f"    memset(line, {zero}, {left * c});"] if left else []),
                f"    memcpy(line + {left * c}, x0 + iy * {row}, {row});",
                *([f"    memset(line + {left * c + row}, {zero}, {right * c});"] if right else []),
                "}",
                f"{symbol}_widen(band, {dw.x.width}, to, blocks, widen);",
            ]
        return "\n".join(line if line.startswith("#") else " " * 12 + line for line in lines)


def _parts(chain: Sequence[Work]) -> Parts | None:
    """The chain as a block, if it is one."""
    works = list(chain)
    first = works.pop(0) if works and isinstance(works[0], ConvWork) else None
    if not works or not isinstance(works[0], DepthwiseWork):
        return None
    depthwise = works.pop(0)
    last = works.pop(0) if works and isinstance(works[0], ConvWork) else None
    add = works.pop(0) if works and last is not None and isinstance(works[0], AddWork) else None
    assert isinstance(depthwise, DepthwiseWork)
    if works or depthwise.dilations != (1, 1) or not isinstance(first, ConvWork | None):
        return None
    if not isinstance(last, ConvWork | None) or not isinstance(add, AddWork | None):
        return None
    if last is not None and (not last.pointwise or last.x.width != depthwise.y.width):
        return None
    if first is not None and first.y != depthwise.x:
        return None
    return Parts(first, depthwise, last, add)


def _tiles(height: int) -> Iterable[int]:
    return sorted({t for t in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24) if t < height} | {height})


@dataclass(frozen=True)
class Block:
    """Depthwise convolutions, alone or with their neighbours, by tiles of rows."""

    name: str = "block"

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """One candidate per height of tile."""
        parts = _parts(chain)
        if parts is None or not (target.dsp or target.core == "native"):
            return
        recipes = [None if w is None else recipe_of(w) for w in (parts.first, parts.last)]
        if (parts.first and recipes[0] is None) or (parts.last and recipes[1] is None):
            return
        linear = find_linear(parts.add) if parts.add else None
        if parts.add and linear is None:
            return
        dw = parts.depthwise
        for tile in _tiles(dw.y.height):
            forms = planes_for(dw, tile, target.core)
            planes = forms[0]
            widen = project = None
            if parts.first and recipes[0] is not None:
                f = parts.first
                padded = f.x.width + (f.pads[2] + f.pads[3] if any(f.pads) else 0)
                widen = Strip(
                    f, recipes[0], target.core, (dw.x.width,), padded * f.x.channels,
                    f.strides[1] * f.x.channels, 1, planes.plane_bytes, target.compact,
                )  # fmt: skip
            if parts.last and recipes[1] is not None:
                sizes = sorted({tile * dw.y.width, (dw.y.height % tile or tile) * dw.y.width})
                channels = dw.y.channels
                project = Strip(
                    parts.last,
                    recipes[1],
                    target.core,
                    tuple(sizes),
                    channels,
                    channels,
                    parts.last.y.channels,
                    1,
                    target.compact,
                )
            for form in forms:
                yield BlockCandidate(parts, Stages(widen, form, project, linear), tile)
