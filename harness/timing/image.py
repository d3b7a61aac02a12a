"""Machine code by address, from an ELF file or from raw binaries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tinyhil.errors import UsageError


@dataclass(frozen=True)
class Image:
    """Pieces of memory, and where functions start: (address, size, name), sorted."""

    pieces: tuple[tuple[int, bytes], ...] = ()
    functions: tuple[tuple[int, int, str], ...] = ()

    def read(self, address: int, size: int) -> bytes | None:
        """`size` bytes at `address`; None if the image does not have them."""
        for start, content in self.pieces:
            if start <= address and address + size <= start + len(content):
                return content[address - start : address - start + size]
        return None

    def function_at(self, address: int) -> str:
        """The name of the function around `address`, "" if unknown."""
        low, high = 0, len(self.functions)
        while low < high:
            middle = (low + high) // 2
            if self.functions[middle][0] <= address:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return ""
        start, size, name = self.functions[low - 1]
        return name if address < start + max(size, 2) else ""


def load_elf(path: Path) -> Image:
    """The loadable segments and functions of an ELF; UsageError if it is damaged."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            pieces = tuple(
                (int(s["p_vaddr"]), bytes(s.data())) for s in elf.iter_segments("PT_LOAD") if s["p_filesz"]
            )
            table = elf.get_section_by_name(".symtab")
            symbols = table.iter_symbols() if isinstance(table, SymbolTableSection) else ()
            functions = sorted(
                (int(s["st_value"]) & ~1, int(s["st_size"]), str(s.name))
                for s in symbols
                if s["st_info"]["type"] == "STT_FUNC"
            )
    except (ELFError, OSError, KeyError, ValueError) as error:
        raise UsageError(f"cannot read the ELF file {path}: {error}") from error
    return Image(pieces, tuple(functions))


def load_image(words: tuple[str, ...]) -> Image:
    """`FILE` (an ELF) or `FILE@ADDRESS` (raw bytes from there on), one or more, as one image."""
    pieces: list[tuple[int, bytes]] = []
    functions: list[tuple[int, int, str]] = []
    for word in words:
        name, at, address = word.rpartition("@")
        if not at:
            image = load_elf(Path(word))
            pieces += image.pieces
            functions += image.functions
            continue
        try:
            pieces.append((int(address, 0), Path(name).read_bytes()))
        except ValueError:
            raise UsageError(f"{word}: {address!r} is no address; write FILE@0x08000000") from None
        except OSError as error:
            raise UsageError(f"cannot read the image {name}: {error.strerror}") from error
    return Image(tuple(pieces), tuple(sorted(functions)))
