"""How a host reaches a unit or a system: registers, packets in and out, the interrupt line.

Only this is asked of a board, or of a simulation (:mod:`reluctant.sim.transport`).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, Self

__all__ = ["Access", "BusError", "NoPacketError", "Transport", "TransportError"]


class TransportError(RuntimeError):
    """What was asked of the device did not happen; the message says what."""


class BusError(TransportError):
    """An access that the device answered with an error (SLVERR).

    Attributes
    ----------
    address
        Byte address.
    word
        What was to be written; None for a read.
    """

    def __init__(self, address: int, word: int | None = None):
        what = f"read of {address:#x}" if word is None else f"write of {word:#x} to {address:#x}"
        super().__init__(f"the {what} was answered with an error (SLVERR)")
        self.address, self.word = address, word


class NoPacketError(TransportError):
    """No output packet came in time; one that comes later is not lost."""


class Access(NamedTuple):
    """One access to a register: a write of ``word``, or a read where that is None."""

    address: int
    word: int | None = None


class Transport(Protocol):
    """A device as its host sees it. Limits are in cycles of the device's clock; 0 asks for what is there now.

    Attributes
    ----------
    beat_bytes
        Bytes of a beat of the streams; packets are whole beats.
    """

    beat_bytes: int

    def read(self, address: int) -> int:
        """The word at a byte address; raises :class:`BusError`."""

    def write(self, address: int, word: int) -> None:
        """Write a word to a byte address; raises :class:`BusError`."""

    def execute(self, accesses: Iterable[Access]) -> list[int]:
        """Many accesses in order, in one round trip to the device; the words of the reads.

        Raises
        ------
        BusError
            For the first that was refused. Writes that follow a refused write without a read between them happen all
            the same; nothing behind these does.
        """

    def write_many(self, writes: Sequence[tuple[int, int]]) -> None:
        """Write (address, word) pairs in order; all of them, then raises :class:`BusError` for the first refused."""

    def read_many(self, addresses: Sequence[int]) -> list[int]:
        """The words at byte addresses; raises :class:`BusError`."""

    def send(self, packet: bytes) -> None:
        """Queue a packet on the input stream, without waiting. Packets go in order, whatever registers do meanwhile.

        Raises
        ------
        ValueError
            If it is not one or more whole beats.
        """

    def unsent(self) -> int:
        """Packets of :meth:`send` whose last beat was not taken, once only the device is what holds them up."""

    def receive(self, limit: int | None = None) -> bytes:
        """The next output packet; waits for ``limit`` cycles, then raises :class:`NoPacketError`.

        None waits for as long as the transport thinks fit.
        """

    def wait(self, limit: int | None = None) -> bool:
        """Wait until the interrupt line is high, for ``limit`` cycles at most; whether it is."""

    def poll(self) -> bool:
        """Whether the interrupt line is high. At least a cycle passes between two calls."""

    def close(self) -> None:
        """Let go of the device; calling it twice does no harm, any other call after it raises TransportError."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...
