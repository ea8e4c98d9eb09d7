"""KV policies against a second formulation on lists, their promises, and what is refused."""

import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reluctant
from reluctant.golden import eviction
from reluctant.golden.eviction import default_flags, run_policy
from reluctant.golden.formats import Mode, Normaliser, rate
from reluctant.golden.gating import GatingSettings
from reluctant.golden.integer import AttentionResult, run_layer
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.settings import LayerSettings
from reluctant.golden.trace import load_trace

from .naive_policies import naive_run, xorshift

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 8
EVICTING = [policy for policy in Policy if policy is not Policy.REFUSE]
LAYER = LayerSettings.create(
    HEADS,
    HEAD_DIM,
    kv_heads=KV_HEADS,
    theta=(0, 3, -2, 1),
    mode=(Mode.RELU, Mode.SOFTMAX, Mode.HYBRID, Mode.RELU),
    score_scale=0.3,
    min_active=3,
    mask=(False, False, False, True),
)


def _tensors(seed, tokens, spread=2):
    """Few distinct numbers, so that masses are often equal."""
    generator = torch.Generator().manual_seed(seed)

    def random(heads):
        return torch.randint(-spread, spread + 1, (heads, tokens, HEAD_DIM), generator=generator).to(torch.int8)

    return random(HEADS), random(KV_HEADS), random(KV_HEADS)


@st.composite
def policies(draw):
    policy = draw(st.sampled_from(list(Policy)))
    budget = draw(st.integers(1, 12))
    given = {}
    if policy is not Policy.REFUSE:
        given["sinks"] = draw(st.integers(0, min(3, budget - 1)))
    if policy not in (Policy.REFUSE, Policy.STREAMING):
        given["recent"] = draw(st.integers(0, budget - 1 - given["sinks"]))
    if policy is Policy.H2O:
        given["normalised"] = draw(st.booleans())
    if policy is Policy.BUZZ:
        given["stride"] = draw(st.integers(1, 5))
    if policy is Policy.NACL:
        given |= {"stride": 1 << draw(st.integers(0, 3)), "share": draw(st.sampled_from([0, 77, 128, 256]))}
        given["seed"] = draw(st.integers(0, 2**32 - 1))
    return PolicySettings.create(policy, budget, **given)


def _compare(run, naive, budget):
    rows = run.attention.rows.tolist()
    assert run.refused == naive.refused
    assert run.slots.tolist() == naive.slots
    assert run.evicted.tolist() == naive.evicted
    expected = [[kept + [-1] * (budget - len(kept)) for kept in step] for step in naive.kept]
    assert run.kept.tolist() == expected
    assert rows == [len(step[0]) for step in naive.kept]
    assert run.mass[:, : rows[-1]].tolist() == naive.mass


@settings(max_examples=150, deadline=None)
@given(
    policies(),
    st.integers(0, 2**31),
    st.integers(1, 80),
    st.integers(8, 14),
    st.integers(0, 255),
    st.sampled_from([None, GatingSettings(active=2, mass=32, probe=3)]),
)
def test_second_formulation(policy, seed, tokens, mass_bits, layer, gating):
    q, k, v = _tensors(seed, tokens)
    run = run_policy(LAYER, policy, q, k, v, layer=layer, mass_bits=mass_bits, gating=gating)
    flags = (q[0, :, 0] > 0).tolist()
    lists = (tensor.tolist() for tensor in (q, k, v))
    _compare(run, naive_run(LAYER, policy, *lists, flags, layer, mass_bits, run.off.tolist()), policy.budget)


@pytest.mark.parametrize("policy", list(Policy))
def test_bundled_trace(policy):
    trace = load_trace(Path(reluctant.__file__).parent / "data" / "demo.npz")
    settings = PolicySettings.create(policy, 32)
    q, k, v = (torch.from_numpy(array[1]) for array in (trace.q, trace.k, trace.v))
    run = run_policy(trace.settings(1), settings, q, k, v, layer=1)
    lists = (tensor.tolist() for tensor in (q, k, v))
    _compare(run, naive_run(trace.settings(1), settings, *lists, default_flags(q).tolist(), 1), 32)
    assert (run.refused == 32) == (policy is Policy.REFUSE)
    assert run.attention.rows.max() == 32


