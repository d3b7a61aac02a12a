"""The micro-kernel of convolutions: up to 4 output pixels times 2 output channels held in registers.

Activations come as 16-bit pairs in blocks [pair][pixel] of 32-bit words (see expand.py). Two int8
channels share one weight word: each 16-bit lane holds 256 * w1 + w0. With A = (a, a') a pixel's pair,

    SMLAD(A, W)          accumulates 256 * x1 + x0
    SMLAD(A, SXTB16(W))  accumulates x0

and one SUB per output leaves 256 * x1, as the requantisation wants it. A sum may wrap on the way; the
result does not, since |256 * x1| < 2^31 was checked on the weights (requant.choose). Per pair: one load
and one SXTB16 for the weights, four loads for the activations, eight SMLAD: 14 instructions for 16 MACs.

Stream of one channel pair: bias0, 256 * bias1 + bias0 + offset1, W[pairs], [offset0,] constants of
channel 0, constants of channel 1; these are multipliers alone where one addend serves all channels. A
last odd channel stands alone: bias0, W[pairs] with plain lanes, its constants.

Registers: r0 activations, r1 stream, r2 W, r3 SXTB16(W), r12 and lr pixels, r4-r11 accumulators. The
kernel runs over all channels and, for each, over all blocks of a strip: weights stay in the data cache.
Cortex-M7 wants loads two pixels ahead, between the SMLADs, where they cost nothing; Cortex-M4, which
issues one instruction a cycle, wants two pixels by one LDRD.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.emit import SAVED, Asm
from tinyhil.harness.tinyengine.asm.post import Post, as_int32, offset, words
from tinyhil.harness.tinyengine.asm.requant import Proved, Recipe

UNROLL_ALL = 24  # pairs that are unrolled fully, in code of their own: 1.4 KB
_MOST_TURN = 16  # pairs per turn of a loop, in code that layers of any size share
_WRAPPER_BYTES, _WRAPPER_INSTRUCTIONS = 48, 12  # what passes a layer's sizes to shared code
_PARAMETERS = (
    "const uint32_t *blocks",
    "const int32_t *stream",
    "int8_t *out",
    "const uint32_t *blocks_end",
    "const int32_t *stream_end",
)
_BLOCKS, _OUT, _BLOCKS_END, _STREAM, _OUT_BASE, _BLOCK_END = 0, 4, 8, 12, 16, 20
_SHAPE = _BLOCK_BYTES = 28  # struct th_gemm_shape
_PIXEL_STRIDE, _CHANNEL_STRIDE, _STEP, _ADDEND, _FRAME = 32, 36, 40, 44, 48


@dataclass(frozen=True)
class Gemm:
    """One variant of the micro-kernel. Strides of the output in bytes."""

    pairs: int
    pixels: int
    channels: int
    post: Post
    pixel_stride: int
    channel_stride: int
    core: str

    @property
    def name(self) -> str:
        """Symbol; the same for the same code."""
        return (
            f"th_gemm_p{self.pixels}c{self.channels}k{self.pairs}_{self.post.tag}"
            f"_{self.pixel_stride}_{self.channel_stride}"
        )

    @property
    def block_bytes(self) -> int:
        """Bytes of one block of activations."""
        return 4 * self.pairs * self.pixels

    @property
    def prototype(self) -> str:
        """C declaration."""
        return f"void {self.name}({', '.join(_PARAMETERS)});"

    @cached_property
    def turn(self) -> int:
        """Pairs per turn where the code is shared by layers of any size, 0 where it is this size's own.
        A few numbers are preferred, so that more is shared."""
        small = self.pairs <= UNROLL_ALL and self.pixels == 4 and self.pixels * self.pixel_stride < 4096
        tastes = (12, 16, 8) if self.pixels == 4 else (8, 4)
        rest = range(_MOST_TURN, 0, -1)
        return 0 if small else next(u for u in (*tastes, *rest) if self.pairs % u == 0)

    @property
    def shared_name(self) -> str:
        """Symbol of the code that layers of any size share."""
        return f"th_gemm_p{self.pixels}c{self.channels}u{self.turn}_{self.post.tag}"

    def files(self) -> dict[str, str]:
        """The files that define it, by name: assembler, or the call of the twin on the host."""
        arguments = ", ".join(p.split()[-1].lstrip("*") for p in _PARAMETERS)
        head = f"{self.prototype}\n\nvoid {self.name}({', '.join(_PARAMETERS)})\n{{\n"
        own = f"{self.name}.c"
        if self.core == "native":
            sizes: tuple[object, ...] = (
                self.pairs, self.pixels, self.channels, self.pixel_stride, self.channel_stride
            )  # fmt: skip
            fields = ", ".join(map(str, (*sizes, self.post.c_fields)))
            return {
                own: f'#include "th_twin.h"\n\n{head}'
                f"    static const struct th_gemm gemm = {{{fields}}};\n"
                f"    th_gemm_twin(&gemm, {arguments});\n}}\n"
            }
        asm, _ = self._code
        comment = [
            f"{self.pixels} pixels x {self.channels} channels, "
            + ("any number of inputs" if self.turn else f"{2 * self.pairs} inputs")
            + ": see gemm.py.",
            "r0 activations, r1 stream, r2/r3 weights, r12/lr pixels, r4-r11 accumulators.",
        ]
        if not self.turn:
            body = asm.function(self.name, _PARAMETERS, comment, self.core)
            return {own: f"#include <stdint.h>\n\n{self.prototype}\n\n{body}"}
        parameters = (*_PARAMETERS, "const struct th_gemm_shape *shape")
        prototype = f"void {self.shared_name}({', '.join(parameters)});"
        step = self.channels * self.channel_stride
        shape = (self.block_bytes, self.pixel_stride, self.channel_stride, step)
        return {
            f"{self.shared_name}.c": f'#include "th_asm.h"\n\n{prototype}\n\n'
            + asm.function(self.shared_name, parameters, comment, self.core),
            own: f'#include "th_asm.h"\n\n{prototype}\n{head}'
            f"    static const struct th_gemm_shape shape = {{{', '.join(map(str, shape))}}};\n"
            f"    {self.shared_name}({arguments}, &shape);\n}}\n",
        }

    @property
    def shared(self) -> dict[str, int]:
        """Bytes of code in each of the files."""
        if not self.turn:
            return {f"{self.name}.c": self.code_bytes}
        return {f"{self.shared_name}.c": self.code_bytes, f"{self.name}.c": _WRAPPER_BYTES}

    def instructions(self, blocks: int, steps: int) -> int:
        """For `steps` channel pairs (or single channels) over `blocks` blocks."""
        fixed, per_step, per_block = self._code[1]
        return fixed + steps * (per_step + blocks * per_block)

    @property
    def code_bytes(self) -> int:
        """Flash of the assembler."""
        return self._code[0].code_bytes

    # -- assembler

    def _acc(self, pixel: int, channel: int) -> str:
        return f"r{4 + self.channels * pixel + channel}"

    @property
    def _code(self) -> tuple[Asm, tuple[int, int, int]]:
        return _assembled(self)

    def assemble(self) -> tuple[Asm, tuple[int, int, int]]:
        """The code, and instructions (once, per channel step, per block)."""
        a, turn = Asm(), self.turn
        a.enter(_FRAME)
        a.op(f"strd r0, r2, [sp, #{_BLOCKS}]", f"str r3, [sp, #{_BLOCKS_END}]", f"str r2, [sp, #{_OUT_BASE}]")
        if turn:
            a.op(f"ldr r3, [sp, #{_FRAME + SAVED + 4}]", "ldm r3, {r4-r7}", f"add r3, sp, #{_SHAPE}")
            a.op("stm r3, {r4-r7}")
        if self.post.addend is not None:
            a.load_constant("r3", self.post.addend & 0xFFFFFFFF)
            a.op(f"str r3, [sp, #{_ADDEND}]")
        fixed = a.lap() + (2 + _WRAPPER_INSTRUCTIONS if turn else 2)
        a.label(1)
        a.op(f"str r1, [sp, #{_STREAM}]")
        per_step = a.lap()
        a.label(2)
        a.op(f"ldr r1, [sp, #{_STREAM}]")
        if turn:
            a.op(f"ldr r3, [sp, #{_BLOCK_BYTES}]", "add r3, r0", f"str r3, [sp, #{_BLOCK_END}]")
        self._load_bias(a, spread=turn > 0)
        pipelined = self.core == "cortex-m7" and self.pixels == 4
        if pipelined:
            a.op("ldr r2, [r1], #4", "ldr r12, [r0]", "ldr lr, [r0, #4]")
        per_block = a.lap()
        if turn:
            a.label(3)
            for k in range(turn):
                self._pair(a, k, pipelined, first=False, last=False)
            a.op(f"add r0, #{4 * self.pixels * turn}")
            a.op(f"ldr r3, [sp, #{_BLOCK_END}]", "cmp r0, r3", "bne 3b")
            per_block += a.lap() * (self.pairs // turn)
        else:
            for k in range(self.pairs):
                self._pair(a, k, pipelined, first=k == 0, last=k == self.pairs - 1)
        self._epilogue(a, pipelined)
        if not turn:
            a.add("r0", self.block_bytes, "r3")
        a.op(f"ldr r3, [sp, #{_BLOCKS_END}]", "cmp r0, r3", "bne 2b")
        per_block += a.lap()
        a.op(f"ldr r2, [sp, #{_OUT_BASE}]")
        if turn:
            a.op(f"ldr r3, [sp, #{_STEP}]", "add r2, r3")
        else:
            a.add("r2", self.channels * self.channel_stride, "r3")
        a.op(f"str r2, [sp, #{_OUT_BASE}]", f"str r2, [sp, #{_OUT}]", f"ldr r0, [sp, #{_BLOCKS}]")
        a.op(f"ldr r3, [sp, #{_FRAME + SAVED}]", "cmp r1, r3", "bne 1b")
        per_step += a.lap()
        a.leave(_FRAME)
        return a, (fixed, per_step, per_block)

    def _load_bias(self, a: Asm, spread: bool) -> None:
        """The biases arrive in the last pixel's accumulators, where the first SMLADs find them."""
        last = self.pixels - 1
        if self.channels == 2:
            a.op(f"ldrd {self._acc(last, 0)}, {self._acc(last, 1)}, [r1], #8")
        else:
            a.op(f"ldr {self._acc(last, 0)}, [r1], #4")
        for p in range(last if spread else 0):
            for c in range(self.channels):
                a.op(f"mov {self._acc(p, c)}, {self._acc(last, c)}")

    def _pair(self, a: Asm, k: int, pipelined: bool, first: bool, last: bool) -> None:
        if pipelined:
            self._pair_pipelined(a, k, first, last)
        else:
            self._pair_grouped(a, k, first)

    def _smlad(self, pixel: int, channel: int, activation: str, first: bool) -> str:
        weights = "r3" if self.channels == 2 and channel == 0 else "r2"
        acc = self._acc(pixel, channel)
        return (
            f"smlad {acc}, {activation}, {weights}, {self._acc(self.pixels - 1, channel) if first else acc}"
        )

    def _pair_pipelined(self, a: Asm, k: int, first: bool, last: bool) -> None:
        """Loads run two pixels ahead; the weight load behind the last pair fetches the first constant."""
        if self.channels == 2:
            a.op("sxtb16 r3, r2")
        for p in range(self.pixels):
            item = k * self.pixels + p
            activation = ("r12", "lr")[item % 2]
            a.op(self._smlad(p, self.channels - 1, activation, first))
            if p == self.pixels - 1:
                a.op("ldr r2, [r1], #4")
            if self.channels == 2:
                a.op(self._smlad(p, 0, activation, first))
            if not (last and p >= self.pixels - 2):
                a.op(f"ldr {activation}, [r0, #{4 * (item + 2)}]")

    def _pair_grouped(self, a: Asm, k: int, first: bool) -> None:
        """Two pixels by one LDRD, as long as two loads on Cortex-M4 and never slowed by its alignment."""
        a.op("ldr r2, [r1], #4")
        for p in range(0, self.pixels, 2):
            group = range(p, min(p + 2, self.pixels))
            at = 4 * (k * self.pixels + p)
            if len(group) == 2 and at <= 1020:
                a.op(f"ldrd r12, lr, [r0, #{at}]")
            else:
                for q in group:
                    a.op(f"ldr {('r12', 'lr')[q % 2]}, [r0, #{4 * (k * self.pixels + q)}]")
            if p == 0 and self.channels == 2:
                a.op("sxtb16 r3, r2")
            for q in group:
                for c in reversed(range(self.channels)):
                    a.op(self._smlad(q, c, ("r12", "lr")[q % 2], first))

    def _epilogue(self, a: Asm, pipelined: bool) -> None:
        """Separate the two sums, requantise, store, and move the output pointer to the next block."""
        accs = [[self._acc(p, c) for p in range(self.pixels)] for c in range(self.channels)]
        proved, each = self.post.kind == "proved", self.post.constants
        common = self.post.addend is not None
        if common:  # offset0, both multipliers
            constants = ["r2", "r3", "lr"][: 1 + self.channels]
        else:
            constants = ["r2", "r3", "r12"][: 3 if proved else each]
        _load(a, constants[1:] if pipelined else constants)
        a.op(f"ldr r12, [sp, #{_ADDEND}]" if common else f"ldr lr, [sp, #{_OUT}]")
        for p in range(self.pixels):
            if self.channels == 2:
                a.op(f"sub {accs[1][p]}, {accs[1][p]}, {accs[0][p]}")
            if proved:
                a.op(f"add {accs[0][p]}, r2, {accs[0][p]}, lsl #8")
        self.post.finish(a, accs[0], *(("r3", "r12", "") if proved else ("r2", "r3", "r12")))
        if common:
            if self.channels == 2:
                self.post.finish(a, accs[1], "lr", "r12", "")
            a.op(f"ldr lr, [sp, #{_OUT}]")
        elif self.channels == 2:
            if not proved:
                for r in accs[1]:
                    a.op(f"asr {r}, {r}, #8")
            _load(a, ["r2", "r3", "r12"][:each])
        if self.turn:
            self._store_anywhere(a, accs)
        else:
            self._store_near(a, accs)

    def _store_anywhere(self, a: Asm, accs: list[list[str]]) -> None:
        """Finish the second channel and store with strides that are known when it runs."""
        if self.channels == 2 and self.post.addend is None:
            self.post.finish(a, accs[1], "r2", "r3", "r12")
        a.op(f"ldrd r2, r3, [sp, #{_PIXEL_STRIDE}]")
        for p in range(self.pixels):
            self.post.saturate(a, accs[0][p])
            a.op(f"strb {accs[0][p]}, [lr]")
            if self.channels == 2:
                self.post.saturate(a, accs[1][p])
                a.op(f"strb {accs[1][p]}, [lr, r3]")
            a.op("add lr, r2")
        a.op(f"str lr, [sp, #{_OUT}]")

    def _store_near(self, a: Asm, accs: list[list[str]]) -> None:
        """Finish the second channel and store with strides in the instructions."""
        proved, common = self.post.kind == "proved", self.post.addend is not None
        advance = self.pixels * self.pixel_stride
        base = -advance if advance <= 255 else 0
        for p, r in enumerate(accs[0]):
            if self.channels == 2 and proved and not common:
                self.post.finish(a, [accs[1][p]], "r2", "r3", "")
            self.post.saturate(a, r)
            place = f"[lr], #{advance}" if base and p == 0 else f"[lr, #{base + p * self.pixel_stride}]"
            a.op(f"strb {r}, {place}")
        if self.channels == 2:
            if not proved:
                self.post.finish(a, accs[1], "r2", "r3", "r12")
            second = base + self.channel_stride
            far = second + advance > 4095
            if far:  # the second channel's plane is out of reach of an immediate
                a.add("lr", base + advance, "r12")
                a.op(f"str lr, [sp, #{_OUT}]")
                a.add("lr", self.channel_stride - advance, "r12")
                second = 0
            for p, r in enumerate(accs[1]):
                self.post.saturate(a, r)
                a.op(f"strb {r}, [lr, #{second + p * self.pixel_stride}]")
            if far:
                return
        a.add("lr", base + advance, "r12")
        a.op(f"str lr, [sp, #{_OUT}]")


