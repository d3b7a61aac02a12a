"""The seam between firmware and whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.results.provenance import UNREADABLE


@dataclass(frozen=True)
class Job:
    """What to run: one tuple of input tensors (raw bytes, one per network input) per inference.

    `repeats` counts timed inferences per input. An emulator also records executed blocks, for the
    timing model, to the file `trace` if there is one.
    """

    inputs: tuple[tuple[bytes, ...], ...]
    repeats: int = 1
    trace: Path | None = None


@dataclass(frozen=True)
class Hello:
    """What the firmware says of itself, and of the conditions it runs under: see wire.HelloAnswer."""

    schema: int
    build_id: str
    clock_hz: int | None
    cpuid: int
    caches: int | None
    wait_states: int | None
    counters: tuple[int, int] | None

    def conditions(self) -> dict[str, str]:
        """In the words of a record's provenance; `not readable` where a register is missing."""
        caches, counters = self.caches, self.counters
        return {
            "caches": UNREADABLE if caches is None
            else " ".join(name for bit, name in enumerate(("I", "D")) if caches >> bit & 1),
            "accelerator": UNREADABLE if caches is None else "on" if caches & 4 else "off",
            "wait_states": UNREADABLE if self.wait_states is None else str(self.wait_states),
            "counters": UNREADABLE if counters is None
            else f"{counters[0]} cycles in {counters[1]} SysTick ticks",
            "cpuid": f"{self.cpuid:#010x}",
        }  # fmt: skip


@dataclass(frozen=True)
class LayerCount:
    """One layer of one inference: exact instructions on an emulator, cycles on silicon."""

    instructions: int | None = None
    cycles: int | None = None


@dataclass(frozen=True)
class RawRun:
    """What came back. One entry per inference in `outputs`, `instructions`/`cycles` and `layers`.

    `arena_touched` and `stack_touched` are high-water marks in bytes from painted memory over all
    inferences; `overruns` names canaries that were written.
    """

    mode: str
    hello: Hello
    outputs: tuple[tuple[bytes, ...], ...]
    instructions: tuple[int, ...] | None
    cycles: tuple[int, ...] | None
    layers: tuple[tuple[LayerCount, ...], ...]
    arena_touched: int
    stack_touched: int
    overruns: tuple[str, ...] = ()
    log: str = ""
    trace: Path | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)


class Target(Protocol):
    """Something that runs firmware: an emulator, a real board, the host."""

    @property
    def mode(self) -> str:
        """hardware, qemu, unicorn, renode or native."""
        ...

    def run(self, firmware: Firmware, job: Job, deadline: Deadline) -> RawRun:
        """Flash or boot, hello, upload, run, read back. Raises BenchError, WireError or HardFault."""
        ...
