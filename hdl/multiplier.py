"""The one place that multiplies."""

from amaranth.hdl import Module, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .multiplier_ecp5 import multiplier as ecp5_multiplier
from .technology import vendor_module

__all__ = ["Multiplier"]


BUILDERS = {"ecp5": ecp5_multiplier}
"""Technologies that instantiate their multiplier: see :func:`reluctant.hdl.technology.vendor_module`."""


class Multiplier(wiring.Component):
    """Signed product ``p = a * b``, registered before and after: 2 cycles of latency, one product a cycle.

    Both registers are reset-less, so that they go into a DSP block. Sums of two products must be registered *with*
    reset: Yosys 0.70's ``synth_ice40 -dsp`` miscompiles two reset-less products added into a reset-less register.

    Parameters
    ----------
    a_width, b_width
        Signed operand widths; give an unsigned operand one bit more.

    Members
    -------
    a : In(signed(a_width)), b : In(signed(b_width)), p : Out(signed(a_width + b_width))
    """

    latency = 2

    def __init__(self, a_width: int, b_width: int):
        self.a_width, self.b_width = a_width, b_width
        super().__init__({"a": In(signed(a_width)), "b": In(signed(b_width)), "p": Out(signed(a_width + b_width))})

    def elaborate(self, platform):
        if vendor := vendor_module(BUILDERS, self, platform):
            return vendor
        m = Module()
        a = Signal(signed(self.a_width), reset_less=True)
        b = Signal(signed(self.b_width), reset_less=True)
        p = Signal(Shape(self.a_width + self.b_width, signed=True), reset_less=True)
        m.d.sync += [a.eq(self.a), b.eq(self.b), p.eq(a * b)]
        m.d.comb += self.p.eq(p)
        return m
