"""From what nextpnr placed to the file that a board loads."""

import struct
import zlib

from .board import Board
from .place import placed_file
from .toolchain import Tool

__all__ = ["PACKERS", "SUFFIX", "dfu_suffix", "pack_command"]

PACKERS = {"ice40": "icepack", "ecp5": "ecppack", "gowin": "gowin_pack"}
SUFFIX = {"ice40": ".bin", "ecp5": ".bit", "gowin": ".fs"}


def pack_command(board: Board, tool: Tool, seed: int, output: str) -> list[str]:
    """The packer's command line."""
    source = placed_file(board, seed)
    if board.family == "ice40":
        return [*tool.command, *board.pack, source, output]
    if board.family == "ecp5":
        return [*tool.command, *board.pack, "--input", source, "--bit", output]
    return [*tool.command, *board.pack, "-o", output, source]


def dfu_suffix(image: bytes, vendor: int, product: int) -> bytes:
    """``image`` with the 16 bytes that a DFU bootloader checks: USB's specification of DFU 1.1, appendix B."""
    body = image + struct.pack("<HHHH3sB", 0xFFFF, product, vendor, 0x0100, b"UFD", 16)
    return body + struct.pack("<I", zlib.crc32(body) ^ 0xFFFFFFFF)
