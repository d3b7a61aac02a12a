"""The C of fused blocks: data and a call for each layer; the loops are a file that equal blocks share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tinyhil.harness.tinyengine.asm.sort import PROTOTYPE
from tinyhil.harness.tinyengine.block_layout import Layout
from tinyhil.harness.tinyengine.ctext import render, safe_comment, static_text
from tinyhil.harness.tinyengine.kernel import Code

_NAME = "@block@"  # stands for the name of a block's loops while their text is made


@dataclass(frozen=True, eq=False)
class BlockCode:
    """The text of one block."""

    layout: Layout

    def emit(self, symbol: str) -> Code:
        """The block's data and a call of its loops."""
        parts, stages = self.layout.parts, self.layout.stages
        data = [(f"{symbol}_{n}", part.data(f"{symbol}_{n}")) for n, part in stages.named]
        if stages.linear:
            factors = f"{stages.linear.a}, {stages.linear.b}, {stages.linear.c}"
            data += [(f"{symbol}_add", f"static const int32_t {symbol}_add_stream[] = {{{factors}}};\n")]
        text, files = self._loops(_NAME)
        loops = f"th_block_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        files[f"{loops}.c"] = text.replace(_NAME, loops)
        inputs = ["x0", "x1"] if parts.add else ["x0"]
        definition = render(
            "block_call.c.j2",
            symbol=symbol,
            comment=safe_comment(parts.comment),
            loops=loops,
            data=[text for _, text in data if text],
            streams=[f"{name}_stream" if text else "0" for name, text in data],
            parameters=", ".join(f"const int8_t *{x}" for x in inputs),
            inputs=", ".join(inputs),
        )
        return Code(definition, files)

    def _loops(self, symbol: str) -> tuple[str, dict[str, str]]:
        """The C file with the function that computes the block, and the helper files that it needs."""
        s, parts = self.layout.stages, self.layout.parts
        dw, add = parts.depthwise, parts.add
        files = {"nn_math.h": static_text("nn_math.h"), **s.planes.files()}
        prototypes = list(s.planes.prototypes())
        definitions = [s.planes.definition(f"{symbol}_depthwise")]
        includes = {'"nn_math.h"', "<string.h>", *s.planes.includes()}
        if s.widen is None:
            files |= self.layout.sort.files()
            includes.add('"th_asm.h"')
            prototypes.append(PROTOTYPE)
        for part, name in ((s.widen, "widen"), (s.project, "project")):
            if part is not None:
                files |= part.files()
                prototypes += part.prototypes()
                definitions.append(part.definition(f"{symbol}_{name}"))
                includes.update(part.includes())
        text = render(
            "block.c.j2",
            symbol=symbol,
            includes=sorted(includes, key=lambda i: (i[0] != "<", i)),
            stages=[*(name for name, _ in s.named), *(["add"] if s.linear else [])],
            comment=safe_comment(parts.comment),
            parameters="const int8_t *x0" + (", const int8_t *x1" if add else ""),
            prototypes=list(dict.fromkeys(prototypes)),
            definitions="\n".join(definitions),
            tile=self.layout.tile,
            several=self.layout.several,
            halo=max(dw.kernel[0] - dw.strides[0], 0),
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
            out_row_bytes=parts.y.width * parts.y.channels,
            fill=self._fill(symbol),
            add_shift=s.linear.shift if s.linear else 0,
            add_full=add is not None and (add.low, add.high) == (-128, 127),
            add_low=add.low if add else 0,
            add_high=add.high if add else 0,
            **self.layout.places,
        )
        return text, files

    def _fill(self, symbol: str) -> str:
        """C text that computes plane row `have`, image row `in`, at `to`."""
        dw, first = self.layout.parts.depthwise, self.layout.parts.first
        if first is None:
            row = dw.x.width * dw.x.channels
            plane_bytes = self.layout.stages.planes.plane_bytes
            lines = self.layout.sort.call(f"x0 + in * {row}", "to", plane_bytes)
        elif not self.layout.band_bytes:
            row = first.x.width * first.x.channels * first.strides[0]
            lines = [f"{symbol}_widen(x0 + in * {row}, {dw.x.width}, to, blocks, widen);"]
        else:
            top, _, left, right = first.pads
            c, zero = first.x.channels, first.x.zero_point
            row, stride = first.x.width * c, self.layout.band_stride
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
