"""Softmax weights: a power of two of the distance from the peak."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from reluctant.golden import formats

from .memory import Ram
from .multiplier import Multiplier

__all__ = ["SoftmaxShift"]


class SoftmaxShift(wiring.Component):
    """``doubled``: twice a softmax weight, truncated; ``(doubled + 1) >> 1`` is :func:`formats.softmax_weight`.

    The argument of the exponential, ``(peak - shifted) * kappa``, has 9 fractional bits, which address a table of
    ``255 * 2**-f``; its integer part shifts what the table gives. Latency 9 cycles, one result a cycle. Needs two
    multipliers (the low 17 bits of the difference, and the others) and a table of 512 entries of 12 bits.

    Parameters
    ----------
    width
        Signed bits of ``shifted``, 18 to 25.

    Members
    -------
    shifted : In(signed(width))
    peak : In(signed(width)), kappa_mantissa : In(16), kappa_shift : In(2)
        The same for all scores in the pipeline; ``peak >= shifted``.
    doubled : Out(9)
    """

    latency = 9
    bits = formats.WEIGHT_BITS + 1
    split = 17

    def __init__(self, width: int):
        if not self.split < width <= 25:
            raise ValueError(f"width is {width!r}: {self.split + 1} to 25 is allowed")
        self.width = width
        super().__init__(
            {
                "shifted": In(signed(width)),
                "peak": In(signed(width)),
                "kappa_mantissa": In(formats.KAPPA_BITS),
                "kappa_shift": In(2),
                "doubled": Out(self.bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        x = self._scale(m, self._multiply(m))
        m.submodules.table = table = Ram(
            width=formats.WEIGHT_BITS + formats.EXP2_GUARD,
            depth=len(formats.EXP2_TABLE),
            latency=2,
            init=formats.EXP2_TABLE,
        )
        whole, vanishes = x[formats.EXP2_FRACTION :], Signal()
        m.d.comb += [table.read_addr.eq(x[: formats.EXP2_FRACTION]), vanishes.eq(whole >= formats.EXP2_ZERO)]
        shift = [Signal(4, name=f"shift{i}", reset_less=True) for i in range(2)]
        zero = [Signal(name=f"zero{i}", reset_less=True) for i in range(2)]
        doubled = Signal(self.bits, reset_less=True)
        m.d.sync += [
            shift[0].eq(whole),
            shift[1].eq(shift[0]),
            zero[0].eq(vanishes),
            zero[1].eq(zero[0]),
            doubled.eq(Mux(zero[1], 0, table.read_data[formats.EXP2_GUARD - 1 :] >> shift[1])),
        ]
        m.d.comb += self.doubled.eq(doubled)
        return m

    def _multiply(self, m):
        """``(peak - shifted) * kappa_mantissa``, unsigned; 4 cycles."""
        difference = Signal(self.width, reset_less=True)
        m.d.sync += difference.eq(self.peak - self.shifted)
        m.submodules.low = low = Multiplier(self.split + 1, formats.KAPPA_BITS + 1)
        m.submodules.high = high = Multiplier(self.width - self.split + 1, formats.KAPPA_BITS + 1)
        product = Signal(self.width + formats.KAPPA_BITS)  # with reset: see Multiplier
        m.d.comb += [
            low.a.eq(difference[: self.split]),
            high.a.eq(difference[self.split :]),
            low.b.eq(self.kappa_mantissa),
            high.b.eq(self.kappa_mantissa),
        ]
        m.d.sync += product.eq(Cat(low.p[: self.split], low.p[self.split :].as_signed() + high.p))
        return product

    def _scale(self, m, product):
        """``product`` shifted right by 8 * kappa_shift and rounded half up; far beyond 9 it is only known to be so."""
        bits = formats.EXP2_FRACTION + 4
        window = Signal(bits, reset_less=True)
        half, beyond = Signal(reset_less=True), Signal(reset_less=True)
        with m.Switch(self.kappa_shift):
            for kappa_shift in range(formats.KAPPA_SHIFT_MAX + 1):
                shift = formats.KAPPA_SHIFT_STEP * kappa_shift
                with m.Case(kappa_shift):
                    m.d.sync += [
                        window.eq(product[shift:]),
                        half.eq(product[shift - 1] if shift else 0),
                        beyond.eq(product[shift + bits :].any()),
                    ]
        x = Signal(bits + 1, reset_less=True)
        m.d.sync += x.eq(Cat((window + half)[:bits], (window + half)[bits] | beyond))
        return x
