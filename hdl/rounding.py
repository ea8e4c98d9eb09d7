"""The one place that rounds and saturates; twins of the functions in :mod:`reluctant.golden.formats`."""

from amaranth.hdl import Const, Mux, Value

__all__ = ["round_shift", "saturate"]


def round_shift(value: Value, shift: int) -> Value:
    """``value * 2**-shift`` for a constant shift, rounded half up; one bit wider than the exact quotient."""
    return value if shift == 0 else (value + (1 << (shift - 1))) >> shift


def saturate(value: Value, bits: int) -> Value:
    """Nearest signed ``bits``-bit integer to a signed ``value``; ``bits`` wide, signed."""
    width = value.shape().width
    if width <= bits:
        return value
    top = value[bits - 1 :]
    fits = (top == 0) | top.all()
    limit = Mux(value[-1], Const(-(1 << (bits - 1)), bits), Const((1 << (bits - 1)) - 1, bits))
    return Mux(fits, value[:bits], limit)[:bits].as_signed()
