"""What a host and the serial link say to each other; docs/link.md explains it.

Bytes are stuffed as in PPP (RFC 1662). A frame is, between two FLAGs, its length in bytes (2 bytes, CRC included), a
header byte, the body and CRC-32 (as of zlib) of all that; numbers are little-endian.

Header byte of a request: sequence number, and HELLO, which begins a session. Its body is a program of operations, each
with ``code, count, argument`` (1, 1 and 2 bytes) and its data. A reply has the header byte of its request, what the
operations gave, and a status byte.
"""

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple, Self

__all__ = [
    "CRC_BYTES",
    "ESCAPE",
    "ESCAPED",
    "FLAG",
    "HELLO",
    "LENGTH_BYTES",
    "MARK",
    "MOVING_BITS",
    "OPERATION_BYTES",
    "PROTOCOL",
    "SEQUENCES",
    "TICK",
    "Code",
    "Identity",
    "Status",
]

PROTOCOL = 1
"""Version of all that is in this file."""
FLAG, ESCAPE, ESCAPED = 0x7E, 0x7D, 0x20
"""Ends and begins a frame; the next byte was changed by ESCAPED."""
LENGTH_BYTES, CRC_BYTES = 2, 4
HELLO = 0x80
SEQUENCES = 0x80
"""Sequence numbers."""
OPERATION_BYTES = 4
TICK = 1024
"""Clock cycles: the unit of limits, and how long a register may take to answer."""
MOVING_BITS = 8
"""Low bits of an argument that move, modulo 256: as a limit towards 0, as an address from word to word."""
MARK = 8
"""Bit of a code: STAY or LAST."""


class Code(IntEnum):
    """Operations. ``count`` is one less than the number of words, beats or bytes.

    END
        The program is over.
    WAIT
        Until the interrupt line is high, the device offers a beat, or so many ticks have passed as ``argument`` says:
        the low byte of a number below 0, or 0.
    ECHO
        Gives the bytes that follow.
    IDENTIFY
        Gives the :class:`Identity`, if ``count`` is its size less one.
    READ
        Gives the words at the word address ``argument`` and on, within 256 words; with STAY all from there.
    WRITE
        Writes the words that follow, to addresses as READ; gives a byte for each, 1 if it was refused.
    SEND
        Offers the beats that follow to the device; with LAST the last one ends a packet. Waits, as long as WAIT would
        in all, for the device to take the one before. If it does not, that beat and all behind it, those of
        further SENDs too, are skipped. Gives a byte for each beat, 1 if it was skipped.
    RECEIVE
        Gives beats of the device, up to the end of a packet, as they come; waits for them as WAIT does. The last
        operation of a program, as nothing else says how many they are.
    """

    END = 0
    WAIT = 1
    ECHO = 2
    IDENTIFY = 3
    READ = 4
    WRITE = 5
    SEND = 6
    RECEIVE = 7


class Status(IntFlag):
    """How a program ended, and what the device's lines are then.

    REFUSED
        An access was answered with an error. A read that was refused ends the program and gives nothing; so does any
        read after a refused write.
    STOPPED
        The bus did not answer, which ended the program; or SEND skipped beats.
    LOST
        There is no session (the device was reset, say): nothing was done.
    BAD
        The program's bytes make no sense; it was done up to there.
    LAST
        The latest beat that RECEIVE gave ends a packet.
    INTERRUPT
        Level of the interrupt line.
    OUTPUT
        The device offers a beat.
    PENDING
        A beat that SEND gave is not taken yet.
    """

    REFUSED = 1
    STOPPED = 2
    LOST = 4
    BAD = 8
    LAST = 16
    INTERRUPT = 32
    OUTPUT = 64
    PENDING = 128


class Identity(NamedTuple):
    """What IDENTIFY gives, in this order.

    Attributes
    ----------
    protocol
        :data:`PROTOCOL`.
    beat_bytes
        Bytes of a beat of the streams.
    buffer
        Bytes of the longest frame, stuffing left out.
    config_hash
        Of the device behind the link.
    clock_hz
        Its clock.
    name
        Of the build.
    """

    protocol: int
    beat_bytes: int
    buffer: int
    config_hash: int
    clock_hz: int
    name: str

    def pack(self) -> bytes:
        """32 bytes."""
        return _IDENTITY.pack(*self[:-1], self.name.encode())

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Raises struct.error or ValueError for what is no identity."""
        *numbers, name = _IDENTITY.unpack(data)
        return cls(*numbers, name.rstrip(b"\0").decode("ascii"))


_IDENTITY = struct.Struct("<BBHII20s")
