"""Every width, rounding and saturation of the numeric contract, in plain Python.

The hardware, the integer model and the command line import these; nothing else states them. Functions here take and
return Python integers; :mod:`reluctant.golden.integer` has the same arithmetic on tensors, tested against these.

Formats
-------
``q, K, V``
    int8, two's complement, -128...127 all legal.
score ``s``
    Exact, signed ``score_bits(d)`` bits: one more than ``|s| <= d * 2**14`` needs, since ``d`` times (-128 * -128)
    is reached. The threshold has the same width; shifted score ``s - theta`` has one bit more.
weight ``w``
    unsigned 8 bits.
context ``c``
    signed 32 bits, exact for up to 65,536 rows (65536 * 255 * 128 < 2**31).
scale ``alpha``
    unsigned mantissa in [2**15, 2**16) (or 0) and signed 8-bit exponent: ``mantissa * 2**(exponent - 15)``.
kappa
    unsigned 16-bit mantissa and 2-bit shift: ``mantissa * 2**-(9 + 8 * shift)``.
gain ``g``
    signed 16 bits, 8 of them fraction.
sink
    unsigned 24 bits, in units of the shifted score.
"""

import math
from enum import IntEnum

DATA_BITS = 8
WEIGHT_BITS = 8
WEIGHT_MAX = (1 << WEIGHT_BITS) - 1
CONTEXT_BITS = 32
EXPONENT_BITS = 5
MASS_BITS = 40
WEIGHT_SUM_BITS = 24
SINK_BITS = 24
MAX_HEAD_DIM = 256
MAX_ROWS = 65_536

MANTISSA_BITS = 16
"""Bits of a normalised mantissa: of alpha, and of the argument of the two reciprocal tables."""
ALPHA_EXPONENT_BITS = 8
GAIN_BITS = 16
GAIN_FRACTION = 8
GAIN_ONE = 1 << GAIN_FRACTION
SCALED_BITS = 18
"""Signed width of a context element inside the normaliser, before and after it is scaled."""
SHIFTED_FRACTION = 9
"""Fraction bits, in units of the output's LSB, before the factor: it may be as low as 1/2, so +-256 must fit."""
SCALED_FRACTION = 10
"""Fraction bits behind the factor, where +-128 is enough."""
FACTOR_FRACTION = 15 + SHIFTED_FRACTION - SCALED_FRACTION
"""Bits dropped behind the factor F, which stands for ``F * 2**-15``."""
SHIFT_MIN, SHIFT_MAX = -(SCALED_BITS - 1), CONTEXT_BITS
"""A context element is shifted right by SHIFT_MIN...SHIFT_MAX; beyond, every result is already saturated or zero."""
SQUARE_BITS = 15
"""A head's contexts are squared after a shift that leaves this many bits of magnitude (16 after rounding)."""

KAPPA_BITS = 16
KAPPA_FRACTION = 9
KAPPA_SHIFT_STEP = 8
KAPPA_SHIFT_MAX = 3
EXP2_FRACTION = 9
EXP2_GUARD = 4
EXP2_ZERO = 9
"""Integer part of the exponent from which on every weight rounds to zero."""

TABLE_INDEX_BITS = 6
TABLE_FRACTION_BITS = MANTISSA_BITS - 1 - TABLE_INDEX_BITS


class Mode(IntEnum):
    """How a head turns scores into weights."""

    RELU = 0
    SOFTMAX = 1
    HYBRID = 2


class Normaliser(IntEnum):
    """What becomes of a head's context; the number is the register's value."""

    NONE = 0
    RMS_HEAD = 1
    RMS_LAYER = 2
    LENGTH = 3
    SUM = 4


class Metric(IntEnum):
    """What the victim search minimises over the evictable slots; the first minimum in slot order wins."""

    POSITION = 0
    MASS = 1
    RATE = 2


def score_bits(head_dim: int) -> int:
    """Signed width of a score over ``head_dim`` elements: ``head_dim * 2**14`` itself must fit."""
    return (head_dim << 14).bit_length() + 1


