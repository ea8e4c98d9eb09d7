"""Arithmetic of the RISC-V core: adder, logic, comparison and the steps of shifts."""

from amaranth.hdl import Cat, Const, Module, Signal, unsigned
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Alu", "Logic", "Step"]


class Logic(enum.Enum, shape=unsigned(2)):
    """Bits of ``a`` and ``b`` that are added to the result."""

    NONE = 0
    AND = 1
    XOR = 2
    OR = 3


class Step(enum.Enum, shape=unsigned(3)):
    """Shift of ``a`` that is added to the result."""

    NONE = 0
    RIGHT_1 = 1
    RIGHT_8 = 2
    LEFT_8 = 4


class Alu(wiring.Component):
    """Combinational: the sum, or what was loaded, or the OR of logic and a step of a shift.

    A shift left by 1 is ``a + a``. The three parts of a word that extension of bytes and halfwords tells apart (bits 7
    to 0, 15 to 8, 31 to 16) have their own logic. The sum and what is loaded come last, and one LUT of four inputs
    chooses: with ``add``, a bit of logic means that it is the loaded one that counts.

    Members
    -------
    a, b : In(32)
        ``b`` already inverted for subtractions and comparisons.
    carry : In(1)
        Added to ``a + b``.
    add : In(1)
        The result is the sum where logic and step give 0, and what is loaded where they give 1.
    parts : In(Logic) * 3
    step : In(Step)
    arithmetic : In(1)
        Steps to the right shift the sign in.
    unsigned : In(1)
        Compare as numbers without sign.
    bit : In(1)
        Added to the result, as bit 0.
    aligned : In(1)
        Clear the two lowest bits of the result.
    loaded : In(32)
    sum : Out(32)
        Also without ``add``.
    result : Out(32)
    carry_out : Out(1)
        Of the sum, without ``unsigned``.
    less : Out(1)
        ``a`` is less than what was inverted to ``b``; with ``carry`` high.
    equal : Out(1)
        ``a`` equals ``b``; with XOR in all parts.
    """

    def __init__(self):
        controls = ("carry", "add", "arithmetic", "unsigned", "bit", "aligned")
        super().__init__(
            {name: In(1) for name in controls}
            | {name: In(32) for name in ("a", "b", "loaded")}
            | {name: Out(1) for name in ("carry_out", "less", "equal")}
            | {"parts": In(Logic).array(3), "step": In(Step), "sum": Out(32), "result": Out(32)}
        )

    def elaborate(self, platform):
        m = Module()
        a, b = self.a, self.b
        total = Signal(34)
        # The lowest bit makes the carry go into the adder's own chain. The one above is the sign of a comparison.
        sign_a, sign_b = a[31] & ~self.unsigned, b[31] | self.unsigned
        m.d.comb += [
            total.eq(Cat(1, a, sign_a) + Cat(self.carry, b, sign_b)),
            self.sum.eq(total[1:33]),
            self.less.eq(total[33]),
            self.carry_out.eq(total[33] ^ sign_a ^ sign_b),
        ]
        # Kept as they are, each is one LUT of iCE40 a bit; Yosys would make them faster, where speed is not needed.
        logic = Signal(32, attrs={"keep": 1})
        other = Signal(32, attrs={"keep": 1})
        for part, bits in zip(self.parts, (slice(0, 8), slice(8, 16), slice(16, 32)), strict=True):
            code = part.as_value()
            both, one = (a & b)[bits], (a ^ b)[bits]
            m.d.comb += logic[bits].eq((both & code[0].replicate(len(both))) | (one & code[1].replicate(len(both))))
        fill = self.arithmetic & a[31]
        step = self.step.as_value()
        by_1, by_8 = Cat(a[1:], fill), Cat(a[8:], fill.replicate(8))
        right = Signal(32)
        m.d.comb += [
            right.eq((by_1 & step[0].replicate(32)) | (by_8 & step[1].replicate(32))),
            self.equal.eq(logic == 0),
            other.eq(right | ((a << 8)[:32] & step[2].replicate(32)) | logic | self.bit),
        ]
        add, aligned = self.add.replicate(32), Cat(self.aligned.replicate(2), Const(0, 30))
        m.d.comb += self.result.eq(((add & ((other & self.loaded) | (~other & self.sum))) | (~add & other)) & ~aligned)
        return m
