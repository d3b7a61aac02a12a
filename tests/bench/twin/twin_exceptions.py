"""Exception entry and return, and SysTick, as ARMv7-M has them (ARM DDI 0403, B1.5.6 to B1.5.8 and B3.3).

Unicorn has neither: it stops where an exception would begin, or where a handler returns. One stack (MSP), one
level: an interrupt waits while a handler runs, and a fault there is a lock-up.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from unicorn import arm_const as arm

USAGE_FAULT, BUS_FAULT, SYSTICK = 6, 5, 15
_BASIC = (*(getattr(arm, f"UC_ARM_REG_R{i}") for i in (0, 1, 2, 3, 12)), arm.UC_ARM_REG_LR)
_FLOATS = tuple(getattr(arm, f"UC_ARM_REG_S{i}") for i in range(16))
_FPCA, _ALIGNED = 1 << 2, 1 << 9  # CONTROL: floats are in use; stacked xPSR: the stack was moved by 4
_RETURN, _NO_FLOATS = 0xFFFF_FFE9, 1 << 4  # EXC_RETURN: to thread mode, on MSP


def in_handler(uc: Any) -> bool:
    """Whether the core runs an exception handler."""
    return bool(uc.reg_read(arm.UC_ARM_REG_XPSR) & 0x1FF)


def masked(uc: Any) -> bool:
    """Whether PRIMASK keeps interrupts away."""
    return bool(uc.reg_read(arm.UC_ARM_REG_PRIMASK) & 1)


def enter(uc: Any, number: int, pc: int, stackable: Callable[[int, int], bool]) -> bool:
    """Stacks what the handler may change and turns to handler mode; the vector is the caller's. False if
    the frame did not fit into memory: then it is lost."""
    control, flags = uc.reg_read(arm.UC_ARM_REG_CONTROL), uc.reg_read(arm.UC_ARM_REG_XPSR)
    words = [uc.reg_read(register) for register in _BASIC]
    floats = bool(control & _FPCA)
    if floats:
        tail = [uc.reg_read(register) for register in _FLOATS] + [uc.reg_read(arm.UC_ARM_REG_FPSCR), 0]
        uc.reg_write(arm.UC_ARM_REG_CONTROL, control & ~_FPCA)
    else:
        tail = []
    was = uc.reg_read(arm.UC_ARM_REG_SP)
    stack = (was - 4 * (8 + len(tail))) & ~7
    moved = _ALIGNED if was & 4 else 0
    frame = [*words, pc, (flags & ~_ALIGNED) | moved, *tail]
    fits = stackable(stack, 4 * len(frame))
    if fits:
        uc.mem_write(stack, struct.pack(f"<{len(frame)}I", *(word & 0xFFFF_FFFF for word in frame)))
    uc.reg_write(arm.UC_ARM_REG_SP, stack)
    uc.reg_write(arm.UC_ARM_REG_LR, _RETURN | (0 if floats else _NO_FLOATS))
    uc.reg_write(arm.UC_ARM_REG_XPSR, 0x0100_0000 | number)
    return fits


def leave(uc: Any, exc_return: int) -> int:
    """Takes everything back from the stack; the address to go on at."""
    stack = uc.reg_read(arm.UC_ARM_REG_SP)
    floats = not exc_return & _NO_FLOATS
    count = 26 if floats else 8
    frame = struct.unpack(f"<{count}I", uc.mem_read(stack, 4 * count))
    for register, word in zip(_BASIC, frame, strict=False):
        uc.reg_write(register, word)
    if floats:
        for register, word in zip(_FLOATS, frame[8:], strict=False):
            uc.reg_write(register, word)
        uc.reg_write(arm.UC_ARM_REG_FPSCR, frame[24])
        uc.reg_write(arm.UC_ARM_REG_CONTROL, uc.reg_read(arm.UC_ARM_REG_CONTROL) | _FPCA)
    uc.reg_write(arm.UC_ARM_REG_XPSR, frame[7] & ~_ALIGNED)
    uc.reg_write(arm.UC_ARM_REG_SP, stack + 4 * count + (4 if frame[7] & _ALIGNED else 0))
    return int(frame[6]) & ~1


class SysTick:
    """The core's own timer, counting `cycles()` down from its reload value."""

    CSR, RVR, CVR = 0xE000_E010, 0xE000_E014, 0xE000_E018
    ADDRESSES = (CSR, RVR, CVR)

    def __init__(self, cycles: Callable[[], int]) -> None:
        self._cycles = cycles
        self.reset()

    def reset(self) -> None:
        """Off."""
        self._control = self._reload = self._began = self._seen = self._told = 0
        self.pending = False

    @property
    def due(self) -> int | None:
        """The cycle at which it reaches zero next, if that is an interrupt."""
        if self._control & 3 != 3:
            return None
        return self._began + (self._expired() + 1) * (self._reload + 1)

    def look(self) -> None:
        """Notes the interrupt of a zero that was reached since the last look."""
        if self._control & 3 == 3 and self._expired() > self._seen:
            self._seen, self.pending = self._expired(), True

    def read(self, address: int) -> int:
        """One of its registers."""
        if address == self.RVR:
            return self._reload
        if address == self.CVR:
            elapsed = self._cycles() - self._began
            return self._reload - (elapsed - 1) % (self._reload + 1) if self._control & 1 and elapsed else 0
        expired = self._expired()
        flag, self._told = (1 << 16 if expired > self._told else 0), expired
        return self._control | flag

    def write(self, address: int, value: int) -> None:
        """One of its registers. A new control or current value begins a new period."""
        if address == self.RVR:
            self._reload = value & 0xFF_FFFF
            return
        if address == self.CSR:
            self._control = value & 7
        self._began, self._seen, self._told = self._cycles(), 0, 0

    def _expired(self) -> int:
        return (self._cycles() - self._began) // (self._reload + 1) if self._control & 1 else 0
