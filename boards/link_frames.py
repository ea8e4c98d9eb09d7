"""Frames of the serial link, as :mod:`reluctant.hdl.link_protocol` describes them."""

import zlib
from typing import NamedTuple

from reluctant.hdl.link_protocol import CRC_BYTES, ESCAPE, ESCAPED, FLAG, LENGTH_BYTES

__all__ = ["FrameReader", "encode_frame", "line_bytes"]

_FLAG, _ESCAPE = bytes([FLAG]), bytes([ESCAPE])
_STUFFED = [(bytes([byte]), bytes([ESCAPE, byte ^ ESCAPED])) for byte in (ESCAPE, FLAG)]


def line_bytes(content: int) -> int:
    """Bytes of a frame with so many, what stuffing adds left out."""
    return LENGTH_BYTES + content + CRC_BYTES


def encode_frame(content: bytes) -> bytes:
    """A frame as it goes over the line; ``content`` is header and body."""
    data = line_bytes(len(content)).to_bytes(LENGTH_BYTES, "little") + content
    data += zlib.crc32(data).to_bytes(CRC_BYTES, "little")
    for plain, stuffed in _STUFFED:
        data = data.replace(plain, stuffed)
    return _FLAG + data + _FLAG


class Frames(NamedTuple):
    """What came: contents of whole frames, and how many were damaged."""

    contents: list[bytes]
    damaged: int


class FrameReader:
    """Finds frames in what comes over the line, whatever comes between them."""

    def __init__(self):
        self._rest = b""

    def feed(self, data: bytes) -> Frames:
        """The frames that end in ``data``."""
        *chunks, self._rest = (self._rest + data).split(_FLAG)
        contents = [_decode(chunk) for chunk in chunks if chunk]
        whole = [content for content in contents if content is not None]
        return Frames(whole, len(contents) - len(whole))

    def clear(self) -> None:
        """Forget the frame that has begun."""
        self._rest = b""


def _decode(chunk: bytes) -> bytes | None:
    """Header and body of what was between two FLAGs; None if it is damaged."""
    first, *others = chunk.split(_ESCAPE)
    if not all(others):
        return None
    data = first + b"".join(bytes([part[0] ^ ESCAPED]) + part[1:] for part in others)
    content, crc = data[:-CRC_BYTES], data[-CRC_BYTES:]
    if len(data) < line_bytes(1) or int.from_bytes(data[:LENGTH_BYTES], "little") != len(data):
        return None
    return content[LENGTH_BYTES:] if zlib.crc32(content).to_bytes(CRC_BYTES, "little") == crc else None
