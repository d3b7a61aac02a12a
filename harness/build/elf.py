"""What an ELF tells without being run: sizes by section, and symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tinyhil.errors import BuildError
from tinyhil.harness.build.firmware import Symbol


@dataclass(frozen=True)
class Image:
    """Sizes in bytes. `flash` is all that is loaded, `static_ram` the writable rest without arena,
    stack and instrumentation."""

    flash: int
    static_ram: int
    instrumentation: int
    sections: Mapping[str, int]
    symbols: Mapping[str, Symbol]


def read_image(path: Path) -> Image:
    """Sections and symbols of the ELF at `path`; BuildError if it is not one."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            return _image(elf, thumb=elf["e_machine"] == "EM_ARM")
    except ELFError as error:
        raise BuildError(f"{path} is not an ELF ({error}); delete it, and it will be built again") from error


def read_text(path: Path, symbol: str) -> str:
    """The zero-terminated text that `symbol` names in the ELF at `path`; '' if there is no such object."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        found = _image(elf, thumb=False).symbols.get(symbol)
        for section in elf.iter_sections():
            start = int(section["sh_addr"])
            if (
                found is not None
                and section["sh_flags"] & SH_FLAGS.SHF_ALLOC
                and section["sh_type"] != "SHT_NOBITS"
                and start <= found.address < start + int(section["sh_size"])
            ):
                rest = section.data()[found.address - start :]
                return str(rest.split(b"\0")[0].decode("ascii", "replace"))
    return ""


def _image(elf: ELFFile, thumb: bool) -> Image:
    sections: dict[str, int] = {}
    flash = static = 0
    symbols: dict[str, Symbol] = {}
    for section in elf.iter_sections():
        if isinstance(section, SymbolTableSection):
            symbols.update(_symbols(section, thumb))
        if not section["sh_flags"] & SH_FLAGS.SHF_ALLOC or not section["sh_size"]:
            continue
        size = int(section["sh_size"])
        sections[section.name] = size
        if section["sh_type"] != "SHT_NOBITS":
            flash += size
        if section["sh_flags"] & SH_FLAGS.SHF_WRITE and section.name in (".data", ".bss"):
            static += size
    return Image(flash, static, sections.get(".instrumentation", 0), sections, symbols)


def _symbols(table: SymbolTableSection, thumb: bool) -> dict[str, Symbol]:
    """Functions, objects and linker symbols; a global name wins over a local one of the same name."""
    found: dict[str, Symbol] = {}
    ordered = sorted(table.iter_symbols(), key=lambda symbol: symbol["st_info"]["bind"] != "STB_LOCAL")
    for symbol in ordered:
        kind = symbol["st_info"]["type"]
        if not symbol.name or symbol["st_shndx"] == "SHN_UNDEF" or kind in ("STT_SECTION", "STT_FILE"):
            continue
        address = int(symbol["st_value"])
        if thumb and kind == "STT_FUNC":
            address &= ~1
        found[symbol.name] = Symbol(address, int(symbol["st_size"]))
    return found