# What policies promise ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", EVICTING)
@pytest.mark.parametrize(("budget", "sinks"), [(8, 0), (9, 3)])
def test_who_stays_and_who_leaves(policy, budget, sinks):
    """Sinks and window stay; one row leaves a full region in each step, none (but for DMS) one that is not full."""
    settings = PolicySettings.create(policy, budget, sinks=sinks)
    q, k, v = _tensors(11, 60)
    run = run_policy(LAYER, settings, q, k, v)
    rows = run.attention.rows.tolist()
    for t in range(60):
        before = rows[t - 1] if t else 0
        assert before <= rows[t] <= min(budget, before + 1)
        assert rows[t] <= t + 1
        for kv in range(KV_HEADS):
            kept = set(run.kept[t, kv, : rows[t]].tolist())
            assert len(kept) == rows[t]
            assert set(range(min(sinks, t + 1))) | set(range(max(0, t - settings.recent), t + 1)) <= kept
            assert run.kept[t, kv, run.slots[t, kv]] == t
            leaves = before == budget or (policy is Policy.DMS and rows[t] == before)
            assert (run.evicted[t, kv] >= 0) == leaves


def test_streaming_is_sinks_and_a_window():
    run = run_policy(LAYER, PolicySettings.create(Policy.STREAMING, 10), *_tensors(0, 40))
    for t in range(40):
        expected = sorted({*range(min(4, t + 1)), *range(max(0, t - 5), t + 1)})
        for kv in range(KV_HEADS):
            assert sorted(run.kept[t, kv, : len(expected)].tolist()) == expected


def test_dms_rows_leave_when_they_fall_out_of_the_window():
    flags = torch.rand(60, generator=torch.Generator().manual_seed(5)) < 0.3
    settings = PolicySettings.create(Policy.DMS, 20, sinks=2, recent=3)
    run = run_policy(LAYER, settings, *_tensors(1, 60), flags=flags)
    early = [t for t in range(60) if t >= 6 and flags[t - 4]]
    assert early
    for t in early:
        assert run.evicted[t].tolist() == [t - 4] * KV_HEADS
    assert run.attention.rows[: early[0]].tolist() == list(range(1, early[0] + 1))
    assert run.attention.rows[early[0]] == early[0]


def test_dms_flags_of_sinks_do_not_count():
    settings = PolicySettings.create(Policy.DMS, 20, sinks=5, recent=0)
    flags = torch.tensor([True] * 5 + [False] * 5)
    run = run_policy(LAYER, settings, *_tensors(1, 10), flags=flags)
    assert run.attention.rows.tolist() == list(range(1, 11))


def test_default_flags():
    q = torch.zeros(2, 4, 3, dtype=torch.int8)
    q[0, :, 0] = torch.tensor([1, 0, -1, 127])
    q[1] = q[0, :, 1:2] = 9
    assert default_flags(q).tolist() == [True, False, False, True]


@pytest.mark.parametrize(("number", "age"), [(0xFFFFFF00, 4), (0, None)])
def test_nacl_draws_any_row(monkeypatch, number, age):
    """The greatest number takes the row that has just left the window, the least the oldest that is no sink."""
    monkeypatch.setattr(eviction, "_xorshift", lambda _: number)
    settings = PolicySettings.create(Policy.NACL, 12, sinks=2, recent=3, share=1)
    run = run_policy(LAYER, settings, *_tensors(2, 40))
    expected = [t - age if age else t - 10 for t in range(12, 40)]
    assert run.evicted[12:].tolist() == [[position] * KV_HEADS for position in expected]


@pytest.mark.parametrize(
    ("share", "number", "chance"), [(0, 0, False), (77, 76, True), (77, 77, False), (256, 255, True)]
)
def test_nacl_share(monkeypatch, share, number, chance):
    monkeypatch.setattr(eviction, "_xorshift", lambda _: number)
    q, k, v = _tensors(3, 40)
    run, oldest, mass = (
        run_policy(LAYER, PolicySettings.create(policy, 12, sinks=2, **given), q, k, v).evicted.tolist()
        for policy, given in (
            (Policy.NACL, {"recent": 3, "stride": 1, "share": share}),
            (Policy.STREAMING, {}),
            (Policy.H2O, {"recent": 3}),
        )
    )
    assert oldest != mass
    assert run == (oldest if chance else mass)


def test_random_numbers():
    numbers, twins, x, y = [], [], 1, 1
    for _ in range(4):
        x, y = eviction._xorshift(x), xorshift(y)
        numbers.append(x)
        twins.append(y)
    assert numbers == twins == [270369, 67634689, 2647435461, 307599695]  # Marsaglia's generator, seed 1


