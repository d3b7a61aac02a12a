"""Chains of convolutions computed row by row, or patch by patch: no tensor between them exists as a whole.

Each stage keeps the rows that its next window needs and nothing else. A stage asked for its next row moves
its rows up, asks the stage before for what is missing, and computes. Nothing is computed twice, and the
output may grow over the dying input.

With `patches` above one the same runs once per vertical strip of the output, over narrower rows: the
patches of MCUNetV2, as high as the image. Memory falls with the width; columns where windows of two strips
overlap are computed twice (the halo), and the input is needed until the last strip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from tinyhil.harness.tinyengine.asm.gemm_stream import recipe_of
from tinyhil.harness.tinyengine.columns import Columns, Spatial, columns_of
from tinyhil.harness.tinyengine.ctext import render, safe_comment, static_text
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.planes import Planes, planes_for
from tinyhil.harness.tinyengine.strips import SLACK, Strip, strip_of
from tinyhil.harness.tinyengine.work import ConvWork, DepthwiseWork, Work

_ALIGN = 8
_WORTH = 1.25  # a chain may need that many times the largest tensor inside it: apart, its layers need more


def _up(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


@dataclass(frozen=True, eq=False)
class Stage:
    """One work of the chain and its code: a Strip over rows of pixels, or Planes."""

    work: Spatial
    columns: Columns
    code: Strip | Planes

    @property
    def planar(self) -> bool:
        """Its input rows are kept in planes."""
        return not isinstance(self.code, Strip)

    @property
    def row_bytes(self) -> int:
        """Bytes between its input rows."""
        if isinstance(self.code, Strip):
            return self.columns.width * self.work.x.channels
        return self.code.row_stride

    @cached_property
    def rows_bytes(self) -> int:
        """Bytes of all input rows that it keeps."""
        if isinstance(self.code, Strip):
            return _up(self.work.kernel[0] * self.row_bytes + SLACK)
        return _up(self.work.x.channels * self.code.plane_bytes + SLACK)

    @property
    def shared_rows(self) -> int:
        """Rows that the windows of two output rows have in common."""
        return max(self.work.kernel[0] - self.work.strides[0], 0)


@dataclass(frozen=True, eq=False)
class PipelineCandidate:
    """The chain in `patches` vertical strips; `direct`: the first stage reads its input where it lies."""

    stages: tuple[Stage, ...]
    patches: int
    direct: bool

    @property
    def kernel(self) -> str:
        """How many stages, in how many patches."""
        name = f"{len(self.stages)} stages by rows"
        return name if self.patches == 1 else f"{len(self.stages)} stages in {self.patches} patches"

    # -- memory

    @cached_property
    def _layout(self) -> tuple[tuple[int | None, ...], tuple[int | None, ...], int, int]:
        """Offsets of each stage's rows and line, of the widened pixels, and the end."""
        at = 0
        rows: list[int | None] = []
        lines: list[int | None] = []
        for i, stage in enumerate(self.stages):
            kept = not (i == 0 and self.direct)
            rows.append(at if kept else None)
            at += stage.rows_bytes if kept else 0
            needs_line = i > 0 and stage.planar and self.stages[i - 1].planar
            lines.append(at if needs_line else None)
            at += _up(stage.columns.width * stage.work.x.channels + SLACK) if needs_line else 0
        blocks = [s.code.block_bytes for s in self.stages if isinstance(s.code, Strip)]
        return tuple(rows), tuple(lines), at, at + _up(max(blocks, default=0))

    @property
    def scratch(self) -> int:
        """The rows of all stages, and one row of widened pixels."""
        return self._layout[3]

    def _needed(self, rows: int) -> tuple[int, ...]:
        """Rows that every stage has computed, and before them those read of the input, once the last one
        has computed `rows`."""
        counts = [rows]
        for stage in reversed(self.stages):
            w = stage.work
            last = (rows - 1) * w.strides[0] - w.pads[0] + w.kernel[0]
            rows = min(max(last, 0), w.x.height) if rows else 0
            counts.append(rows)
        return tuple(reversed(counts))

    @property
    def peak(self) -> int:
        """Bytes of input, output and scratch together, if the input dies here."""
        x, y, gap = self.stages[0].work.x.nbytes, self.stages[-1].work.y.nbytes, self.gaps[0]
        return self.scratch + (x + y if gap is None else max(y, max(gap, 0) + x))

    @cached_property
    def gaps(self) -> tuple[int | None, ...]:
        """Rows of the input are copied, or computed from, before the output's row is written."""
        if self.patches > 1:
            return (None,)
        x, y = self.stages[0].work.x, self.stages[-1].work.y
        gap = -x.nbytes
        for row in range(1, y.height):
            read = self._needed(row)[0]
            gap = max(gap, row * y.width * y.channels - read * x.width * x.channels)
        return (gap,)

    # -- cost

    @cached_property
    def flash(self) -> int:
        """Weights, constants, and the loops."""
        return sum(s.code.flash + 200 for s in self.stages) + 100

    @cached_property
    def shared(self) -> Mapping[str, int]:
        """Code that other layers may use too."""
        return {name: size for s in self.stages for name, size in s.code.shared.items()}

    @cached_property
    def instructions(self) -> int:
        """Counted on the generated parts; loops in C by estimate."""
        counts = self._needed(self.stages[-1].work.y.height)
        total = 60
        for i, (stage, rows) in enumerate(zip(self.stages, counts[1:], strict=True)):
            channels = stage.work.x.channels
            units = channels if stage.planar else 1
            total += stage.rows_bytes // 4
            each = 40 + units * (25 + stage.shared_rows * stage.row_bytes // 2 if stage.shared_rows else 0)
            if isinstance(stage.code, Strip):
                each += stage.code.instructions(stage.columns.count)
            else:
                each += stage.code.instructions(1)
            moved = stage.columns.width * channels  # bytes of a row that is moved and not computed
            if stage.planar and (i == 0 or self.stages[i - 1].planar):
                moved *= 5
            elif i > 0 or self.direct:
                moved = 0
            total += rows * each + counts[i] * (30 + moved)
        return self.patches * total

    # -- code

    def emit(self, symbol: str) -> Code:
        """One function per stage that computes its next row, and the layer's own."""
        files: dict[str, str] = {}
        prototypes: list[str] = []
        definitions: list[str] = []
        includes = {"<string.h>"}
        for i, stage in enumerate(self.stages):
            name = f"{symbol}_{i}"
            files |= stage.code.files()
            prototypes += stage.code.prototypes()
            data = stage.code.data(name)
            definitions += [*([data] if data else []), stage.code.definition(name)]
            includes.update(stage.code.includes())
        rows, lines, blocks, _ = self._layout
        text = render(
            "pipeline.c.j2",
            symbol=symbol,
            comment=safe_comment(self._comment()),
            prototypes=list(dict.fromkeys(prototypes)),
            definitions="\n".join(definitions),
            stages=[self._stage(symbol, i, rows[i], lines[i]) for i in range(len(self.stages))],
            patches=self.patches,
            blocks_at=blocks,
            out_height=self.stages[-1].work.y.height,
            out_row_bytes=self.stages[-1].work.y.width * self.stages[-1].work.y.channels,
        )
        return Code(text, {**files, "nn_math.h": static_text("nn_math.h")}, tuple(sorted(includes)))

    def _comment(self) -> str:
        sizes = [self.stages[0].work.x, *(s.work.y for s in self.stages)]
        text = " -> ".join(f"{m.height}x{m.width}x{m.channels}" for m in sizes)
        return f"{text}, {'row by row' if self.patches == 1 else f'in {self.patches} patches'}."

    def _stage(self, symbol: str, i: int, rows_at: int | None, line_at: int | None) -> dict[str, object]:
        stage = self.stages[i]
        work, columns = stage.work, stage.columns
        x, channels, pixel = work.x, work.x.channels, 1 if stage.planar else work.x.channels
        before = self.stages[i - 1].columns.starts if i else self._input_starts
        count = min(x.width, (columns.count - 1) * work.strides[1] + work.kernel[1])
        stream = f"{symbol}_{i}_stream" if stage.code.data("") else "0"
        kind = "depthwise" if isinstance(work, DepthwiseWork) else "convolution"
        return {
            "name": f"{symbol}_{i}",
            "what": f"{kind} {work.kernel[0]}x{work.kernel[1]}, stride {work.strides[0]}",
            "shape": f"{work.y.height}x{work.y.width}x{work.y.channels}",
            "planar": stage.planar,
            "direct": i == 0 and self.direct,
            "rows_at": rows_at,
            "line_at": line_at,
            "rows_bytes": stage.rows_bytes,
            "row_bytes": stage.row_bytes,
            "plane_bytes": 0 if isinstance(stage.code, Strip) else stage.code.plane_bytes,
            "channels": channels,
            "kernel": work.kernel[0],
            "stride": work.strides[0],
            "shared": stage.shared_rows,
            "pad": work.pads[0],
            "height": x.height,
            "zero": x.zero_point,
            "image_row": x.width * channels,
            "width": columns.width,
            "source": count,
            "puts": [put * pixel for put in columns.puts],
            "gets": [get * pixel for get in columns.gets],
            "starts": [start * channels for start in before],
            "outs": [start * work.y.channels for start in columns.starts],
            "count": columns.count,
            "stream": stream,
        }

    @property
    def _input_starts(self) -> tuple[int, ...]:
        """First input column of each patch."""
        first = self.stages[0]
        w = first.work
        source = min(w.x.width, (first.columns.count - 1) * w.strides[1] + w.kernel[1])
        wanted = (start * w.strides[1] - w.pads[2] for start in first.columns.starts)
        return tuple(min(max(start, 0), w.x.width - source) for start in wanted)


@dataclass(frozen=True)
class Pipeline:
    """Chains of convolutions and depthwise convolutions in `patches` vertical strips; unless `always`, only
    those that may need less memory than the largest tensor inside them would."""

    name: str = "pipeline"
    patches: tuple[int, ...] = (1,)
    always: bool = False

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """One candidate per number of patches."""
        works = [w for w in chain if isinstance(w, ConvWork | DepthwiseWork)]
        if len(works) != len(chain) or len(works) < 2 or not (target.dsp or target.core == "native"):
            return
        if any(a.y != b.x for a, b in pairwise(works)) or any(w.dilations != (1, 1) for w in works):
            return
        inside = max(w.y.nbytes for w in works[:-1])
        if not self.always and max(works[0].x.nbytes, works[-1].y.nbytes) > _WORTH * inside:
            return
        if any(isinstance(w, ConvWork) and recipe_of(w) is None for w in works):
            return
        for patches in self.patches:
            if patches <= works[-1].y.width:
                candidate = _candidate(works, patches, target)
                if self.always or candidate.peak <= _WORTH * inside:
                    yield candidate


PIPELINE = Pipeline()
PATCHES = Pipeline("patches", (2, 3, 4))


def _candidate(works: Sequence[Spatial], patches: int, target: Target) -> PipelineCandidate:
    direct = isinstance(works[0], ConvWork) and works[0].pointwise
    stages: list[Stage] = []
    for work, own in zip(reversed(works), reversed(columns_of(works, patches)), strict=True):
        code: Strip | Planes
        if isinstance(work, DepthwiseWork):
            narrow = replace(
                work,
                x=replace(work.x, width=own.width),
                y=replace(work.y, width=own.count),
                pads=(*work.pads[:2], 0, 0),
            )
            code = planes_for(narrow, 1, target.core, work)[0]
        else:
            recipe = recipe_of(work)
            assert recipe is not None
            pixel, channel = work.y.channels, 1
            if stages and not isinstance(stages[0].code, Strip):
                pixel, channel = 1, stages[0].code.plane_bytes
            row = (work.x.width if direct and work is works[0] else own.width) * work.x.channels
            code = strip_of(
                work, recipe, target.core, (own.count,), row, work.strides[1] * work.x.channels,
                pixel, channel, target.compact,
            )  # fmt: skip
        stages.insert(0, Stage(work, own, code))
    return PipelineCandidate(tuple(stages), patches, direct)
