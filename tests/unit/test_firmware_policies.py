"""The firmware's policies against their twin in PyTorch, and what must hold whatever happens."""

import ctypes

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reluctant.golden.eviction import Evictor
from reluctant.golden.eviction import Region as GoldenRegion
from reluctant.golden.formats import Metric, rate
from reluctant.golden.policies import Policy, PolicySettings

from .firmware_library import Plan, PolicyWords, Region, library

KV_HEADS = 2
MASS_BITS = 24


@st.composite
def policies(draw):
    """Valid settings."""
    policy, budget = draw(st.sampled_from(Policy)), draw(st.integers(1, 60))
    sinks = 0 if policy is Policy.REFUSE else draw(st.integers(0, budget - 1))
    recent = 0 if policy in (Policy.REFUSE, Policy.STREAMING) else draw(st.integers(0, min(254, budget - sinks - 1)))
    chosen = {"sinks": sinks, "recent": recent}
    if policy is Policy.H2O:
        chosen["normalised"] = draw(st.booleans())
    if policy is Policy.BUZZ:
        chosen["stride"] = draw(st.one_of(st.integers(1, 3), st.integers(1, 255)))
    if policy is Policy.NACL:
        chosen |= {"stride": 1 << draw(st.integers(0, 7)), "share": draw(st.integers(0, 256))}
        chosen["seed"] = draw(st.one_of(st.just(0), st.integers(0, 2**32 - 1)))
    return PolicySettings(policy=policy, budget=budget, **chosen)


def words(policy: PolicySettings) -> PolicyWords:
    names = ("normalised", "budget", "sinks", "recent", "stride", "share")
    return PolicyWords(policy.policy, *(int(getattr(policy, name)) for name in names))


class Firmware:
    """A region under the firmware's rule."""

    def __init__(self, policy: PolicySettings, layer: int = 0):
        self.words, self.region = words(policy), Region()
        library().region_reset(ctypes.byref(self.words), ctypes.byref(self.region), policy.seed, layer)

    def step(self, flag: bool) -> Plan:
        plan = Plan()
        library().plan_step(ctypes.byref(self.words), ctypes.byref(self.region), flag, ctypes.byref(plan))
        return plan

    def copy(self) -> Region:
        other = Region()
        library().copy_region(ctypes.byref(self.words), ctypes.byref(other), ctypes.byref(self.region))
        return other

    def restore(self, kept: Region) -> None:
        library().copy_region(ctypes.byref(self.words), ctypes.byref(self.region), ctypes.byref(kept))


def search(plan: Plan, t: int, position: list[int], mass: list[int]) -> int:
    """The unit's search: the first slot with the least metric among those that may leave."""
    metric = {
        Metric.POSITION: lambda slot: position[slot],
        Metric.MASS: lambda slot: mass[slot],
        Metric.RATE: lambda slot: rate(mass[slot], t - position[slot]),
    }[Metric(plan.metric)]
    slots = [s for s, p in enumerate(position) if p >= plan.low and t - p > plan.recent]
    assert slots, "nothing can be evicted"
    return min(slots, key=metric)


@settings(deadline=None, max_examples=150)
@given(policy=policies(), layer=st.integers(0, 255), seed=st.integers(0, 2**31), tokens=st.integers(1, 200))
def test_a_region_keeps_what_its_twin_keeps(policy, layer, seed, tokens):
    random = torch.Generator().manual_seed(seed)
    flags = torch.rand(tokens, generator=random) < 0.4
    rows = torch.zeros(KV_HEADS, 1, dtype=torch.int8)
    twin = GoldenRegion(policy.budget, rows[:, None], MASS_BITS)
    evictor, firmware = Evictor(policy, layer, flags), Firmware(policy, layer)
    for t in range(tokens):
        expected = evictor.slots(twin, t)
        plan = firmware.step(bool(flags[t]))
        assert plan.refuse == (expected is None)
        if plan.refuse:
            break
        position, mass = twin.position[:, : twin.n].tolist(), twin.mass[:, : twin.n].tolist()
        if plan.evict:
            slots = [search(plan, t, *of_head) for of_head in zip(position, mass, strict=True)]
        else:
            slots = [firmware.region.n - 1] * KV_HEADS
        assert slots == expected.tolist()
        assert plan.silent == evictor.silent(t)
        twin.place(expected, t, rows, rows)
        assert (firmware.region.n, firmware.region.position) == (twin.n, t + 1)
        weights = torch.randint(0, 256, (KV_HEADS, twin.n), generator=random) ** 2 // 256
        twin.earn(weights)


