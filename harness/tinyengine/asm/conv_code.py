"""The C of a convolution by blocks: loops over bands and strips around the micro-kernels."""

from __future__ import annotations

from tinyhil.harness.tinyengine.asm.conv_layout import ConvLayout
from tinyhil.harness.tinyengine.asm.post import Post
from tinyhil.harness.tinyengine.ctext import c_array, safe_comment


def definition(layout: ConvLayout, symbol: str) -> str:
    """C at file scope: the packed weights, a function for a strip, and the layer's function `symbol`."""
    w = layout.work
    kh, kw = w.kernel
    comment = safe_comment(
        f"Convolution {kh}x{kw}, stride {w.strides[0]}x{w.strides[1]}: "
        f"{w.x.height}x{w.x.width}x{w.x.channels} -> {w.y.height}x{w.y.width}x{w.y.channels}"
    )
    lines = [
        f"static const int32_t {symbol}_stream[{layout.stream.size}] = {{",
        c_array(layout.stream),
        "};",
        "",
        *(g.prototype for g in layout.gemms),
        *([layout.expand.prototype] if 4 in layout.blocks else []),
        "",
        *_strip_function(layout, symbol),
        "",
        f"/* {comment}. */",
        f"void {symbol}(const int8_t *x, int8_t *y, uint8_t *scratch)",
        "{",
        "    uint32_t *blocks = (uint32_t *)(void *)scratch;",
        *(_band_body(layout, symbol) if layout.band else _direct_body(layout, symbol)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _strip_function(layout: ConvLayout, symbol: str) -> list[str]:
    """`pixels` outputs from `at` on, `pixels` a multiple of four or less than four."""
    pairs = layout.order.shape[0]
    channels, even = layout.work.y.channels, layout.work.y.channels // 2 * 2
    odd_words = (
        pairs + 1 + Post.common(layout.recipe).constants + (Post.common(layout.recipe).kind == "proved")
    )
    split = layout.stream.size - (odd_words if channels % 2 else 0)
    out = [
        f"static void {symbol}_strip(const int8_t *source, uint32_t at, uint32_t pixels, int8_t *y,",
        "                         uint32_t *blocks)",
        "{",
        f"    const int32_t *stream = {symbol}_stream;",
    ]
    if not layout.linear:
        out += [
            f"    uint32_t *windows = blocks + {layout.strip_bytes // 4};",
            f"    uint32_t row = at / {layout.work.y.width}, column = at % {layout.work.y.width};",
            "    for (uint32_t i = 0; i < pixels; i++) {",
            f"        windows[i] = row * {layout.work.strides[0] * layout.source_stride}u"
            f" + column * {layout.work.strides[1] * layout.work.x.channels}u;",
            f"        if (++column == {layout.work.y.width}) {{",
            "            column = 0;",
            "            row++;",
            "        }",
            "    }",
        ]
    else:
        out += [f"    source += at * {layout.work.strides[1] * layout.work.x.channels}u;"]
    out += [f"    y += at * {channels}u;"]

    def calls(size: int, end: str) -> list[str]:
        found = []
        if even:
            gemm = layout.gemm(size, 2)
            found.append(gemm.call("blocks", "stream", "y", end, f"stream + {split}", channels))
        if channels % 2:
            first, last = f"stream + {split}", f"stream + {layout.stream.size}"
            found.append(layout.gemm(size, 1).call("blocks", first, f"y + {even}", end, last, channels))
        return found

    for size in layout.blocks:
        inner = []
        if size == 4:
            inner.append(f"const uint32_t *end = blocks + pixels * {pairs}u;")
            table = "" if layout.linear else ", windows"
            inner.append(f"{layout.expand.name}(source, blocks, end{table});")
            inner += calls(4, "end")
            test = "pixels >= 4"
        else:
            step = layout.work.strides[1] * layout.work.x.channels
            each = [f"source + {i * step if layout.linear else f'windows[{i}]'}" for i in range(size)]
            inner.append(f"const int8_t *const rest[{size}] = {{{', '.join(each)}}};")
            inner.append(
                f"th_expand(blocks, rest, {size}, {layout.rows}, {layout.run}, {layout.source_stride});"
            )
            inner += calls(size, f"blocks + {size * pairs}")
            test = f"pixels == {size}"
        out += [f"    if ({test}) {{", *(f"        {line}" for line in inner), "    }"]
    return [*out, "}"]


def _strips(layout: ConvLayout, symbol: str, source: str, count: str, y: str, indent: str) -> list[str]:
    """Calls of the strip function for pixels 0 .. count-1."""
    n = layout.strip
    return [
        f"{indent}for (uint32_t at = 0; at < {count};) {{",
        f"{indent}    uint32_t left = {count} - at;",
        f"{indent}    uint32_t pixels = left > {n} ? {n} : left < 4 ? left : left & ~3u;",
        f"{indent}    {symbol}_strip({source}, at, pixels, {y}, blocks);",
        f"{indent}    at += pixels;",
        f"{indent}}}",
    ]


def _direct_body(layout: ConvLayout, symbol: str) -> list[str]:
    return _strips(layout, symbol, "x", f"{layout.work.y.pixels}u", "y", "    ")


def _band_body(layout: ConvLayout, symbol: str) -> list[str]:
    w = layout.work
    top, _, left, right = w.pads
    c = w.x.channels
    band_offset = layout.strip_bytes + layout.table_bytes
    row_bytes, out_bytes = w.x.width * c, w.y.width * w.y.channels
    return [
        f"    int8_t *band = (int8_t *)scratch + {band_offset};",
        f"    for (int32_t row = 0; row < {w.y.height}; row += {layout.band}) {{",
        f"        int32_t below = {w.y.height} - row;",
        f"        uint32_t rows = (uint32_t)(below < {layout.band} ? below : {layout.band});",
        f"        int32_t first = row * {w.strides[0]} - {top};",
        "        int8_t *to = band;",
        f"        for (int32_t in = first; in < first + {layout.band_rows}; in++) {{",
        f"            if (in < 0 || in >= {w.x.height}) {{",
        f"                memset(to, {w.x.zero_point}, {layout.source_stride});",
        "            } else {",
        *([f"                memset(to, {w.x.zero_point}, {left * c});"] if left else []),
        f"                memcpy(to + {left * c}, x + in * {row_bytes}, {row_bytes});",
        *(
            [f"                memset(to + {left * c + row_bytes}, {w.x.zero_point}, {right * c});"]
            if right
            else []
        ),
        "            }",
        f"            to += {layout.source_stride};",
        "        }",
        *_strips(layout, symbol, "band", f"rows * {w.y.width}u", f"y + row * {out_bytes}", " " * 8),
        "    }",
    ]  # fmt: skip
