"""Takes a stream to another clock."""

from amaranth.hdl import Module, Shape, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["StreamCrossing"]

DEPTH = 16
"""Payloads: as many as LUT RAM holds in one cell of each bit, and enough for a payload in each cycle of the slower
clock, as a place is free again 7 to 9 cycles after it was filled."""


class StreamCrossing(wiring.Component):
    """A queue of 16 payloads between two clocks of any ratio and phase, in LUT RAM.

    One payload a cycle of the slower clock; latency 1 cycle of ``i_domain`` and 2 to 3 of ``o_domain``. The pointers
    cross in Gray code. The queue becomes empty by the reset of ``i_domain``, which must come from a flip-flop; that of
    ``o_domain`` leaves it alone.

    Parameters
    ----------
    shape
        Of the payload.
    i_domain, o_domain
        Clock domains of the two sides.

    Members
    -------
    i : In(stream), o : Out(stream)
    empty : Out(1)
        On the clock of ``i_domain``: all payloads were taken from ``o``. Late in rising, never in falling.
    """

    def __init__(self, shape, *, i_domain: str, o_domain: str):
        self.shape, self.i_domain, self.o_domain = shape, i_domain, o_domain
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "empty": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = queue = fifo.AsyncFIFO(
            width=Shape.cast(self.shape).width, depth=DEPTH, w_domain=self.i_domain, r_domain=self.o_domain
        )
        filled = Signal()  # in the cycle before: the queue's level does not tell of it yet
        m.d[self.i_domain] += filled.eq(self.i.valid & self.i.ready)
        m.d.comb += [
            queue.w_data.eq(self.i.payload),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
            self.empty.eq((queue.w_level == 0) & ~filled),
        ]
        payload = self.o.payload
        m.d.comb += (payload.as_value() if hasattr(payload, "as_value") else payload).eq(queue.r_data)
        return m
