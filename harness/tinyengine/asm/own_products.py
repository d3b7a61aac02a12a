"""Winograd's inner product adds the products of neighbouring inputs to every sum of dense_pass.py. They are
the same for all channels: this micro-kernel sums them up, once per layer and row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tinyhil.harness.tinyengine.asm.emit import Asm

_PARAMETERS = ("const void *inputs", "const void *end")
_UNROLL = 4  # times four inputs, at most


@dataclass(frozen=True)
class Fours:
    """How fours of inputs are taken: `unroll` of them per turn of a loop, then `rest`."""

    unroll: int
    rest: int

    @staticmethod
    def of(fours: int) -> Fours:
        """As few behind the loop as possible, then as few turns as possible; never one by one."""
        unrolls = range(min(fours, 2), min(fours, _UNROLL) + 1)
        unroll = min(unrolls, key=lambda u: (fours % u, -u))
        return Fours(unroll, fours % unroll)

    @property
    def tag(self) -> str:
        """Part of a symbol name."""
        return f"u{self.unroll}{f'r{self.rest}' if self.rest else ''}"


@dataclass(frozen=True)
class OwnProducts:
    """Sum of x0 x1 over all inputs. `direct`: they are int8, not widened yet. `end` is that of the loop."""

    fours: Fours
    direct: bool
    core: str

    @property
    def name(self) -> str:
        """Symbol; the same for the same code."""
        return f"th_own_products_{self.fours.tag}{'d' if self.direct else ''}"

    @property
    def prototype(self) -> str:
        """C declaration."""
        return f"int32_t {self.name}({', '.join(_PARAMETERS)});"

    def text(self) -> str:
        """The file that defines it: assembler, or the call of the twin where the core is the host."""
        head = f"{self.prototype}\n\n"
        if self.core == "native":
            return (
                f'#include "th_twin.h"\n\n{head}int32_t {self.name}({", ".join(_PARAMETERS)})\n{{\n'
                f"    return th_own_products_twin(inputs, end, {self.fours.rest}, {int(self.direct)});\n}}\n"
            )
        comment = ("Products of neighbouring inputs: see own_products.py.",)
        body = _assembled(self)[0].function(self.name, _PARAMETERS, comment, self.core, "int32_t")
        return f"#include <stdint.h>\n\n{head}{body}"

    def instructions(self, turns: int) -> int:
        """For that many turns."""
        _, once, each = _assembled(self)
        return once + turns * each

    @property
    def code_bytes(self) -> int:
        """Flash of the code."""
        return _assembled(self)[0].code_bytes

    def assemble(self) -> tuple[Asm, int, int]:
        """The code, and its instructions once and per turn."""
        a = Asm()
        a.op("push.w {r4-r6}", "mov r2, #0")
        once = a.lap()
        a.label(1)
        a.in_any_order(self._sum(self.fours.unroll))
        a.op("cmp r0, r1", "bne 1b")
        each = a.lap()
        a.in_any_order(self._sum(self.fours.rest))
        a.op("mov r0, r2", "pop.w {r4-r6}", "bx lr")
        return a, once + a.lap(), each

    def _sum(self, fours: int) -> Asm:
        a = Asm()
        if self.direct:
            inputs = ("r3", "r4", "r5", "r6")[:fours]
            a.op(*(f"ldr {x}, [r0], #4" for x in inputs))
            for x in inputs:
                a.op(f"sxtb16 r12, {x}", f"sxtb16 {x}, {x}, ror #8", f"smlad r2, r12, {x}, r2")
        else:
            for turn in range(fours):
                x0, x1 = (("r3", "r4"), ("r5", "r6"))[turn % 2]
                a.op(f"ldrd {x0}, {x1}, [r0], #8", f"smlad r2, {x0}, {x1}, r2")
        return a


@cache
def _assembled(own: OwnProducts) -> tuple[Asm, int, int]:
    return own.assemble()
