"""What a debugger finds on an STM32F7 before it touches anything: ids, ROM tables, memories.

Values from RM0385 and RM0410 (device ids, memories), ARM DDI 0489 (Cortex-M7 TRM) and ARM IHI 0029
(CoreSight).
"""

from __future__ import annotations

from dataclasses import dataclass

FLASH, RAM = 0x0800_0000, 0x2000_0000
PERIPHERALS, PERIPHERALS_SIZE = 0x4000_0000, 0x8_0000
PPB, PPB_SIZE = 0xE000_0000, 0x10_0000


@dataclass(frozen=True)
class Chip:
    """What differs between two of the family, and between the boards they are on.

    `usart` is the base address of the USART on the virtual COM port, `hse_hz` the clock that the board
    feeds in, `ccsidr` the geometry of the data cache.
    """

    name: str
    device_id: int
    ram_size: int
    sectors: tuple[int, ...]
    usart: int
    hse_hz: int
    ccsidr: int

    @property
    def flash_size(self) -> int:
        """Bytes of flash."""
        return sum(self.sectors)


_SMALL = (*(0x8000,) * 4, 0x2_0000)
CHIPS = {
    "stm32f746": Chip(
        "STM32F746", 0x449, 0x5_0000, (*_SMALL, *(0x4_0000,) * 3), 0x4001_1000, 25_000_000, 0xF003_E019
    ),
    "stm32f767": Chip(
        "STM32F767", 0x451, 0x8_0000, (*_SMALL, *(0x4_0000,) * 7), 0x4000_4800, 8_000_000, 0xF00F_E019
    ),
}

DP_ID = 0x5BA0_2477  # SW-DP version 2
AP_ID = 0x7477_0001  # AHB-AP
ROM_TABLE = 0xE00F_D003
CPUID = 0x411F_C271  # Cortex-M7 r1p1

IDENTITY = {
    0xE000_ED00: CPUID,
    0xE000_ED78: 0x0900_0003,  # CLIDR: one level, both caches
    0xE000_ED90: 0x0000_0800,  # MPU_TYPE: 8 regions
    0xE000_ED6C: 0x0111_1131,  # ID_ISAR3: DSP instructions
    0xE000_EF40: 0x1011_0021,  # MVFR0: single precision
    0xE000_EF48: 0x0000_0040,  # MVFR2: FPv5
    0xE000_E004: 3,
}

_ARM, _ST = (4, 0x3B), (0, 0x20)  # JEP106 continuation and code


def _component(base: int, part: int, kind: int, maker: tuple[int, int] = _ARM) -> dict[int, int]:
    """The identification registers of one CoreSight component: PIDR4-7, PIDR0-3, CIDR0-3."""
    continuation, code = maker
    peripheral = [continuation, 0, 0, 0, part & 0xFF, part >> 8 | (code & 0xF) << 4, 8 | code >> 4, 0]
    values = [*peripheral, 0x0D, kind << 4, 0x05, 0xB1]
    return {base + 0xFD0 + 4 * i: value for i, value in enumerate(values)}


def _table(base: int, part: int, entries: list[int], maker: tuple[int, int] = _ARM) -> dict[int, int]:
    words = [((entry - base) & 0xFFFF_F000) | 3 for entry in entries] + [0]
    return {**_component(base, part, 1, maker), **{base + 4 * i: word for i, word in enumerate(words)}}


def coresight(device_id: int) -> dict[int, int]:
    """Every word of the three ROM tables and of the components that they list."""
    return {
        **_table(0xE00F_D000, device_id, [0xE00F_E000], _ST),
        **_table(0xE00F_E000, 0x4C8, [0xE00F_F000]),
        **_table(0xE00F_F000, 0x4C7, [0xE000_E000, 0xE000_1000, 0xE000_2000, 0xE000_0000]),
        **_component(0xE000_E000, 0x00C, 0xE),  # system control space
        **_component(0xE000_1000, 0x002, 0xE),  # DWT
        **_component(0xE000_2000, 0x00E, 0xE),  # FPB
        **_component(0xE000_0000, 0x001, 0xE),  # ITM
    }
