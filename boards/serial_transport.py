"""A device at the other end of a serial line, behind the interface of every transport."""

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Self

from reluctant.hdl.link_protocol import OPERATION_BYTES, TICK, Code, Identity, Status

from .link_accesses import Run, programs, read_outcome
from .link_frames import line_bytes
from .link_outbox import Outbox
from .link_session import LinkSession, SerialPort, operation
from .transport import Access, BusError, NoPacketError, TransportError

__all__ = ["BusTimeoutError", "SerialTransport", "identify", "open_port", "open_serial"]

PATIENCE = 1 << 24
"""Cycles to wait where a call does not say."""
MOST_TICKS = 0xFF
MOST_BEATS = 256
"""Of a RECEIVE."""
FRAMING = 2
"""Bytes of a request beside length, CRC and operations: header and END. A reply has as many: header and status."""
SLICE_SECONDS = 0.004
"""How long the device waits at a time: a few times what a USB adapter takes."""
BLOCKED_TICKS = 16
"""How long it waits for anything else, while packets wait for the device."""
SEND_TICKS = 2
"""How long it waits for beats to be taken."""
GATHER_TICKS = 2
"""How long it waits for more beats, where the interrupt was waited for."""


class BusTimeoutError(TransportError):
    """A register does not answer at all."""


