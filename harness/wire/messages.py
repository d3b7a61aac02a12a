"""What frames mean: one frozen dataclass per message. Numbers are little-endian; docs/wire.md.

A request's `encode()` gives type and payload; an answer's `decode()` reads a payload and raises
BadFrame if it is not one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, TypeAlias

from tinyhil.errors import BadFrame
from tinyhil.harness.wire.frames import MAX_PAYLOAD

SCHEMA = 2
ANSWER = 0x80
FAULT = 0xF0
REFUSED = 0xF1
#: Bytes of a tensor that one input or output message carries.
CHUNK = MAX_PAYLOAD - 8


class Overrun(IntFlag):
    """Canaries that were written; the names are what a person reads."""

    BELOW_ARENA = 1
    ABOVE_ARENA = 2
    STACK = 4

    @property
    def names(self) -> tuple[str, ...]:
        """E.g. `("the end of the arena",)`."""
        words = {
            Overrun.BELOW_ARENA: "the start of the arena",
            Overrun.ABOVE_ARENA: "the end of the arena",
            Overrun.STACK: "the end of the stack",
        }
        return tuple(word for bit, word in words.items() if self & bit)


class Refusal(IntEnum):
    """Why the firmware did not do what was asked."""

    UNKNOWN = 1
    NO_HELLO = 2
    RANGE = 3
    NOT_READY = 4


@dataclass(frozen=True)
class HelloRequest:
    """Who are you? Also makes the firmware obey: before, it refuses everything else.

    `network` picks one of several in the firmware by its place; everything after is about that one.
    """

    network: int = 0

    type: ClassVar[int] = 0x01

    def encode(self) -> bytes:
        return struct.pack("<I", self.network) if self.network else b""


@dataclass(frozen=True)
class Paint:
    """Paint the untouched part of the arena with a fresh pattern. Before the inputs are sent."""

    type: ClassVar[int] = 0x02

    def encode(self) -> bytes:
        return b""


@dataclass(frozen=True)
class Input:
    """A piece of input tensor `port`, at `offset` bytes; at most `CHUNK` bytes."""

    type: ClassVar[int] = 0x03
    port: int
    offset: int
    data: bytes

    def encode(self) -> bytes:
        return struct.pack("<II", self.port, self.offset) + self.data


@dataclass(frozen=True)
class Load:
    """Take all of input tensor `port` from `address`, where an emulator's loader has put it."""

    type: ClassVar[int] = 0x04
    port: int
    address: int

    def encode(self) -> bytes:
        return struct.pack("<IQ", self.port, self.address)


@dataclass(frozen=True)
class Run:
    """One inference. With `paint_stack` the stack below is painted first and read back after."""

    type: ClassVar[int] = 0x05
    paint_stack: bool = False

    def encode(self) -> bytes:
        return struct.pack("<I", int(self.paint_stack))


@dataclass(frozen=True)
class Read:
    """Send `size` bytes of output tensor `port` from `offset`."""

    type: ClassVar[int] = 0x06
    port: int
    offset: int
    size: int

    def encode(self) -> bytes:
        return struct.pack("<III", self.port, self.offset, self.size)


@dataclass(frozen=True)
class LayersRequest:
    """Send `count` layer marks of the last run, from mark `first`."""

    type: ClassVar[int] = 0x07
    first: int
    count: int

    def encode(self) -> bytes:
        return struct.pack("<II", self.first, self.count)


@dataclass(frozen=True)
class MemoryRequest:
    """Send what was touched since the reset."""

    type: ClassVar[int] = 0x08

    def encode(self) -> bytes:
        return b""


@dataclass(frozen=True)
class Exit:
    """End the program, where there is something to go back to."""

    type: ClassVar[int] = 0x09

    def encode(self) -> bytes:
        return b""


Request: TypeAlias = (
    HelloRequest | Paint | Input | Load | Run | Read | LayersRequest | MemoryRequest | Exit
)  # fmt: skip


