"""Bytes from a serial line."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from .link_config import LinkConfig
from .uart_timer import UartTimer

__all__ = ["UartReceiver"]


class UartReceiver(wiring.Component):
    """Eight bits, lowest first, after a start bit and before a stop bit; each is sampled in its middle.

    A start bit that is over at its middle was noise. A byte without a stop bit is dropped, and the next one begins
    with the line's next fall: a line that stays low gives no bytes.

    Parameters
    ----------
    link
        Clock and bit rate.

    Members
    -------
    rx : In(1)
        The line, of no clock; high when idle.
    valid : Out(1)
        One cycle for each byte.
    data : Out(8)
        The byte, while ``valid``.
    """

    def __init__(self, link: LinkConfig):
        self.link = link
        super().__init__({"rx": In(1, init=1), "valid": Out(1), "data": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.timer = timer = UartTimer(self.link, half=True)
        line, before = Signal(init=1), Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        m.d.sync += before.eq(line)
        busy, bit = Signal(), Signal(4)
        m.d.comb += [
            timer.restart.eq(~busy & before & ~line),
            self.valid.eq(busy & timer.tick & line & (bit == 9)),
        ]
        with m.If(~busy):
            m.d.sync += [busy.eq(timer.restart), bit.eq(0)]
        with m.Elif(timer.tick):
            m.d.sync += bit.eq(bit + 1)
            with m.If(bit == 9):
                m.d.sync += busy.eq(0)
            with m.Elif((bit == 0) & line):
                m.d.sync += busy.eq(0)
            with m.Else():
                m.d.sync += self.data.eq(Cat(self.data[1:], line))
        return m
