"""The micro-kernel of fully-connected layers: eight outputs at a time, four on Cortex-M7, so that a weight
is read once and an input once per turn.

Weights lie as in gemm.py, two channels in a word of two 16-bit lanes, w = 256 * odd + even. With inputs
x0 and x1 (each two lanes: inputs 0 and 2, inputs 1 and 3) and their weights w0 and w1,

    SMLAD(x0, w0), SMLAD(x1, w1)        add 256 * odd sum + even sum to one accumulator
    SMLAD(x1 + even(w0), x0 + even(w1)) adds x0 x1 + even sum + even(w0) even(w1) to the other

The second line is Winograd's inner product (A New Algorithm for Inner Product, 1968): half the products,
and SXTAB16 extends and adds in one instruction. The inputs' own products are the same for all channels and
subtracted from them all; those of the weights are subtracted from the bias when the stream is packed. Sums
may wrap on the way. Per four inputs: one load and two SXTB16, or two loads where they were widened before;
per pair of channels two loads, two SXTAB16 and three SMLAD for eight MACs. A last odd pair of inputs has an
SXTB16 and two SMLAD.

Stream: bytes of the inputs, without a last odd pair[, offset0, constants], then per turn: for each pair of
channels bias0 and 256 * bias1 + bias0 + offset1 + offset0 / 256, the weights [four inputs][pair of
channels][2], those of a last odd pair of inputs, and for each pair of channels [offset0,] its constants,
unless one scale serves the whole layer and they stand at the beginning. A last odd channel has a neighbour
of zeros. The code is shared by layers of any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tinyhil.harness.tinyengine.asm.emit import Asm
from tinyhil.harness.tinyengine.asm.post import Post, is_uniform
from tinyhil.harness.tinyengine.asm.requant import Recipe

_PARAMETERS = ("const void *inputs", "const int32_t *stream", "int8_t *out", "uint32_t turns")
# on the stack; `_OWN`: the inputs' own products
_OUT, _OUT_END, _INPUTS, _INPUTS_END, _OWN, _CONSTANTS, _FRAME = 0, 4, 8, 12, 16, 20, 32
_UNROLL = 4  # four inputs per turn of the loop, that many times at most


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
    """Instructions: once, per turn of the loop over the inputs' own products, per turn of outputs, and per
    turn of its inner loop."""

    once: int
    own: int
    each: int
    inner: int


@dataclass(frozen=True)
class DensePass:
    """`turns` times `outputs` (1 to 8) outputs. `unroll` times four inputs are one turn of the inner loop;
    `odd`: a single pair follows; `uniform`: all channels share their constants. `direct`: the inputs are
    int8, four at a time, and widened on the way."""

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
        fours = pairs // 2
        unroll = next((u for u in range(min(_UNROLL, fours), 0, -1) if fours % u == 0), 0)
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
    def shared_constants(self) -> int:
        """Words at the beginning of the stream that all channels share."""
        return self._proved + self.post.constants if self.uniform else 0

    def stream_words(self, pairs: int, turns: int) -> int:
        """Words of that many turns."""
        own = 0 if self.uniform else self._proved + 2 * self.post.constants
        return 1 + self.shared_constants + turns * self.steps * (2 + pairs + own)

    def text(self) -> str:
        """The file that defines it: assembler, or the call of the twin where the core is the host."""
        head = f"{self.prototype}\n\n"
        if self.core == "native":
            sizes = (int(self.odd), self.outputs, int(self.uniform), int(self.direct), self.post.c_fields)
            return (
                f'#include "th_twin.h"\n\n{head}void {self.name}({", ".join(_PARAMETERS)})\n{{\n'
                f"    static const struct th_dense dense = {{{', '.join(map(str, sizes))}}};\n"
                f"    th_dense_twin(&dense, inputs, stream, out, turns);\n}}\n"
            )
        comment = (
            f"{self.outputs} outputs at a time: see dense_pass.py.",
            Registers.of(self.core).comment,
        )
        body = _assembled(self)[0].function(self.name, _PARAMETERS, comment, self.core)
        return f"#include <stdint.h>\n\n{head}{body}"

    def instructions(self, turns: int, pairs: int) -> int:
        """For that many turns and pairs of inputs."""
        count = _assembled(self)[1]
        loops = pairs // 2 // self.unroll if self.unroll else 0
        return count.once + loops * count.own + turns * (count.each + loops * count.inner)

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
        a.op(*(f"str {r}, [sp, #{_CONSTANTS + 4 * i}]" for i, r in enumerate(constants)))
        a.op(f"mov r8, #{self.outputs}", "mla r3, r3, r8, r2", f"strd r2, r3, [sp, #{_OUT}]", "mov r3, #0")
        once, own = a.lap(), 0
        if self.unroll:
            a.label(1)
            a.in_any_order(self._own_products())
            a.op("cmp r0, r4", "bne 1b")
            own = a.lap()
        if self._corrected_late:
            a.op("sub r5, r5, r3, lsl #8", f"str r5, [sp, #{_CONSTANTS}]")
        else:
            a.op(f"str r3, [sp, #{_OWN}]")
        once += a.lap() + 2
        a.label(2)
        self._begin(a)
        each, inner = a.lap(), 0
        if self.unroll:
            a.label(3)
            self._loop(a)
            inner = a.lap()
        body = Asm()
        if self.odd:
            self._last_pair(body)
        self._epilogue(body)
        (a.op(*body.lines) if self.post.clamps else a.in_any_order(body))
        a.op("cmp r0, lr", "bne 2b")
        each += a.lap()
        a.leave(_FRAME)
        return a, _Count(once, own, each, inner)

    def _own_products(self) -> Asm:
        """One turn of the sum of x0 x1 over all inputs, in r3."""
        a = Asm()
        if self.direct:
            inputs = ["r8", "r9", "r10", "r11"][: self.unroll]
            a.op(*(f"ldr {x}, [r0], #4" for x in inputs))
            for x in inputs:
                a.op(f"sxtb16 r12, {x}", f"sxtb16 {x}, {x}, ror #8", f"smlad r3, r12, {x}, r3")
        else:
            for _ in range(self.unroll):
                a.op("ldrd r8, r9, [r0], #8", "smlad r3, r8, r9, r3")
        return a

    def _begin(self, a: Asm) -> None:
        """The sums start from the biases."""
        a.op(f"ldr r0, [sp, #{_INPUTS}]", *([] if self._corrected_late else [f"ldr r3, [sp, #{_OWN}]"]))
        a.op(f"ldm r1!, {{{', '.join(f'r{4 + i}' for i in range(2 * self.steps))}}}")
        if not self._corrected_late:
            a.op(*(f"sub {even}, {even}, r3" for even, _ in map(_sums, range(self.steps))))

    def _loop(self, a: Asm) -> None:
        """All inputs, but for a last odd pair, times all channels."""
        body = Asm()
        for turn in range(self.unroll):
            self._four(body, turn)
        if self.core == "cortex-m4":
            end = [] if self._compares_early else [f"ldr r12, [sp, #{_INPUTS_END}]", "cmp r0, r12"]
            a.op(*body.lines, *end)
        else:
            body.op(f"add r1, #{8 * self.steps * self.unroll}", f"ldr r12, [sp, #{_INPUTS_END}]")
            a.in_any_order(body)
            a.op("cmp r0, r12")
        a.op("bne 3b")

    def _four(self, a: Asm, turn: int) -> None:
        """Four inputs times all channels; a weight word is overwritten by its even lanes plus inputs."""
        registers = Registers.of(self.core)
        compares = self._compares_early and turn == self.unroll - 1
        x0, x1 = registers.inputs[turn % len(registers.inputs)]
        for s in range(self.steps):
            even, odd = _sums(s)
            w0, w1 = registers.weights[(turn * self.steps + s) % len(registers.weights)]
            if s == 0:
                a.op(f"ldr {x0}, [r0], #4")
                a.op(*([f"ldr {x1}, [sp, #{_INPUTS_END}]"] if compares else []))
                a.op(*([] if self.direct else [f"ldr {x1}, [r0], #4"]))
            a.op(*self._load_weights(turn, s, w0, w1))
            if s == 0:
                a.op(*([f"cmp r0, {x1}"] if compares else []))
                a.op(*([f"sxtb16 {x1}, {x0}, ror #8", f"sxtb16 {x0}, {x0}"] if self.direct else []))
            a.op(f"smlad {odd}, {x0}, {w0}, {odd}", f"smlad {odd}, {x1}, {w1}, {odd}")
            a.op(f"sxtab16 {w0}, {x1}, {w0}", f"sxtab16 {w1}, {x0}, {w1}")
            a.op(f"smlad {even}, {w0}, {w1}, {even}")

    def _load_weights(self, turn: int, step: int, w0: str, w1: str) -> list[str]:
        """On Cortex-M4 a load behind the inputs' takes one cycle, an LDRD elsewhere three. On Cortex-M7 an
        LDRD takes a cycle of its own, which costs nothing where few others are ready."""
        if self.core == "cortex-m4":
            return [f"ldrd {w0}, {w1}, [r1], #8"] if step else [f"ldr {w0}, [r1], #4", f"ldr {w1}, [r1], #4"]
        at = 8 * (self.steps * turn + step)
        if step % 2 == 0:
            return [f"ldrd {w0}, {w1}, [r1, #{at}]"]
        return [f"ldr {w0}, [r1, #{at}]", f"ldr {w1}, [r1, #{at + 4}]"]

    def _last_pair(self, a: Asm) -> None:
        """The last of an odd number of pairs of inputs times all channels."""
        a.op("ldr r12, [r0], #4")
        for s in range(self.steps):
            even, odd = _sums(s)
            a.op("ldr r2, [r1], #4", f"smlad {odd}, r12, r2, {odd}")
            a.op("sxtb16 r2, r2", f"smlad {even}, r12, r2, {even}")

    def _epilogue(self, a: Asm) -> None:
        """Separate the sums, requantise and store."""
        proved, each = self._proved, self.post.constants
        constants = ["r2", "r3", "r12"][: each + proved]
        own = ("r3", "r12", "") if proved else ("r2", "r3", "r12")  # multiplier, addend, shift
        a.op(f"ldr r0, [sp, #{_OUT}]", f"ldr lr, [sp, #{_OUT_END}]")
        if self.uniform:
            a.op(*(f"ldr {r}, [sp, #{_CONSTANTS + 4 * i}]" for i, r in enumerate(constants)))
        for step in range(self.steps):
            even, odd = _sums(step)
            if not self.uniform:
                _load(a, constants)
            if proved:
                a.op(f"add {even}, r2, {even}, lsl #8", f"sub {odd}, {odd}, {even}, asr #8")
            else:
                a.op(f"sub {odd}, {odd}, {even}", f"asr {odd}, {odd}, #8")
            self.post.finish(a, [even], *own)
            other = own
            if not self.uniform:
                other = ("r2", "r3", "r12")
                _load(a, ["r2", "r3", "r12"][:each])
            self.post.saturate(a, even)
            a.op(f"strb {even}, [r0], #1")
            if 2 * step + 1 < self.outputs:
                self.post.finish(a, [odd], *other)
                self.post.saturate(a, odd)
                a.op(f"strb {odd}, [r0], #1")
        a.op(f"str r0, [sp, #{_OUT}]")


def _sums(step: int) -> tuple[str, str]:
    """The accumulators of a pair of channels."""
    return f"r{4 + 2 * step}", f"r{5 + 2 * step}"


def _load(a: Asm, registers: list[str]) -> None:
    if len(registers) == 2:
        a.op(f"ldrd {registers[0]}, {registers[1]}, [r1], #8")
    else:
        a.op(f"ldm r1!, {{{', '.join(registers)}}}")


@cache
def _assembled(dense: DensePass) -> tuple[Asm, _Count]:
    return dense.assemble()
