"""ReLU weights: shifted scores cut to 8 bits under the block exponent of their head."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from reluctant.golden import formats

__all__ = ["BlockShift"]


class BlockShift(wiring.Component):
    """``doubled = (2 * shifted) >> exponent``: twice a ReLU weight, truncated.

    ``exponent`` is :func:`formats.block_exponent` of a magnitude that covers ``shifted``. Latency 2 cycles, or none if
    not ``registered``, one result a cycle. :func:`formats.relu_weight` is ``min(255, (doubled + 1) >> 1)``.

    Parameters
    ----------
    width
        Bits of ``shifted``, at most 24.
    registered
        Build the two registers.

    Members
    -------
    shifted : In(width), exponent : In(5), doubled : Out(9)
    """

    latency = 2
    bits = formats.WEIGHT_BITS + 1

    def __init__(self, width: int, registered: bool = True):
        if not 1 <= width <= 24:
            raise ValueError(f"width is {width!r}: 1 to 24 is allowed")
        self.width, self.registered = width, registered
        super().__init__({"shifted": In(width), "exponent": In(formats.EXPONENT_BITS), "doubled": Out(self.bits)})

    def elaborate(self, platform):
        m = Module()
        coarse = Signal(self.bits + 7, reset_less=True)
        fine = Signal(3, reset_less=True)
        doubled = Signal(self.bits, reset_less=True)
        twice = Cat(0, self.shifted)
        domain = m.d.sync if self.registered else m.d.comb
        domain += [
            coarse.eq(Mux(self.exponent[4], twice[16:], Mux(self.exponent[3], twice[8:], twice))),
            fine.eq(self.exponent[:3]),
            doubled.eq(coarse >> fine),
        ]
        m.d.comb += self.doubled.eq(doubled)
        return m
