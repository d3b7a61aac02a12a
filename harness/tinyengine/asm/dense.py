"""Fully-connected layers: eight outputs at a time, so that a weight is read once and an input once per
eight outputs.

The input is widened to 16-bit pairs first. Weights lie as in gemm.py, two channels in a word, four words
for each pair of inputs: 256 * w1 + w0 goes into one sum, SXTB16 of it into the other. Per pair of inputs:
half a load, four loads of weights (two LDRD on Cortex-M4), four SXTB16, sixteen MACs in eight SMLAD.

Stream of up to eight outputs: for each pair of channels bias0 and 256 * bias1 + bias0 + offset1, then the
weights [pair of inputs][pair of channels], then for each pair of channels [offset0,] its constants.
A last odd channel has a neighbour of zeros that is not stored. Where one scale serves the whole layer, the
constants are not in the stream but once in the layer's shape. The code is shared by layers of any size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.emit import SAVED, Asm, c_file
from tinyhil.harness.tinyengine.asm.expand import pair_order
from tinyhil.harness.tinyengine.asm.gemm import recipe_of
from tinyhil.harness.tinyengine.asm.post import Post, as_int32, is_uniform, offset, words
from tinyhil.harness.tinyengine.asm.requant import Proved, Recipe, live_bias
from tinyhil.harness.tinyengine.ctext import c_array, safe_comment
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.work import ConvWork, Work

_PARAMETERS = (
    "const void *inputs",
    "const int32_t *stream",
    "int8_t *out",
    "uint32_t turns",
    "const struct th_dense_shape *shape",
)
_OUT, _TURNS, _INPUTS, _END, _FRAME = 0, 4, 8, 12, 16
_SHAPE = _FRAME + SAVED
_UNROLL = 4  # two pairs of inputs per turn of the loop, that many times at most


@dataclass(frozen=True)
class DensePass:
    """`turns` times `outputs` (1 to 8) outputs. `unroll` times two pairs of inputs are one turn of the
    inner loop; `odd`: a single pair follows; `uniform`: all channels share their constants. `direct`: the
    inputs are int8, four at a time, and widened on the way."""

    unroll: int
    odd: bool
    outputs: int
    uniform: bool
    post: Post
    core: str
    direct: bool = False

    @staticmethod
    def of(pairs: int, outputs: int, recipe: Recipe, core: str, direct: bool = False) -> DensePass:
        """The variant for that many pairs of inputs."""
        doubles = pairs // 2
        unroll = next((u for u in range(min(_UNROLL, doubles), 0, -1) if doubles % u == 0), 0)
        return DensePass(unroll, pairs % 2 == 1, outputs, is_uniform(recipe), Post.of(recipe), core, direct)

    @property
    def name(self) -> str:
        """Symbol; the same for the same code."""
        size = f"{self.unroll}{'x' if self.odd else ''}{'d' if self.direct else ''}"
        return f"th_dense_o{self.outputs}u{size}_{'same_' if self.uniform else ''}{self.post.tag}"

    @property
    def prototype(self) -> str:
        """C declaration."""
        return f"void {self.name}({', '.join(_PARAMETERS)});"

    @property
    def steps(self) -> int:
        """Pairs of channels."""
        return (self.outputs + 1) // 2

    @property
    def _first(self) -> int:
        return 1 if self.post.kind == "proved" else 0

    def stream_words(self, pairs: int) -> int:
        """Words of one turn."""
        constants = 0 if self.uniform else self._first + 2 * self.post.constants
        return self.steps * (2 + pairs + constants)

    def text(self) -> str:
        """The file that defines it: assembler, or the call of the twin where the core is the host."""
        head = f"{self.prototype}\n\n"
        if self.core == "native":
            sizes = (int(self.odd), self.outputs, int(self.uniform), int(self.direct), self.post.c_fields)
            return (
                f'#include "th_twin.h"\n\n{head}void {self.name}({", ".join(_PARAMETERS)})\n{{\n'
                f"    static const struct th_dense dense = {{{', '.join(map(str, sizes))}}};\n"
                f"    th_dense_twin(&dense, inputs, stream, out, turns, shape);\n}}\n"
            )
        comment = (
            f"{self.outputs} outputs at a time: see dense.py.",
            "r0 inputs, r1 stream, r2 and r3 weights, r12 and lr pairs of inputs, r4-r11 sums.",
        )
        body = _assembled(self)[0].function(self.name, _PARAMETERS, comment, self.core)
        return f'#include "th_asm.h"\n\n{head}{body}'

    def instructions(self, turns: int, pairs: int) -> int:
        """For that many turns and pairs of inputs."""
        _, once, each, inner = _assembled(self)
        return once + turns * (each + inner * (pairs // 2 // self.unroll if self.unroll else 0))

    @property
    def code_bytes(self) -> int:
        """Flash of the code."""
        return _assembled(self)[0].code_bytes

    def assemble(self) -> tuple[Asm, int, int, int]:
        """The code, and instructions (once, per turn, per turn of the inner loop)."""
        a = Asm()
        a.enter(_FRAME)
        a.op(f"strd r2, r3, [sp, #{_OUT}]", f"str r0, [sp, #{_INPUTS}]", f"ldr r3, [sp, #{_SHAPE}]")
        a.op("ldr r3, [r3]", "add r3, r0", f"str r3, [sp, #{_END}]")
        once = a.lap() + 2
        a.label(1)
        sums = ", ".join(f"r{4 + i}" for i in range(2 * self.steps))
        a.op(f"ldr r0, [sp, #{_INPUTS}]", f"ldm r1!, {{{sums}}}")
        each, inner = a.lap(), 0
        if self.unroll:
            a.label(2)
            body = Asm()
            for turn in range(self.unroll):
                at = 8 * self.steps * turn
                load, widen = ["ldrd r12, lr, [r0], #8"], list[str]()
                if self.direct:
                    load, widen = ["ldr r12, [r0], #4"], ["sxtb16 lr, r12, ror #8", "sxtb16 r12, r12"]
                self._pair(body, "r12", at, load, widen)
                self._pair(body, "lr", at + 4 * self.steps)
            body.op(f"add r1, #{8 * self.steps * self.unroll}", f"ldr r12, [sp, #{_END}]")
            a.in_any_order(body)
            a.op("cmp r0, r12", "bne 2b")
            inner = a.lap()
        body = Asm()
        if self.odd:
            self._pair(body, "r12", 0, ["ldr r12, [r0], #4"])
            body.op(f"add r1, #{4 * self.steps}")
        self._epilogue(body)
        (a.op(*body.lines) if self.post.clamps else a.in_any_order(body))
        a.op(f"ldr r3, [sp, #{_TURNS}]", "subs r3, #1", f"str r3, [sp, #{_TURNS}]", "bne 1b")
        each += a.lap()
        a.leave(_FRAME)
        return a, once, each, inner

    def _pair(
        self, a: Asm, inputs: str, at: int, load: Sequence[str] = (), widen: Sequence[str] = ()
    ) -> None:
        """Two inputs times all channels, weights from `at` bytes on; a weight word is overwritten by its even
        lanes. `load` and `widen` bring the inputs: a load behind another takes half its time on Cortex-M4."""
        for step in range(0, self.steps, 2):
            both = step + 1 < self.steps
            place = at + 4 * step
            if both and self.core == "cortex-m4" and (step or not load):
                a.op(f"ldrd r2, r3, [r1, #{place}]")
            else:
                a.op(*load[: 1 - step], f"ldr r2, [r1, #{place}]")
                a.op(*([f"ldr r3, [r1, #{place + 4}]"] if both else []))
            a.op(*widen[: 0 if step else 2])
            for weights, s in (("r2", step), ("r3", step + 1))[: 2 if both else 1]:
                even, odd = f"r{4 + 2 * s}", f"r{5 + 2 * s}"
                a.op(f"smlad {odd}, {inputs}, {weights}, {odd}", f"sxtb16 {weights}, {weights}")
                a.op(f"smlad {even}, {inputs}, {weights}, {even}")

    def _epilogue(self, a: Asm) -> None:
        proved, each = self.post.kind == "proved", self.post.constants
        constants = ["r2", "r3", "r12"][: each + self._first]
        own = ("r3", "r12", "") if proved else ("r2", "r3", "r12")  # multiplier, addend, shift
        a.op(f"ldr r0, [sp, #{_OUT}]")
        if self.uniform:
            a.op(f"ldr lr, [sp, #{_SHAPE}]", "add lr, #4", f"ldm lr, {{{', '.join(constants)}}}")
        for step in range(self.steps):
            even, odd = f"r{4 + 2 * step}", f"r{5 + 2 * step}"
            stored = min(2, self.outputs - 2 * step)
            if not self.uniform:
                _load(a, constants)
            a.op(f"sub {odd}, {odd}, {even}")
            a.op(f"add {even}, r2, {even}, lsl #8" if proved else f"asr {odd}, {odd}, #8")
            self.post.finish(a, [even], *own)
            other = own
            if not self.uniform:
                other = ("r2", "r3", "r12")
                _load(a, ["r2", "r3", "r12"][:each])
            self.post.saturate(a, even)
            a.op(f"strb {even}, [r0], #1")
            if stored == 2:
                self.post.finish(a, [odd], *other)
                self.post.saturate(a, odd)
                a.op(f"strb {odd}, [r0], #1")
        a.op(f"str r0, [sp, #{_OUT}]")


@cache
def _assembled(dense: DensePass) -> tuple[Asm, int, int, int]:
    return dense.assemble()


def _load(a: Asm, registers: list[str]) -> None:
    if len(registers) == 2:
        a.op(f"ldrd {registers[0]}, {registers[1]}, [r1], #8")
    else:
        a.op(f"ldm r1!, {{{', '.join(registers)}}}")


def pack(
    weights: npt.NDArray[np.int8], bias: npt.NDArray[np.int64], order: npt.NDArray[np.intp], recipe: Recipe
) -> npt.NDArray[np.int32]:
    """The stream; `weights` [channels, inputs], `order` as in gemm.pack."""
    channels = weights.shape[0]
    padded = np.zeros((channels + channels % 2, weights.shape[1] + 1), np.int64)
    padded[:channels, :-1] = weights
    lanes = padded[:, order]
    both = 256 * lanes[1::2] + lanes[::2] & 0xFFFF
    packed = both[..., 0] | both[..., 1] << 16  # [pairs of channels, pairs of inputs]
    proved, post = isinstance(recipe, Proved), Post.of(recipe)
    stream: list[int] = []
    for first in range(0, channels, 8):
        pairs = [(c, min(c + 1, channels - 1)) for c in range(first, min(first + 8, channels), 2)]
        for even, odd in pairs:
            alone = even == odd
            own = 0 if alone else 256 * int(bias[odd]) + offset(recipe, odd)
            stream += [int(bias[even]), own + int(bias[even])]
        stream += packed[first // 2 : first // 2 + len(pairs)].T.reshape(-1).tolist()
        for even, odd in [] if is_uniform(recipe) else pairs:
            stream += [
                *([offset(recipe, even)] if proved else []),
                *words(recipe, even, post),
                *words(recipe, odd, post),
            ]
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
        return pack(flat, live_bias(flat, self.work.folded_bias), self.order, self.recipe)

    @cached_property
    def passes(self) -> tuple[tuple[DensePass, int], ...]:
        """Micro-kernels and their turns: eights, then the rest."""
        eights, rest = divmod(self.work.y.channels, 8)
        sizes = [*([(8, eights)] if eights else []), *([(rest, 1)] if rest else [])]
        return tuple(
            (DensePass.of(self._pairs, n, self.recipe, self.core, self.direct), turns) for n, turns in sizes
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
        """A row is read completely before its outputs are written; directly, it is read for each eight."""
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
            calls.append(f"        {p.name}({source}, {symbol}_stream + {at}, y + {out}, {turns}, &shape);")
            at, out = at + turns * p.stream_words(self._pairs), out + turns * p.outputs
        constants: list[int] = []
        if is_uniform(self.recipe):
            first = [offset(self.recipe, 0)] if isinstance(self.recipe, Proved) else []
            constants = as_int32([*first, *words(self.recipe, 0, Post.of(self.recipe))]).tolist()
        shape = ", ".join(map(str, constants)) or "0"
        size = self._pairs // 2 * (4 if self.direct else 8)
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
            f"    static const struct th_dense_shape shape = {{{size}, {{{shape}}}}};",
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
            yield DenseCandidate(work, recipe, target.core, direct=True)
