"""CRC-32 of the frames on a serial line."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LinkCrc"]

WIDTH = 32
POLYNOMIAL = 0xEDB88320
"""Of CRC-32 (ISO HDLC, zlib), lowest bit first."""
RESIDUE = 0xDEBB20E3
"""What the register holds after a message and its CRC: the same for all messages."""


class LinkCrc(wiring.Component):
    """One bit a cycle, as a byte takes 40 cycles or more on the line.

    A byte is loaded in the cycle of ``load``; for the 8 cycles after it ``busy`` is high and the byte is not to be
    looked at. With ``out`` the byte is the next one of the CRC instead, lowest first.

    Members
    -------
    clear : In(1)
        A new message.
    load : In(1), data : In(8), out : In(1)
        Ignored while ``busy``.
    busy : Out(1)
    byte : Out(8)
        What was loaded.
    right : Out(1)
        All bytes since ``clear`` are a message and its CRC.
    """

    def __init__(self):
        super().__init__(
            {
                "clear": In(1),
                "load": In(1),
                "data": In(8),
                "out": In(1),
                "busy": Out(1),
                "byte": Out(8),
                "right": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        crc, left, out = Signal(WIDTH, init=(1 << WIDTH) - 1), Signal(4), Signal()
        feedback, bit = Signal(), Signal()
        m.d.comb += [
            self.busy.eq(left != 0),
            self.right.eq(crc == RESIDUE),
            feedback.eq(~out & (crc[0] ^ self.byte[0])),
            bit.eq(Mux(out, ~crc[0], self.byte[0])),
        ]
        with m.If(self.busy):
            m.d.sync += [left.eq(left - 1), self.byte.eq(Cat(self.byte[1:], bit))]
            m.d.sync += crc.eq(crc[1:] ^ Mux(feedback, POLYNOMIAL, 0))
        with m.Elif(self.load):
            m.d.sync += [left.eq(8), self.byte.eq(self.data), out.eq(self.out)]
        with m.If(self.clear):
            m.d.sync += crc.eq((1 << WIDTH) - 1)
        return m
