"""The bus between the RISC-V core and its memory and registers."""

from amaranth.hdl import Cat
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CoreBus", "SlaveBus", "by_fours"]

COMMON = {
    "request": Out(1),
    "write": Out(1),
    "addr": Out(30),
    "data": Out(32),
    "strobe": Out(4),
    "ready": In(1),
    "error": In(1),
    "word": In(32),
}


class SlaveBus(wiring.Signature):
    """Words of 32 bits, one transfer at a time, as the master sees it.

    A transfer begins in a cycle with ``request`` high and ends in a later cycle: the next one with ``ready`` high. The
    master only asks while ``ready`` is high, so a transfer may begin in the cycle that ends the one before. A master
    that is reset in between leaves its transfer to its end. ``addr`` comes late in its cycle: a slave looks at it
    closely in the cycle after.

    Members
    -------
    request, write : Out(1)
        A transfer begins; it is a write.
    addr : Out(30)
        Word address: bits 31 to 2 of the byte address. It and ``write`` are there in the cycle of ``request`` only.
    data : Out(32), strobe : Out(4)
        Of a write: the word, and which of its bytes (bit 0: bits 7 to 0) are written, from the cycle after ``request``
        to the end of the transfer. Else undefined.
    ready : In(1)
        No transfer is under way, or it ends in this cycle.
    error : In(1)
        The transfer that ends fails: nothing was written, what is read means nothing.
    word : In(32)
        The word of the latest transfer, if that was a read. Memory's, and its ``error``, hold from the end of the
        transfer to the cycle of the next ``request``.
    """

    def __init__(self):
        super().__init__(COMMON)


class CoreBus(wiring.Signature):
    """The core's end of the bus: ``word`` is memory's, from which alone instructions come; data has a way of its own.

    Members
    -------
    request, write, addr, data, strobe, ready, error, word
        As in :class:`SlaveBus`.
    from_memory : In(1)
        The latest transfer was for memory; holds as ``word`` does.
    read_data : In(32)
        The word, in the cycle that ends a transfer that reads data.
    """

    def __init__(self):
        super().__init__(COMMON | {"from_memory": In(1), "read_data": In(32)})


def by_fours(bits):
    """Which groups of four of ``bits`` have a bit that is high: as much as a slave finds out in the cycle of addr."""
    return Cat(bits[at : at + 4].any() for at in range(0, len(bits), 4))
