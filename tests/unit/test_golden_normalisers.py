"""The integer model's outputs, against the normalisers' formulas in float64."""

import random

import pytest
import torch

from reluctant.golden import formats
from reluctant.golden import integer as model
from reluctant.golden.formats import Normaliser
from reluctant.golden.settings import LayerSettings

RMS = (Normaliser.RMS_HEAD, Normaliser.RMS_LAYER)


def _formula(settings, context, exponent, weight_sum, rows, softmax):
    """The normaliser's formula in float64, saturated, not rounded."""
    value = context.to(torch.float64)
    if settings.normaliser is Normaliser.LENGTH:
        alpha = torch.tensor([m * 2.0 ** (e - 15) for m, e in settings.alpha], dtype=torch.float64)[:, None, None]
        result = value * 2.0 ** exponent[..., None].to(torch.float64) * alpha / rows[None, :, None]
    elif settings.normaliser is Normaliser.SUM:
        sink = torch.tensor(settings.sink, dtype=torch.float64)[:, None] / 2.0 ** exponent.to(torch.float64)
        result = value / (weight_sum + sink.masked_fill(softmax, 0)).clamp(min=1)[..., None]
    else:
        value = value * 2.0 ** exponent[..., None].to(torch.float64)
        dims = (0, 2) if settings.normaliser is Normaliser.RMS_LAYER else (2,)
        rms = value.square().mean(dim=dims, keepdim=True).sqrt()
        gain = torch.tensor(settings.gain, dtype=torch.float64)[:, None, :] / formats.GAIN_ONE
        result = torch.where(rms > 0, value / rms.clamp(min=1e-300), 0) * gain
    return result.clamp(-128, 127)


def _random_contexts(seed, heads, tokens, head_dim):
    """Contexts of every magnitude, some zero, some with one element that outweighs the rest."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(1, 32, (heads, tokens, 1), generator=generator)
    context = (torch.rand(heads, tokens, head_dim, generator=generator, dtype=torch.float64) * 2 - 1) * 2.0**bits
    context[0, ::3] = 0
    context[-1, 1::3, 1:] = torch.sign(context[-1, 1::3, 1:])
    return context.clamp(-(2**31), 2**31 - 1).round().to(torch.int64)


@pytest.mark.parametrize(
    "normaliser",
    [*RMS, Normaliser.LENGTH, Normaliser.SUM],
)
@pytest.mark.parametrize(("heads", "head_dim", "seed"), [(1, 16, 0), (2, 32, 1), (3, 64, 2), (8, 256, 3)])
def test_output_within_one_of_formula(normaliser, heads, head_dim, seed):
    tokens = 200
    source = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    context = _random_contexts(seed, heads, tokens, head_dim)
    exponent = torch.randint(0, 17, (heads, tokens), generator=generator)
    weight_sum = torch.randint(1, 1 << 24, (heads, tokens), generator=generator)
    weight_sum = (weight_sum >> torch.randint(0, 24, weight_sum.shape, generator=generator)).clamp(min=1)
    rows = torch.randint(1, formats.MAX_ROWS + 1, (tokens,), generator=generator)
    settings = LayerSettings.create(
        heads,
        head_dim,
        normaliser=normaliser,
        alpha=[2.0 ** source.uniform(-20, 0) for _ in range(heads)],
        gain=[[source.uniform(-127.9, 127.9) for _ in range(head_dim)] for _ in range(heads)],
        sink=[source.getrandbits(formats.SINK_BITS) for _ in range(heads)],
    )
    softmax = torch.rand(heads, tokens, generator=generator) < 0.3
    if normaliser is Normaliser.SUM:  # the rounding of the sink must not matter
        weight_sum = weight_sum.clamp(min=1000)
    got = model.normalise_heads(settings, context, exponent, weight_sum, rows, softmax)
    ideal = _formula(settings, context, exponent, weight_sum, rows, softmax)
    assert got.dtype is torch.int8
    assert (got - ideal).abs().max().item() <= 1
    assert got.unique().numel() > 30


@pytest.mark.parametrize("normaliser", RMS)
@pytest.mark.parametrize("value", [1, -1, 127, -128, (1 << 31) - 1, -(1 << 31)])
def test_rms_of_equal_elements(normaliser, value):
    settings = LayerSettings.create(2, 16, normaliser=normaliser, gain=50.0)
    context = torch.full((2, 1, 16), value)
    exponent = torch.full((2, 1), 3)
    ones, softmax = torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.bool)
    output = model.normalise_heads(settings, context, exponent, ones, torch.ones(1), softmax)
    assert output.flatten().tolist() == [50 if value > 0 else -50] * 32


def test_rms_layer_weighs_exponents():
    """A head whose contexts carry 2**16 more than the other's drowns it."""
    settings = LayerSettings.create(2, 16, normaliser=Normaliser.RMS_LAYER, gain=10.0)
    context = torch.full((2, 1, 16), 1000)
    ones, softmax = torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.bool)
    output = model.normalise_heads(settings, context, torch.tensor([[16], [0]]), ones, torch.ones(1), softmax)
    assert output[0].unique().tolist() == [14]
    assert output[1].unique().tolist() == [0]
