"""Keeps the rules of the output stream when the unit is reset in the middle of an answer."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import UnitConfig
from .result_packer import result_beat

__all__ = ["ResultGate"]


class ResultGate(wiring.Component):
    """Between the unit's results and the output port: a register, which the unit's soft reset leaves alone.

    Latency 1 cycle, one beat a cycle. A beat that is offered stays until it is taken. ``reset`` ends the packet that is
    under way with one more beat, which has ``last`` and no meaning. With serial phases there is no register and no
    latency, to save its area: what a beat holds that is offered when the unit is reset may change then.

    Parameters
    ----------
    config
        The unit.

    Members
    -------
    i : In(stream(result_beat(config)))
        Need not hold what it offered when the unit is reset; must then be quiet until ``reset``.
    o : Out(stream(result_beat(config)))
    reset : In(1)
        The unit was reset.
    """

    def __init__(self, config: UnitConfig):
        beats = stream.Signature(result_beat(config))
        self.direct = config.phases == "serial"
        super().__init__({"i": In(beats), "o": Out(beats), "reset": In(1)})

    def _direct(self) -> Module:
        """No register: the beats of the unit, and one that ends its packet."""
        m = Module()
        under_way, ending, more, waiting, withdrawn = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            withdrawn.eq(waiting & ~self.i.valid),
            self.o.valid.eq(self.i.valid | ending | withdrawn),
            self.o.payload.data.eq(self.i.payload.data),
            self.o.payload.last.eq(self.i.payload.last | ending | withdrawn),
            self.i.ready.eq(self.o.ready & ~ending),
            more.eq(Mux(self.o.valid, ~(self.o.ready & self.o.payload.last), under_way)),
        ]
        m.d.sync += [under_way.eq(more), waiting.eq(self.o.valid & ~self.o.ready)]
        with m.If(self.o.ready):
            m.d.sync += ending.eq(0)
        with m.If(self.reset & more):
            m.d.sync += ending.eq(1)
        return m

    def elaborate(self, platform):
        if self.direct:
            return self._direct()
        m = Module()
        valid, beat = Signal(), Signal.like(self.o.payload, reset_less=True)
        under_way, ending, room, more = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            room.eq(~valid | self.o.ready),
            self.i.ready.eq(room & ~ending),
            self.o.valid.eq(valid),
            self.o.payload.eq(beat),
            more.eq(under_way),
        ]
        with m.If(room):
            m.d.sync += [valid.eq(self.i.valid | ending), beat.eq(self.i.payload)]
            with m.If(ending):
                m.d.sync += [beat.last.eq(1), ending.eq(0)]
                m.d.comb += more.eq(0)
            with m.Elif(self.i.valid):
                m.d.comb += more.eq(~self.i.payload.last)
        m.d.sync += under_way.eq(more)
        with m.If(self.reset & more):
            m.d.sync += ending.eq(1)
        return m
