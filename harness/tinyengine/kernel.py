"""The seam between the planner and the kernels.

A kernel computes one `Work`, or a chain of works that follow each other (1x1 -> depthwise -> 1x1)
without keeping the tensors between them. It answers with candidates: what each would cost in
instructions, flash and scratch, and how far its output may overlap its dying input. The engine picks
one candidate per layer or chain, places everything in the arena, and only then asks for the code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tinyhil.harness.tinyengine.work import Work


@dataclass(frozen=True)
class Target:
    """What a kernel may know of the target. `core` is GCC's name (`cortex-m7`), or `native`; `compact` asks
    for code that many layers share rather than the fastest.

    `native` asks for the plain C twin of the same candidate: same scratch, same overlap, same bytes
    read and written, so that a test on the host under sanitizers speaks for the device as well.
    """

    core: str
    scratch_limit: int = 1 << 30
    compact: bool = False

    @property
    def dsp(self) -> bool:
        """SMLAD and its family (Armv7E-M)."""
        return self.core in ("cortex-m4", "cortex-m7")


@dataclass(frozen=True)
class Code:
    """C and assembler of one layer.

    `definition` is C text at file scope that ends in the definition of

        void SYMBOL(const int8_t *x0, ..., int8_t *y, uint8_t *scratch);

    with one pointer per activation input in the operators' order (of the first operator, then what later
    ones of the chain need beside it), float32 ports included, and `scratch` only where the candidate has
    any, 8-byte aligned. Inputs and outputs have no alignment. `files` are helpers that several layers
    share, by file name (*.h, *.c, *.S): equal names must carry equal text. `includes` are headers that
    the definition needs.
    """

    definition: str
    files: Mapping[str, str] = field(default_factory=dict)
    includes: tuple[str, ...] = ()


class Candidate(Protocol):
    """One way to compute a chain of works.

    `kernel`: its name, as shown in reports. `scratch`: bytes, needed only while it runs.
    `flash`: bytes of code and constants, `shared` maps helper names to bytes that count once.
    `instructions`: estimate for one inference. `gaps`, one per pointer: the output may overlap that
    input, if the input dies here and the output starts at least `gap` bytes below the input's start
    (0: exactly in place or lower); None: no overlap at all.
    """

    @property
    def kernel(self) -> str: ...
    @property
    def scratch(self) -> int: ...
    @property
    def flash(self) -> int: ...
    @property
    def shared(self) -> Mapping[str, int]: ...
    @property
    def instructions(self) -> int: ...
    @property
    def gaps(self) -> tuple[int | None, ...]: ...

    def emit(self, symbol: str) -> Code:
        """The code, deterministic; `symbol` is unique in the network and a valid C identifier."""
        ...


class Kernel(Protocol):
    """A family of candidates, e.g. pointwise with four pixels and two channels at a time."""

    @property
    def name(self) -> str: ...

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """Every way in which this kernel computes exactly `chain`; nothing where it does not apply."""
        ...
