"""Arithmetic of the RISC-V core: adder, logic, comparison and the steps of shifts."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Alu", "Logic", "Step"]


class Logic(enum.Enum, shape=unsigned(2)):
    """What a part of the result is made of, besides a shift step."""

    DIRECT = 0  # the sum, or exclusive or
    AND = 1  # with ``logic`` high
    OR = 2  # with ``logic`` high
    ZERO = 3


class Step(enum.Enum, shape=unsigned(2)):
    """Shift of ``a`` that is added to the result."""

    NONE = 0
    RIGHT_1 = 1
    RIGHT_8 = 2
    LEFT_8 = 3


class Alu(wiring.Component):
    """Combinational; made so that an iCE40 spends 4 logic cells a bit on it: adder, logic and 2 for shift steps.

    A shift left by 1 is ``a + a``. The three parts of a word that extension of bytes and halfwords tells apart (bits 7
    to 0, 15 to 8, 31 to 16) are controlled apart.

    Members
    -------
    a, b : In(32)
        ``b`` already inverted for subtractions and comparisons.
    carry : In(1)
        Added to ``a + b``.
    logic : In(1)
        ``direct`` is ``a ^ b`` instead of the sum.
    parts : In(Logic) * 3
    step : In(Step)
    arithmetic : In(1)
        Steps to the right shift the sign in.
    unsigned : In(1), compare : In(1)
        Bit 0 of the result is also set by ``less`` when ``compare`` is high.
    direct : Out(32)
    result : Out(32)
    carry_out : Out(1)
        Of the sum.
    less : Out(1)
        ``a`` is less than what was inverted to ``b``; with ``carry`` high.
    zero : Out(1)
        ``direct`` is 0.
    """

    def __init__(self):
        super().__init__(
            {
                "a": In(32),
                "b": In(32),
                "carry": In(1),
                "logic": In(1),
                "parts": In(Logic).array(3),
                "step": In(Step),
                "arithmetic": In(1),
                "unsigned": In(1),
                "compare": In(1),
                "direct": Out(32),
                "result": Out(32),
                "carry_out": Out(1),
                "less": Out(1),
                "zero": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        a, b, direct = self.a, self.b, self.direct
        total = Signal(34)
        # The lowest bit makes the carry go into the adder's own chain.
        m.d.comb += [
            total.eq(Cat(1, a) + Cat(self.carry, b)),
            direct.eq(Mux(self.logic, a ^ b, total[1:33])),
            self.carry_out.eq(total[33]),
            self.less.eq(Mux(~self.unsigned & (a[31] == b[31]), a[31], ~self.carry_out)),
            self.zero.eq(direct == 0),
        ]
        fill = Signal()
        m.d.comb += fill.eq(self.arithmetic & a[31])
        step = Signal(32)
        with m.Switch(self.step):
            with m.Case(Step.RIGHT_1):
                m.d.comb += step.eq(Cat(a[1:], fill))
            with m.Case(Step.RIGHT_8):
                m.d.comb += step.eq(Cat(a[8:], fill.replicate(8)))
            with m.Case(Step.LEFT_8):
                m.d.comb += step.eq(a << 8)
        logic = Signal(32)
        for part, bits in zip(self.parts, (slice(0, 8), slice(8, 16), slice(16, 32)), strict=True):
            with m.Switch(part):
                with m.Case(Logic.DIRECT):
                    m.d.comb += logic[bits].eq(direct[bits])
                with m.Case(Logic.AND):
                    m.d.comb += logic[bits].eq(a[bits] & ~direct[bits])
                with m.Case(Logic.OR):
                    m.d.comb += logic[bits].eq(a[bits] | direct[bits])
        m.d.comb += self.result.eq(logic | step | (self.compare & self.less))
        return m