def _load(a: Asm, registers: list[str]) -> None:
    """The next words of the stream."""
    if len(registers) == 1:
        a.op(f"ldr {registers[0]}, [r1], #4")
    elif len(registers) == 2:
        a.op(f"ldrd {registers[0]}, {registers[1]}, [r1], #8")
    else:
        a.op(f"ldm r1!, {{{', '.join(registers)}}}")


@cache
def _assembled(gemm: Gemm) -> tuple[Asm, tuple[int, int, int]]:
    return gemm.assemble()


def lanes_fit(weights: npt.NDArray[np.int8]) -> bool:
    """Two channels fit one lane: 256 * w1 + w0 is below int16 only for w1 = -128 beside a negative w0."""
    even, odd = weights[0 : weights.shape[0] // 2 * 2 : 2], weights[1::2]
    return not bool(((odd == -128) & (even < 0)).any())


def pack(
    weights: npt.NDArray[np.int8], bias: npt.NDArray[np.int64], order: npt.NDArray[np.intp], recipe: Recipe
) -> npt.NDArray[np.int32]:
    """The stream of all channels. `weights` [channels, taps]; `order` [pairs, 2] says which taps stand
    in the halves of a pair (-1: none); a pair with no weight costs nothing but its place."""
    channels = weights.shape[0]
    padded = np.concatenate([weights.astype(np.int64), np.zeros((channels, 1), np.int64)], axis=1)
    lanes = padded[:, order]  # [channels, pairs, 2]; index -1 finds the zero
    stream: list[int] = []
    for c in range(0, channels - 1, 2):
        both = 256 * lanes[c + 1] + lanes[c] & 0xFFFF
        stream += [int(bias[c]), 256 * int(bias[c + 1]) + int(bias[c]) + offset(recipe, c + 1)]
        stream += (both[:, 0] | both[:, 1] << 16).tolist()
        stream += [*_first(recipe, c), *words(recipe, c + 1, Post.common(recipe))]
    if channels % 2:
        c = channels - 1
        alone = lanes[c] & 0xFFFF
        stream += [int(bias[c]), *(alone[:, 0] | alone[:, 1] << 16).tolist(), *_first(recipe, c)]
    return as_int32(stream)


def _first(recipe: Recipe, c: int) -> list[int]:
    return [
        *([offset(recipe, c)] if isinstance(recipe, Proved) else []),
        *words(recipe, c, Post.common(recipe)),
    ]
