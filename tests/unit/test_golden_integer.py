"""The integer model against the scalar functions of formats, and against the formulas in float64."""

import math
import random

import pytest
import torch

from reluctant.golden import formats
from reluctant.golden import integer as model
from reluctant.golden.formats import Mode, Normaliser
from reluctant.golden.settings import LayerSettings, alpha_for

RMS = (Normaliser.RMS_HEAD, Normaliser.RMS_LAYER)


def _int8(generator, *shape, spread=128):
    high = min(127, spread)
    return torch.randint(-spread, high + 1, shape, generator=generator, dtype=torch.int64).to(torch.int8)


def _case(seed, heads=4, kv_heads=2, tokens=7, head_dim=16, spread=128):
    generator = torch.Generator().manual_seed(seed)
    q = _int8(generator, heads, tokens, head_dim, spread=spread)
    k, v = (_int8(generator, kv_heads, tokens, head_dim, spread=spread) for _ in range(2))
    return q, k, v


def _magnitudes(seed, count, bits):
    """Integers of every bit length up to ``bits``, and the ends of each."""
    source = random.Random(seed)
    values = [source.getrandbits(source.randint(1, bits)) for _ in range(count)]
    return [0, *values, *(edge for b in range(1, bits + 1) for edge in ((1 << b) - 1, 1 << (b - 1)))]


# Scalar twins ---------------------------------------------------------------------------------------------------------


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


# Whole heads against a scalar model -----------------------------------------------------------------------------------


