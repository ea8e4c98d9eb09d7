"""Multiplication and division, a bit a cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["MulDiv"]


class MulDiv(wiring.Component):
    """The instructions of RISC-V's M extension, one at a time.

    Both work on magnitudes and give the result its sign at the end. Division by 0 and the overflow of the most negative
    number by -1 give what the instruction set says.

    Members
    -------
    start : In(1), funct3 : In(3), a, b : In(32)
        ``funct3`` as in the instruction; it must hold until ``done``.
    done : Out(1), result : Out(32)
        33 cycles after ``start`` for one cycle.
    """

    def __init__(self):
        super().__init__({"start": In(1), "funct3": In(3), "a": In(32), "b": In(32), "done": Out(1), "result": Out(32)})

    def elaborate(self, platform):
        m = Module()
        divide, remainder = self.funct3[2], self.funct3[1]
        signed_a = Mux(divide, ~self.funct3[0], self.funct3[:2] != 3)
        signed_b = Mux(divide, ~self.funct3[0], ~self.funct3[1])
        minus_a, minus_b = self.a[31] & signed_a, self.b[31] & signed_b
        high, low, operand = Signal(32), Signal(32), Signal(32)
        negate = Signal()
        count = Signal(range(34))
        running = Signal()
        total, shifted, rest = Signal(33), Signal(33), Signal(34)
        m.d.comb += [
            total.eq(high + Mux(low[0], operand, 0)),
            shifted.eq(Cat(low[31], high)),
            rest.eq(shifted - operand),
        ]
        with m.If(divide):
            m.d.sync += [
                high.eq(Mux(rest[33], shifted, rest)),
                low.eq(Cat(~rest[33], low)),
            ]
        with m.Else():
            m.d.sync += [low.eq(Cat(low[1:], total[0])), high.eq(total[1:])]
        m.d.sync += count.eq(count + 1)
        m.d.sync += self.done.eq(running & (count == 31))
        with m.If(count == 31):
            m.d.sync += running.eq(0)
        with m.If(self.start):
            m.d.sync += [
                running.eq(1),
                count.eq(0),
                high.eq(0),
                low.eq(Mux(minus_a, -self.a, self.a)),
                operand.eq(Mux(minus_b, -self.b, self.b)),
                # A quotient by 0 is all ones whatever the sign; the remainder has the dividend's sign.
                negate.eq(Mux(divide & remainder, minus_a, (minus_a ^ minus_b) & ~(divide & (self.b == 0)))),
            ]
        product = Cat(low, high)
        signed_product = Mux(negate, -product, product)[:64]
        chosen = Mux(remainder, high, low)
        with m.If(divide):
            m.d.comb += self.result.eq(Mux(negate, -chosen, chosen))
        with m.Else():
            m.d.comb += self.result.eq(Mux(self.funct3 == 0, signed_product[:32], signed_product[32:]))
        return m