def round_shift(value: int, shift: int) -> int:
    """``value * 2**-shift`` rounded half up; a negative shift is an exact left shift."""
    if shift <= 0:
        return value << -shift
    return (value + (1 << (shift - 1))) >> shift


def saturate(value: int, bits: int) -> int:
    """Nearest signed ``bits``-bit integer."""
    return max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, value))


def block_exponent(peak: int) -> int:
    """Shift that brings ``peak`` (a positive shifted score, or the OR of all of them) to 8 bits."""
    return max(0, peak.bit_length() - WEIGHT_BITS)


def relu_weight(shifted: int, exponent: int) -> int:
    """Weight of one shifted score ``s - theta`` under the block exponent of its query."""
    return min(WEIGHT_MAX, round_shift(max(0, shifted), exponent))


def encode_kappa(kappa: float) -> tuple[int, int]:
    """(mantissa, shift) nearest to ``kappa >= 0`` (log2(e) times the real value of one unit of score).

    Raises
    ------
    ValueError
        If ``kappa`` is negative, not finite or above 127.
    """
    if not (math.isfinite(kappa) and 0 <= kappa <= 127):
        raise ValueError(f"kappa is {kappa!r}: a finite number from 0 to 127 is needed")
    for shift in range(KAPPA_SHIFT_MAX, -1, -1):
        mantissa = round(kappa * 2.0 ** (KAPPA_FRACTION + KAPPA_SHIFT_STEP * shift))
        if mantissa < 1 << KAPPA_BITS:
            return mantissa, shift
    raise AssertionError("unreachable: 127 * 2**9 fits 16 bits")


EXP2_TABLE = tuple(
    round(WEIGHT_MAX * 2.0 ** (-f / (1 << EXP2_FRACTION)) * (1 << EXP2_GUARD)) for f in range(1 << EXP2_FRACTION)
)
"""255 * 2**-(f/512) with 4 fractional bits: 12-bit entries."""


def softmax_weight(difference: int, mantissa: int, shift: int) -> int:
    """round(255 * 2**-(difference * kappa)), within 1 of the real value; ``difference`` = peak - score >= 0."""
    x = round_shift(difference * mantissa, KAPPA_SHIFT_STEP * shift)
    whole, fraction = x >> EXP2_FRACTION, x & ((1 << EXP2_FRACTION) - 1)
    if whole >= EXP2_ZERO:
        return 0
    return round_shift(EXP2_TABLE[fraction], EXP2_GUARD + whole)


def encode_alpha(alpha: float) -> tuple[int, int]:
    """(mantissa, exponent) nearest to ``alpha``: 0, or 2**-100...2**100.

    Raises
    ------
    ValueError
        If ``alpha`` is negative, not finite or out of range.
    """
    if alpha == 0:
        return 0, 0
    if not (math.isfinite(alpha) and 2.0**-100 <= alpha <= 2.0**100):
        raise ValueError(f"alpha is {alpha!r}: 0 or a number from 2**-100 to 2**100 is needed")
    fraction, exponent = math.frexp(alpha)
    mantissa, exponent = round(fraction * (1 << MANTISSA_BITS)), exponent - 1
    if mantissa == 1 << MANTISSA_BITS:
        mantissa, exponent = mantissa >> 1, exponent + 1
    return mantissa, exponent


def encode_gain(gain: float) -> int:
    """Nearest 16-bit gain (8 fractional bits), saturated."""
    return saturate(math.floor(gain * GAIN_ONE + 0.5), GAIN_BITS)


def _table(function) -> tuple[int, ...]:
    steps = 1 << TABLE_INDEX_BITS
    return tuple(round((1 << MANTISSA_BITS) * function(1 + i / steps)) for i in range(steps + 1))


RECIPROCAL_TABLE = _table(lambda u: 1 / u)
RSQRT_ODD_TABLE = _table(lambda u: 1 / math.sqrt(u))
RSQRT_EVEN_TABLE = _table(lambda u: 1 / math.sqrt(2 * u))
"""65 breakpoints each, 17 bits, linear in between; relative error below 1e-4 (h**2/8 * max|f''|, h = 1/64)."""


