"""Importance of heads, and dropping them."""

import pytest
import torch
from torch.nn import functional

from reluctant.golden.decoder import from_language_model
from reluctant.golden.evaluation import masked
from reluctant.golden.head_mask import HeadMask
from reluctant.golden.importance import importance, prune
from reluctant.golden.reference import AttentionKind
from reluctant.golden.trainer import windows

from .deployed_models import CONTEXT, TEXT, language_model, trained_model

DEAD = ((0, 1), (1, 3))


def _decoder(model=None):
    """Two heads do nothing: the output projection does not look at them."""
    decoder = from_language_model(model or trained_model(), CONTEXT)
    for layer, head in DEAD:
        decoder.weights[f"layers.{layer}.output"][:, head * 8 : head * 8 + 8] = 0
    return decoder


def _windows(count=10):
    symbols = torch.frombuffer(bytearray(TEXT.encode()), dtype=torch.uint8).long()
    return windows(symbols, CONTEXT, count)


def _loss(decoder, chunk, masks):
    logits = decoder.forward(chunk[:, :-1], masked(decoder.attention, masks))
    return functional.cross_entropy(logits.flatten(0, 1), chunk[:, 1:].flatten()).item()


@torch.no_grad()
def test_importance_is_a_mean_of_slopes():
    decoder, step = _decoder(language_model(AttentionKind.SOFTMAX)), 1e-2
    chunks = _windows().split(1)
    slopes = torch.zeros(2, 4)
    for layer in range(2):
        for head in range(4):
            for chunk in chunks:
                masks = torch.ones(2, 4)
                masks[layer, head] = 1 + step
                above = _loss(decoder, chunk, masks)
                masks[layer, head] = 1 - step
                slopes[layer, head] += abs(above - _loss(decoder, chunk, masks)) / (2 * step)
    wanted = slopes / slopes.norm(dim=1, keepdim=True)
    done = []
    with torch.enable_grad():
        found = importance(decoder, _windows(), done.append)
    torch.testing.assert_close(found, wanted, atol=5e-3, rtol=2e-2)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    assert sum(done) == 10
    assert found[0, 1] == found[1, 3] == 0


def test_heads_that_do_nothing_go_first():
    done = []
    decoder = _decoder()
    result = prune(decoder, _windows(), 0.25, limit=1e-4, progress=done.append)
    assert set(result.mask.dropped) == set(DEAD)
    assert [trial.dropped for trial in result.trials] == [True, True]
    assert result.pruned_loss == pytest.approx(result.loss, abs=1e-6)
    assert result.wanted == 2
    assert done[-2:] == [0, 0]
    values = result.as_dict()
    assert values["curve"] == [result.loss, *(trial.loss for trial in result.trials)]
    assert values["dropped"] == result.mask.dropped
    assert "mask" not in values


def test_a_head_that_matters_stays():
    result = prune(_decoder(), _windows(), 1, limit=1e-6)
    assert set(result.mask.dropped) == set(DEAD)
    assert result.wanted == 8
    # Then five of the six others are tried, and all raise the loss.
    assert [trial.dropped for trial in result.trials[-5:]] == [False] * 5
    assert all(trial.loss > result.loss + 1e-6 for trial in result.trials[-5:])


def test_the_cheapest_of_the_least_important_is_dropped():
    decoder = _decoder()
    result = prune(decoder, _windows(), 0.5, limit=100.0)
    assert len(result.mask.dropped) == result.wanted == 4
    for after in range(4):
        tried = [trial for trial in result.trials if trial.after == after]
        (chosen,) = [trial for trial in tried if trial.dropped]
        assert chosen.loss == min(trial.loss for trial in tried)
        assert len(tried) <= 5
    kept = torch.tensor([[not off for off in result.mask.of_layer(layer)] for layer in range(2)]).float()
    with torch.no_grad():
        assert result.pruned_loss == pytest.approx(_loss(decoder, _windows(), kept), rel=1e-5)
    curve = result.as_dict()["curve"]
    assert len(curve) == 5
    assert curve[-1] == result.pruned_loss > curve[0]


def test_few_windows_are_checked():
    decoder = _decoder()
    result = prune(decoder, _windows(), 0.25, limit=1.0, check=2)
    with torch.no_grad():
        assert result.loss == pytest.approx(_loss(decoder, _windows()[[0, 9]], torch.ones(2, 4)), rel=1e-5)


def test_nothing_to_drop():
    result = prune(_decoder(), _windows(), 0, limit=0)
    assert (result.mask, result.trials) == (HeadMask(4, (0, 0)), ())
    assert result.pruned_loss == result.loss


@pytest.mark.parametrize(
    ("share", "limit", "message"),
    [(1.5, 0.1, "drop is 1.5: 0 to 1"), (-0.1, 0.1, "drop is -0.1"), (0.5, -1, "limit is -1: 0 or more")],
)
def test_numbers_out_of_range(share, limit, message):
    with pytest.raises(ValueError, match=message):
        prune(_decoder(), _windows(), share, limit=limit)
