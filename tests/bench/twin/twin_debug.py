"""What the core shows of itself at 0xE0000000: halt and step, core registers, breakpoints, counters.

ARM DDI 0403, C1 (debug), B3.2 (system control), and C1.8 (DWT).
"""

from __future__ import annotations

import unicorn as u
from twin_chip import Chip
from twin_core import CFSR, Core
from twin_exceptions import SysTick
from twin_faults import Faults
from twin_peripherals import SOFTWARE
from unicorn import arm_const as arm

CORE_REGISTERS = {
    **{i: getattr(arm, f"UC_ARM_REG_R{i}") for i in range(13)},
    13: arm.UC_ARM_REG_SP,
    14: arm.UC_ARM_REG_LR,
    16: arm.UC_ARM_REG_XPSR,
    17: arm.UC_ARM_REG_MSP,
    18: arm.UC_ARM_REG_PSP,
    33: arm.UC_ARM_REG_FPSCR,
    **{64 + i: getattr(arm, f"UC_ARM_REG_S{i}") for i in range(32)},
}
SPECIAL = (
    arm.UC_ARM_REG_PRIMASK,
    arm.UC_ARM_REG_BASEPRI,
    arm.UC_ARM_REG_FAULTMASK,
    arm.UC_ARM_REG_CONTROL,
)
_DHCSR, _DCRSR, _DCRDR, _DEMCR, _DFSR = 0xE000_EDF0, 0xE000_EDF4, 0xE000_EDF8, 0xE000_EDFC, 0xE000_ED30
_AIRCR, _HFSR = 0xE000_ED0C, 0xE000_ED2C
_DWT_CTRL, _CYCCNT, _FP_CTRL, _IDCODE = 0xE000_1000, 0xE000_1004, 0xE000_2000, 0xE004_2000
_ICSR, _PENDSTSET, _PENDSTCLR = 0xE000_ED04, 1 << 26, 1 << 25


class DebuggedCore(Core):
    """A core with its private peripherals, for itself and for a debugger."""

    def __init__(self, chip: Chip, faults: Faults) -> None:
        super().__init__(chip, faults)
        self._words = chip.words()
        self._demcr = self._dcrdr = self._cycles_base = 0
        self._breakpoints: dict[int, int] = {}
        self._break_hooks: dict[int, object] = {}
        self._skip: int | None = None

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
            _FP_CTRL: self.chip.core.breakpoints | self._ppb.get(_FP_CTRL, 0) & 1,
            _IDCODE: 0x1001_0000 | (self.faults.device_id or self.chip.device_id),
        }
        for known in (fixed, self._words):
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
        elif address in (CFSR, _HFSR):
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
                self._breakpoints[address] = self._breakpoint_at(value)
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
                for i, register in enumerate(SPECIAL):
                    uc.reg_write(register, self._dcrdr >> 8 * i & 0xFF)
            else:
                self._dcrdr = sum((uc.reg_read(r) & 0xFF) << 8 * i for i, r in enumerate(SPECIAL))
        elif selector in CORE_REGISTERS:
            if write:
                uc.reg_write(CORE_REGISTERS[selector], self._dcrdr)
            else:
                self._dcrdr = uc.reg_read(CORE_REGISTERS[selector]) & 0xFFFF_FFFF

    def _breakpoint_at(self, comparator: int) -> int:
        """Version 1 has a word's address, and in the two highest bits which half of it."""
        if self.chip.core.breakpoints >> 28:
            return comparator & 0xFFFF_FFFE
        return comparator & 0x1FFF_FFFC | comparator >> 30 & 2

    def _set_breakpoints(self) -> None:
        wanted = set(self._breakpoints.values()) if self._ppb.get(_FP_CTRL, 0) & 1 else set()
        for address in set(self._break_hooks) - wanted:
            self._uc.hook_del(self._break_hooks.pop(address))
        for address in wanted - set(self._break_hooks):
            self._break_hooks[address] = self._uc.hook_add(
                u.UC_HOOK_CODE, self._on_breakpoint, begin=address, end=address
            )

    def _on_breakpoint(self, uc: u.Uc, address: int, size: int, _: object) -> None:
        if address != self._skip:
            self._halt(2)
            uc.emu_stop()
        self._skip = None
