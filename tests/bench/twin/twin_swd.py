"""The wire between probe and board: SW-DP and one MEM-AP (ARM IHI 0031, ADIv5), from the chip's side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twin_board import Board, BusFault

_POWER = 0x5000_0000  # CDBGPWRUPREQ and CSYSPWRUPREQ
_LINE_RESET = (1 << 50) - 1


class NoAck(Exception):
    """Nothing answers on the wire."""


class Faulted(Exception):
    """The access port answers FAULT."""


class Gone(Exception):
    """The probe itself is not there any more."""


class InUse(Exception):
    """The probe's USB interface is claimed by somebody else."""


class SwdPort:
    """One board's debug port. One user at a time, as with USB."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._user: object | None = None
        self._forget()

    def _forget(self) -> None:
        self._select = self._power = self._csw = self._tar = 0
        self._sticky = self._awake = False

    def open(self, user: object = "local") -> None:
        """Claims the probe."""
        if self.board.faults.unplugged:
            raise Gone
        if self._user is not None or self.board.faults.probe_in_use:
            raise InUse
        self._user = user
        self.board.opened += 1
        self._forget()

    def close(self) -> None:
        """Gives the probe back."""
        self._user = None

    def swj_sequence(self, length: int, bits: int) -> None:
        """Fifty ones are a line reset."""
        if length >= 50 and bits & _LINE_RESET == _LINE_RESET:
            self._awake = True

    def set_reset(self, low: bool) -> None:
        """The nRESET pin."""
        self._check_probe()
        self.board.set_reset_line(low)

    def _check_probe(self) -> None:
        faults = self.board.faults
        if faults.unplug_after is not None:
            faults.unplug_after -= 1
            if faults.unplug_after < 0:
                faults.unplug_after, faults.unplugged = None, True
        if faults.unplugged:
            raise Gone

    def _wire(self) -> None:
        self._check_probe()
        faults = self.board.faults
        pins_taken = faults.debug_pins_off and self.board.has_run
        if faults.unpowered or faults.rdp_level == 2 or pins_taken or not self._awake:
            raise NoAck

    def read_dp(self, register: int) -> int:
        """DPIDR, CTRL/STAT."""
        self._wire()
        if register == 0:
            return self.board.chip.core.debug_port
        return self._power | (self._power & _POWER) << 1 | self._sticky << 5 if register == 4 else 0

    def write_dp(self, register: int, value: int) -> None:
        """ABORT, CTRL, SELECT."""
        self._wire()
        if register == 0 and value & 4:
            self._sticky = False
        elif register == 4:
            self._power = value & 0x5000_0F01
        elif register == 8:
            self._select = value

    def read_ap(self, register: int, count: int) -> list[int]:
        """`count` reads of one AP register."""
        port, address = self._address(register)
        if port:
            return [0] * count
        if address == 0x0C:
            return self._read_data(count)
        if address & 0xF0 == 0x10:
            return self._bus(self.board.read, self._tar & ~0xF | address & 0xC, 4) * count
        core = self.board.chip.core
        values = {0x00: self._csw | 0x40, 0x04: self._tar, 0xFC: core.access_port, 0xF8: core.rom_table | 3}
        return [values.get(address, 0)] * count

    def write_ap(self, register: int, values: list[int]) -> None:
        """One AP register, several times."""
        port, address = self._address(register)
        if port:
            return
        if address == 0x0C:
            self._write_data(values)
        elif address & 0xF0 == 0x10:
            self._bus(self.board.write, self._tar & ~0xF | address & 0xC, values[-1:], 4)
        elif address == 0x00:
            self._csw = values[-1] & 0x7F00_0037 | 0x40
        elif address == 0x04:
            self._tar = values[-1]

    def _address(self, register: int) -> tuple[int, int]:
        self._wire()
        if self._sticky or self._power & _POWER != _POWER:
            raise Faulted
        return self._select >> 24, self._select & 0xF0 | register & 0xC

    def _bus(self, access: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return access(*arguments)
        except BusFault:
            self._sticky = True
            raise Faulted from None

    def _read_data(self, count: int) -> list[int]:
        size = 1 << (self._csw & 3)
        if size == 4 and self._csw & 0x30:
            words: list[int] = self._bus(self.board.read, self._tar, 4, count)
            self._advance(count)
            return words
        out = []
        for _ in range(count):
            lane = 8 * (self._tar & 3 & -size)
            out.append(self._bus(self.board.read, self._tar, size)[0] << lane)
            self._advance(1)
        return out

    def _write_data(self, values: list[int]) -> None:
        size = 1 << (self._csw & 3)
        if size == 4 and self._csw & 0x30:
            self._bus(self.board.write, self._tar, values, 4)
            self._advance(len(values))
            return
        for value in values:
            lane = 8 * (self._tar & 3)
            self._bus(self.board.write, self._tar, [value >> lane & (1 << 8 * size) - 1], size)
            self._advance(1)

    def _advance(self, count: int) -> None:
        """TAR counts within 1 KB and wraps there."""
        if self._csw & 0x30:
            step = count << (self._csw & 3)
            self._tar = self._tar & ~0x3FF | (self._tar + step) & 0x3FF


BOARDS: dict[str, SwdPort] = {}  # id → what hangs on this process's "USB"
