"""A session with the serial link of a device: each request is done once, however often the line damages it."""

import random
import struct
import time
from typing import NamedTuple, Protocol

from reluctant.hdl.link_protocol import (
    HELLO,
    MARK,
    OPERATION_BYTES,
    PROTOCOL,
    SEQUENCES,
    Code,
    Identity,
    Status,
)

from .link_frames import FrameReader, encode_frame
from .transport import TransportError

__all__ = [
    "DeviceResetError",
    "LinkSession",
    "NoAnswerError",
    "Reply",
    "SerialPort",
    "WrongLinkError",
    "operation",
]

NONCE_BYTES = 8
BITS = 10
"""Of a byte on the line."""
LONGEST_TIMEOUT = 1.0
READ_BYTES = 65536
LOOK_SECONDS = 0.005
"""Between two looks at the clock while nothing comes."""


class NoAnswerError(TransportError):
    """Nothing that makes sense came back, however often it was asked for."""


class DeviceResetError(TransportError):
    """The device was reset, or another host has spoken to it: whatever was under way is lost."""


class WrongLinkError(TransportError):
    """What answers speaks another version of the protocol."""


class SerialPort(Protocol):
    """What is used of pyserial's ``Serial``."""

    timeout: float | None
    in_waiting: int

    def read(self, size: int) -> bytes: ...

    def write(self, data: bytes) -> int | None: ...

    def reset_input_buffer(self) -> None: ...

    def close(self) -> None: ...


class Reply(NamedTuple):
    """Of a request."""

    status: Status
    body: bytes


def operation(code: Code, count: int = 1, argument: int = 0, *, mark: bool = False, data: bytes = b"") -> bytes:
    """Bytes of an operation on ``count`` things; ``mark`` is STAY or LAST."""
    head = struct.pack("<BBH", code | (MARK if mark else 0), count - 1, argument & 0xFFFF)
    assert len(head) == OPERATION_BYTES
    return head + data


class LinkSession:
    """Sends a request until its reply comes.

    Parameters
    ----------
    port
        The line.
    timeout
        Seconds, beside those on the line, after which an answer counts as lost.
    patience
        Seconds without any answer until it gives up.

    Attributes
    ----------
    identity
        What the device says of itself; from :meth:`hello`.
    retries
        How often something was sent again.
    """

    def __init__(self, port: SerialPort, *, timeout: float = 0.05, patience: float = 10.0):
        self.port, self.timeout, self.patience = port, timeout, patience
        port.timeout = LOOK_SECONDS  # once, as pyserial sets the whole port up again each time
        self.identity: Identity | None = None
        self.retries = 0
        self._reader = FrameReader()
        self._sequence = 0
        self._name = getattr(port, "name", None) or "the serial port"
        self._baud = getattr(port, "baudrate", None) or 115200

    def hello(self) -> Identity:
        """Begin a session, whatever was before: on the line, in the device, or with another host.

        Raises
        ------
        NoAnswerError
            If nobody answers.
        WrongLinkError
            If what answers is not this protocol.
        """
        self.port.reset_input_buffer()
        self._reader.clear()
        nonce = random.SystemRandom().randbytes(NONCE_BYTES)
        self._sequence = nonce[0] % SEQUENCES
        size = len(Identity(0, 0, 0, 0, 0, "").pack())
        program = operation(Code.ECHO, len(nonce), data=nonce) + operation(Code.IDENTIFY, size)
        reply = self._ask(self._sequence | HELLO, program, nonce)
        self.identity = Identity.unpack(reply.body[NONCE_BYTES:]) if len(reply.body) == NONCE_BYTES + size else None
        if self.identity is None or self.identity.protocol != PROTOCOL:
            raise WrongLinkError(f"{self._name}: the device speaks another protocol than version {PROTOCOL}")
        return self.identity

    def ask(self, program: bytes, cycles: int = 0) -> Reply:
        """Have a program (END left out) done, once.

        Parameters
        ----------
        cycles
            Of the device's clock that it may wait.

        Raises
        ------
        DeviceResetError
            If the device knows of no session: whether the program was done is not known.
        NoAnswerError
            If nobody answers.
        """
        self._sequence = (self._sequence + 1) % SEQUENCES
        reply = self._ask(self._sequence, program, b"", cycles / self.identity.clock_hz)
        if reply.status & Status.LOST:
            raise DeviceResetError(f"{self._name}: the device was reset, and does not know what was asked before")
        if reply.status & Status.BAD:
            raise TransportError(f"{self._name}: the device does not understand a request")
        return reply

    def _ask(self, header: int, program: bytes, beginning: bytes, seconds: float = 0.0) -> Reply:
        """The reply whose body has this ``beginning``."""
        frame = encode_frame(bytes([header]) + program + bytes([Code.END]))
        longest = self.identity.buffer if self.identity else 256
        timeout = self.timeout + seconds + (len(frame) + longest) * BITS / self._baud
        begin = time.monotonic()
        tries = 0
        while tries < 3 or time.monotonic() < begin + self.patience:
            self.retries += tries > 0
            tries += 1
            try:
                self.port.write(frame)
                reply = self._await(header, beginning, timeout)
            except OSError as error:  # serial.SerialException is one
                raise TransportError(f"{self._name}: the port has gone: {error}") from error
            if reply is not None:
                return reply
            timeout = min(2 * timeout, max(timeout, LONGEST_TIMEOUT))
        raise NoAnswerError(
            f"{self._name}: no answer to {tries} tries within {time.monotonic() - begin:.1f} s. Is it the right port,"
            f" is the device's link built for {self._baud} baud, is its bitstream loaded, its reset released?"
        )

    def _await(self, header: int, beginning: bytes, timeout: float) -> Reply | None:
        """The reply, or None when it should have been here, or came damaged."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            data = self.port.read(1)
            if data:
                data += self.port.read(min(self.port.in_waiting, READ_BYTES))
            frames = self._reader.feed(data)
            for content in frames.contents:
                if len(content) >= 2 and content[0] == header and content[1:].startswith(beginning):
                    return Reply(Status(content[-1]), content[1:-1])
            if frames.damaged:
                return None
        return None