def test_nacl_seed_of_zero_is_replaced():
    q, k, v = _tensors(4, 40)

    def evicted(seed, layer):
        settings = PolicySettings.create(Policy.NACL, 12, share=256, seed=seed)
        return run_policy(LAYER, settings, q, k, v, layer=layer).evicted.tolist()

    assert evicted(0, 0) == evicted(0x9E3779B9, 0) == evicted(0x05000000, 5)
    assert evicted(0x05000000, 5) != evicted(0x05000000, 4) == evicted(0x01000000, 0)


def test_mass_per_step_of_life():
    """The metric itself: results above depend on its order only."""
    generator = torch.Generator().manual_seed(0)
    mass = torch.randint(0, 1 << 32, (2, 40), generator=generator) >> torch.randint(0, 32, (2, 40), generator=generator)
    position = torch.randint(0, 70_000, (2, 40), generator=generator)
    policy = PolicySettings.create(Policy.H2O, 40, normalised=True)
    metric = eviction._h2o(eviction.Moment(policy, 70_000, position, mass, False, 0))[1]
    pairs = zip(mass.flatten().tolist(), position.flatten().tolist(), strict=True)
    assert metric.flatten().tolist() == [rate(earned, 70_000 - born) for earned, born in pairs]


def test_masses_are_sums_of_weights():
    """Against float64 sums over the weights that the attention reports, for a region that is never full."""
    q, k, v = _tensors(6, 30)
    for policy, stride in ((Policy.H2O, 1), (Policy.NACL, 4)):
        given = {} if policy is Policy.H2O else {"stride": stride}
        run = run_policy(LAYER, PolicySettings.create(policy, 32, **given), q, k, v, keep_weights=True)
        counted = run.attention.weights[:, stride - 1 :: stride].to(torch.float64)
        expected = counted.sum(1).reshape(KV_HEADS, -1, 32).sum(1)
        assert torch.equal(run.mass.to(torch.float64), expected)


def test_masses_saturate():
    q, k, v = _tensors(6, 60)
    policy = PolicySettings.create(Policy.H2O, 64)
    exact = run_policy(LAYER, policy, q, k, v).mass
    assert exact.min() < 1023 < exact.max()
    assert torch.equal(run_policy(LAYER, policy, q, k, v, mass_bits=10).mass, exact.clamp(max=1023))


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("normaliser", [Normaliser.RMS_LAYER, Normaliser.NONE])
def test_room_for_all_is_the_whole_layer(policy, normaliser):
    layer = replace(LAYER, normaliser=normaliser)
    q, k, v = _tensors(7, 33)
    flags = torch.zeros(33, dtype=torch.bool)
    run = run_policy(layer, PolicySettings.create(policy, 33), q, k, v, flags=flags, keep_weights=True)
    whole = run_layer(layer, q, k, v, keep_weights=True)
    for item in fields(AttentionResult):
        got, expected = getattr(run.attention, item.name), getattr(whole, item.name)
        assert (got is None and expected is None) or torch.equal(got, expected), item.name
    assert run.refused is None
    assert (run.evicted == -1).all()
    assert run.kept[-1].tolist() == [list(range(33))] * KV_HEADS


def test_steps_are_the_attention_to_the_rows_kept():
    """Whatever was evicted: each step is that of a layer whose store holds just the kept rows."""
    q, k, v = _tensors(8, 40)
    run = run_policy(LAYER, PolicySettings.create(Policy.BUZZ, 9), q, k, v)
    for t in (8, 20, 39):
        kept = run.kept[t, :, :, None].expand(-1, -1, HEAD_DIM)
        step = eviction.attend_rows(LAYER, q[:, t], k.gather(1, kept), v.gather(1, kept))
        assert torch.equal(run.attention.context[:, t], step.context[:, 0])
        assert torch.equal(run.attention.output[:, t], step.output[:, 0])
    assert run.attention.weights is None


def test_refused():
    calls = []
    settings = PolicySettings.create(Policy.REFUSE, 5)
    run = run_policy(LAYER, settings, *_tensors(9, 8), progress=lambda: calls.append(1))
    assert run.refused == 5
    assert len(calls) == len(run.kept) == len(run.slots) == len(run.off) == run.attention.context.shape[1] == 5


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "budget", "expected"),
    [
        (Policy.REFUSE, 64, {}),
        (Policy.STREAMING, 64, {"sinks": 4}),
        (Policy.H2O, 65, {"recent": 32}),
        (Policy.BUZZ, 64, {"sinks": 4, "recent": 16, "stride": 8}),
        (Policy.NACL, 64, {"sinks": 4, "recent": 16, "stride": 4, "share": 77}),
        (Policy.DMS, 64, {"recent": 16}),
        (Policy.DMS, 2048, {"recent": 254}),
    ],
)
def test_defaults(policy, budget, expected):
    settings = PolicySettings.create(policy, budget)
    assert settings == PolicySettings(policy=policy, budget=budget, **expected)
    assert PolicySettings.create(policy.value, budget, sinks=None, seed=None) == settings


