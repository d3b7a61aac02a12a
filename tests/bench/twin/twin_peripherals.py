"""Clock tree, one USART on a pty, and watchdog: as much of them as firmware can tell apart.

The USART compares its own baud rate, from the registers that the firmware has set, with the one that
the host has set on the pty; if they differ, bytes arrive damaged, as they would on a wire.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import termios
import tty
from collections.abc import Callable

from twin_chip import Chip
from twin_faults import Faults

HSI = 16_000_000
_SPEEDS = {
    getattr(termios, f"B{speed}"): speed
    for speed in (9600, 57600, 115200, 230400, 460800, 921600)
    if hasattr(termios, f"B{speed}")
}
_RCC_CR, _PLLCFGR, _CFGR = 0x4002_3800, 0x4002_3804, 0x4002_3808
_RCC_CSR = 0x4002_3874
_PWR_CR1, _PWR_CSR1 = 0x4000_7000, 0x4000_7004  # the F4 says CR and CSR
_OVER_DRIVE = 0x3_0000  # ODEN and ODSWEN, ODRDY and ODSWRDY
_IWDG = 0x4000_3000
POWER_ON, WATCHDOG, SOFTWARE, PIN, BROWN_OUT = 1 << 27, 1 << 29, 1 << 28, 1 << 26, 1 << 25  # RCC_CSR
_EMPTY_POLLS = 32  # reads of an idle UART in a row until the core is let sleep


class Peripherals:
    """Registers by address. `cycles` counts what the core did since reset; `stop` ends its slice."""

    def __init__(
        self, chip: Chip, faults: Faults, cycles: Callable[[], int], stop: Callable[[], None]
    ) -> None:
        self._chip = chip
        self._status, self._receive, self._transmit, self._clear = (
            None if offset is None else chip.usart_at + offset
            for offset in (chip.usart.status, chip.usart.receive, chip.usart.transmit, chip.usart.clear)
        )
        self._faults, self._cycles, self._stop = faults, cycles, stop
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._deaf = False
        self._causes = 0
        self.reset(POWER_ON)

    def reset(self, cause: int) -> None:
        """Every register as after reset; what was on the line is lost. `cause` is a bit of RCC_CSR,
        which keeps all causes until firmware or debugger clears them."""
        self._causes |= cause
        self.registers: dict[int, int] = {_RCC_CR: 0x83, _PLLCFGR: 0x2400_3010}
        self._received = bytearray()
        self._frame = bytearray()
        self._empty_polls = 0
        self._watchdog: int | None = None

    def close(self) -> None:
        """The serial port vanishes."""
        for end in (self._master, self._slave):
            os.close(end)

    @property
    def idle(self) -> bool:
        """Whether the core only waits for a byte."""
        return self._empty_polls >= _EMPTY_POLLS and not self._received

    @property
    def watchdog_bites(self) -> bool:
        """Whether the independent watchdog was started and not fed in time."""
        return self._watchdog is not None and self._cycles() >= self._watchdog

    def wait_for_byte(self, seconds: float) -> None:
        """Sleeps until the host has sent something, at most `seconds`."""
        select.select([self._master], [], [], seconds)
        self._empty_polls = 0

    def core_clock(self) -> int:
        """Hz, from the clock registers: RM0385, "Reset and clock control"."""
        if self.registers.get(_CFGR, 0) & 3 != 2:
            return HSI
        pll = self.registers[_PLLCFGR]
        source = self._chip.hse_hz if pll & 1 << 22 else HSI
        return source // (pll & 0x3F) * (pll >> 6 & 0x1FF) // (2 * ((pll >> 16 & 3) + 1))

    @property
    def over_drive(self) -> bool:
        """Whether the regulator gives what the highest clocks need: on, and switched to."""
        return self.registers.get(_PWR_CR1, 0) & _OVER_DRIVE == _OVER_DRIVE

    def baud(self) -> float:
        """Of the USART: USART1 is on APB2, the others on APB1. 0 while it is off."""
        kind, base = self._chip.usart, self._chip.usart_at
        divider = self.registers.get(base + kind.rate, 0)
        if not divider or not self.registers.get(base + kind.control, 0) & kind.enable:
            return 0.0
        shift = 13 if base == 0x4001_1000 else 10
        prescaler = self.registers.get(_CFGR, 0) >> shift & 7
        return self.core_clock() / (1 << (prescaler - 3) if prescaler >= 4 else 1) / divider

    def read(self, address: int) -> int:
        """One word."""
        value = self.registers.get(address, 0)
        if address == _RCC_CR:
            return value | (value & 0x15010001) << 1  # every oscillator that is on is ready
        if address == _RCC_CSR:
            return self._causes
        if address == _CFGR:
            return value | (value & 3) << 2
        if address == _PWR_CSR1:
            return self.registers.get(_PWR_CR1, 0) & _OVER_DRIVE | 1 << 14
        if address == self._status:
            return self._read_status()
        if address == self._receive:
            return self._received.pop(0) if self._received else 0
        return value

    def write(self, address: int, value: int) -> None:
        """One word."""
        self._empty_polls = 0 if address != self._clear else self._empty_polls
        if address == self._transmit:
            self._send(value & 0xFF)
        elif address == _IWDG:
            self._feed(value)
        elif address == _RCC_CSR:
            self._causes &= 0 if value & 1 << 24 else ~0
        else:
            self.registers[address] = value

    def _read_status(self) -> int:
        if not self._received:
            with contextlib.suppress(OSError):  # nothing there
                self._received += self._on_wire(os.read(self._master, 256))
        if self._received:
            self._empty_polls = 0
            return 0xC0 | 0x20
        self._empty_polls += 1
        if self.idle:
            self._stop()
        return 0xC0

    def _send(self, byte: int) -> None:
        """Collects up to a zero byte, where a frame ends, and lets the faults have it."""
        self._frame.append(byte)
        if byte and len(self._frame) < 4096:
            return
        data = bytes(self._frame)
        self._frame.clear()
        if self._faults.silent:
            return
        transmit = self._faults.transmit  # a test may take the fault away at any moment
        if transmit:
            data = transmit(data)
        self._put(self._on_wire(data))

    def _put(self, data: bytes) -> None:
        """Nobody reading: what does not fit is lost, as on a wire."""
        while data:
            _, writable, _ = select.select([], [self._master], [], 0 if self._deaf else 0.5)
            self._deaf = not writable
            if self._deaf:
                return
            try:
                data = data[os.write(self._master, data) :]
            except OSError:
                return

    def _on_wire(self, data: bytes) -> bytes:
        theirs = 0
        with contextlib.suppress(termios.error):  # the other end has vanished
            theirs = _SPEEDS.get(termios.tcgetattr(self._slave)[5], 0)
        ours = self.baud()
        if abs(ours - theirs) <= 0.03 * theirs:
            return data
        return bytes(byte * 167 + 13 & 0xFF for byte in data)

    def _feed(self, key: int) -> None:
        """RM0385, "Independent watchdog": 0xCCCC starts it, 0xAAAA feeds it. LSI runs at 32 kHz."""
        if key == 0xCCCC or (key == 0xAAAA and self._watchdog is not None):
            ticks = (self.registers.get(_IWDG + 8, 0xFFF) & 0xFFF) * (
                4 << (self.registers.get(_IWDG + 4, 0) & 7)
            )
            self._watchdog = self._cycles() + ticks * self.core_clock() // 32_000
