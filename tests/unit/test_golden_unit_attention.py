"""The integer model behind a deployed model: windows at once, and token by token."""

import numpy as np
import pytest
import torch

from reluctant.golden.eviction import default_flags, run_policy
from reluctant.golden.formats import Mode
from reluctant.golden.gating import GatingSettings
from reluctant.golden.head_mask import HeadMask
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.reference import AttentionKind
from reluctant.golden.unit_attention import UnitAttention, UnitOptions, UnitSteps

from .deployed_models import SIZES, deployed_model

TOKENS = 20
EVICTING = [policy for policy in Policy if policy is not Policy.REFUSE]


def _rows(count=3, seed=0):
    """Real rows (count, heads, T, d) as layer 1 of the small models has them."""
    source = torch.Generator().manual_seed(seed)
    shape = TOKENS, SIZES["head_dim"]
    return [torch.randn(count, heads, *shape, generator=source) for heads in (4, 2, 2)]


@pytest.mark.parametrize("kind", list(AttentionKind))
@pytest.mark.parametrize("policy", [None, *EVICTING])
def test_windows_are_sequences_of_their_own(kind, policy):
    model, rows = deployed_model(kind), _rows()
    settings = None if policy is None else PolicySettings.create(policy, 12)
    options = UnitOptions(policy=settings, gating=GatingSettings(active=2, probe=3))
    together = UnitAttention(model, options)
    outputs = together(1, *rows)
    alone = UnitAttention(model, options)
    for window in range(3):
        part = alone(1, *(values[window : window + 1] for values in rows))
        assert torch.equal(part, outputs[window : window + 1])
    assert alone.activity == together.activity
    assert together.activity[0].rows == 0
    assert len(torch.unique(outputs)) > 20


def test_activity():
    model = deployed_model()
    mask = HeadMask.of(2, 4, [(1, 2)])
    unit = UnitAttention(model, UnitOptions(mask=mask, mode=Mode.HYBRID, min_active=3))
    outputs = unit(1, *_rows())
    assert (outputs[:, 2] == 0).all()
    values = unit.activity[1].as_dict()
    assert values["rows"] == 3 * 4 * TOKENS * (TOKENS + 1) // 2
    assert values["heads"] == 3 * 4 * TOKENS
    assert values["run_share"] == 0.75
    assert values["null"] == 0
    # Token 0 and 1 never have three active rows.
    assert values["fallback"] >= 3 * 3 * 2
    assert values["zero_share"] == 1 - values["value_rows"] / values["rows"] > 0.25
    shares = values["head_zero_shares"]
    assert (len(shares), shares[2]) == (4, 1)
    assert sum(shares) / 4 == pytest.approx(values["zero_share"])
    assert 0 < sum(values["head_value_rows"]) == values["value_rows"]
    with pytest.raises(ValueError, match="mask is of 3 layers of 4 heads: the model has 2 of 4"):
        UnitAttention(model, UnitOptions(mask=HeadMask.of(3, 4)))


def test_layers_have_policies_of_their_own():
    model, rows = deployed_model(), _rows()
    policies = tuple(PolicySettings.create(Policy.STREAMING, budget) for budget in (6, 12))
    both = UnitAttention(model, UnitOptions(policy=policies))
    for layer, policy in enumerate(policies):
        alone = UnitAttention(model, UnitOptions(policy=policy))
        assert torch.equal(both(layer, *rows), alone(layer, *rows))
        assert both.activity[layer] == alone.activity[layer]
    assert both.activity[0].rows < both.activity[1].rows


def test_a_window_that_does_not_fit():
    unit = UnitAttention(deployed_model(), UnitOptions(policy=PolicySettings.create(Policy.REFUSE, 12)))
    with pytest.raises(ValueError, match="policy refuse has no room for token 12 of 20"):
        unit(0, *_rows())


@pytest.mark.parametrize("policy", list(Policy))
def test_steps_are_those_of_a_whole_run(policy):
    model = deployed_model()
    settings = PolicySettings.create(policy, TOKENS if policy is Policy.REFUSE else 10)
    options = UnitOptions(gating=GatingSettings(active=2, probe=4), mask=HeadMask.of(2, 4, [(1, 0)]))
    q, k, v = (values[0] for values in model.quantise(1, *_rows(1, seed=3)))
    run = run_policy(options.settings(model, 1), settings, q, k, v, layer=1, gating=options.gating)
    assert (default_flags(q).any(), bool(run.off.any())) == (True, True)
    steps = UnitSteps(model, settings, options)
    for token in range(TOKENS):
        outputs = steps(1, *(rows[:, token].numpy() for rows in (q, k, v)))
        assert outputs.dtype == np.int8
        assert np.array_equal(outputs, run.attention.output[:, token].numpy())
        assert np.array_equal(steps.off[1], run.off[token].numpy())
        assert torch.equal(steps.results[1].active[:, 0], run.attention.active[:, token])
    assert steps.results[0] is None


def test_a_step_that_is_refused():
    model = deployed_model()
    steps = UnitSteps(model, PolicySettings.create(Policy.REFUSE, 2))
    rows = [np.ones((heads, SIZES["head_dim"]), np.int8) for heads in (4, 2, 2)]
    steps(0, *rows)
    steps(0, *rows)
    with pytest.raises(ValueError, match="policy refuse has no room for token 2"):
        steps(0, *rows)


@pytest.mark.parametrize("kind", list(AttentionKind))
def test_a_text_token_by_token(kind):
    """The logits of a window, but for what float32 sums in another order, which may move a row by a step of int8."""
    model = deployed_model(kind)
    symbols = torch.tensor(list(b"the dog sat on the log: who saw?"))
    with torch.no_grad():
        whole = model.decoder.forward(symbols[None], UnitAttention(model))[0]
    session, steps = model.start(), UnitSteps(model, PolicySettings.create(Policy.REFUSE, len(symbols)))
    logits = torch.stack([torch.from_numpy(session.token(int(symbol), steps)) for symbol in symbols])
    assert session.position == len(symbols)
    assert (logits - whole).abs().mean() < 0.02 * whole.std()
    with pytest.raises(ValueError, match="symbol is 256: 0 to 255 is allowed"):
        session.token(256, steps)
