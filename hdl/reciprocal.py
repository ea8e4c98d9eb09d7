"""1 / x and 1 / sqrt(x) from one table and one multiplier."""

from itertools import pairwise

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from reluctant.golden import formats

from .multiplier import Multiplier

__all__ = ["Reciprocal"]

_NIBBLE = 4
_KNOWN = ("reciprocal", "rsqrt")
_TABLES = {
    "reciprocal": (formats.RECIPROCAL_TABLE,),
    "rsqrt": (formats.RSQRT_EVEN_TABLE, formats.RSQRT_ODD_TABLE),
}


class Reciprocal(wiring.Component):
    """``1 / value`` or ``1 / sqrt(value)`` as ``y * 2**-16 * 2**-k``, exactly as formats.reciprocal and formats.rsqrt.

    The value is aligned to its leading one (nibble first, then bit), its next 6 bits choose a breakpoint and the
    9 bits after those interpolate linearly. One value a cycle; the result of ``i`` is at ``o`` exactly ``latency``
    (8) cycles later. A value of 0 gives ``y = 0`` and any ``k``. Costs one multiplier and a table of 64 entries for the
    reciprocal and 128 for the root, about 26 bits each: registered ROM, which synthesis puts into block RAM.

    Parameters
    ----------
    width
        Bits of the unsigned value; at least 1.
    functions
        Those built, of ``"reciprocal"`` and ``"rsqrt"``.

    Members
    -------
    i : In(StructLayout), ``value`` (unsigned ``width``), ``root`` (1: square root; ignored unless both are built)
    o : Out(StructLayout), ``y`` (17 bits, 2**15...2**16 or 0) and ``k`` (unsigned, wide enough for every value)

    Raises
    ------
    ValueError
        If ``width`` is below 1, or ``functions`` is empty or holds another name.
    """

    latency = 8

    def __init__(self, width: int, functions: tuple[str, ...] = _KNOWN):
        if width < 1:
            raise ValueError(f"width is {width!r}: at least 1 is needed")
        if not functions or any(name not in _KNOWN for name in functions):
            raise ValueError(f"functions is {functions!r}: one or both of {', '.join(_KNOWN)} are needed")
        self.width, self.functions = width, tuple(name for name in _KNOWN if name in functions)
        k_max = width - 1 if "reciprocal" in functions else (width - 1) >> 1
        super().__init__(
            {
                "i": In(data.StructLayout({"value": width, "root": 1})),
                "o": Out(data.StructLayout({"y": formats.MANTISSA_BITS + 1, "k": max(1, bits_for(k_max))})),
            }
        )

    def elaborate(self, platform):
        m = Module()
        root = self._root(m)
        mantissa, above, zero = self._align(m)  # above: bit length - 1
        self._interpolate(m, mantissa, above, zero, root)
        return m

    def _root(self, m):
        """Which function the value in the alignment's last register wants; a constant when only one is built."""
        if len(self.functions) == 1:
            return Const(int(self.functions[0] == "rsqrt"), 1)
        return _delay(m, self.i.root, 4, "root")

    def _align(self, m):
        """Four registers: nibbles that hold a one; the first of them; shift by nibbles; shift by bits."""
        nibbles = -(-self.width // _NIBBLE)
        index_bits = max(1, bits_for(nibbles - 1))
        value_1 = _delay(m, self.i.value, 1, "value_1")
        value_2 = _delay(m, value_1, 1, "value_2")
        holds = Signal(nibbles, reset_less=True)
        m.d.sync += holds.eq(Cat(self.i.value[n * _NIBBLE : (n + 1) * _NIBBLE].any() for n in range(nibbles)))

        first, zero_2 = Signal(index_bits, reset_less=True), Signal(reset_less=True)
        index = Const(0, index_bits)
        for n in range(1, nibbles):
            index = Mux(holds[n], n, index)
        m.d.sync += [first.eq(index), zero_2.eq(~holds.any())]

        window_bits = formats.MANTISSA_BITS + _NIBBLE - 1
        padded = Cat(Const(0, window_bits), value_2)
        window = Signal(window_bits, reset_less=True)
        tops = [padded[(n + 1) * _NIBBLE : (n + 1) * _NIBBLE + window_bits] for n in range(nibbles)]
        m.d.sync += window.eq(Array(tops)[first] if nibbles > 1 else tops[0])
        first_3 = _delay(m, first, 1, "first_3")

        mantissa = Signal(formats.MANTISSA_BITS - 1, reset_less=True)
        above = Signal(bits_for(self.width - 1), reset_less=True)
        for bit in range(_NIBBLE):  # the last one that holds wins: the leading one
            top = window_bits - _NIBBLE + bit
            with m.If(window[top]):
                m.d.sync += mantissa.eq(Cat(Const(0, 1), window)[top - formats.MANTISSA_BITS + 2 : top + 1])
                m.d.sync += above.eq(first_3 * _NIBBLE + bit)
        return mantissa, above, _delay(m, zero_2, 2, "zero_4")

    def _interpolate(self, m, mantissa, above, zero, root):
        """Four registers: table, both sides of the multiplier, subtraction."""
        index = mantissa[formats.TABLE_FRACTION_BITS :]
        tables = [table for name in self.functions for table in _TABLES[name]]
        rows = [(base, base - after) for table in tables for base, after in pairwise(table)]
        slope_bits = max(slope for _, slope in rows).bit_length()
        layout = data.StructLayout({"base": formats.MANTISSA_BITS + 1, "slope": slope_bits})
        odd = ~above[0]  # the bit length is odd
        chosen = {
            ("reciprocal",): Cat(index),
            ("rsqrt",): Cat(index, odd),
            _KNOWN: Cat(index, root & ~odd, root & odd),
        }[self.functions]
        entry = Signal(layout, reset_less=True)
        rom = Array(layout.const({"base": base, "slope": slope}).as_value() for base, slope in rows)
        m.d.sync += entry.as_value().eq(rom[chosen])
        fraction = _delay(m, mantissa[: formats.TABLE_FRACTION_BITS], 1, "fraction")

        m.submodules.slope = slope = Multiplier(slope_bits + 1, formats.TABLE_FRACTION_BITS + 1)
        m.d.comb += [slope.a.eq(entry.slope), slope.b.eq(fraction)]
        base = _delay(m, entry.base, slope.latency, "base")
        y = Signal.like(self.o.y, reset_less=True)
        m.d.sync += y.eq(base - (slope.p >> formats.TABLE_FRACTION_BITS))
        with m.If(_delay(m, zero, 1 + slope.latency, "zero_7")):
            m.d.sync += y.eq(0)
        k = _delay(m, Mux(root, above >> 1, above), 2 + slope.latency, "k")
        m.d.comb += [self.o.y.eq(y), self.o.k.eq(k)]


def _delay(m, value, cycles, name):
    """``value`` after ``cycles`` reset-less registers."""
    for n in range(cycles):
        register = Signal(len(value), name=f"{name}_d{n}", reset_less=True)
        m.d.sync += register.eq(value)
        value = register
    return value
