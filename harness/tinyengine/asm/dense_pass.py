"""The micro-kernel of fully-connected layers: eight outputs at a time, four on Cortex-M7, so that a weight
is read once and an input once per turn.

Two channels lie in a word of two 16-bit lanes, w = 256 * odd + even. With inputs x0 and x1 (each two lanes:
inputs 0 and 2, inputs 1 and 3) and their weights w0 and w1,

    SMLAD(x0, w0), SMLAD(x1, w1)        add 256 * odd sum + even sum to one accumulator
    SMLAD(x1 + even(w0), x0 + even(w1)) adds x0 x1 + even sum + even(w0) even(w1) to the other

The second line is Winograd's inner product (A New Algorithm for Inner Product, 1968): half the products,
and SXTAB16 extends and adds in one instruction. The inputs' own products (own_products.py) are subtracted
from all channels, those of the weights from the bias when the stream is packed. Sums may wrap on the way.
Per four inputs: one load and two SXTB16, or two loads where they were widened before; per pair of channels
two loads, two SXTAB16 and three SMLAD for eight MACs. A last odd channel has four weights in a word and
needs one load, two SXTAB16 and one SMLAD for four MACs.

Stream: bytes of the inputs that the loop takes[, offset0, constants], then per turn: for each pair of
channels bias0 and 256 * bias1 + bias0 + offset1 + offset0 / 256, for a last odd channel bias0; the weights
[four inputs][channel]; and for each pair of channels [offset0,] and both channels' constants, unless one
scale serves the whole layer and they stand at the beginning. The code is shared by layers of any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

from tinyhil.harness.tinyengine.asm.emit import SAVED, Asm
from tinyhil.harness.tinyengine.asm.own_products import Fours
from tinyhil.harness.tinyengine.asm.post import Post, is_uniform
from tinyhil.harness.tinyengine.asm.requant import Recipe

_PARAMETERS = (
    "const void *inputs",
    "const int32_t *stream",
    "int8_t *out",
    "uint32_t turns",
    "int32_t own_products",
)
_OUT, _OUT_END, _INPUTS, _INPUTS_END, _CONSTANTS, _FRAME = 0, 4, 8, 12, 16, 32  # 4 bytes are spare
_OWN = _FRAME + SAVED  # the argument


@dataclass(frozen=True)
class Registers:
    """Registers that take inputs and weights in turn, two at a time; sums lie in r4 and upwards. `wide`:
    outputs at a time. A second pair of each lets Cortex-M7 load ahead of its long pipeline; Cortex-M4, which
    waits for nothing but loads, rather uses the registers for sums."""

    wide: int
    inputs: tuple[tuple[str, str], ...]
    weights: tuple[tuple[str, str], ...]

    @property
    def comment(self) -> str:
        """Who is where."""
        weights, inputs = (" ".join(map(" ".join, pairs)) for pairs in (self.weights, self.inputs))
        return f"r0 inputs, r1 stream, r4-r{3 + self.wide} sums, {inputs} pairs of inputs, {weights} weights."

    @staticmethod
    def of(core: str) -> Registers:
        """What suits the core best."""
        if core == "cortex-m7":
            return Registers(4, (("r12", "lr"), ("r10", "r11")), (("r2", "r3"), ("r8", "r9")))
        return Registers(8, (("r12", "lr"),), (("r2", "r3"),))


@dataclass(frozen=True)
class _Count:
    """Instructions: once, per turn of outputs, and per turn of the inner loop."""

    once: int
    each: int
    inner: int


@dataclass(frozen=True)
class DensePass:
    """`turns` times `outputs` (1 to 8) outputs. `uniform`: all channels share their constants. `direct`: the
    inputs are int8, widened on the way."""

    fours: Fours
    outputs: int
    uniform: bool
    post: Post
    core: str
    direct: bool = False

    @staticmethod
    def of(fours: int, outputs: int, recipe: Recipe, core: str, direct: bool = False) -> DensePass:
        """The variant for that many times four inputs."""
        return DensePass(Fours.of(fours), outputs, is_uniform(recipe), Post.of(recipe), core, direct)

    @property
    def name(self) -> str:
        """Symbol; the same for the same code."""
        size = f"{self.fours.tag}{'d' if self.direct else ''}"
        return f"th_dense_o{self.outputs}{size}_{'same_' if self.uniform else ''}{self.post.tag}"

    @property
    def prototype(self) -> str:
        """C declaration."""
        return f"void {self.name}({', '.join(_PARAMETERS)});"

    @property
    def shared_constants(self) -> int:
        """Words at the beginning of the stream that all channels share."""
        return self._proved + self.post.constants if self.uniform else 0

    def stream_words(self, fours: int, turns: int) -> int:
        """Words of that many turns."""
        channel = 1 + fours + (0 if self.uniform else self.post.constants)
        offsets = 0 if self.uniform or not self._proved else (self.outputs + 1) // 2
        return 1 + self.shared_constants + turns * (self.outputs * channel + offsets)

    def text(self) -> str:
        """The file that defines it: assembler, or the call of the twin where the core is the host."""
        head = f"{self.prototype}\n\n"
        if self.core == "native":
            sizes = (self.fours.rest, self.outputs, int(self.uniform), int(self.direct), self.post.c_fields)
            return (
                f'#include "th_twin.h"\n\n{head}void {self.name}({", ".join(_PARAMETERS)})\n{{\n'
                f"    static const struct th_dense dense = {{{', '.join(map(str, sizes))}}};\n"
                f"    th_dense_twin(&dense, inputs, stream, out, turns, own_products);\n}}\n"
            )
        comment = (
            f"{self.outputs} outputs at a time: see dense_pass.py.",
            Registers.of(self.core).comment,
        )
        body = _assembled(self)[0].function(self.name, _PARAMETERS, comment, self.core)
        return f"#include <stdint.h>\n\n{head}{body}"

    def instructions(self, turns: int, fours: int) -> int:
        """For that many turns and times four inputs."""
        count = _assembled(self)[1]
        return count.once + turns * (count.each + fours // self.fours.unroll * count.inner)

    @property
    def code_bytes(self) -> int:
        """Flash of the code."""
        return _assembled(self)[0].code_bytes

    # -- assembler

    @property
    def _proved(self) -> bool:
        return self.post.kind == "proved"

    @property
    def _corrected_late(self) -> bool:
        """The inputs' own products leave with the offset that all even channels share, not with each sum."""
        return self.uniform and self._proved

    @property
    def _compares_early(self) -> bool:
        """The loop's end is loaded behind the last inputs, where Cortex-M4 takes a cycle less."""
        return self.core == "cortex-m4" and self.direct

    def assemble(self) -> tuple[Asm, _Count]:
        """The code, and its instructions."""
        a = Asm()
        a.enter(_FRAME)
        constants = ["r5", "r6", "r7"][: self.shared_constants]
        a.op(f"ldm r1!, {{{', '.join(['r4', *constants])}}}", "add r4, r0")
        a.op(f"strd r0, r4, [sp, #{_INPUTS}]")
        a.op(f"mov r8, #{self.outputs}", "mla r3, r3, r8, r2", f"strd r2, r3, [sp, #{_OUT}]")
        if self._corrected_late:
            a.op(f"ldr r3, [sp, #{_OWN}]", "sub r5, r5, r3, lsl #8")
        a.op(*(f"str {r}, [sp, #{_CONSTANTS + 4 * i}]" for i, r in enumerate(constants)))
        once = a.lap() + 2
        a.label(1)
        self._begin(a)
        each = a.lap()
        a.label(2)
        self._loop(a)
        inner = a.lap()
        body = self._fours(self.fours.rest, in_loop=False)
        self._epilogue(body)
        (a.op(*body.lines) if self.post.clamps else a.in_any_order(body))
        a.op("cmp r0, lr", "bne 1b")
        each += a.lap()
        a.leave(_FRAME)
        return a, _Count(once, each, inner)

    @property
    def _channels(self) -> list[tuple[str, str]]:
        """The accumulators of each pair of channels; a last odd channel has one."""
        sums = [*(f"r{4 + i}" for i in range(self.outputs)), ""]
        return [(sums[i], sums[i + 1]) for i in range(0, self.outputs, 2)]

    def _begin(self, a: Asm) -> None:
        """The sums start from the biases."""
        a.op(f"ldr r0, [sp, #{_INPUTS}]", *([] if self._corrected_late else [f"ldr r3, [sp, #{_OWN}]"]))
        sums = ", ".join(f"r{4 + i}" for i in range(self.outputs))
        a.op(f"ldm r1!, {{{sums}}}" if self.outputs > 1 else "ldr r4, [r1], #4")
        if not self._corrected_late:
            a.op(*(f"sub {even}, {even}, r3" for even, _ in self._channels))

    def _loop(self, a: Asm) -> None:
        """All inputs but the rest, times all channels."""
        body = self._fours(self.fours.unroll, in_loop=True)
        if self.core == "cortex-m4":
            end = [] if self._compares_early else [f"ldr r12, [sp, #{_INPUTS_END}]", "cmp r0, r12"]
            a.op(*body.lines, *end)
        else:
            body.op(f"ldr r12, [sp, #{_INPUTS_END}]")
            a.in_any_order(body)
            a.op("cmp r0, r12")
        a.op("bne 2b")

    def _fours(self, count: int, in_loop: bool) -> Asm:
        """Four inputs times all channels, `count` times; a weight word is overwritten by its even lanes plus
        inputs."""
        a, registers, channels = Asm(), Registers.of(self.core), self._channels
        for turn, (s, (even, odd)) in product(range(count), enumerate(channels)):
            x0, x1 = registers.inputs[turn % len(registers.inputs)]
            w0, w1 = registers.weights[(turn * len(channels) + s) % len(registers.weights)]
            compares = in_loop and self._compares_early and turn == count - 1
            if s == 0:
                self._load_inputs(a, x0, x1, compares)
            a.op(*self._load_weights(turn, s, w0, w1 if odd else ""))
            if s == 0:
                a.op(*([f"cmp r0, {x1}"] if compares else []))
                a.op(*([f"sxtb16 {x1}, {x0}, ror #8", f"sxtb16 {x0}, {x0}"] if self.direct else []))
            if odd:
                a.op(f"smlad {odd}, {x0}, {w0}, {odd}", f"smlad {odd}, {x1}, {w1}, {odd}")
                a.op(f"sxtab16 {w0}, {x1}, {w0}", f"sxtab16 {w1}, {x0}, {w1}")
            else:
                a.op(f"sxtab16 {w1}, {x0}, {w0}, ror #8", f"sxtab16 {w0}, {x1}, {w0}")
            a.op(f"smlad {even}, {w0}, {w1}, {even}")
        if count and self.core != "cortex-m4":
            a.op(f"add r1, #{4 * self.outputs * count}")
        return a

    def _load_inputs(self, a: Asm, x0: str, x1: str, compares: bool) -> None:
        """Four bytes, or two words of lanes. `compares`: what the loop ends at, too."""
        if self.core != "cortex-m4" and not self.direct:
            a.op(f"ldrd {x0}, {x1}, [r0], #8")
            return
        a.op(f"ldr {x0}, [r0], #4")
        if not self.direct:
            a.op(f"ldr {x1}, [r0], #4")
        elif compares:
            a.op(f"ldr {x1}, [sp, #{_INPUTS_END}]")

    def _load_weights(self, turn: int, step: int, w0: str, w1: str) -> list[str]:
        """One word, or two. On Cortex-M4 a load behind the inputs' takes one cycle, an LDRD elsewhere three.
        On Cortex-M7 an LDRD takes a cycle of its own, which costs nothing where few others are ready."""
        m4, at = self.core == "cortex-m4", 4 * self.outputs * turn + 8 * step
        if w1 and (step if m4 else step % 2 == 0):
            return [f"ldrd {w0}, {w1}, [r1], #8" if m4 else f"ldrd {w0}, {w1}, [r1, #{at}]"]
        words = [w for w in (w0, w1) if w]
        return [f"ldr {w}, [r1], #4" if m4 else f"ldr {w}, [r1, #{at + 4 * i}]" for i, w in enumerate(words)]

    def _epilogue(self, a: Asm) -> None:
        """Separate the sums, requantise and store."""
        proved, each = self._proved, self.post.constants
        constants = ["r2", "r3", "r12"][: each + proved]
        own = ("r3", "r12", "") if proved else ("r2", "r3", "r12")  # multiplier, addend, shift
        a.op(f"ldr r0, [sp, #{_OUT}]", f"ldr lr, [sp, #{_OUT_END}]")
        if self.uniform:
            a.op(*(f"ldr {r}, [sp, #{_CONSTANTS + 4 * i}]" for i, r in enumerate(constants)))
        for even, odd in self._channels:
            if not self.uniform:
                a.load_words(constants)
            if proved:
                a.op(
                    f"add {even}, r2, {even}, lsl #8", *([f"sub {odd}, {odd}, {even}, asr #8"] if odd else [])
                )
            elif odd:
                a.op(f"sub {odd}, {odd}, {even}", f"asr {odd}, {odd}, #8")
            self.post.finish(a, [even], *own)
            other = own
            if odd and not self.uniform:
                other = ("r2", "r3", "r12")
                a.load_words(["r2", "r3", "r12"][:each])
            self.post.saturate(a, even)
            a.op(f"strb {even}, [r0], #1")
            if odd:
                self.post.finish(a, [odd], *other)
                self.post.saturate(a, odd)
                a.op(f"strb {odd}, [r0], #1")
        a.op(f"str r0, [sp, #{_OUT}]")


@cache
def _assembled(dense: DensePass) -> tuple[Asm, _Count]:
    return dense.assemble()
