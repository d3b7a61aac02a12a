"""The FLASH controller of F7 and F4: locks, erase, NOR programming. RM0385, RM0410 and RM0090, chapter 3."""

from __future__ import annotations

from collections.abc import Callable

from twin_chip import FLASH, Chip
from twin_faults import Faults

_KEYS = (0x4567_0123, 0xCDEF_89AB)
_LOCK, _STRT, _BSY = 1 << 31, 1 << 16, 1 << 16
_MER, _MER1 = 1 << 2, 1 << 15  # all of the first bank, of the second
_PGAERR_PGSERR, _PGPERR, _WRPERR, _OPERR = 1 << 7, 1 << 6, 1 << 4, 1 << 1


class FlashController:
    """Registers at 0x40023C00. `read` and `write` reach the array itself."""

    def __init__(
        self,
        chip: Chip,
        faults: Faults,
        read: Callable[[int, int], bytes],
        write: Callable[[int, bytes], None],
    ) -> None:
        self._chip, self._sectors = chip, chip.sectors
        self._sectors_of_a_bank = len(chip.sectors) // chip.banks
        self._faults, self._read, self._write = faults, read, write
        self.erased, self.stored = 0, 0  # counts over the board's life
        self.reset()

    def reset(self) -> None:
        """The state after reset: locked."""
        self._access, self._status, self._control = 0, 0, _LOCK
        self._key, self._busy = 0, 0

    def read_register(self, offset: int) -> int:
        """What the bus reads at `offset`."""
        if offset == 0x0C:
            if self._busy:
                self._busy -= 1
                return self._status | _BSY
            return self._status
        values = {0x00: self._access, 0x10: self._control, 0x14: self._options()}
        return values.get(offset, 0)

    def _options(self) -> int:
        return self._chip.option_bits | self._faults.rdp << 8

    def write_register(self, offset: int, value: int) -> None:
        """What the bus writes at `offset`."""
        if offset == 0x00:
            self._access = value
        elif offset == 0x04:
            self._unlock(value)
        elif offset == 0x0C:
            self._status &= ~value
        elif offset == 0x10 and not self._control & _LOCK:
            self._control = value & ~_STRT
            if value & _STRT and not value & _LOCK:
                self._erase(value)

    def _unlock(self, key: int) -> None:
        """Two keys in order; a wrong one locks until reset."""
        if 0 <= self._key < 2 and key == _KEYS[self._key]:
            self._key += 1
            if self._key == 2:
                self._key, self._control = 0, self._control & ~_LOCK
        else:
            self._key = -1

    def _erase(self, control: int) -> None:
        self._busy = 1 << 60 if self._faults.busy_for_ever else 3
        self.erased += 1
        if self._faults.rdp_level:
            self._status |= _WRPERR
        elif control & (_MER | _MER1):
            size = self._chip.flash_size // self._chip.banks
            for bank, bit in enumerate((_MER, _MER1)[: self._chip.banks]):
                if control & bit:
                    self._write(FLASH + bank * size, b"\xff" * size)
        elif control & 2:
            sector = self._sector(control >> 3 & 0x1F)
            if sector is None:
                self._status |= _OPERR
            elif not self._faults.erase_does_nothing:
                self._write(FLASH + sum(self._sectors[:sector]), b"\xff" * self._sectors[sector])

    def _sector(self, code: int) -> int | None:
        """SNB counts through; with two banks its highest bit names the bank (RM0090, FLASH_CR)."""
        bank, number = divmod(code, 16) if self._chip.banks > 1 else (0, code)
        return bank * self._sectors_of_a_bank + number if number < self._sectors_of_a_bank else None

    def store(self, address: int, size: int, value: int) -> None:
        """One bus write into the array: only from 1 to 0, only as wide as PSIZE says."""
        self.stored += 1
        if self._control & _LOCK or not self._control & 1 or self._faults.rdp_level:
            self._status |= _PGAERR_PGSERR
            return
        if size != 1 << (self._control >> 8 & 3):
            self._status |= _PGPERR
            return
        old = int.from_bytes(self._read(address, size), "little")
        new = old & value
        stuck = self._faults.stuck_bit
        if stuck is not None and address <= stuck < address + size:
            new ^= 1 << 8 * (stuck - address)
        self._write(address, new.to_bytes(size, "little"))
        self._busy = 1 << 60 if self._faults.busy_for_ever else 1
