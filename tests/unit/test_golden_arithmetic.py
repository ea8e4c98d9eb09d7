"""The integer model's arithmetic on tensors, against the scalar functions of formats."""

import random

import pytest
import torch

from reluctant.golden import formats
from reluctant.golden import integer as model


def _magnitudes(seed, count, bits):
    """Integers of every bit length up to ``bits``, and the ends of each."""
    source = random.Random(seed)
    values = [source.getrandbits(source.randint(1, bits)) for _ in range(count)]
    return [0, *values, *(edge for b in range(1, bits + 1) for edge in ((1 << b) - 1, 1 << (b - 1)))]


def test_bit_length():
    values = [*_magnitudes(0, 200, 52), (1 << 52) + 1]
    assert model.bit_length(torch.tensor(values)).tolist() == [value.bit_length() for value in values]


def test_round_shift_and_saturate():
    source = random.Random(1)
    cases = [(source.randint(-(1 << 31), 1 << 31), source.randint(-17, 32)) for _ in range(500)]
    cases += [(value, shift) for value in (-3, -2, -1, 0, 1, 2, 3) for shift in (-1, 0, 1, 2, 32)]
    values, shifts = torch.tensor(cases).unbind(1)
    expected = [formats.round_shift(*case) for case in cases]
    assert model.round_shift(values, shifts).tolist() == expected
    assert model.saturate(torch.tensor(expected), 18).tolist() == [formats.saturate(x, 18) for x in expected]


def test_relu_weights():
    peaks = _magnitudes(2, 50, 24)
    exponents = [formats.block_exponent(peak) for peak in peaks]
    assert model.block_exponent(torch.tensor(peaks)).tolist() == exponents
    source = random.Random(3)
    rows = [[peak, -peak, peak // 2, *(source.randint(-peak, peak) for _ in range(8))] for peak in peaks]
    expected = [[formats.relu_weight(x, e) for x in row] for row, e in zip(rows, exponents, strict=True)]
    assert model.relu_weights(torch.tensor(rows), torch.tensor(exponents)).tolist() == expected


@pytest.mark.parametrize("kappa", [0.0, 1e-6, 1 / 256, 0.0361, 0.7, 1.0, 9.3, 127.0])
def test_softmax_weights(kappa):
    mantissa, shift = formats.encode_kappa(kappa)
    differences = sorted({*range(0, 3000, 7), *_magnitudes(4, 200, 24)})
    got = model.softmax_weights(torch.tensor(differences), torch.tensor(mantissa), torch.tensor(shift)).tolist()
    assert got == [formats.softmax_weight(difference, mantissa, shift) for difference in differences]
    encoded = mantissa * 2.0 ** -(formats.KAPPA_FRACTION + formats.KAPPA_SHIFT_STEP * shift)
    ideal = [255 * 2 ** (-difference * encoded) for difference in differences]
    assert all(abs(weight - value) < 1 for weight, value in zip(got, ideal, strict=True))


def test_reciprocals():
    values = [value for value in _magnitudes(5, 500, 44) if value]
    for function, twin, power in ((formats.reciprocal, model.reciprocal, -1), (formats.rsqrt, model.rsqrt, -0.5)):
        got = list(zip(*(part.tolist() for part in twin(torch.tensor(values))), strict=True))
        assert got == [function(value) for value in values]
        error = [abs(y * 2.0 ** (-16 - k) / value**power - 1) for (y, k), value in zip(got, values, strict=True)]
        assert max(error) < 2e-4


def test_interpolate_at_both_ends():
    ends = [1 << 15, (1 << 16) - 1]
    for table in (formats.RECIPROCAL_TABLE, formats.RSQRT_ODD_TABLE, formats.RSQRT_EVEN_TABLE):
        got = model.interpolate(table, torch.tensor(ends)).tolist()
        assert got == [formats.interpolate(table, end) for end in ends]
