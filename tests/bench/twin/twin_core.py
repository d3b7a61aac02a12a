"""The emulated core: Unicorn in a thread of its own, in slices, with exceptions and two counters.

Its cycle counter counts half-words fetched. That is the same on every run, and it is NOT cycles.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import unicorn as u
from twin_chip import FLASH, PERIPHERALS, PERIPHERALS_SIZE, PPB, PPB_SIZE, RAM, Chip
from twin_exceptions import BUS_FAULT, SYSTICK, USAGE_FAULT, SysTick, enter, in_handler, leave, masked
from twin_faults import Faults
from twin_flash import FlashController
from twin_peripherals import WATCHDOG, Peripherals
from unicorn import arm_const as arm

_SLICE = 100_000  # half-words: bounds how long a debugger waits
VTOR, CFSR, BFAR = 0xE000_ED08, 0xE000_ED28, 0xE000_ED38
# What Unicorn says when the core cannot go on → usage faults of ARMv7-M (CFSR).
_UNDEFINED, _NO_COPROCESSOR, _INVALID_STATE = 1 << 16, 1 << 19, 1 << 17
_BUS_ERROR, _FETCH_ERROR = 1 << 9 | 1 << 15, 1 << 8


class Core:
    """Runs what lies in memory. Registers are the children's: `_load` and `_store`."""

    def __init__(self, chip: Chip, faults: Faults) -> None:
        self.chip, self.faults = chip, faults
        self._uc = uc = u.Uc(u.UC_ARCH_ARM, u.UC_MODE_THUMB | u.UC_MODE_MCLASS)
        uc.ctl_set_cpu_model(chip.core.model)
        uc.mem_map(FLASH, chip.flash_size, u.UC_PROT_READ | u.UC_PROT_EXEC)
        uc.mem_write(FLASH, b"\xff" * chip.flash_size)
        uc.mem_map(RAM, chip.ram_size)
        for base, size in ((PERIPHERALS, PERIPHERALS_SIZE), (PPB, PPB_SIZE)):
            uc.mmio_map(
                base,
                size,
                lambda _, offset, size, base: self._load(base + offset, size),
                base,
                lambda _, offset, size, value, base: self._store(base + offset, size, value, False),
                base,
            )
        uc.hook_add(u.UC_HOOK_MEM_WRITE_PROT, self._on_flash_write)
        uc.hook_add(u.UC_HOOK_MEM_UNMAPPED, self._on_unmapped)
        uc.hook_add(u.UC_HOOK_INTR, self._on_interrupt)
        uc.hook_add(u.UC_HOOK_INSN_INVALID, self._on_invalid)
        uc.hook_add(u.UC_HOOK_BLOCK, self._on_block)
        self.flash = FlashController(chip, faults, lambda a, n: bytes(uc.mem_read(a, n)), self._poke)
        self.peripherals = Peripherals(chip, faults, lambda: self._cycles, uc.emu_stop)
        self._systick = SysTick(lambda: self._cycles)
        self._ppb: dict[int, int] = {}
        self._dhcsr = self._dfsr = self._sticky = 0
        self._pc = self._cycles = self._stop_at = 0
        self._lock, self._waiting = threading.RLock(), 0
        self._halted = self._lockup = self._sleeping = self._returning = False
        self._in_reset = self._quit = self._stale = False
        self._reset_wanted = 0
        self._fault: tuple[int, int] | None = None
        self._wake = threading.Event()

    def reset(self, cause: int) -> None:
        """The core starts again from the vector table."""
        raise NotImplementedError

    def _load(self, address: int, size: int) -> int:
        raise NotImplementedError

    def _store(self, address: int, size: int, value: int, debugger: bool) -> None:
        raise NotImplementedError

    def _live(self) -> None:
        while not self._quit:
            if self._halted or self._lockup or self._in_reset:
                self._wake.wait(0.05)
                self._wake.clear()
                continue
            if self._waiting:
                time.sleep(0.0001)  # the debugger first
            with self._lock:
                if self._halted or self._in_reset:
                    continue
                self._run(_SLICE)
                spins = self._sleeping or self.peripherals.idle
            if self._sleeping:
                time.sleep(0.002)
            elif spins:
                self.peripherals.wait_for_byte(0.005)

    def _run(self, half_words: int) -> None:
        if self.peripherals.watchdog_bites:
            self.reset(WATCHDOG)
            return
        uc, before = self._uc, self._pc
        self._take_interrupt()
        if self._stale:  # Unicorn keeps translated blocks when memory is written from outside
            self._stale = False
            uc.ctl_flush_tb()
        single = half_words == 1
        due = self._systick.due
        end = self._cycles + half_words
        self._stop_at = 1 << 62 if single else end if due is None else min(end, due)
        try:
            uc.emu_start(self._pc | 1, 0xFFFF_FFFF, count=1 if single else 0)
        except u.UcError:
            self._fault = self._fault or (_UNDEFINED, 0)
        self._pc = uc.reg_read(arm.UC_ARM_REG_PC) & ~1
        self._sticky |= 1 << 24
        if self._returning:
            self._pc, self._returning = leave(uc, self._pc), False
        if self._fault:
            self._enter_fault(*self._fault)
            self._fault = None
        if self._reset_wanted:
            self.reset(self._reset_wanted)
        in_memory = self._is_memory(self._pc, 2)
        self._sleeping = self._pc == before and in_memory and bytes(uc.mem_read(self._pc, 2)) == b"\xfe\xe7"

    def _take_interrupt(self) -> None:
        """SysTick is the only one. It waits for a handler that runs, and for PRIMASK."""
        self._systick.look()
        if self._systick.pending and not in_handler(self._uc) and not masked(self._uc):
            self._systick.pending = False
            self._enter(SYSTICK)

    def _enter_fault(self, cfsr: int, address: int) -> None:
        """BusFault or UsageFault. One vector serves all faults of tinyhil's firmware."""
        if in_handler(self._uc):
            self._lockup = True
            return
        if not self._enter(USAGE_FAULT if cfsr >= 1 << 16 else BUS_FAULT):
            cfsr |= 1 << 12  # no room for the frame
        self._ppb[CFSR] = self._ppb.get(CFSR, 0) | cfsr
        self._ppb[BFAR] = address

    def _enter(self, number: int) -> bool:
        stacked = enter(self._uc, number, self._pc, lambda at, size: at >= RAM and self._is_memory(at, size))
        vector = struct.unpack("<I", self._uc.mem_read(self._ppb[VTOR] + 4 * number, 4))[0]
        self._pc = vector & ~1
        return stacked

    def _on_block(self, uc: u.Uc, address: int, size: int, _: object) -> None:
        if self._cycles >= self._stop_at:  # slices end between blocks: counts do not depend on them
            uc.emu_stop()
        else:
            self._cycles += size >> 1

    def _on_interrupt(self, uc: u.Uc, number: int, _: object) -> None:
        if number == 7 and self._dhcsr & 1:  # BKPT with a debugger
            self._halt(2)
        elif number == 8:  # a handler returns
            self._returning = True
        elif number != 6:  # 6: the slice is over
            self._fault = (
                {17: _NO_COPROCESSOR, 18: _INVALID_STATE, 3: _FETCH_ERROR}.get(number, _UNDEFINED),
                0,
            )
        uc.emu_stop()

    def _on_invalid(self, uc: u.Uc, _: object) -> bool:
        self._fault = (_UNDEFINED, 0)
        return False

    def _on_unmapped(self, uc: u.Uc, access: int, address: int, size: int, value: int, _: object) -> bool:
        fetch = access == u.UC_MEM_FETCH_UNMAPPED
        self._fault = (_FETCH_ERROR, 0) if fetch else (_BUS_ERROR, address)
        return False

    def _on_flash_write(self, uc: u.Uc, access: int, address: int, size: int, value: int, _: object) -> bool:
        self.flash.store(address, size, value & (1 << 8 * size) - 1)
        return True  # the array has taken it, or not; the core's own store is dropped

    def _halt(self, cause: int) -> None:
        self._halted = True
        self._dhcsr |= 2
        self._dfsr |= cause

    def poke(self, address: int, data: bytes) -> None:
        """Flash or RAM holds `data` from now on, whatever the core is doing."""
        with self._access():  # Unicorn serves one thread at a time
            self._poke(address, data)

    def _poke(self, address: int, data: bytes) -> None:
        self._uc.mem_write(address, data)
        self._stale = True

    @contextmanager
    def _access(self) -> Iterator[None]:
        self._waiting += 1
        with self._lock:
            try:
                yield
            finally:
                self._waiting -= 1

    def _is_memory(self, address: int, size: int) -> bool:
        in_flash = address >= FLASH and address + size <= FLASH + self.chip.flash_size
        return in_flash or (address >= RAM and address + size <= RAM + self.chip.ram_size)
