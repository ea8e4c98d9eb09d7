"""The float reference against plain loops, against finite differences, and against the integer model."""

import math

import pytest
import torch

from reluctant.golden import integer, reference
from reluctant.golden.formats import Mode, Normaliser
from reluctant.golden.reference import AttentionKind
from reluctant.golden.settings import LayerSettings

BATCH, HEADS, KV_HEADS, TOKENS, HEAD_DIM = 2, 4, 2, 6, 8


def _case(seed, *, batch=BATCH, heads=HEADS, kv_heads=KV_HEADS, tokens=TOKENS, head_dim=HEAD_DIM):
    generator = torch.Generator().manual_seed(seed)

    def random(count):
        return torch.randn(batch, count, tokens, head_dim, generator=generator, dtype=torch.float64)

    return random(heads), random(kv_heads), random(kv_heads)


def _vector(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _loop(kind, q, k, v, theta, gain, gate, alpha, sink):
    """The formulas, one element at a time."""
    batch, heads, tokens, head_dim = q.shape
    q, k, v = q.tolist(), k.tolist(), v.tolist()
    result = torch.zeros(batch, heads, tokens, head_dim, dtype=torch.float64)
    for b in range(batch):
        for t in range(tokens):
            contexts = []
            for h in range(heads):
                g = h * len(k[b]) // heads
                s = [sum(x * y for x, y in zip(q[b][h][t], k[b][g][j], strict=True)) for j in range(t + 1)]
                s = [value / math.sqrt(head_dim) for value in s]
                if kind is AttentionKind.SOFTMAX:
                    w = [math.exp(value) for value in s]
                    w = [value / sum(w) for value in w]
                else:
                    w = [max(0.0, value - float(theta[h])) for value in s]
                if kind is AttentionKind.RELU_SUM:
                    total = sum(w) + float(sink[h]) + reference.EPSILON
                    w = [value / total for value in w]
                contexts.append([sum(w[j] * v[b][g][j][i] for j in range(t + 1)) for i in range(head_dim)])
            for h, context in enumerate(contexts):
                alone = contexts if kind is AttentionKind.RELA_LAYER else [context]
                flat = [c for row in alone for c in row]
                rms = math.sqrt(sum(c * c for c in flat) / len(flat) + reference.EPSILON)
                for i, c in enumerate(context):
                    if kind is AttentionKind.LENGTH:
                        c *= float(alpha[h]) / (t + 1)
                    elif kind in (AttentionKind.RELA_HEAD, AttentionKind.RELA_LAYER):
                        c *= float(gain[h, i]) / rms / (1 + math.exp(-float(gate[h, i]) * c))
                    result[b, h, t, i] = c
    return result


@pytest.mark.parametrize("kind", list(AttentionKind))
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_against_a_loop(kind, kv_heads):
    q, k, v = _case(1, kv_heads=kv_heads)
    theta, gain, gate, alpha = (
        _vector(2, HEADS),
        _vector(3, HEADS, HEAD_DIM),
        _vector(4, HEADS, HEAD_DIM),
        _vector(5, HEADS),
    )
    sink = _vector(6, HEADS).exp()
    got = reference.attention(kind, q, k, v, theta=theta, gain=gain, gate=gate, alpha=alpha, sink=sink)
    torch.testing.assert_close(got, _loop(kind, q, k, v, theta, gain, gate, alpha, sink))


@pytest.mark.parametrize("kind", list(AttentionKind))
def test_numbers_stand_for_vectors(kind):
    q, k, v = _case(6)
    numbers = reference.attention(kind, q, k, v, theta=0.3, gain=2.0, alpha=3.0, sink=0.5)
    full = {
        "theta": torch.full((HEADS,), 0.3),
        "gain": torch.full((HEADS, HEAD_DIM), 2.0),
        "alpha": torch.full((HEADS,), 3.0),
        "sink": torch.full((HEADS,), 0.5),
    }
    vectors = reference.attention(kind, q, k, v, **{name: value.double() for name, value in full.items()})
    torch.testing.assert_close(numbers, vectors, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", list(AttentionKind))
def test_causal(kind):
    """Later rows change nothing."""
    q, k, v = _case(7)
    before = reference.attention(kind, q, k, v)
    k[:, :, 4:], v[:, :, 4:] = 9.0, -9.0
    after = reference.attention(kind, q, k, v)
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert not torch.allclose(before[:, :, 4:], after[:, :, 4:])


@pytest.mark.parametrize("kind", list(AttentionKind))
def test_gradients(kind):
    """Autograd against finite differences, in every argument."""
    tensors = [*_case(8, batch=1, heads=2, kv_heads=1, tokens=4, head_dim=4)]
    tensors += [_vector(9, 2) * 0.3, _vector(10, 2, 4), _vector(11, 2, 4), _vector(12, 2), _vector(14, 2).exp()]
    for tensor in tensors:
        tensor.requires_grad_()

    def function(q, k, v, theta, gain, gate, alpha, sink):
        return reference.attention(kind, q, k, v, theta=theta, gain=gain, gate=gate, alpha=alpha, sink=sink)

    assert torch.autograd.gradcheck(function, tensors)


@pytest.mark.parametrize("kind", [kind for kind in AttentionKind if kind is not AttentionKind.SOFTMAX])
def test_null_heads_give_zeros_and_finite_gradients(kind):
    q, k, v = (tensor.requires_grad_() for tensor in _case(13))
    output = reference.attention(kind, q, k, v, theta=1e3)
    assert output.abs().max() == 0
    output.sum().backward()
    assert all(tensor.grad is None or tensor.grad.isfinite().all() for tensor in (q, k, v))


def test_sum_without_a_sink_is_an_average():
    """Equal values come back as they are, whatever the weights; a sink as large as their sum halves them."""
    q, k, v = _case(15)
    v[:] = 3.0
    seen = (reference.scores(q, k) > 0).tril().any(dim=-1)
    whole = reference.relu_sum(q, k, v)
    torch.testing.assert_close(whole, 3.0 * seen[..., None].expand_as(whole).double(), rtol=1e-3, atol=0)
    total = reference.scores(q, k).relu().tril().sum(dim=-1)
    sink = total[0, :, 2]
    halved = reference.relu_sum(q, k, v, sink=sink)[0, :, 2]
    torch.testing.assert_close(halved, 1.5 * seen[0, :, 2, None].expand_as(halved).double(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", list(AttentionKind))
def test_bfloat16(kind):
    """Sums and means of bfloat16 inputs are accurate beyond bfloat16: 300 rows."""
    q, k, v = _case(16, tokens=300)
    exact = reference.attention(kind, q, k, v, sink=1.0)
    rounded = reference.attention(kind, *(tensor.bfloat16() for tensor in (q, k, v)), sink=1.0)
    assert rounded.dtype == torch.bfloat16
    assert _relative(rounded.double(), exact) < 0.02


# Against the integer model --------------------------------------------------------------------------------------------


def _int8_case(seed, heads=4, kv_heads=2, tokens=96, head_dim=32):
    generator = torch.Generator().manual_seed(seed)

    def random(count):
        values = torch.randn(count, tokens, head_dim, generator=generator) * 40
        return values.round().clamp(-128, 127).to(torch.int8)

    return random(heads), random(kv_heads), random(kv_heads)


def _relative(got, expected):
    return ((got - expected).square().mean() / expected.square().mean()).sqrt().item()


@pytest.mark.parametrize(
    ("kind", "normaliser"),
    [(AttentionKind.RELA_HEAD, Normaliser.RMS_HEAD), (AttentionKind.RELA_LAYER, Normaliser.RMS_LAYER)],
)
@pytest.mark.parametrize("theta", [0, 4000])
def test_rela_in_integers(kind, normaliser, theta):
    q, k, v = _int8_case(20)
    settings = LayerSettings.create(4, 32, kv_heads=2, theta=theta, normaliser=normaliser, gain=25.0)
    result = integer.run_layer(settings, q, k, v)
    floats = [tensor[None].double() for tensor in (q, k, v)]
    expected = reference.attention(kind, *floats, theta=theta / math.sqrt(32), gain=25.0)[0]
    inside = expected.abs() < 127
    assert inside.float().mean() > 0.99
    # Half a unit of rounding, and 8-bit weights: a share of 1/256 of a few terms.
    assert (result.output - expected)[inside].abs().max() < 1.5
    assert _relative(result.output[inside].double(), expected[inside]) < 0.02


def test_contexts_in_integers():
    """``context * 2**exponent`` is the sum of ReLU(s - theta) * v, within the rounding of the weights."""
    q, k, v = _int8_case(21)
    settings = LayerSettings.create(4, 32, kv_heads=2, theta=1000, normaliser=Normaliser.NONE)
    result = integer.run_layer(settings, q, k, v)
    n = torch.arange(1, 97)[:, None]
    expected = reference.length_attention(*(t[None].double() for t in (q, k, v)), theta=1000 / math.sqrt(32))[0]
    expected = expected * n * math.sqrt(32)
    got = result.context.double() * 2.0 ** result.exponent[:, :, None].double()
    assert _relative(got, expected) < 0.005


@pytest.mark.parametrize("sink", [0, 3000, 100_000])
def test_relu_sum_in_integers(sink):
    q, k, v = _int8_case(24)
    settings = LayerSettings.create(4, 32, kv_heads=2, theta=1000, sink=sink, normaliser=Normaliser.SUM)
    result = integer.run_layer(settings, q, k, v)
    floats = (tensor[None].double() for tensor in (q, k, v))
    theta, sink = 1000 / math.sqrt(32), sink / math.sqrt(32)
    expected = reference.relu_sum(*floats, theta=theta, sink=sink)[0]
    assert (result.output - expected).abs().max() < 1.5
    assert _relative(result.output.double(), expected) < 0.05


def test_length_in_integers():
    q, k, v = _int8_case(22)
    settings = LayerSettings.create(4, 32, kv_heads=2, normaliser=Normaliser.LENGTH, alpha=2.0**-12)
    result = integer.run_layer(settings, q, k, v)
    floats = (tensor[None].double() for tensor in (q, k, v))
    expected = reference.length_attention(*floats, alpha=2.0**-12 * math.sqrt(32))[0]
    inside = expected.abs() < 60
    assert inside.float().mean() > 0.95
    assert (result.output - expected)[inside].abs().max() < 1.0


@pytest.mark.parametrize("score_scale", [1e-4, 1 / 1024, 1 / 128])
def test_softmax_in_integers(score_scale):
    q, k, v = _int8_case(23)
    settings = LayerSettings.create(
        4, 32, kv_heads=2, mode=Mode.SOFTMAX, score_scale=score_scale, normaliser=Normaliser.SUM
    )
    result = integer.run_layer(settings, q, k, v)
    scaled = q[None].double() * score_scale * math.sqrt(32)
    expected = reference.softmax_attention(scaled, k[None].double(), v[None].double())[0]
    exact = result.context.double() / result.weight_sum[:, :, None]
    assert _relative(exact, expected) < 0.02
