"""What a debugger finds on a chip before it touches anything, and what differs between the chips.

Values from RM0385, RM0410 and RM0090 (memories, registers, device ids), ARM DDI 0489 and DDI 0439 (the TRMs
of Cortex-M7 and Cortex-M4) and ARM IHI 0029 (CoreSight). The F429's core-coupled memory is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from unicorn import arm_const as arm

FLASH, RAM = 0x0800_0000, 0x2000_0000
PERIPHERALS, PERIPHERALS_SIZE = 0x4000_0000, 0x8_0000
PPB, PPB_SIZE = 0xE000_0000, 0x10_0000

_ARM, _ST = (4, 0x3B), (0, 0x20)  # JEP106 continuation and code
_SCS, _DWT, _FPB, _ITM, _TPIU, _ETM = (
    0xE000_E000, 0xE000_1000, 0xE000_2000, 0xE000_0000, 0xE004_0000, 0xE004_1000,
)  # fmt: skip
_GENERIC, _CORESIGHT, _ROM = 0xE, 0x9, 0x1  # component classes


def _component(base: int, part: int, kind: int, maker: tuple[int, int] = _ARM) -> dict[int, int]:
    """The identification registers of one CoreSight component: PIDR4-7, PIDR0-3, CIDR0-3."""
    continuation, code = maker
    peripheral = [continuation, 0, 0, 0, part & 0xFF, part >> 8 | (code & 0xF) << 4, 8 | code >> 4, 0]
    values = [*peripheral, 0x0D, kind << 4, 0x05, 0xB1]
    return {base + 0xFD0 + 4 * i: value for i, value in enumerate(values)}


def _table(base: int, part: int, entries: tuple[int, ...], maker: tuple[int, int] = _ARM) -> dict[int, int]:
    words = [((entry - base) & 0xFFFF_F000) | 3 for entry in entries] + [0]
    return {**_component(base, part, _ROM, maker), **{base + 4 * i: word for i, word in enumerate(words)}}


@dataclass(frozen=True)
class CoreKind:
    """A Cortex-M: Unicorn's name for it, the ids of its debug and access port, what the chip's own ROM table
    lists, and the words of its private bus that are the same on every chip. `breakpoints` is FP_CTRL: how
    many, and of which version."""

    model: int
    debug_port: int
    access_port: int
    rom_table: int
    listed: tuple[int, ...]
    breakpoints: int
    words: dict[int, int]


CORTEX_M7 = CoreKind(
    model=arm.UC_CPU_ARM_CORTEX_M7,
    debug_port=0x5BA0_2477,  # SW-DP version 2
    access_port=0x7477_0001,  # AHB-AP
    rom_table=0xE00F_D000,
    listed=(0xE00F_E000,),
    breakpoints=0x1000_0080,  # eight, version 2
    words={
        0xE000_ED00: 0x411F_C271,  # CPUID: r1p1
        0xE000_ED78: 0x0900_0003,  # CLIDR: one level, both caches
        0xE000_ED90: 0x0000_0800,  # MPU_TYPE: 8 regions
        0xE000_ED6C: 0x0111_1131,  # ID_ISAR3: DSP instructions
        0xE000_EF40: 0x1011_0021,  # MVFR0: single precision
        0xE000_EF48: 0x0000_0040,  # MVFR2: FPv5
        0xE000_E004: 3,
        **_table(0xE00F_E000, 0x4C8, (0xE00F_F000,)),
        **_table(0xE00F_F000, 0x4C7, (_SCS, _DWT, _FPB, _ITM)),
        **_component(_SCS, 0x00C, _GENERIC),
        **_component(_DWT, 0x002, _GENERIC),
        **_component(_FPB, 0x00E, _GENERIC),
        **_component(_ITM, 0x001, _GENERIC),
    },
)
CORTEX_M4 = CoreKind(
    model=arm.UC_CPU_ARM_CORTEX_M4,
    debug_port=0x2BA0_1477,  # SW-DP version 1
    access_port=0x2477_0011,  # AHB-AP
    rom_table=0xE00F_F000,
    listed=(_SCS, _DWT, _FPB, _ITM, _TPIU, _ETM),
    breakpoints=0x0000_0260,  # six, version 1
    words={
        0xE000_ED00: 0x410F_C241,  # CPUID: r0p1
        0xE000_ED90: 0x0000_0800,  # MPU_TYPE: 8 regions
        0xE000_ED6C: 0x0111_1131,  # ID_ISAR3: DSP instructions
        0xE000_EF40: 0x1011_0021,  # MVFR0: single precision
        0xE000_E004: 2,
        **_component(_SCS, 0x00C, _GENERIC),
        **_component(_DWT, 0x002, _GENERIC),
        **_component(_FPB, 0x003, _GENERIC),
        **_component(_ITM, 0x001, _GENERIC),
        **_component(_TPIU, 0x9A1, _CORESIGHT),
        **_component(_ETM, 0x925, _CORESIGHT),
        _TPIU + 0xFCC: 0x11,  # DEVTYPE
        _ETM + 0xFCC: 0x13,
    },
)


@dataclass(frozen=True)
class UsartKind:
    """Offsets of a USART's registers, and the bit of `control` that turns it on. `clear` is written to take
    flags away where reading does not."""

    status: int
    receive: int
    transmit: int
    rate: int
    control: int
    enable: int
    clear: int | None


USART_F7 = UsartKind(0x1C, 0x24, 0x28, 0x0C, 0x00, 1 << 0, 0x20)
USART_F4 = UsartKind(0x00, 0x04, 0x04, 0x08, 0x0C, 1 << 13, None)  # one data register, RM0090


@dataclass(frozen=True)
class Chip:
    """What differs between two chips, and between the boards they are on.

    `sectors` are those of all `banks` of flash, which are alike. `option_bits` is FLASH_OPTCR without its RDP
    byte. `usart_at` is the address of the USART on the virtual COM port, `hse_hz` the clock that the board
    feeds in, `ccsidr` the geometry of the data cache.
    """

    name: str
    device_id: int
    core: CoreKind
    ram_size: int
    sectors: tuple[int, ...]
    option_bits: int
    usart: UsartKind
    usart_at: int
    hse_hz: int
    banks: int = 1
    ccsidr: int = 0

    @property
    def flash_size(self) -> int:
        """Bytes of flash."""
        return sum(self.sectors)

    def words(self) -> dict[int, int]:
        """Every word of the private bus that never changes, by address."""
        return {**_table(self.core.rom_table, self.device_id, self.core.listed, _ST), **self.core.words}


_F7 = {"core": CORTEX_M7, "option_bits": 0xFFFF_00FD, "usart": USART_F7}
_F7_SMALL = (*(0x8000,) * 4, 0x2_0000)
_F4_BANK = (*(0x4000,) * 4, 0x1_0000, *(0x2_0000,) * 7)
CHIPS = {
    "stm32f746": Chip(
        "STM32F746", 0x449, ram_size=0x5_0000, sectors=(*_F7_SMALL, *(0x4_0000,) * 3), usart_at=0x4001_1000,
        hse_hz=25_000_000, ccsidr=0xF003_E019, **_F7,
    ),
    "stm32f767": Chip(
        "STM32F767", 0x451, ram_size=0x8_0000, sectors=(*_F7_SMALL, *(0x4_0000,) * 7), usart_at=0x4000_4800,
        hse_hz=8_000_000, ccsidr=0xF00F_E019, **_F7,
    ),
    "stm32f429": Chip(
        "STM32F429", 0x419, CORTEX_M4, ram_size=0x3_0000, sectors=_F4_BANK * 2, banks=2,
        option_bits=0x0FFF_00ED, usart=USART_F4, usart_at=0x4000_4800, hse_hz=8_000_000,
    ),
}  # fmt: skip
