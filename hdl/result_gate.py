"""Keeps the rules of the output stream when the unit is reset in the middle of an answer."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import UnitConfig
from .result_packer import result_beat

__all__ = ["ResultGate"]


class ResultGate(wiring.Component):
    """Between the unit's results and the output port: a register, which the unit's soft reset leaves alone.

    Latency 1 cycle, one beat a cycle. A beat that is offered stays until it is taken. ``reset`` ends the packet that is
    under way with one more beat, which has ``last`` and no meaning.

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
        super().__init__({"i": In(beats), "o": Out(beats), "reset": In(1)})

    def elaborate(self, platform):
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
