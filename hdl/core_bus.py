"""The bus between the RISC-V core and its memory and registers."""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CoreBus"]


class CoreBus(wiring.Signature):
    """Words of 32 bits, one transfer at a time, as the master sees it.

    A transfer takes place in a cycle with ``request`` and ``ready`` high, a new one each cycle if both stay high. Once
    ``request`` is high, it and all that describes the transfer hold until then. ``ready`` may depend on them in the
    same cycle; with ``request`` low it means nothing.

    Members
    -------
    request, write : Out(1)
        A transfer is wanted; it is a write.
    addr : Out(30)
        Word address: bits 31 to 2 of the byte address.
    data : Out(32), strobe : Out(4)
        Of a write: the word, and which of its bytes (bit 0: bits 7 to 0) are written. Undefined in a read.
    ready : In(1)
        The slave takes the transfer in this cycle.
    error : In(1)
        Belongs to the cycle of the transfer: the access failed, nothing was written, what is read means nothing.
    read_data : In(32)
        The word of the last transfer, if that was a read: valid from the cycle after the transfer until the next
        transfer inclusive, undefined after a write.
    """

    def __init__(self):
        super().__init__(
            {
                "request": Out(1),
                "write": Out(1),
                "addr": Out(30),
                "data": Out(32),
                "strobe": Out(4),
                "ready": In(1),
                "error": In(1),
                "read_data": In(32),
            }
        )
