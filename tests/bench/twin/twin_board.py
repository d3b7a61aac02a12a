"""An emulated STM32 board: a Cortex-M (Unicorn) with its debug registers, flash and peripherals.

Two masters share one bus: the core, through Unicorn's hooks, and the debugger, through `read` and
`write`. The core runs in a thread of its own, in slices, so that it goes on between two accesses of
the debugger and after it has gone, as on a real board.

twin_core.py is the core, twin_debug.py its debug registers; this file joins them with power, reset and bus.
"""

from __future__ import annotations

import struct
import threading

from twin_chip import CHIPS, FLASH, PERIPHERALS, PERIPHERALS_SIZE, PPB, RAM
from twin_core import VTOR
from twin_debug import CORE_REGISTERS, SPECIAL, DebuggedCore
from twin_faults import Faults
from twin_peripherals import BROWN_OUT, PIN, POWER_ON, SOFTWARE
from unicorn import arm_const as arm


class BusFault(Exception):
    """An access that no part of the chip answers."""


class Board(DebuggedCore):
    """The board. `uid` is its probe's serial number, `kind` the board kind, `port` the path of its
    serial port."""

    def __init__(self, uid: str, kind: str = "stm32f746", faults: Faults | None = None) -> None:
        super().__init__(CHIPS[kind], faults or Faults())
        self.uid, self.port = uid, self.peripherals.port
        self.resets, self.power_cycles, self.opened = 0, 0, 0
        self.reset()
        self._thread = threading.Thread(target=self._live, name=f"core-{uid}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The board is carried away."""
        self._quit = True
        self._wake.set()
        self._thread.join()  # it looks at `_quit` between two slices
        self.peripherals.close()

    def reset(self, cause: int = SOFTWARE) -> None:
        """The core starts again from the vector table."""
        self.resets += 1
        if self.faults.heals_at_reset:
            self.faults.clear()
        uc = self._uc
        uc.ctl_flush_tb()
        for index in (*range(13), 17, 18):
            uc.reg_write(CORE_REGISTERS[index], 0)
        for register in SPECIAL:
            uc.reg_write(register, 0)
        stack, entry = struct.unpack("<II", uc.mem_read(FLASH, 8))
        uc.reg_write(arm.UC_ARM_REG_XPSR, 0x0100_0000)
        uc.reg_write(arm.UC_ARM_REG_SP, stack & ~3)
        uc.reg_write(arm.UC_ARM_REG_LR, 0xFFFF_FFFF)
        self._pc = entry & ~1
        self._cycles = self._cycles_base = 0
        self._ppb = {VTOR: FLASH}
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
