"""Bytes to a serial line."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .link_config import LinkConfig
from .uart_timer import UartTimer

__all__ = ["UartTransmitter"]

BITS = 10
"""Start bit, data, stop bit."""


class UartTransmitter(wiring.Component):
    """A start bit, eight bits, lowest first, a stop bit. A byte is taken when the one before was sent.

    Parameters
    ----------
    link
        Clock and bit rate.

    Members
    -------
    i : In(stream(8))
    tx : Out(1)
        High when idle; a flip-flop.
    """

    def __init__(self, link: LinkConfig):
        self.link = link
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.timer = timer = UartTimer(self.link, half=False)
        bits, left = Signal(BITS - 1, init=(1 << BITS - 1) - 1), Signal(range(BITS + 1))
        start = Signal()
        m.d.comb += [
            self.i.ready.eq(left == 0),
            start.eq(self.i.valid & self.i.ready),
            timer.restart.eq(start),
            self.tx.eq(bits[0]),
        ]
        with m.If(start):
            m.d.sync += [bits.eq(Cat(Const(0, 1), self.i.payload)), left.eq(BITS)]
        with m.Elif(timer.tick & ~self.i.ready):
            m.d.sync += [bits.eq(Cat(bits[1:], Const(1, 1))), left.eq(left - 1)]
        return m
