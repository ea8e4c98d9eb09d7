"""What the build needs to know of a 32-bit little-endian ELF file: sizes of sections, and functions."""

import struct
from dataclasses import dataclass

__all__ = ["ElfError", "Function", "functions", "section_sizes"]

SYMBOLS = 2
FUNCTION = 2


class ElfError(ValueError):
    """No such file."""


@dataclass(frozen=True)
class Function:
    """A function's name, address and machine code."""

    name: str
    start: int
    code: bytes


def section_sizes(elf: bytes) -> dict[str, int]:
    """Bytes of each section by name."""
    sections = _sections(elf)
    names = sections[struct.unpack_from("<H", elf, 50)[0]][4]
    return {_text(elf, names + section[0]): section[5] for section in sections}


def functions(elf: bytes) -> list[Function]:
    """The functions, in order of address; those of the same address are one."""
    sections, found = _sections(elf), {}
    for _, kind, _, _, offset, size, link, *_ in sections:
        for at in range(offset, offset + size, 16) if kind == SYMBOLS else ():
            name, value, length, info, _, number = struct.unpack_from("<IIIBBH", elf, at)
            if info & 15 == FUNCTION and 0 < number < len(sections):
                place = sections[number][4] + value - sections[number][3]
                found[value] = Function(_text(elf, sections[link][4] + name), value, elf[place : place + length])
    return [found[start] for start in sorted(found)]


def _sections(elf: bytes) -> list[tuple[int, ...]]:
    """Section headers: name, type, flags, address, offset, size, link, ..."""
    if elf[:6] != b"\x7fELF\x01\x01":
        raise ElfError("no 32-bit little-endian ELF file")
    (table,) = struct.unpack_from("<I", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 46)
    return [struct.unpack_from("<10I", elf, table + i * size) for i in range(count)]


def _text(elf: bytes, at: int) -> str:
    return elf[at : elf.index(b"\0", at)].decode()
