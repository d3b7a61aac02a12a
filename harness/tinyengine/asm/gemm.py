"""The micro-kernel of convolutions: up to 4 output pixels times 2 output channels held in registers.

Activations come as 16-bit pairs in blocks [pair][pixel] of 32-bit words (see expand.py). Two int8
channels share one weight word: each 16-bit lane holds 256 * w1 + w0. With A = (a, a') a pixel's pair,

    SMLAD(A, W)          accumulates 256 * x1 + x0
    SMLAD(A, SXTB16(W))  accumulates x0

and one SUB per output leaves 256 * x1, as the requantisation wants it. A sum may wrap on the way; the
result does not, since |256 * x1| < 2^31 was checked on the weights (requant.choose). Per pair: one load
and one SXTB16 for the weights, four loads for the activations, eight SMLAD: 14 instructions for 16 MACs.

Registers: r0 activations, r1 stream, r2 and r3 pixels (so that many loads are short), r12 W, lr SXTB16(W),
r4-r11 accumulators. The
kernel runs over all channels and, for each, over all blocks of a strip: weights stay in the data cache.
Cortex-M7 wants loads two pixels ahead, between the SMLADs, where they cost nothing; Cortex-M4, which
issues one instruction a cycle, wants loads behind each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

from tinyhil.harness.tinyengine.asm.emit import SAVED, Asm
from tinyhil.harness.tinyengine.asm.post import Post

UNROLL_ALL = 24  # pairs that are unrolled fully, in code of their own: 1.4 KB
_SMALL_CACHE = 12  # the same where flash is read through a cache of 1 KB, as beside every STM32's Cortex-M4
_MOST_TURN = 16  # pairs per turn of a loop, in code that layers of any size share
_PARAMETERS = (
    "const uint32_t *blocks",
    "const int32_t *stream",
    "int8_t *out",
    "const uint32_t *blocks_end",
    "const int32_t *stream_end",
    "uint32_t stride",
)
_BLOCKS, _BLOCKS_END, _STREAM, _OUT, _OUT_BASE, _BLOCK_END, _ADDEND = 0, 4, 8, 12, 20, 24, 28
_FRAME = 32
_STREAM_END, _STRIDE, _BLOCK_BYTES = (_FRAME + SAVED + at for at in (0, 4, 8))  # on the caller's stack


@dataclass(frozen=True)
class Gemm:
    """One variant of the micro-kernel. Outputs are pixels of interleaved channels, `stride` bytes apart, or
    with `planar` planes of single channels, `stride` bytes apart. `compact` prefers code that layers of
    any size share."""

    pairs: int
    pixels: int
    channels: int
    post: Post
    planar: bool
    core: str
    compact: bool = False

    @property
    def name(self) -> str:
        """Symbol; the same for the same code."""
        size = f"u{self.turn}" if self.turn else f"k{self.pairs}"
        layout = "planes" if self.planar else "pixels"
        return f"th_gemm_p{self.pixels}c{self.channels}{size}_{layout}_{self.post.tag}"

    @property
    def parameters(self) -> tuple[str, ...]:
        """C parameters."""
        return (*_PARAMETERS, "uint32_t block_bytes") if self.turn else _PARAMETERS

    def call(self, blocks: str, stream: str, out: str, end: str, stream_end: str, stride: int) -> str:
        """C statement."""
        sizes = [str(stride), *([str(self.block_bytes)] if self.turn else [])]
        return f"{self.name}({', '.join((blocks, stream, out, end, stream_end, *sizes))});"

    @property
    def block_bytes(self) -> int:
        """Bytes of one block of activations."""
        return 4 * self.pairs * self.pixels

    @property
    def prototype(self) -> str:
        """C declaration."""
        return f"void {self.name}({', '.join(self.parameters)});"

    @cached_property
    def turn(self) -> int:
        """Pairs per turn where the code is shared by layers of any size, 0 where it is this size's own.
        A few numbers are preferred, so that more is shared."""
        cached = self.core == "cortex-m4"
        most = _SMALL_CACHE if cached else UNROLL_ALL
        small = self.pairs <= most and self.pixels == 4 and not self.compact
        tastes = (8, 4) if self.pixels < 4 else (8, 12, 10) if cached else (12, 16, 8)
        rest = range(_MOST_TURN, 0, -1)
        return 0 if small else next(u for u in (*tastes, *rest) if self.pairs % u == 0)

    def files(self) -> dict[str, str]:
        """The file that defines it, by name: assembler, or the call of the twin on the host."""
        if self.core == "native":
            fields = (int(self.planar), self.pixels, self.channels, self.post.c_fields)
            size = "block_bytes" if self.turn else str(self.block_bytes)
            return {
                f"{self.name}.c": f'#include "th_twin.h"\n\n{self.prototype}\n\n'
                f"void {self.name}({', '.join(self.parameters)})\n{{\n"
                f"    static const struct th_gemm gemm = {{{', '.join(map(str, fields))}}};\n"
                f"    th_gemm_twin(&gemm, blocks, stream, out, blocks_end, stream_end, stride, {size});\n}}\n"
            }
        asm, _ = _assembled(self)
        comment = [
            f"{self.pixels} pixels x {self.channels} channels, "
            + ("any number of inputs" if self.turn else f"{2 * self.pairs} inputs")
            + f", outputs as {'planes' if self.planar else 'pixels'}: see gemm.py.",
            "r0 activations, r1 stream, r2/r3 pixels, r12/lr weights, r4-r11 accumulators.",
        ]
        body = asm.function(self.name, self.parameters, comment, self.core)
        return {f"{self.name}.c": f"#include <stdint.h>\n\n{self.prototype}\n\n{body}"}

    @property
    def shared(self) -> dict[str, int]:
        """Bytes of code in each of the files."""
        return {f"{self.name}.c": self.code_bytes}

    def instructions(self, blocks: int, steps: int) -> int:
        """For `steps` channel pairs (or single channels) over `blocks` blocks."""
        fixed, per_step, per_block = _assembled(self)[1]
        return fixed + steps * (per_step + blocks * per_block)

    @property
    def code_bytes(self) -> int:
        """Flash of the assembler."""
        return _assembled(self)[0].code_bytes

    # -- assembler

    def _acc(self, pixel: int, channel: int) -> str:
        return f"r{4 + self.channels * pixel + channel}"

    def assemble(self) -> tuple[Asm, tuple[int, int, int]]:
        """The code, and instructions (once, per channel step, per block)."""
        a, turn = Asm(), self.turn
        a.enter(_FRAME)
        a.op(f"strd r0, r3, [sp, #{_BLOCKS}]", f"str r2, [sp, #{_OUT_BASE}]", f"ldr r3, [sp, #{_STRIDE}]")
        if self.planar:
            a.op("add r3, r2")
        a.op(f"strd r2, r3, [sp, #{_OUT}]")
        if self.post.addend is not None:
            a.load_constant("r3", self.post.addend & 0xFFFFFFFF)
            a.op(f"str r3, [sp, #{_ADDEND}]")
        fixed = a.lap() + 2
        a.label(1)
        a.op(f"str r1, [sp, #{_STREAM}]")
        per_step = a.lap()
        a.label(2)
        body = Asm()
        body.op(f"ldr r1, [sp, #{_STREAM}]")
        if turn:
            body.op(f"ldr lr, [sp, #{_BLOCK_BYTES}]", "add lr, r0", f"str lr, [sp, #{_BLOCK_END}]")
        self._load_bias(body, spread=turn > 0)
        pipelined = self.core == "cortex-m7" and (turn or 2) * self.pixels % 2 == 0
        if pipelined:
            body.op("ldr r12, [r1], #4", "ldr r2, [r0]", "ldr r3, [r0, #4]")
        if turn:
            a.in_any_order(body)
            per_block = a.lap()
            body = Asm()
            a.label(3)
            for k in range(turn):
                self._pair(body, k, pipelined, first=False, last=False)
            body.op(f"add r0, #{4 * self.pixels * turn}", f"ldr lr, [sp, #{_BLOCK_END}]")
            a.in_any_order(body)
            a.op("cmp r0, lr", "bne 3b")
            per_block += a.lap() * (self.pairs // turn)
            body = Asm()
        else:
            per_block = 0
            for k in range(self.pairs):
                self._pair(body, k, pipelined, first=k == 0, last=k == self.pairs - 1)
            body.add("r0", self.block_bytes, "lr")
        self._epilogue(a, body, pipelined)
        a.op(f"ldr r3, [sp, #{_BLOCKS_END}]", "cmp r0, r3", "bne 2b")
        per_block += a.lap()
        a.op(f"ldr r2, [sp, #{_OUT_BASE}]")
        if self.planar:
            a.op(f"ldr r3, [sp, #{_STRIDE}]", f"add r2, r2, r3{', lsl #1' if self.channels == 2 else ''}")
            a.op("add r3, r2", f"strd r2, r3, [sp, #{_OUT}]")
        else:
            a.op(f"add r2, #{self.channels}", f"str r2, [sp, #{_OUT}]")
        a.op(f"str r2, [sp, #{_OUT_BASE}]", f"ldr r0, [sp, #{_BLOCKS}]")
        a.op(f"ldr r3, [sp, #{_STREAM_END}]", "cmp r1, r3", "bne 1b")
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
        weights = "lr" if self.channels == 2 and channel == 0 else "r12"
        acc = self._acc(pixel, channel)
        return (
            f"smlad {acc}, {activation}, {weights}, {self._acc(self.pixels - 1, channel) if first else acc}"
        )

    def _pair_pipelined(self, a: Asm, k: int, first: bool, last: bool) -> None:
        """Loads run two pixels ahead; the weight load behind the last pair fetches the first constant."""
        if self.channels == 2:
            a.op("sxtb16 lr, r12")
        for p in range(self.pixels):
            item = k * self.pixels + p
            activation = ("r2", "r3")[item % 2]
            a.op(self._smlad(p, self.channels - 1, activation, first))
            if p == self.pixels - 1:
                a.op("ldr r12, [r1], #4")
            if self.channels == 2:
                a.op(self._smlad(p, 0, activation, first))
            if not (last and p >= self.pixels - 2):
                a.op(f"ldr {activation}, [r0, #{4 * (item + 2)}]")

    def _pair_grouped(self, a: Asm, k: int, first: bool) -> None:
        """For Cortex-M4, where a load behind another takes one cycle and any other two: the weights and the
        first two pixels, then two pixels by one LDRD."""
        a.op("ldr r12, [r1], #4")
        for p in range(0, self.pixels, 2):
            group = range(p, min(p + 2, self.pixels))
            at = 4 * (k * self.pixels + p)
            if p and len(group) == 2 and at <= 1020:
                a.op(f"ldrd r2, r3, [r0, #{at}]")
            else:
                for q in group:
                    a.op(f"ldr {('r2', 'r3')[q % 2]}, [r0, #{4 * (k * self.pixels + q)}]")
            if p == 0 and self.channels == 2:
                a.op("sxtb16 lr, r12")
            for q in group:
                for c in reversed(range(self.channels)):
                    a.op(self._smlad(q, c, ("r2", "r3")[q % 2], first))

    def _epilogue(self, a: Asm, body: Asm, pipelined: bool) -> None:
        """Separate the two sums, requantise, store, and move the output pointer to the next block, behind
        what `body` holds already."""
        accs = [[self._acc(p, c) for p in range(self.pixels)] for c in range(self.channels)]
        proved, each = self.post.kind == "proved", self.post.constants
        common = self.post.addend is not None
        # the first constant lies where the weights were loaded ahead; several are loaded in ascending order
        constants = ("r12", "r2", "r3") if pipelined else ("r2", "r3", "r12")
        count = 1 + self.channels if common else 3 if proved else each
        body.load_words(constants[pipelined:count])
        if common:
            body.op(f"ldr lr, [sp, #{_ADDEND}]")
        for p in range(self.pixels):
            if self.channels == 2:
                body.op(f"sub {accs[1][p]}, {accs[1][p]}, {accs[0][p]}")
            if proved:
                body.op(f"add {accs[0][p]}, {constants[0]}, {accs[0][p]}, lsl #8")
        if common:
            self.post.finish(body, accs[0], constants[1], "lr", "")
        else:
            self.post.finish(body, accs[0], *((*constants[1:], "") if proved else constants))
        if self.channels == 2 and common:
            self.post.finish(body, accs[1], constants[2], "lr", "")
        elif self.channels == 2:
            if not proved:
                for r in accs[1]:
                    body.op(f"asr {r}, {r}, #8")
            body.load_words(("r2", "r3", "r12")[:each])
            self.post.finish(body, accs[1], "r2", "r3", "r12")
        if self.post.clamps:  # comparisons set flags
            a.in_any_order(body)
        stores = a if self.post.clamps else body
        stores.op(f"ldrd r2, r3, [sp, #{_OUT}]")
        (self._store_planes if self.planar else self._store_pixels)(stores, accs)
        stores.op(f"strd r2, r3, [sp, #{_OUT}]" if self.planar else f"str r2, [sp, #{_OUT}]")
        if not self.post.clamps:
            a.in_any_order(body)

    def _store_planes(self, a: Asm, accs: list[list[str]]) -> None:
        """Each channel in its plane. Cortex-M7 stores a byte in more than two cycles, four at once in one."""
        for own, plane in zip(accs, ("r2", "r3"), strict=False):
            for r in own:
                self.post.saturate(a, r)
            if self.core == "cortex-m7" and self.pixels == 4:
                a.op(f"bfi {own[0]}, {own[1]}, #8, #8", f"bfi {own[2]}, {own[3]}, #8, #8")
                a.op(f"pkhbt {own[0]}, {own[0]}, {own[2]}, lsl #16", f"str {own[0]}, [{plane}], #4")
            else:
                a.op(*(f"strb {r}, [{plane}], #1" for r in own))

    def _store_pixels(self, a: Asm, accs: list[list[str]]) -> None:
        """Both channels of a pixel lie side by side and are stored at once."""
        places = ("[r2]", "[r2, r3]", "[r2, r3, lsl #1]", "[r2, r12]")
        for own in accs:
            for r in own:
                self.post.saturate(a, r)
        if self.pixels > 2:
            a.op("add r12, r3, r3, lsl #1")
        for p, place in zip(range(self.pixels), places, strict=False):
            if self.channels == 2:
                a.op(f"bfi {accs[0][p]}, {accs[1][p]}, #8, #8", f"strh {accs[0][p]}, {place}")
            else:
                a.op(f"strb {accs[0][p]}, {place}")
        a.op("add r2, " + {1: "r3", 2: "r2, r3, lsl #1", 3: "r12", 4: "r2, r3, lsl #2"}[self.pixels])


@cache
def _assembled(gemm: Gemm) -> tuple[Asm, tuple[int, int, int]]:
    return gemm.assemble()
