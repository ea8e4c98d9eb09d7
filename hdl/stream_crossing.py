"""Takes a stream to another clock."""

from amaranth.hdl import Cat, Module, Shape, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["StreamCrossing"]

DEPTH = 16
"""Payloads: as many as LUT RAM holds in one cell of each bit, and enough for a payload in each cycle of the slower
clock, as a place is free again about 9 cycles after it was filled."""
BITS = 5
"""Of a number of payloads, modulo twice the depth: full and empty differ."""


def _gray(number):
    """Gray code of ``BITS`` bits."""
    return number ^ number[1:]


class StreamCrossing(wiring.Component):
    """A queue of 16 payloads between two clocks of any ratio and phase, in LUT RAM.

    One payload a cycle of the slower clock; latency 1 cycle of ``i_domain`` and 3 to 4 of ``o_domain``. The numbers of
    payloads put in and taken cross in Gray code, so that a synchroniser gives the number before or after a change.

    Amaranth's ``AsyncFIFO`` decides in a cycle what it reads in the same: with 64 lanes that held ECP5 to 111 MHz. Here
    the address and ``o.payload`` are registers.

    The domains' resets are expected together, see :class:`~reluctant.hdl.unit_domain.UnitDomain`.

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
        On the clock of ``i_domain``: all payloads were taken from ``o``. Low from the cycle after one was put in; rises
        a cycle later than the synchroniser of a level that changed with the transfer.
    """

    def __init__(self, shape, *, i_domain: str, o_domain: str):
        self.shape, self.i_domain, self.o_domain = shape, i_domain, o_domain
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "empty": Out(1)})

    def elaborate(self, platform):
        m = Module()
        # Written on one clock and read on another: no Ram of memory.py, which has one.
        m.submodules.memory = memory = Memory(shape=unsigned(Shape.cast(self.shape).width), depth=DEPTH, init=())
        filled, taken = Signal(BITS), Signal(BITS)  # numbers of payloads in Gray code, each on its own side
        filled_there, taken_here = Signal(BITS), Signal(BITS)
        m.submodules.there = FFSynchronizer(filled, filled_there, o_domain=self.o_domain)
        m.submodules.home = FFSynchronizer(taken, taken_here, o_domain=self.i_domain)
        self._fill(m, memory.write_port(domain=self.i_domain), filled, taken_here)
        self._take(m, memory.read_port(domain=self.o_domain), filled_there, taken)
        return m

    def _fill(self, m: Module, port, filled, taken):
        """What enters. Whether there is room is known a cycle before it is used."""
        count, following, room, taken_before = Signal(BITS), Signal(BITS), Signal(init=1), Signal(BITS)
        write = self.i.valid & room
        full = Cat(taken[:-2], ~taken[-2:])  # in Gray code: a depth more than was taken
        m.d.comb += [
            following.eq(count + 1),
            port.addr.eq(count),
            port.data.eq(self.i.payload),
            port.en.eq(write),
            self.i.ready.eq(room),
            self.empty.eq(filled == taken_before),
        ]
        m.d[self.i_domain] += [taken_before.eq(taken), room.eq(_gray(count) != full)]
        with m.If(write):
            m.d[self.i_domain] += [
                count.eq(following),
                filled.eq(_gray(following)),
                room.eq(_gray(following) != full),
            ]

    def _take(self, m: Module, port, filled, taken):
        """What leaves. The memory's output is the payload on offer; a new one is read when that is taken."""
        count, following, gray, offered, free = Signal(BITS), Signal(BITS), Signal(BITS), Signal(), Signal()
        payload = self.o.payload
        m.d.comb += [
            following.eq(count + 1),
            free.eq(~offered | self.o.ready),
            port.addr.eq(count),
            port.en.eq(free),
            self.o.valid.eq(offered),
            (payload.as_value() if hasattr(payload, "as_value") else payload).eq(port.data),
        ]
        with m.If(free):
            m.d[self.o_domain] += [offered.eq(gray != filled), taken.eq(gray)]
            with m.If(gray != filled):
                m.d[self.o_domain] += [count.eq(following), gray.eq(_gray(following))]