@settings(deadline=None, max_examples=100)
@given(policy=policies(), flags=st.lists(st.booleans(), min_size=1, max_size=300), data=st.data())
def test_a_step_that_is_undone_can_be_done_again(policy, flags, data):
    firmware = Firmware(policy)
    undone = data.draw(st.sets(st.integers(0, len(flags) - 1)))
    for t, flag in enumerate(flags):
        before = firmware.copy()
        first = firmware.step(flag)
        after = bytes(firmware.region)
        if t in undone:
            firmware.restore(before)
            firmware.restore(firmware.copy())
            assert (firmware.region.n, firmware.region.position) == (before.n, before.position)
            assert bytes(firmware.step(flag)) == bytes(first)
            assert bytes(firmware.region) == after


@pytest.mark.parametrize("stride", [1, 3, 255])
def test_segments_of_a_long_text_count_the_rows_kept(stride):
    policy = PolicySettings(policy=Policy.BUZZ, budget=50, sinks=3, recent=7, stride=stride)
    firmware = Firmware(policy)
    for t in range(stride * 32 * 4 + 100):
        firmware.step(False)
        if t >= policy.budget:
            segments = firmware.region.segments
            assert sum(segments.counts) == policy.budget - policy.sinks - policy.recent - 1
            assert segments.current < 32
            assert segments.start == policy.sinks + segments.current * segments.size
    assert segments.size > stride


@settings(deadline=None, max_examples=300)
@given(
    kind=st.sampled_from(Policy),
    budget=st.one_of(st.integers(0, 5), st.sampled_from([4096, 4097, 2**32 - 1])),
    sinks=st.one_of(st.integers(0, 4), st.sampled_from([4095, 4096, 2**32 - 1])),
    recent=st.one_of(st.integers(0, 4), st.sampled_from([254, 255, 4095, 2**32 - 1])),
    stride=st.sampled_from([0, 1, 2, 3, 64, 128, 255, 256, 2**31]),
    share=st.sampled_from([0, 1, 256, 257]),
    seed=st.sampled_from([0, 1]),
    normalised=st.sampled_from([0, 1, 2]),
)
def test_settings_are_taken_if_the_twin_takes_them(kind, budget, sinks, recent, stride, share, seed, normalised):
    given_words = PolicyWords(kind, normalised, budget, sinks, recent, stride, share)
    refused = library().policy_check(ctypes.byref(given_words), ctypes.c_uint32(seed))
    values = {"sinks": sinks, "recent": recent, "stride": stride, "share": share, "seed": seed}
    try:
        PolicySettings(policy=kind, budget=budget, normalised={0: False, 1: True}.get(normalised, 2), **values)
        fits = budget <= 4096
    except ValueError:
        fits = False
    assert (refused == 0) == fits


@settings(deadline=None, max_examples=50)
@given(kind=st.sampled_from(Policy), t=st.integers(0, 2**31 - 1), data=st.binary(min_size=76, max_size=76))
def test_no_region_makes_a_policy_undefined(kind, t, data):
    """Memory was overwritten: the answer means nothing, but nothing traps or changes beyond the region."""
    firmware = Firmware(PolicySettings.create(Policy.STREAMING, 16, sinks=1))
    firmware.words.kind, firmware.words.stride = kind, 8
    guard = (Region * 3)()
    guard[1] = Region.from_buffer_copy(data.ljust(ctypes.sizeof(Region), b"\0"))
    guard[1].position, guard[1].segments.current = t, guard[1].segments.current % 32
    before = bytes(guard[0]), bytes(guard[2])
    plan = Plan()
    library().plan_step(ctypes.byref(firmware.words), ctypes.byref(guard[1]), True, ctypes.byref(plan))
    assert (bytes(guard[0]), bytes(guard[2])) == before
