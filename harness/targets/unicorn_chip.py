"""The peripherals that tinyhil's own firmware touches on an STM32, as far as it looks at them.

Registers read back what was written, status bits follow their enable bits at once, and the UART is
two queues. That is enough to boot to full clock and talk; it is no model of the chip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Rule = Callable[[int], int]

#: The parts of the address space that answer as registers: peripherals, and the core's own.
REGISTER_SPACES = ((0x4000_0000, 0x2000_0000), (0xE000_0000, 0x10_0000))

# USART1 (F4, F7, H7; L4), USART2, USART3, LPUART1
_USARTS = {0x4001_1000, 0x4001_3800, 0x4000_4400, 0x4000_4800, 0x4000_8000}
_CPUID, _DWT_CYCCNT = 0xE000_ED00, 0xE000_1004
_CCSIDR = 0xE000_ED80
_PATIENCE = 2  # sending looks once per byte


def _ready(*pairs: tuple[int, int]) -> Rule:
    """A register whose bit `ready` shows what is written to bit `enable`."""

    def rule(value: int) -> int:
        for enable, ready in pairs:
            value = value | 1 << ready if value >> enable & 1 else value & ~(1 << ready)
        return value

    return rule


def _shifted(mask: int, shift: int) -> Rule:
    """A register whose field `mask` is shown again `shift` bits higher: a clock switch's status."""
    return lambda value: (value & ~(mask << shift)) | (value & mask) << shift


#: By family: registers that do more than remember. Reference manuals RM0385, RM0433, RM0432, RM0090.
_FAMILIES: Mapping[str, Mapping[int, Rule]] = {
    "stm32f7": {
        0x4002_3800: _ready((0, 1), (16, 17), (24, 25)),  # RCC_CR: HSI, HSE, PLL
        0x4002_3808: _shifted(3, 2),  # RCC_CFGR: SW, SWS
        0x4000_7004: lambda _: 3 << 16 | 1 << 14,  # PWR_CSR1: over-drive and voltage scale ready
    },
    "stm32f4": {
        0x4002_3800: _ready((0, 1), (16, 17), (24, 25)),
        0x4002_3808: _shifted(3, 2),
        0x4000_7004: lambda _: 1 << 14,  # PWR_CSR: voltage scale ready
    },
    "stm32l4": {
        0x4002_1000: _ready((0, 1), (8, 10), (16, 17), (24, 25)),  # RCC_CR: MSI, HSI, HSE, PLL
        0x4002_1008: _shifted(3, 2),
        0x4000_7014: lambda value: value & ~(1 << 10),  # PWR_SR2: VOSF, voltage settled
    },
    "stm32h7": {
        0x5802_4400: _ready((0, 2), (16, 17), (24, 25)),  # RCC_CR: HSI, HSE, PLL1
        0x5802_4410: _shifted(7, 3),
        0x5802_4804: lambda value: value | 1 << 13,  # PWR_CSR1: ACTVOSRDY
        0x5802_4818: lambda value: value | 1 << 13,  # PWR_D3CR: VOSRDY
    },
}


@dataclass
class Chip:
    """Registers of one chip. `sent` collects what the firmware sends, `to_read` what it will receive.

    `idle` is set when the firmware looks for input and there is none.
    """

    family: str
    core: str
    sent: bytearray = field(default_factory=bytearray)
    to_read: deque[int] = field(default_factory=deque)
    idle: bool = False
    _looks: int = 0  # at the UART's status, one after the other, with nothing sent or received between
    _values: dict[int, int] = field(default_factory=dict)

    @property
    def _usart(self) -> tuple[int, int, int]:
        """Offsets of status, receive and transmit register: SR, DR, DR or ISR, RDR, TDR."""
        return (0, 4, 4) if self.family == "stm32f4" else (0x1C, 0x24, 0x28)

    @staticmethod
    def knows(family: str) -> bool:
        """There are rules for chips of this family."""
        return family in _FAMILIES

    def read(self, address: int, size: int) -> int:
        """What the firmware reads there; `size` 1, 2 or 4 bytes."""
        word = self._read(address & ~3)
        return word >> 8 * (address & 3) & (1 << 8 * size) - 1

    def write(self, address: int, size: int, value: int) -> None:
        """The firmware writes there."""
        word, shift = address & ~3, 8 * (address & 3)
        mask = ((1 << 8 * size) - 1) << shift
        if word & ~0x3FF in _USARTS and word & 0x3FF == self._usart[2]:
            self.sent.append(value & 0xFF)
            self._looks = 0
            return
        self._values[word] = (self._values.get(word, 0) & ~mask) | (value << shift & mask)

    def _read(self, word: int) -> int:
        if word & ~0x3FF in _USARTS:
            return self._read_usart(word)
        if word == _CPUID:
            return 0x411F_C271 if self.core == "cortex-m7" else 0x410F_C241
        if word == _CCSIDR:
            return 3 << 3  # one set: firmware that walks over the cache is done at once
        if word == _DWT_CYCCNT:
            return 0  # an emulator has no cycles to tell
        value = self._values.get(word, 0)
        rule = _FAMILIES[self.family].get(word)
        return rule(value) if rule else value

    def _read_usart(self, word: int) -> int:
        status, receive, _ = self._usart
        if word & 0x3FF == status:  # TXE, TC, and RXNE if something came: the same bits in both layouts
            self._looks += 1
            self.idle = not self.to_read and self._looks > _PATIENCE
            return 1 << 7 | 1 << 6 | (1 << 5 if self.to_read else 0)
        if word & 0x3FF == receive and self.to_read:
            self._looks = 0
            return self.to_read.popleft()
        return self._values.get(word, 0)
