"""An emulated STM32F7 board: a Cortex-M7 (Unicorn) with its debug registers, flash and peripherals.

Two masters share one bus: the core, through Unicorn's hooks, and the debugger, through `read` and
`write`. The core runs in a thread of its own, in slices, so that it goes on between two accesses of
the debugger and after it has gone, as on a real board.

Its cycle counter counts half-words fetched. That is the same on every run, and it is NOT cycles.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import unicorn as u
from twin_chip import (
    CHIPS,
    FLASH,
    IDENTITY,
    PERIPHERALS,
    PERIPHERALS_SIZE,
    PPB,
    PPB_SIZE,
    RAM,
    coresight,
)
from twin_exceptions import BUS_FAULT, SYSTICK, USAGE_FAULT, SysTick, enter, in_handler, leave, masked
from twin_faults import Faults
from twin_flash import FlashController
from twin_peripherals import BROWN_OUT, PIN, POWER_ON, SOFTWARE, WATCHDOG, Peripherals
from unicorn import arm_const as arm

_SLICE = 100_000  # half-words: bounds how long a debugger waits
_CORE = {
    **{i: getattr(arm, f"UC_ARM_REG_R{i}") for i in range(13)},
    13: arm.UC_ARM_REG_SP,
    14: arm.UC_ARM_REG_LR,
    16: arm.UC_ARM_REG_XPSR,
    17: arm.UC_ARM_REG_MSP,
    18: arm.UC_ARM_REG_PSP,
    33: arm.UC_ARM_REG_FPSCR,
    **{64 + i: getattr(arm, f"UC_ARM_REG_S{i}") for i in range(32)},
}
_SPECIAL = (
    arm.UC_ARM_REG_PRIMASK,
    arm.UC_ARM_REG_BASEPRI,
    arm.UC_ARM_REG_FAULTMASK,
    arm.UC_ARM_REG_CONTROL,
)
_DHCSR, _DCRSR, _DCRDR, _DEMCR, _DFSR = 0xE000_EDF0, 0xE000_EDF4, 0xE000_EDF8, 0xE000_EDFC, 0xE000_ED30
_AIRCR, _VTOR, _CFSR, _HFSR, _BFAR = 0xE000_ED0C, 0xE000_ED08, 0xE000_ED28, 0xE000_ED2C, 0xE000_ED38
_DWT_CTRL, _CYCCNT, _FP_CTRL, _IDCODE = 0xE000_1000, 0xE000_1004, 0xE000_2000, 0xE004_2000
_ICSR, _PENDSTSET, _PENDSTCLR = 0xE000_ED04, 1 << 26, 1 << 25
# What Unicorn says when the core cannot go on → usage faults of ARMv7-M (CFSR).
_UNDEFINED, _NO_COPROCESSOR, _INVALID_STATE = 1 << 16, 1 << 19, 1 << 17
_BUS_ERROR, _FETCH_ERROR = 1 << 9 | 1 << 15, 1 << 8


class BusFault(Exception):
    """An access that no part of the chip answers."""


class Board:
    """The board. `uid` is its probe's serial number, `kind` the board kind, `port` the path of its
    serial port."""

    def __init__(self, uid: str, kind: str = "stm32f746", faults: Faults | None = None) -> None:
        self.uid, self.chip = uid, CHIPS[kind]
        self.faults = faults or Faults()
        self.resets, self.power_cycles, self.opened = 0, 0, 0
        self._uc = uc = u.Uc(u.UC_ARCH_ARM, u.UC_MODE_THUMB | u.UC_MODE_MCLASS)
        uc.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M7)
        uc.mem_map(FLASH, self.chip.flash_size, u.UC_PROT_READ | u.UC_PROT_EXEC)
        uc.mem_write(FLASH, b"\xff" * self.chip.flash_size)
        uc.mem_map(RAM, self.chip.ram_size)
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
        self.flash = FlashController(
            self.chip, self.faults, lambda a, n: bytes(uc.mem_read(a, n)), self._poke
        )
        self.peripherals = Peripherals(self.chip, self.faults, lambda: self._cycles, uc.emu_stop)
        self.port = self.peripherals.port
        self._systick = SysTick(lambda: self._cycles)
        self._coresight = coresight(self.chip.device_id)
        self._dhcsr = self._demcr = self._dcrdr = self._dfsr = self._sticky = 0
        self._ppb: dict[int, int] = {}
        self._breakpoints: dict[int, int] = {}
        self._break_hooks: dict[int, object] = {}
        self._skip: int | None = None
        self._lock, self._waiting = threading.RLock(), 0
        self._in_reset = self._quit = self._stale = False
        self._reset_wanted = 0
        self._fault: tuple[int, int] | None = None
        self._wake = threading.Event()
        self.reset()
        self._thread = threading.Thread(target=self._live, name=f"core-{uid}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The board is carried away."""
        self._quit = True
        self._wake.set()
        self._thread.join()  # it looks at `_quit` between two slices
        self.peripherals.close()

    # ---- reset and power

    def reset(self, cause: int = SOFTWARE) -> None:
        """The core starts again from the vector table."""
        self.resets += 1
        if self.faults.heals_at_reset:
            self.faults.clear()
        uc = self._uc
        uc.ctl_flush_tb()
        for index in (*range(13), 17, 18):
            uc.reg_write(_CORE[index], 0)
        for register in _SPECIAL:
            uc.reg_write(register, 0)
        stack, entry = struct.unpack("<II", uc.mem_read(FLASH, 8))
        uc.reg_write(arm.UC_ARM_REG_XPSR, 0x0100_0000)
        uc.reg_write(arm.UC_ARM_REG_SP, stack & ~3)
        uc.reg_write(arm.UC_ARM_REG_LR, 0xFFFF_FFFF)
        self._pc = entry & ~1
        self._cycles = self._cycles_base = 0
        self._ppb = {_VTOR: FLASH}
        self._systick.reset()
        self._returning = False
        self.flash.reset()
        self.peripherals.reset(cause)
        self._lockup = self._sleeping = False
        self._reset_wanted = 0
        self._fault = None
        self._sticky |= 1 << 25
        self._halted = bool(self._dhcsr & 1 and self._demcr & 1)  # vector catch of reset
        self._dfsr |= 8 if self._halted else 0
        self._wake.set()

    def power_cycle(self) -> None:
        """Power off and on: RAM forgets, and so does the debug logic."""
        with self._access():
            self.power_cycles += 1
            if self.faults.heals_at_power:
                self.faults.clear()
            self._uc.mem_write(RAM, b"\xa5" * self.chip.ram_size)
            self._dhcsr = self._demcr = 0
            self._breakpoints.clear()
            self.reset(POWER_ON)

    def brown_out(self) -> None:
        """The supply sags for a moment. From the core's thread."""
        self._reset_wanted = BROWN_OUT
        self._uc.emu_stop()

    @property
    def has_run(self) -> bool:
        """Whether the core has executed anything since reset; it does not while nRESET is low."""
        return self._cycles > 0 and not self._in_reset

    def set_reset_line(self, low: bool) -> None:
        """The nRESET pin."""
        with self._access():
            was, self._in_reset = self._in_reset, low
            if was and not low:
                self.reset(PIN)

    # ---- the core

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
        self._ppb[_CFSR] = self._ppb.get(_CFSR, 0) | cfsr
        self._ppb[_BFAR] = address

    def _enter(self, number: int) -> bool:
        stacked = enter(self._uc, number, self._pc, lambda at, size: at >= RAM and self._is_memory(at, size))
        vector = struct.unpack("<I", self._uc.mem_read(self._ppb[_VTOR] + 4 * number, 4))[0]
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

    def _on_breakpoint(self, uc: u.Uc, address: int, size: int, _: object) -> None:
        if address != self._skip:
            self._halt(2)
            uc.emu_stop()
        self._skip = None

    def _halt(self, cause: int) -> None:
        self._halted = True
        self._dhcsr |= 2
        self._dfsr |= cause

    def _poke(self, address: int, data: bytes) -> None:
        self._uc.mem_write(address, data)
        self._stale = True

    # ---- the debugger's side of the bus

    @contextmanager
    def _access(self) -> Iterator[None]:
        self._waiting += 1
        self._lock.acquire()
        try:
            yield
        finally:
            self._waiting -= 1
            self._lock.release()

    def read(self, address: int, size: int = 4, count: int = 1) -> list[int]:
        """`count` elements of `size` bytes; BusFault where nothing answers or RDP forbids it."""
        with self._access():
            if self._in_reset and address < PPB:
                raise BusFault(address)
            if self._is_memory(address, count * size):
                if address < RAM and self.faults.rdp_level:
                    raise BusFault(address)
                data = self._uc.mem_read(address, count * size)
                return [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]
            return [self._load(address + i * size, size) for i in range(count)]

    def write(self, address: int, values: list[int], size: int = 4) -> None:
        """Elements of `size` bytes; BusFault where nothing answers."""
        with self._access():
            if not self._is_memory(address, len(values) * size):
                for i, value in enumerate(values):
                    self._store(address + i * size, size, value, True)
            elif address < RAM:
                for i, value in enumerate(values):
                    self.flash.store(address + i * size, size, value)
            else:
                self._poke(address, b"".join(value.to_bytes(size, "little") for value in values))

    # ---- registers

    def _load(self, address: int, size: int) -> int:
        return self._word(address & ~3) >> 8 * (address & 3) & (1 << 8 * size) - 1

    def _store(self, address: int, size: int, value: int, debugger: bool) -> None:
        word, shift = address & ~3, 8 * (address & 3)
        if size < 4:
            mask = (1 << 8 * size) - 1
            value = self._word(word) & ~(mask << shift) | (value & mask) << shift
        if word >= PPB:
            self._store_ppb(word, value, debugger)
        elif 0x4002_3C00 <= word < 0x4002_3C20:
            self.flash.write_register(word & 0xFF, value)
        elif PERIPHERALS <= word < PERIPHERALS + PERIPHERALS_SIZE:
            self.peripherals.write(word, value)
        else:
            raise BusFault(address)

    def _word(self, address: int) -> int:
        if address >= PPB:
            return self._load_ppb(address)
        if 0x4002_3C00 <= address < 0x4002_3C20:
            return self.flash.read_register(address & 0xFF)
        if PERIPHERALS <= address < PERIPHERALS + PERIPHERALS_SIZE:
            return self.peripherals.read(address)
        raise BusFault(address)

    def _load_ppb(self, address: int) -> int:
        if address == _DHCSR:
            value = self._dhcsr & 0xFFFF | 1 << 16 | self._halted << 17 | self._lockup << 19
            value |= self._sticky | self._in_reset << 25
            self._sticky = 0
            return value
        if address == _CYCCNT:
            counts = self._ppb.get(_DWT_CTRL, 0) & 1 and self.faults.slow_counter
            return (self._cycles - self._cycles_base) // counts & 0xFFFF_FFFF if counts else 0
        if address in SysTick.ADDRESSES:
            return self._systick.read(address)
        if address == _ICSR:
            return self._systick.pending * _PENDSTSET | self._uc.reg_read(arm.UC_ARM_REG_XPSR) & 0x1FF
        fixed = {
            _DEMCR: self._demcr,
            _DCRDR: self._dcrdr,
            _DFSR: self._dfsr,
            _AIRCR: 0xFA05_0000,
            _DWT_CTRL: 0x4000_0000 | self._ppb.get(_DWT_CTRL, 0),
            0xE000_ED80: self.chip.ccsidr,
            _FP_CTRL: 0x1000_0080 | self._ppb.get(_FP_CTRL, 0) & 1,
            _IDCODE: 0x1001_0000 | (self.faults.device_id or self.chip.device_id),
        }
        for known in (fixed, self._coresight, IDENTITY):
            if address in known:
                return known[address]
        return self._ppb.get(address, 0)

    def _store_ppb(self, address: int, value: int, debugger: bool) -> None:
        if address == _DHCSR:
            if debugger and value >> 16 == 0xA05F:
                self._control(value)
        elif address == _DCRSR:
            self._transfer_register(value & 0x7F, bool(value >> 16 & 1))
        elif address == _DCRDR:
            self._dcrdr = value
        elif address == _DEMCR:
            self._demcr = value
        elif address == _DFSR:
            self._dfsr &= ~value
        elif address in (_CFSR, _HFSR):
            self._ppb[address] = self._ppb.get(address, 0) & ~value
        elif address == _AIRCR:
            if value >> 16 == 0x5FA and value & 5:
                self._request_reset(debugger)
        elif address in SysTick.ADDRESSES:
            self._systick.write(address, value)
            self._stop_at = self._cycles  # the slice ends with this block: its next zero may be near
        elif address == _ICSR:
            self._systick.pending = bool(value & _PENDSTSET) or (
                self._systick.pending and not value & _PENDSTCLR
            )
        elif address == _CYCCNT:
            self._cycles_base = self._cycles - value
        elif address == _FP_CTRL and value & 2:
            self._ppb[_FP_CTRL] = value & 1
            self._set_breakpoints()
        elif 0xE000_2008 <= address < 0xE000_2028:
            self._breakpoints.pop(address, None)
            if value & 1:
                self._breakpoints[address] = value & 0xFFFF_FFFE
            self._set_breakpoints()
        else:
            self._ppb[address] = value

    def _request_reset(self, debugger: bool) -> None:
        if debugger:
            self.reset()
        else:
            self._reset_wanted = SOFTWARE
            self._uc.emu_stop()

    def _control(self, value: int) -> None:
        """DHCSR: run, halt, step."""
        was, self._dhcsr = self._halted, value & 0x2F
        if value & 1 and value & 4 and was:
            self._halted, self._skip = False, self._pc
            self._run(1)
            self._halt(1)
        elif value & 1 and value & 2:
            self._lockup = False
            if not was:
                self._halt(1)
        else:
            self._halted, self._skip = False, None
        if was and not self._halted:
            self._wake.set()

    def _transfer_register(self, selector: int, write: bool) -> None:
        """DCRSR: one core register through DCRDR, while halted."""
        uc = self._uc
        if not self._halted:
            return
        if selector == 15:
            if write:
                self._pc = self._dcrdr & ~1
            else:
                self._dcrdr = self._pc
        elif selector == 20:
            if write:
                for i, register in enumerate(_SPECIAL):
                    uc.reg_write(register, self._dcrdr >> 8 * i & 0xFF)
            else:
                self._dcrdr = sum((uc.reg_read(r) & 0xFF) << 8 * i for i, r in enumerate(_SPECIAL))
        elif selector in _CORE:
            if write:
                uc.reg_write(_CORE[selector], self._dcrdr)
            else:
                self._dcrdr = uc.reg_read(_CORE[selector]) & 0xFFFF_FFFF

    def _set_breakpoints(self) -> None:
        wanted = set(self._breakpoints.values()) if self._ppb.get(_FP_CTRL, 0) & 1 else set()
        for address in set(self._break_hooks) - wanted:
            self._uc.hook_del(self._break_hooks.pop(address))
        for address in wanted - set(self._break_hooks):
            self._break_hooks[address] = self._uc.hook_add(
                u.UC_HOOK_CODE, self._on_breakpoint, begin=address, end=address
            )

    def _is_memory(self, address: int, size: int) -> bool:
        in_flash = address >= FLASH and address + size <= FLASH + self.chip.flash_size
        return in_flash or (address >= RAM and address + size <= RAM + self.chip.ram_size)