@dataclass(frozen=True)
class HelloAnswer:
    """What the firmware says of itself.

    `clock_hz` (core clock by the clock registers), `caches` (bit 0 I-cache, bit 1 D-cache, bit 2 flash
    accelerator) and flash `wait_states` are read back from the chip; None where it has no such register.
    `counters`: cycle counter and SysTick over one stretch of code, None where there are none.
    `init_status`: what the network's init() returned. `layer_marks`: the run leaves cycle counts per
    layer, each mark costing `mark_cycles`. Sizes in bytes; `arena_address` is the device's.
    """

    schema: int
    build_id: str
    clock_hz: int | None
    cpuid: int
    caches: int | None
    wait_states: int | None
    counters: tuple[int, int] | None
    init_status: int
    layer_marks: bool
    mark_cycles: int
    arena_address: int
    arena_size: int
    layer_count: int
    input_sizes: tuple[int, ...]
    output_sizes: tuple[int, ...]

    _FIXED: ClassVar[struct.Struct] = struct.Struct("<7IiIIQIIHH")

    @classmethod
    def decode(cls, payload: bytes) -> HelloAnswer:
        if len(payload) < 4:
            raise BadFrame("the hello is cut short; was the firmware built by this version of tinyhil?")
        (schema,) = struct.unpack_from("<I", payload)
        if schema != SCHEMA:
            raise BadFrame(
                f"the firmware speaks wire schema {schema}, this version speaks {SCHEMA}; build it anew"
            )
        try:
            (
                _, clock, cpuid, caches, waits, cycles, ticks,
                status, flags, mark, arena, size, layers, ins, outs,
            ) = cls._FIXED.unpack_from(payload)  # fmt: skip
            sizes = struct.unpack_from(f"<{ins + outs}I", payload, cls._FIXED.size)
            build_id = payload[cls._FIXED.size + 4 * (ins + outs) :].decode("ascii")
        except (struct.error, UnicodeDecodeError) as error:
            raise BadFrame(f"the hello is damaged ({error}), although its checksum is right") from error
        return cls(
            schema, build_id, clock or None, cpuid, _readable(caches), _readable(waits),
            (cycles, ticks) if cycles or ticks else None,
            status, bool(flags & 1), mark, arena, size, layers, sizes[:ins], sizes[ins:],
        )  # fmt: skip


@dataclass(frozen=True)
class Result:
    """After one inference: what run() returned, cycles (0 where there is no counter), marks held."""

    status: int
    cycles: int
    marks: int

    @classmethod
    def decode(cls, payload: bytes) -> Result:
        return cls(*_unpack("<iII", payload, "result"))


@dataclass(frozen=True)
class Memory:
    """What was touched since the reset.

    `arena_low`: offset of the first touched byte; `arena_high`: offset behind the last one. `stack`:
    bytes below the frame that called the network, of `stack_size` in all.
    """

    arena_low: int
    arena_high: int
    stack: int
    stack_size: int
    overruns: Overrun

    @property
    def arena_touched(self) -> int:
        """Bytes from the first to the last touched byte, both included."""
        return max(0, self.arena_high - self.arena_low)

    @classmethod
    def decode(cls, payload: bytes) -> Memory:
        low, high, stack, size, overruns = _unpack("<5I", payload, "memory report")
        return cls(low, high, stack, size, Overrun(overruns & 7))


@dataclass(frozen=True)
class Fault:
    """Where and why the core stopped (ARMv7-M fault registers). pc, lr, psr, sp are 0 if the stack
    was lost. `layer` is the last layer that was marked, None where there are no marks."""

    pc: int
    lr: int
    psr: int
    sp: int
    cfsr: int
    hfsr: int
    mmfar: int
    bfar: int
    exc_return: int
    layer: int | None

    @classmethod
    def decode(cls, payload: bytes) -> Fault:
        pc, lr, psr, sp, cfsr, hfsr, mmfar, bfar, exc_return, layer = _unpack("<10I", payload, "fault report")
        known = None if layer == 0xFFFFFFFF else layer
        return cls(pc, lr, psr, sp, cfsr, hfsr, mmfar, bfar, exc_return, known)


@dataclass(frozen=True)
class Refused:
    """The firmware did not do what request `type` asked. `why` is a Refusal, if it is a known one."""

    why: int
    type: int

    @classmethod
    def decode(cls, payload: bytes) -> Refused:
        return cls(*_unpack("<II", payload, "refusal"))


def layer_marks(payload: bytes) -> tuple[int, ...]:
    """Cycles from the start of the run to each mark."""
    if len(payload) % 4:
        raise BadFrame("the layer marks are cut short, although the checksum is right")
    return struct.unpack(f"<{len(payload) // 4}I", payload)


def _readable(value: int) -> int | None:
    return None if value == 0xFFFF_FFFF else value


def _unpack(layout: str, payload: bytes, name: str) -> tuple[int, ...]:
    try:
        return struct.unpack(layout, payload)
    except struct.error:
        raise BadFrame(
            f"a {name} of {len(payload)} bytes, {struct.calcsize(layout)} expected; "
            "was the firmware built by this version of tinyhil?"
        ) from None
