"""One lane of the normaliser."""

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from reluctant.golden import formats

from .multiplier import Multiplier
from .rounding import round_shift, saturate

__all__ = ["Scaler"]

_COARSE = 16
_FINE = 4


class Scaler(wiring.Component):
    """``formats.scale`` of one context element a cycle; on request the square of the shifted element instead.

    ``shift -> round and saturate to 18 bits -> times F (or itself) -> round, saturate -> times gain -> int8``.
    Never stalls. Costs a barrel shifter and one multiplier, and one more with ``gains``.

    Parameters
    ----------
    squares
        Build the square.
    gains
        Build the gain; without, it is GAIN_ONE and ``latency`` is 2 less.

    Attributes
    ----------
    latency
        From ``element`` to ``o``: 9 cycles, or 7 without gains.
    product_latency, multiplier_delay, gain_delay
        When ``product`` comes (5), and ``multiplier`` and ``square`` (3) and ``gain`` (6) are read: cycles after the
        element. ``shift`` is read in the cycle of the element and in the next one.

    Members
    -------
    element : In(signed(32))
    shift : In(6)
        Right shift, minus formats.SHIFT_MIN: 0...49.
    square : In(1)
    multiplier : In(17)
        F.
    gain : In(signed(16))
    product : Out(signed(36))
        The shifted element times F, or squared.
    o : Out(signed(8))
    """

    multiplier_delay = 3
    product_latency = multiplier_delay + Multiplier.latency
    gain_delay = product_latency + 1

    def __init__(self, squares: bool = True, gains: bool = True):
        self.squares, self.gains = squares, gains
        self.latency = self.gain_delay + 1 + (Multiplier.latency if gains else 0)
        super().__init__(
            {
                "element": In(signed(formats.CONTEXT_BITS)),
                "shift": In(range(formats.SHIFT_MAX - formats.SHIFT_MIN + 1)),
                "square": In(1),
                "multiplier": In(formats.MANTISSA_BITS + 1),
                "gain": In(signed(formats.GAIN_BITS)),
                "product": Out(signed(2 * formats.SCALED_BITS)),
                "o": Out(signed(formats.DATA_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shifted = self._shift(m)
        m.submodules.factor = factor = Multiplier(formats.SCALED_BITS, formats.SCALED_BITS)
        multiplier = Cat(self.multiplier, Const(0, 1)).as_signed()
        m.d.comb += [
            factor.a.eq(shifted),
            factor.b.eq(Mux(self.square, shifted, multiplier) if self.squares else multiplier),
            self.product.eq(factor.p),
        ]
        product = _register(m, round_shift(factor.p, formats.FACTOR_FRACTION), "product_rounded")
        scaled = Signal(signed(formats.SCALED_BITS))
        m.d.comb += scaled.eq(saturate(product, formats.SCALED_BITS))
        if self.gains:
            m.submodules.amplifier = amplifier = Multiplier(formats.SCALED_BITS, formats.GAIN_BITS)
            m.d.comb += [amplifier.a.eq(scaled), amplifier.b.eq(self.gain)]
            rounded = round_shift(amplifier.p, formats.SCALED_FRACTION + formats.GAIN_FRACTION)
        else:
            rounded = round_shift(scaled, formats.SCALED_FRACTION)
        m.d.comb += self.o.eq(saturate(_register(m, rounded, "rounded"), formats.DATA_BITS))
        return m

    def _shift(self, m):
        """Three registers: shift by 16s, by 1s, round; the saturated result.

        Seen as a right shift of ``element << 18`` by 0...49, of which one bit below the result is kept for rounding.
        Every step keeps the bits that later steps can reach, and notes whether a bit above them differs from the sign.
        """
        bits = formats.SCALED_BITS + 1
        window_bits = bits + _COARSE - 1
        sign = self.element[-1]
        extended = Cat(Const(0, 1 - formats.SHIFT_MIN), self.element, sign.replicate(2 * _COARSE))
        windows = [extended[n * _COARSE : n * _COARSE + window_bits] for n in range(4)]
        window = Signal(window_bits, reset_less=True)
        coarse_above = extended[window_bits : 1 - formats.SHIFT_MIN + formats.CONTEXT_BITS - 1]
        over_1 = _register(m, (self.shift[4:] == 0) & (coarse_above != sign.replicate(len(coarse_above))), "over_1")
        m.d.sync += window.eq(_choose(self.shift[4:], windows))
        sign_1 = _register(m, sign, "sign_1")

        fine = Signal(4, reset_less=True)
        m.d.sync += fine.eq(self.shift[:4])
        differs = window ^ sign_1.replicate(window_bits)
        kept = bits + _FINE - 1
        nibbles = _choose(fine[2:], [window[n * _FINE :][:kept] for n in range(4)])
        above = _choose(fine[2:], [differs[n * _FINE + kept :].any() for n in range(3)] + [Const(0, 1)])
        unit_differs = nibbles[bits - 1 :] ^ sign_1.replicate(_FINE)
        above |= _choose(fine[:2], [unit_differs[n:].any() for n in range(4)])
        result = _register(m, _choose(fine[:2], [nibbles[n : n + bits] for n in range(4)]), "result")
        over_2 = _register(m, over_1 | above, "over_2")
        sign_2 = _register(m, sign_1, "sign_2")

        total = _register(m, result[1:].as_signed() + result[0], "total")
        over_3, sign_3 = _register(m, over_2, "over_3"), _register(m, sign_2, "sign_3")
        top = total[-1]
        wide = Cat(total[:-1], Mux(over_3, ~sign_3, top), Mux(over_3, sign_3, top)).as_signed()
        return saturate(wide, formats.SCALED_BITS)


def _choose(index, values):
    """``values[index]`` of four, as a tree of two levels."""
    return Mux(index[1], Mux(index[0], values[3], values[2]), Mux(index[0], values[1], values[0]))


def _register(m, value, name):
    """``value`` a cycle later."""
    register = Signal(Shape.cast(value.shape()), name=name, reset_less=True)
    m.d.sync += register.eq(value)
    return register