def test_zero_is_not_a_default():
    settings = PolicySettings.create(Policy.NACL, 8, sinks=0, recent=0, share=0)
    assert (settings.sinks, settings.recent, settings.share) == (0, 0, 0)


@pytest.mark.parametrize(
    ("policy", "budget", "given", "message"),
    [
        (6, 8, {}, "policy is 6: one of refuse, streaming, h2o, buzz, nacl, dms is allowed"),
        (Policy.H2O, 0, {}, "budget is 0: 1 to 65536 is allowed"),
        (Policy.H2O, 65537, {}, "budget is 65537: 1 to 65536 is allowed"),
        (Policy.H2O, 8.0, {}, "budget is 8.0: 1 to 65536 is allowed"),
        (Policy.H2O, 8, {"sinks": -1}, "sinks is -1: 0 to 7 is allowed"),
        (Policy.H2O, 8, {"recent": 8}, "recent is 8: 0 to 7 is allowed"),
        (Policy.H2O, 8, {"sinks": 4}, "sinks + recent is 4 + 4: less than budget (8) is allowed"),
        (Policy.STREAMING, 4, {}, "sinks is 4: 0 to 3 is allowed"),
        (Policy.STREAMING, 8, {"recent": 2}, "recent is 2: streaming has none, it must not be given"),
        (Policy.REFUSE, 8, {"sinks": 2}, "sinks is 2: refuse has none, it must not be given"),
        (Policy.H2O, 8, {"stride": 2}, "stride is 2: h2o has none, it must not be given"),
        (Policy.BUZZ, 8, {"share": 2}, "share is 2: buzz has none, it must not be given"),
        (Policy.BUZZ, 8, {"seed": 2}, "seed is 2: buzz has none, it must not be given"),
        (Policy.DMS, 8, {"normalised": True}, "normalised is True: dms has none, it must not be given"),
        (Policy.H2O, 8, {"normalised": 1}, "normalised is 1: True or False is allowed"),
        (Policy.BUZZ, 8, {"stride": 0}, "stride is 0: 1 to 255 is allowed"),
        (Policy.BUZZ, 8, {"stride": 256}, "stride is 256: 1 to 255 is allowed"),
        (Policy.NACL, 8, {"stride": 0}, "stride is 0: 1 to 128 is allowed"),
        (Policy.NACL, 8, {"stride": 6}, "stride is 6: a power of two from 1 to 128 is allowed"),
        (Policy.NACL, 8, {"stride": 256}, "stride is 256: 1 to 128 is allowed"),
        (Policy.NACL, 8, {"share": 257}, "share is 257: 0 to 256 is allowed"),
        (Policy.NACL, 8, {"seed": 1 << 32}, "seed is 4294967296: 0 to 4294967295 is allowed"),
        (Policy.NACL, 8, {"seed": True}, "seed is True: 0 to 4294967295 is allowed"),
        (Policy.DMS, 2048, {"recent": 255}, "recent is 255: 0 to 254 is allowed"),
    ],
)
def test_unfit_settings(policy, budget, given, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        PolicySettings.create(policy, budget, **given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": 256}, "layer is 256: 0 to 255 is allowed"),
        ({"mass_bits": 7}, "mass_bits is 7: 8 to 32 is allowed"),
        ({"flags": torch.zeros(9)}, r"flags are torch.float32 \(9,\): torch.bool \(9,\) is needed"),
        ({"flags": torch.zeros(8) > 0}, r"flags are torch.bool \(8,\): torch.bool \(9,\) is needed"),
        ({"q": torch.zeros(4, 8, 8, dtype=torch.int8)}, "k has 9 tokens: q has 8"),
        ({"q": torch.zeros(4, 9, 8)}, "q is torch.float32: torch.int8 is needed"),
    ],
)
def test_unfit_arguments(changes, message):
    arguments = dict(zip("qkv", _tensors(0, 9), strict=True)) | changes
    with pytest.raises(ValueError, match=f"^{message}$"):
        run_policy(LAYER, PolicySettings.create(Policy.H2O, 4), **arguments)


def test_settings_do_not_import_torch():
    code = "import sys, reluctant.golden.policies, reluctant.golden.gating; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