def _scalar_step(settings, q, k, v):
    """One step in plain Python from the functions of formats: a list with a dictionary per head."""
    heads = []
    for h in range(settings.heads):
        keys, values = k[h // settings.group], v[h // settings.group]
        shifted = [sum(a * b for a, b in zip(q[h], row, strict=True)) - settings.theta[h] for row in keys]
        positive = [x for x in shifted if x > 0]
        active, mass = len(positive), sum(positive)
        short = active < settings.min_active[h] or mass < settings.min_mass[h]
        fallback = settings.mode[h] is Mode.HYBRID and short
        softmax = settings.mode[h] is Mode.SOFTMAX or fallback
        exponent = 0 if softmax or not positive else formats.block_exponent(max(positive))
        if softmax:
            weights = [formats.softmax_weight(max(shifted) - x, *settings.kappa[h]) for x in shifted]
        else:
            weights = [formats.relu_weight(x, exponent) for x in shifted]
        if settings.mask[h]:
            active, mass, exponent, weights, softmax, fallback = 0, 0, 0, [0] * len(keys), False, False
        context = [sum(w * row[i] for w, row in zip(weights, values, strict=True)) for i in range(settings.head_dim)]
        null = not softmax and active == 0 and not settings.mask[h]
        flags = settings.mask[h] | null << 1 | softmax << 2 | fallback << 3
        head = {"context": context, "exponent": exponent, "active": active, "mass": mass, "flags": flags}
        head |= {"weights": weights, "weight_sum": sum(weights), "value_rows": sum(w > 0 for w in weights)}
        heads.append(head)
    _scalar_normalise(settings, heads, len(k[0]))
    return heads


def _scalar_normalise(settings, heads, rows):
    magnitudes = [(formats.magnitude_bits(head["context"]), head["exponent"]) for head in heads]
    layer_bits = max(bits + exponent if bits else 0 for bits, exponent in magnitudes)

    def squares(head, shift):
        return sum(formats.round_shift(c, shift) ** 2 for c in head["context"])

    layer_squares = sum(squares(head, formats.square_shift(layer_bits, head["exponent"])) for head in heads)
    for h, head in enumerate(heads):
        gains, exponent = [formats.GAIN_ONE] * settings.head_dim, 0
        if settings.normaliser is Normaliser.NONE:
            continue
        if settings.normaliser is Normaliser.LENGTH:
            (y, k), exponent = formats.reciprocal(rows), head["exponent"]
        elif settings.normaliser is Normaliser.SUM:
            sink = 0 if head["flags"] & 4 else settings.sink[h]
            divisor = formats.sum_divisor(head["weight_sum"], sink, head["exponent"])
            y, k = formats.reciprocal(divisor) if divisor else (0, 0)
        else:
            layer, gains = settings.normaliser is Normaliser.RMS_LAYER, settings.gain[h]
            bits = layer_bits if layer else formats.magnitude_bits(head["context"])
            shift = formats.square_shift(bits, head["exponent"] if layer else 0)
            total, exponent = layer_squares if layer else squares(head, shift), -shift
            y, k = formats.rsqrt(total) if total else (0, 0)
        multiplier, shift = formats.factor(y, k, settings.alpha[h], exponent)
        pairs = zip(head["context"], gains, strict=True)
        head["output"] = [formats.scale(c, shift, multiplier, gain) for c, gain in pairs]


def _varied_settings(seed, normaliser, head_dim=16):
    """Four heads that differ in everything: all modes, a masked head."""
    source = random.Random(seed)
    return LayerSettings.create(
        4,
        head_dim,
        kv_heads=2,
        normaliser=normaliser,
        mode=[Mode.RELU, Mode.SOFTMAX, Mode.HYBRID, source.choice(list(Mode))],
        theta=[source.randint(-4000, 4000) for _ in range(4)],
        score_scale=[10 ** source.uniform(-4, 0) for _ in range(4)],
        min_active=[source.randint(0, 3) for _ in range(4)],
        min_mass=[source.randint(0, 20000) for _ in range(4)],
        alpha=[10 ** source.uniform(-4, 4) for _ in range(4)],
        gain=[[source.uniform(-64, 64) for _ in range(head_dim)] for _ in range(4)],
        mask=[False, False, False, seed % 3 == 0],
        sink=[source.getrandbits(source.randint(0, formats.SINK_BITS)) for _ in range(4)],
    )


@pytest.mark.parametrize("normaliser", list(Normaliser))
@pytest.mark.parametrize("seed", range(6))
def test_layer_matches_scalar_model(normaliser, seed):
    spread = (1, 3, 20, 128, 128, 128)[seed]
    q, k, v = _case(seed, spread=spread)
    settings = _varied_settings(seed, normaliser)
    result = model.run_layer(settings, q, k, v, keep_weights=True)
    for t in range(q.shape[1]):
        rows = (k[:, : t + 1].tolist(), v[:, : t + 1].tolist())
        for h, expected in enumerate(_scalar_step(settings, q[:, t].tolist(), *rows)):
            for name in ("context", "exponent", "active", "mass", "flags", "weight_sum", "value_rows"):
                assert getattr(result, name)[h, t].tolist() == expected[name], (name, h, t)
            assert result.weights[h, t].tolist() == expected["weights"] + [0] * (q.shape[1] - t - 1)
            if normaliser is not Normaliser.NONE:
                assert result.output[h, t].tolist() == expected["output"], (h, t)
    assert (result.output is None) == (normaliser is Normaliser.NONE)
    assert result.rows.tolist() == list(range(1, q.shape[1] + 1))


def test_flags_seen():
    """The random cases above reach every flag."""
    seen = 0
    for seed in range(6):
        settings = _varied_settings(seed, Normaliser.NONE)
        flags = model.run_layer(settings, *_case(seed)).flags.flatten().tolist()
        for flag in flags:
            seen |= flag
    assert seen == 0b1111


# Outputs against float64 ----------------------------------------------------------------------------------------------


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


# Layers, steps and settings -------------------------------------------------------------------------------------------


def test_extremes_are_exact():
    q = torch.full((1, 300, 256), -128, dtype=torch.int8)
    settings = LayerSettings.create(1, 256, normaliser=Normaliser.SUM)
    result = model.run_layer(settings, q, q, q)
    assert result.mass[0, -1].item() == 300 * 256 * 128 * 128
    assert result.exponent.unique().tolist() == [23 - 8]
    assert result.context[0, :, 0].tolist() == [128 * -128 * (t + 1) for t in range(300)]
    assert result.output[0, [0, 1, 3, 255], 0].tolist() == [-128] * 4


def test_sink_is_in_units_of_score():
    """The peak's weight is 12700 / 2**6, rounded; a sink as large as the peak halves the context."""
    q = torch.tensor([[[100] + [0] * 15]], dtype=torch.int8)
    k, v = torch.full((1, 1, 16), 127, dtype=torch.int8), torch.full((1, 1, 16), 100, dtype=torch.int8)
    for sink, expected in ((0, 100), (12700, 50), (3 * 12700, 25), ((1 << formats.SINK_BITS) - 1, 0)):
        settings = LayerSettings.create(1, 16, normaliser=Normaliser.SUM, sink=sink)
        result = model.attend_rows(settings, q[:, 0], k, v)
        assert (result.exponent.item(), result.weight_sum.item()) == (6, 198)
        assert result.output.unique().tolist() == [expected]
    settings = LayerSettings.create(1, 16, normaliser=Normaliser.SUM, sink=12700, mode=Mode.SOFTMAX)
    assert model.attend_rows(settings, q[:, 0], k, v).output.unique().tolist() == [100]
    null = LayerSettings.create(1, 16, normaliser=Normaliser.SUM, sink=12700, theta=12700)
    assert model.attend_rows(null, q[:, 0], k, v).output.unique().tolist() == [0]


def test_settings_without_sinks_have_none():
    made = LayerSettings.create(2, 16)
    fields = {name: getattr(made, name) for name in made.__dataclass_fields__ if name != "sink"}
    assert LayerSettings(**fields).sink == made.sink == (0, 0)


def test_weight_may_round_to_zero():
    """Active counts shifted scores above zero; value rows count weights."""
    q = torch.tensor([[[100] + [0] * 15]], dtype=torch.int8)
    k = torch.zeros(1, 2, 16, dtype=torch.int8)
    k[0, :, 0] = torch.tensor([127, 0])
    settings = LayerSettings.create(1, 16, theta=-1)
    result = model.attend_rows(settings, q[:, 0], k, k)
    assert (result.active.item(), result.value_rows.item()) == (2, 1)
    assert result.weights.flatten().tolist() == [formats.relu_weight(12701, 6), 0]


def test_null_head():
    q = torch.ones(1, 1, 16, dtype=torch.int8)
    settings = LayerSettings.create(1, 16, theta=16, normaliser=Normaliser.RMS_HEAD)
    result = model.run_layer(settings, q, q, q)
    assert result.flags.item() == 0b0010
    assert result.context.abs().max().item() == 0
    assert result.output.abs().max().item() == 0


def test_chunks_do_not_show(monkeypatch):
    case = _case(9, tokens=33)
    settings = _varied_settings(9, Normaliser.RMS_LAYER)
    whole = model.run_layer(settings, *case, keep_weights=True)
    monkeypatch.setattr(model, "CHUNK_SCORES", 4 * 33 * 5)
    parts = model.run_layer(settings, *case, keep_weights=True)
    for name in whole.__dataclass_fields__:
        assert torch.equal(getattr(whole, name), getattr(parts, name)), name


def test_step_with_kept_rows():
    q, k, v = _case(11, tokens=12)
    settings = _varied_settings(11, Normaliser.RMS_HEAD)
    kept = torch.tensor([[0, 3, 5, 11], [1, 2, 10, 11]])
    result = model.attend_rows(settings, q[:, 11], k, v, kept)
    rows = [[tensor[g, kept[g]].tolist() for g in range(2)] for tensor in (k, v)]
    for h, expected in enumerate(_scalar_step(settings, q[:, 11].tolist(), *rows)):
        assert result.context[h, 0].tolist() == expected["context"]
        assert result.output[h, 0].tolist() == expected["output"]
        assert result.weights[h, 0].tolist() == expected["weights"]
    same = model.attend_rows(settings, q[:, 11], k, v, torch.arange(12))
    full = model.run_layer(settings, q, k, v)
    assert torch.equal(same.output[:, 0], full.output[:, 11])


def test_alpha_for():
    assert alpha_for(Normaliser.RMS_HEAD, 64, 3.0) == 8.0
    assert alpha_for(Normaliser.RMS_LAYER, 256) == 16.0
    assert alpha_for(Normaliser.LENGTH, 64, 3.0) == 3.0
    assert alpha_for(Normaliser.LENGTH, 64) == 1.0
    assert alpha_for(Normaliser.SUM, 64, 3.0) == 1.0
    settings = LayerSettings.create(4, 16, normaliser=Normaliser.RMS_LAYER)
    assert settings.alpha == (formats.encode_alpha(8.0),) * 4
    assert settings.gain[0][0] == 32 * formats.GAIN_ONE
    assert settings.kappa[0] == formats.encode_kappa(1 / math.log(2) / 256)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"theta": 1 << 19}, "theta of head 0 is 524288: -524288 to 524287 is allowed"),
        ({"theta": [0, -524289]}, "theta of head 1 is -524289: -524288 to 524287 is allowed"),
        ({"theta": [0]}, "theta has 1 entries: 2 (one per head) are needed"),
        ({"kv_heads": 3}, "kv_heads is 3: a divisor of heads (2) is allowed"),
        ({"min_mass": 1 << 32}, "min_mass of head 0 is 4294967296: 0 to 4294967295 is allowed"),
        ({"min_active": -1}, "min_active of head 0 is -1: 0 to 65536 is allowed"),
        ({"sink": [0, 1 << 24]}, "sink of head 1 is 16777216: 0 to 16777215 is allowed"),
        ({"sink": -1}, "sink of head 0 is -1: 0 to 16777215 is allowed"),
        ({"gain": [[1.0] * 15] * 2}, "gain of head 0 has 15 entries: 16 are needed"),
        ({"score_scale": float("nan")}, "kappa is nan: a finite number from 0 to 127 is needed"),
        ({"alpha": -1.0, "normaliser": Normaliser.LENGTH}, "alpha is -1.0: 0 or a number from 2**-100 to 2**100 is"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        LayerSettings.create(2, 16, **change)
    assert str(error.value).startswith(message)


def test_theta_takes_its_whole_range():
    limit = 1 << (formats.score_bits(16) - 1)
    assert LayerSettings.create(2, 16, theta=[-limit, limit - 1]).theta == (-limit, limit - 1)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("q", torch.zeros(4, 7, 16), "q is torch.float32: torch.int8 is needed"),
        ("q", torch.zeros(3, 7, 16, dtype=torch.int8), "q has shape (3, 7, 16): (4, tokens, 16) is needed"),
        ("k", torch.zeros(2, 7, 8, dtype=torch.int8), "k has shape (2, 7, 8): (2, tokens, 16) is needed"),
        ("v", torch.zeros(2, 6, 16, dtype=torch.int8), "v has shape (2, 6, 16): k has (2, 7, 16)"),
        ("q", torch.zeros(4, 6, 16, dtype=torch.int8), "k has 7 tokens: q has 6"),
    ],
)
def test_shapes_are_checked(name, tensor, message):
    case = dict(zip("qkv", _case(0), strict=True)) | {name: tensor}
    with pytest.raises(ValueError) as error:  # noqa: PT011
        model.run_layer(LayerSettings.create(4, 16, kv_heads=2), **case)
    assert str(error.value) == message


def test_no_rows_kept():
    q, k, v = _case(0)
    with pytest.raises(ValueError, match="kept is empty: a step attends to at least one row"):
        model.attend_rows(LayerSettings.create(4, 16, kv_heads=2), q[:, 0], k, v, torch.zeros(0, dtype=torch.int64))
