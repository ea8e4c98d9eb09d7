"""When the bits of a serial line begin, or have their middle."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .link_config import STEPS, LinkConfig

__all__ = ["UartTimer"]


class UartTimer(wiring.Component):
    """A pulse for each bit.

    The first ``tick`` is a bit after the cycle of ``restart`` (with ``half`` half a bit, rounded down), the next ones
    follow a bit apart. Bits whose length is no whole number of cycles are long and short ones mixed, so that no tick
    is off by a cycle.

    Parameters
    ----------
    link
        Clock and bit rate.
    half
        Whether the first tick is half a bit after the restart.

    Members
    -------
    restart : In(1)
    tick : Out(1)
    """

    def __init__(self, link: LinkConfig, *, half: bool):
        self.link, self.half = link, half
        super().__init__({"restart": In(1), "tick": Out(1)})

    def elaborate(self, platform):
        m = Module()
        whole, part = divmod(self.link.bit_steps, STEPS)
        first = whole // 2 if self.half else whole
        left = Signal(range(whole + 1))
        m.d.comb += self.tick.eq(left == 0)
        longer = Signal()
        if part:
            phase = Signal(ceil_log2(STEPS))
            with m.If(self.restart):
                m.d.sync += phase.eq(STEPS // 2)
            with m.Elif(self.tick):
                m.d.sync += phase.eq(phase + part)
            m.d.comb += longer.eq(phase >= STEPS - part)
        with m.If(self.restart):
            m.d.sync += left.eq(first - 1)
        with m.Elif(self.tick):
            m.d.sync += left.eq(Mux(longer, whole, whole - 1))
        with m.Else():
            m.d.sync += left.eq(left - 1)
        return m