def interpolate(table: tuple[int, ...], mantissa: int) -> int:
    """``table`` at a mantissa in [2**15, 2**16): 17 bits, in [2**15, 2**16]."""
    index = (mantissa >> TABLE_FRACTION_BITS) & ((1 << TABLE_INDEX_BITS) - 1)
    fraction = mantissa & ((1 << TABLE_FRACTION_BITS) - 1)
    return table[index] - (((table[index] - table[index + 1]) * fraction) >> TABLE_FRACTION_BITS)


def normalise(value: int) -> tuple[int, int]:
    """(mantissa, bit length) of a positive integer: its top 16 bits, truncated, left-aligned."""
    length = value.bit_length()
    if length > MANTISSA_BITS:
        return value >> (length - MANTISSA_BITS), length
    return value << (MANTISSA_BITS - length), length


def reciprocal(value: int) -> tuple[int, int]:
    """(y, k) with ``1 / value ~ y * 2**-16 * 2**-k``, for a positive integer."""
    mantissa, length = normalise(value)
    return interpolate(RECIPROCAL_TABLE, mantissa), length - 1


def sum_divisor(weight_sum: int, sink: int, exponent: int) -> int:
    """What :attr:`Normaliser.SUM` divides a ReLU head by: its weights carry ``2**exponent``, the sink does not.

    Of a head in softmax weights the sink is 0. One bit more than either of the two.
    """
    return weight_sum + round_shift(sink, exponent)


def rsqrt(value: int) -> tuple[int, int]:
    """(y, k) with ``1 / sqrt(value) ~ y * 2**-16 * 2**-k``, for a positive integer."""
    mantissa, length = normalise(value)
    table = RSQRT_ODD_TABLE if length & 1 else RSQRT_EVEN_TABLE
    return interpolate(table, mantissa), (length - 1) >> 1


def factor(y: int, k: int, alpha: tuple[int, int], exponent: int) -> tuple[int, int]:
    """(F, s) of one head: its contexts are shifted right by ``s`` and multiplied by ``F * 2**-15``.

    ``y, k`` come from a reciprocal, ``exponent`` is the power of two that the contexts still carry. F is 17 bits,
    in [2**14, 2**16], or 0 when alpha is 0; s is clamped to SHIFT_MIN...SHIFT_MAX, which changes no result.
    """
    mantissa, alpha_exponent = alpha
    shift = -(alpha_exponent - k + exponent + SHIFTED_FRACTION)
    return (y * mantissa) >> MANTISSA_BITS, max(SHIFT_MIN, min(SHIFT_MAX, shift))


def scale(context: int, shift: int, multiplier: int, gain: int = GAIN_ONE) -> int:
    """One int8 output: shift and saturate to 18 bits, times F, times gain, round half up, saturate."""
    shifted = saturate(round_shift(context, shift), SCALED_BITS)
    scaled = saturate(round_shift(shifted * multiplier, FACTOR_FRACTION), SCALED_BITS)
    return saturate(round_shift(scaled * gain, SCALED_FRACTION + GAIN_FRACTION), DATA_BITS)


def magnitude_bits(contexts) -> int:
    """Bit length of the OR of ``c`` (or of ``~c`` where negative): every ``|c| <= 2**bits``."""
    bits = 0
    for context in contexts:
        bits |= context if context >= 0 else ~context
    return bits.bit_length()


def square_shift(bits: int, exponent: int = 0) -> int:
    """Right shift (negative: left) before squaring a head whose contexts carry ``2**exponent``.

    ``bits`` is the largest of ``magnitude_bits + exponent`` over the heads that are normalised together and whose
    magnitude is not 0.
    """
    return max(0, bits - SQUARE_BITS) - exponent


def rate(mass: int, lifetime: int) -> int:
    """Mass per step of life, with 8 fractional bits: the key of :attr:`Metric.RATE`; ``lifetime >= 1``.

    Computed with the reciprocal table, so it is the specification, not an approximation of one.
    """
    y, k = reciprocal(lifetime)
    return (mass * y) >> (MANTISSA_BITS - 8 + k)