class SerialTransport:
    """A :class:`reluctant.boards.transport.Transport` over a serial line.

    Every request is done exactly once, in order, however often the line loses or damages bytes. Packets that were sent
    go with whatever is asked next; packets of the device are taken whenever there are any. Limits are rounded up to
    multiples of 1,024 cycles.

    Parameters
    ----------
    port
        pyserial's ``Serial``, or what has its methods.
    timeout
        Seconds, beside those that the line needs, after which an answer counts as lost.
    patience
        Cycles that a call without a limit waits.
    patience_seconds
        Seconds without any answer after which nobody is there.

    Attributes
    ----------
    identity
        What the device says of itself.
    beat_bytes
        Bytes of a beat.

    Raises
    ------
    NoAnswerError
        From any call, when nobody answers.
    DeviceResetError
        From any call, when the device was reset meanwhile.
    """

    def __init__(
        self, port: SerialPort, *, timeout: float = 0.05, patience: int = PATIENCE, patience_seconds: float = 10.0
    ):
        self.session = LinkSession(port, timeout=timeout, patience=patience_seconds)
        self.patience = patience
        self.identity: Identity = self.session.hello()
        self.beat_bytes = self.identity.beat_bytes
        self._room = self.identity.buffer - 1 - line_bytes(FRAMING)
        self._slice = max(1, min(MOST_TICKS, int(SLICE_SECONDS * self.identity.clock_hz) // TICK))
        self._outbox = Outbox(self.beat_bytes)
        self._inbox: deque[bytes] = deque()
        self._packet = bytearray()
        self._status = Status(0)
        self._holding = False
        self._open = True

    def read(self, address: int) -> int:
        """See :class:`Transport`."""
        return self.execute([Access(address)])[0]

    def write(self, address: int, word: int) -> None:
        """See :class:`Transport`."""
        self.execute([Access(address, word)])

    def execute(self, accesses: Iterable[Access]) -> list[int]:
        """See :class:`Transport`."""
        accesses = [Access(*access) for access in accesses]
        words: list[int] = []
        refused, done = None, 0
        todo = programs(accesses, self._room)
        for made in todo:
            outcome = self._exchange(made)
            words += outcome.words
            if outcome.refused is not None:
                refused = done + outcome.refused
                break
            done += sum(len(run.words) for run in made)
        if refused is None:
            return words
        if outcome.whole:  # the writes that follow up to the next read happen all the same
            done += sum(len(run.words) for run in made)
            writes = list(itertools.takewhile(lambda access: access.word is not None, accesses[done:]))
            for made in programs(writes, self._room):
                self._exchange(made)
        raise BusError(*accesses[refused])

    def write_many(self, writes: Sequence[tuple[int, int]]) -> None:
        """See :class:`Transport`."""
        self.execute(Access(address, word) for address, word in writes)

    def read_many(self, addresses: Sequence[int]) -> list[int]:
        """See :class:`Transport`."""
        return self.execute(Access(address) for address in addresses)

    def send(self, packet: bytes) -> None:
        """See :class:`Transport`."""
        self._check_open()
        if not packet or len(packet) % self.beat_bytes:
            raise ValueError(f"a packet has {len(packet)} bytes: whole beats of {self.beat_bytes} are needed")
        self._outbox.add(packet)

    def unsent(self) -> int:
        """See :class:`Transport`."""
        self._exchange()
        while self._outbox and not self._outbox.blocked:
            self._exchange()
        ends_packet = Status.PENDING in self._status and not self._outbox.begun
        return len(self._outbox) + ends_packet

    def receive(self, limit: int | None = None) -> bytes:
        """See :class:`Transport`; a packet that has come already takes no time."""
        limit = self.patience if limit is None else limit
        left = _ticks(limit)
        while not self._inbox:
            before, patience = len(self._packet), self._share(left)
            self._exchange(receive=patience)
            if self._inbox:
                break
            if len(self._packet) == before:
                left -= patience
                if left <= 0 and not self._hurries:
                    raise NoPacketError(f"no output packet came within {limit} cycles")
        self._check_open()
        return self._inbox.popleft()

    def wait(self, limit: int | None = None) -> bool:
        """See :class:`Transport`."""
        left = _ticks(self.patience if limit is None else limit)
        while True:
            before, patience = (len(self._inbox), len(self._packet)), self._share(left)
            self._exchange(wait=patience, receive=GATHER_TICKS if patience else 0)
            if Status.INTERRUPT in self._status:
                return True
            if (len(self._inbox), len(self._packet)) == before:
                left -= patience
                if left <= 0 and not self._hurries:
                    return False

    def poll(self) -> bool:
        """See :class:`Transport`."""
        self._exchange()
        return Status.INTERRUPT in self._status

    def hold_results(self, holding: bool) -> None:
        """Take no output any more, as a host that does not read; or go on."""
        self._holding = holding

    def close(self) -> None:
        """See :class:`Transport`."""
        if self._open:
            self._open = False
            self.session.port.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # Parts ------------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if not self._open:
            raise TransportError("the serial port is closed")

    @property
    def _hurries(self) -> bool:
        """Whether there is more to send that the device takes."""
        return bool(self._outbox) and not self._outbox.blocked

    def _share(self, left: int) -> int:
        """Ticks to wait in the next request, of those that are left."""
        most = self._slice if not self._outbox else BLOCKED_TICKS if self._outbox.blocked else 0
        return max(0, min(left, most))

    def _exchange(self, made: Sequence[Run] = (), wait: int = 0, receive: int = 0):
        """One request: accesses, then packets to the device as they fit, a wait for the interrupt, packets from it.

        Parameters
        ----------
        made
            Accesses, as :func:`programs` gives them.
        wait, receive
            Ticks to wait for the interrupt, or for beats.

        Returns
        -------
        Outcome
            Of the accesses.
        """
        self._check_open()
        given = sum(len(run.words) * (1 if run.writes else 4) for run in made)
        operations = [run.encode() for run in made]
        asked = sum(map(len, operations)) + 2 * OPERATION_BYTES
        parts = self._outbox.parts(self._room - asked, self._room - given)
        given += sum(part.beats for part in parts)
        for part in parts:
            operations.append(operation(Code.SEND, part.beats, -SEND_TICKS, mark=part.last, data=part.data))
        if wait:
            operations.append(operation(Code.WAIT, argument=-wait))
        beats = min((self._room - given) // self.beat_bytes, MOST_BEATS)
        if beats > 0 and not self._holding and sum(map(len, operations)) + OPERATION_BYTES <= self._room:
            operations.append(operation(Code.RECEIVE, beats, argument=-receive))
        reply = self.session.ask(b"".join(operations), (wait + receive + SEND_TICKS) * TICK)
        self._status = reply.status
        outcome = read_outcome(made, reply.body)
        if outcome.whole:
            self._settle(sum(part.beats for part in parts), outcome.rest)
        elif Status.REFUSED not in reply.status:
            raise BusTimeoutError("a register did not answer at all")
        return outcome

    def _settle(self, beats: int, given: bytes) -> None:
        """What SENDs of so many beats, and RECEIVE, gave."""
        self._outbox.settle(beats, given[:beats].count(0))
        self._packet += given[beats:]
        if Status.LAST in self._status:
            self._inbox.append(bytes(self._packet))
            self._packet.clear()


def _ticks(cycles: int) -> int:
    return -(-cycles // TICK)


def open_port(port: str, baud: int):
    """pyserial's port, locked, with what can be done about its latency; raises TransportError."""
    import serial

    try:
        line = serial.Serial(port, baud, exclusive=True, write_timeout=10)
    except (OSError, ValueError) as error:  # serial.SerialException is an OSError
        raise TransportError(f"{port} cannot be opened with {baud} baud: {error}") from error
    with suppress(OSError, ValueError, AttributeError, NotImplementedError):
        line.set_low_latency_mode(True)  # Linux alone has it, and not for every adapter
    return line


def open_serial(port: str, baud: int, **options) -> SerialTransport:
    """The device at a serial port; ``options`` are parameters of :class:`SerialTransport`.

    Raises
    ------
    TransportError
        If the port cannot be opened, or nobody answers.
    """
    line = open_port(port, baud)
    try:
        return SerialTransport(line, **options)
    except BaseException:
        line.close()
        raise


def identify(port: str, baud: int) -> Identity:
    """What the device at a serial port says of itself; raises TransportError."""
    with open_serial(port, baud) as transport:
        return transport.identity
