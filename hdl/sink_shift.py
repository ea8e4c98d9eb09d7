"""A sink in units of its head's weights."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from reluctant.golden import formats

__all__ = ["SinkShift"]

_COARSE_BITS = 2


class SinkShift(wiring.Component):
    """``formats.round_shift(sink, exponent)``, by four bits a cycle and then by one, in place of a barrel shifter.

    The cycle after ``load`` is the first of ``busy``; ``z`` is right as soon as that is low again, after
    ``exponent // 4 + exponent % 4`` cycles, and holds until ``load`` or ``clear``.

    Members
    -------
    load : In(1)
        Take ``sink`` and ``exponent``.
    clear : In(1)
        ``z`` becomes 0; only while not ``busy``.
    sink : In(24), exponent : In(5)
    z : Out(25)
        The result is ``z[1:] + z[0]``: rounding is left to the adder that follows.
    busy : Out(1)
    """

    def __init__(self):
        super().__init__(
            {
                "load": In(1),
                "clear": In(1),
                "sink": In(formats.SINK_BITS),
                "exponent": In(formats.EXPONENT_BITS),
                "z": Out(formats.SINK_BITS + 1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        rest = Signal(formats.EXPONENT_BITS)
        ones, fours = rest[:_COARSE_BITS], rest[_COARSE_BITS:]
        m.d.comb += self.busy.eq(rest.any())
        with m.If(self.load):
            m.d.sync += [self.z.eq(Cat(Const(0, 1), self.sink)), rest.eq(self.exponent)]
        with m.Elif(self.clear):
            m.d.sync += self.z.eq(0)
        with m.Elif(fours.any()):
            m.d.sync += [self.z.eq(self.z[1 << _COARSE_BITS :]), fours.eq(fours - 1)]
        with m.Elif(ones.any()):
            m.d.sync += [self.z.eq(self.z[1:]), ones.eq(ones - 1)]
        return m
