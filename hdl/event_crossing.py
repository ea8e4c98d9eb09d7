"""Takes single pulses to another clock."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["EventCrossing"]


class EventCrossing(wiring.Component):
    """Says on another clock that something happened: a pulse out follows each pulse in, and none comes without one.

    The clocks may have any ratio and phase, and pulses may come in any cycle. A toggle carries a pulse through two
    flip-flops and comes back through two; pulses in the meantime are merged into one, which goes when the toggle is
    back. So a pulse leaves 3 to 4 cycles of ``o_domain`` after one that finds the toggle at home.

    The domains' resets are expected together, see :class:`~reluctant.hdl.unit_domain.UnitDomain`.

    Parameters
    ----------
    i_domain, o_domain
        Clock domains of the two sides.

    Members
    -------
    i : In(1), o : Out(1)
    """

    def __init__(self, *, i_domain: str, o_domain: str):
        self.i_domain, self.o_domain = i_domain, o_domain
        super().__init__({"i": In(1), "o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        sent, got, seen, back = Signal(), Signal(), Signal(), Signal()
        m.submodules.there = FFSynchronizer(sent, got, o_domain=self.o_domain)
        m.submodules.home = FFSynchronizer(seen, back, o_domain=self.i_domain)
        waits, pulse = Signal(), Signal()
        with m.If(sent == back):
            m.d[self.i_domain] += [sent.eq(sent ^ (waits | self.i)), waits.eq(0)]
        with m.Elif(self.i):
            m.d[self.i_domain] += waits.eq(1)
        m.d[self.o_domain] += [seen.eq(got), pulse.eq(got ^ seen)]
        m.d.comb += self.o.eq(pulse)
        return m
