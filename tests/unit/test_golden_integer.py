"""Layers and steps of the integer model, against a scalar model made of the functions of formats."""

import random

import pytest
import torch

from reluctant.golden import formats
from reluctant.golden import integer as model
from reluctant.golden.formats import Mode, Normaliser
from reluctant.golden.settings import LayerSettings


def _int8(generator, *shape, spread=128):
    high = min(127, spread)
    return torch.randint(-spread, high + 1, shape, generator=generator, dtype=torch.int64).to(torch.int8)


def _case(seed, heads=4, kv_heads=2, tokens=7, head_dim=16, spread=128):
    generator = torch.Generator().manual_seed(seed)
    q = _int8(generator, heads, tokens, head_dim, spread=spread)
    k, v = (_int8(generator, kv_heads, tokens, head_dim, spread=spread) for _ in range(2))
    return q, k, v


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
