"""Heads that are turned off: averages against integers one head at a time, and what that does to a layer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reluctant
from reluctant.golden.eviction import run_policy
from reluctant.golden.gating import GatingSettings, HeadGate
from reluctant.golden.integer import attend_rows
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.trace import load_trace


class NaiveHead:
    """One head, after the words of docs/policies.md."""

    def __init__(self, settings):
        self.settings = settings
        self.active = self.mass = None
        self.runs_at = 0

    def step(self, t, active, mass):
        """Whether the head is off in step ``t``; if not, it is observed."""
        if t < self.runs_at:
            return True
        mass = min(mass, 2**32 - 1) // 16
        if self.active is None:
            self.active, self.mass = 4 * active, 4 * mass
        else:
            self.active += active - self.active // 4
            self.mass += mass - self.mass // 4
        if self.active < 4 * self.settings.active or self.mass < 4 * (self.settings.mass // 16):
            self.runs_at = t + self.settings.probe
        return False


def _observations(heads, steps):
    active = st.integers(0, 40)
    mass = st.one_of(st.integers(0, 300), st.integers(2**32 - 20, 2**40 - 1))
    step = st.tuples(*[st.tuples(active, mass)] * heads)
    return st.lists(step, min_size=1, max_size=steps)


@given(
    st.builds(GatingSettings, active=st.integers(0, 30), mass=st.integers(0, 250), probe=st.integers(1, 6)),
    _observations(3, 40),
)
def test_heads_one_by_one(settings, steps):
    gate, naive = HeadGate(settings, (False, True, False)), {0: NaiveHead(settings), 2: NaiveHead(settings)}
    for t, step in enumerate(steps):
        off = gate.off.tolist()
        gate.observe(*zip(*step, strict=True))
        assert off == [head in naive and naive[head].step(t, *step[head]) for head in range(3)]
    for head, twin in naive.items():
        assert (gate.active[head], gate.mass[head]) == (twin.active, twin.mass)
    assert (gate.active[1], gate.mass[1]) == (0, 0)


def _off(settings, active, mass=0):
    """Off or not in each step, of one head with these observations."""
    gate, off = HeadGate(settings, (False,)), []
    for count in active:
        off.append(bool(gate.off[0]))
        gate.observe([count], [mass])
    return off


def test_probe():
    """Off for ``probe - 1`` steps, then on for one, again and again while it does little."""
    assert _off(GatingSettings(active=1, probe=3), [0] * 8) == [False, True, True, False, True, True, False, True]
    assert _off(GatingSettings(active=1, probe=1), [0] * 8) == [False] * 8


def test_a_head_comes_back():
    """Average 0, then 16 / 4 = 4 at the probe."""
    steps = [0, 99, 16, 0, 0]
    assert _off(GatingSettings(active=4, probe=2), steps) == [False, True, False, False, True]
    assert _off(GatingSettings(active=5, probe=2), steps) == [False, True, False, True, False]


def test_low_bits_of_the_mass_do_not_count():
    assert _off(GatingSettings(mass=15, probe=2), [0, 0]) == [False, False]
    assert _off(GatingSettings(mass=31, probe=2), [0, 0], mass=16) == [False, False]
    assert _off(GatingSettings(mass=32, probe=2), [0, 0], mass=31) == [False, True]


def test_mass_saturates():
    gate = HeadGate(GatingSettings(), (False,))
    gate.observe([1], [2**40 - 1])
    assert gate.mass.tolist() == [4 * (2**28 - 1)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"active": -1}, "gate active is -1: 0 to 65535 is allowed"),
        ({"active": 1 << 16}, "gate active is 65536: 0 to 65535 is allowed"),
        ({"mass": 1 << 31}, "gate mass is 2147483648: 0 to 2147483647 is allowed"),
        ({"mass": 1.5}, "gate mass is 1.5: 0 to 2147483647 is allowed"),
        ({"probe": 0}, "gate probe is 0: 1 to 255 is allowed"),
        ({"probe": 256}, "gate probe is 256: 1 to 255 is allowed"),
    ],
)
def test_unfit_settings(given, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        GatingSettings(**given)


# In a layer -----------------------------------------------------------------------------------------------------------


def _layer(**choices):
    trace = load_trace(Path(reluctant.__file__).parent / "data" / "demo.npz")
    return trace.settings(0, **choices), *(torch.from_numpy(array[0]) for array in (trace.q, trace.k, trace.v))


def test_a_layer_runs_the_heads_that_are_on():
    layer, q, k, v = _layer(mask=(False, False, True, False))
    gating = GatingSettings(active=9, mass=4000, probe=5)
    run = run_policy(layer, PolicySettings.create(Policy.H2O, 24), q, k, v, gating=gating)
    heads = [NaiveHead(gating) for _ in range(4)]
    for t in range(q.shape[1]):
        kept = run.kept[t, :, : run.attention.rows[t]]
        index = kept[:, :, None].expand(-1, -1, k.shape[2])
        rows = k.gather(1, index), v.gather(1, index)
        observed = attend_rows(layer, q[:, t], *rows)
        off = [head.step(t, *pair) for head, pair in zip(heads, _pairs(observed), strict=True)]
        off[2] = False
        assert run.off[t].tolist() == off
        mask = tuple(a or b for a, b in zip(layer.mask, off, strict=True))
        step = attend_rows(replace(layer, mask=mask), q[:, t], *rows)
        assert run.attention.masked[:, t].tolist() == list(mask)
        assert torch.equal(run.attention.context[:, t], step.context[:, 0])
    share = run.off.float().mean(0)
    assert 0 < share.max() < 0.8


def _pairs(result):
    return zip(result.active[:, 0].tolist(), result.mass[:, 0].tolist(), strict=True)


def test_no_gating():
    layer, q, k, v = _layer()
    policy = PolicySettings.create(Policy.STREAMING, 24)
    plain = run_policy(layer, policy, q, k, v)
    assert not plain.off.any()
    for gating in (GatingSettings(), GatingSettings(active=65535, probe=1)):
        run = run_policy(layer, policy, q, k, v, gating=gating)
        assert torch.equal(run.off, plain.off)
        assert torch.equal(run.attention.context, plain.attention.context)


def test_off_heads_earn_no_mass():
    """All heads off in all steps but the probes: masses are the weights of the probes."""
    layer, q, k, v = _layer()
    gating = GatingSettings(active=65535, probe=4)
    run = run_policy(layer, PolicySettings.create(Policy.H2O, 128), q, k, v, gating=gating, keep_weights=True)
    assert run.off.all(1).tolist() == [t % 4 != 0 for t in range(128)]
    assert not run.attention.weights[:, np.arange(128) % 4 != 0].any()
    expected = run.attention.weights.to(torch.int64).sum(1).reshape(layer.kv_heads, -1, 128).sum(1)
    assert torch.equal(run.mass, expected)
