"""STM32F746 for pyOCD, which does not have it: memory map and our own flash algorithm.

A CMSIS-Pack does the same; a bench map that names one (`pack`, `target`) is used instead.
"""

from __future__ import annotations

import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

from pyocd.core.memory_map import FlashRegion, MemoryMap, RamRegion
from pyocd.coresight.coresight_target import CoreSightTarget
from pyocd.target import TARGET

from tinyhil.harness.boards import boards_folder

NAME = "stm32f746zg"
_LOAD = 0x2000_0000  # start of the DTCM
_RETURN = 0xE00A_BE00  # BKPT #0, where every call of the algorithm returns to
_PAGE, _STACK = 0x1000, 0x200


def register() -> None:
    """Makes the target known to pyOCD under its name; a second call does nothing."""
    if NAME not in TARGET:
        TARGET[NAME] = _make_target()


def flashalgo_folder() -> Path:
    """Where the blobs and their sources lie."""
    return boards_folder().parent / "firmware_templates" / "flashalgo"


@cache
def algorithm(chip: str = "stm32f7") -> dict[str, Any]:
    """The blob of `chip` as pyOCD wants it: code words, entry points, stack and two page buffers."""
    blob = json.loads((flashalgo_folder() / f"{chip}.json").read_text())
    code = bytes.fromhex(blob["code"])
    start = _LOAD + 4  # behind the word that everything returns to
    entries = {name: start + offset + 1 for name, offset in blob["entries"].items()}
    stack = (start + len(code) + _STACK + 15) & ~15
    return {
        "load_address": _LOAD,
        "instructions": [_RETURN, *struct.unpack(f"<{len(code) // 4}I", code)],
        "pc_init": entries["Init"],
        "pc_unInit": entries["UnInit"],
        "pc_eraseAll": entries["EraseChip"],
        "pc_erase_sector": entries["EraseSector"],
        "pc_program_page": entries["ProgramPage"],
        "static_base": start + len(code),
        "begin_stack": stack,
        "end_stack": stack - _STACK,
        "page_size": _PAGE,
        "page_buffers": [stack, stack + _PAGE],
        "min_program_length": 4,
        "analyzer_supported": False,
        "analyzer_address": 0,
    }


def _flash(start: int, length: int, sector: int, boot: bool = False) -> FlashRegion:
    return FlashRegion(
        start=start, length=length, sector_size=sector, page_size=_PAGE, phrase_size=4,
        erased_byte_value=0xFF, algo=algorithm(), is_boot_memory=boot,
    )  # fmt: skip


def _make_target() -> type[Any]:
    memory_map = MemoryMap(  # RM0385, "Flash memory organization" and "Memory organization"
        _flash(0x0800_0000, 0x2_0000, 0x8000, boot=True),
        _flash(0x0802_0000, 0x2_0000, 0x2_0000),
        _flash(0x0804_0000, 0xC_0000, 0x4_0000),
        RamRegion(start=0x2000_0000, length=0x5_0000),
    )

    class STM32F746xG(CoreSightTarget):  # type: ignore[misc]  # pyOCD has no types
        """STM32F746 with 1 MB of flash."""

        VENDOR, PART_FAMILIES, PART_NUMBER = "STMicroelectronics", ["STM32F7"], "STM32F746ZG"
        MEMORY_MAP = memory_map

        def __init__(self, session: Any) -> None:
            super().__init__(session, self.MEMORY_MAP)

    return STM32F746xG
