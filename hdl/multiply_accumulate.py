"""A product that is added to a sum."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .multiplier import Multiplier
from .multiply_accumulate_ice40 import multiply_accumulate as ice40_multiply_accumulate
from .technology import vendor_module

__all__ = ["MultiplyAccumulate"]

BUILDERS = {"ice40": ice40_multiply_accumulate}
"""Technologies whose multiplier has an adder: see :func:`reluctant.hdl.technology.vendor_module`."""


class MultiplyAccumulate(wiring.Component):
    """``o = o + a * b``, modulo ``2**32``, or ``o = c``. One iCE40 SB_MAC16 without any logic beside it.

    The product of operands is there ``Multiplier.latency`` = 2 cycles after them; ``add`` in that cycle adds it, and
    ``o`` has the sum in the next. ``load`` wins over ``add``; with neither ``o`` holds. ``o`` starts undefined.

    Parameters
    ----------
    a_width, b_width
        Signed operand widths, at most 16.

    Members
    -------
    a : In(signed(a_width)), b : In(signed(b_width))
    c : In(32)
    add, load : In(1)
    o : Out(32)
    """

    latency = Multiplier.latency + 1
    bits = 32

    def __init__(self, a_width: int, b_width: int):
        self.a_width, self.b_width = a_width, b_width
        super().__init__(
            {
                "a": In(signed(a_width)),
                "b": In(signed(b_width)),
                "c": In(self.bits),
                "add": In(1),
                "load": In(1),
                "o": Out(self.bits),
            }
        )

    def elaborate(self, platform):
        if vendor := vendor_module(BUILDERS, self, platform):
            return vendor
        m = Module()
        m.submodules.multiplier = multiplier = Multiplier(self.a_width, self.b_width)
        total = Signal(self.bits, reset_less=True)
        m.d.comb += [multiplier.a.eq(self.a), multiplier.b.eq(self.b), self.o.eq(total)]
        with m.If(self.load):
            m.d.sync += total.eq(self.c)
        with m.Elif(self.add):
            m.d.sync += total.eq(total + multiplier.p)
        return m
