"""The firmware's gating against its twin."""

import ctypes

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reluctant.golden.gating import GatingSettings, HeadGate

from .firmware_library import CONFIG, Gate, GatingWords, library

HEADS = CONFIG.unit.heads
ACTIVE = st.one_of(st.integers(0, 20), st.sampled_from([65535, 65536]))
MASS = st.one_of(st.integers(0, 2000), st.sampled_from([2**31, 2**32 - 1]))


def step(words: GatingWords, gate: Gate, mask: list[bool], active: list[int], mass: list[int]) -> None:
    """What the firmware does at the end of a step."""
    off = gate.off
    library().gate_rest(ctypes.byref(gate))
    for head in range(HEADS):
        if not mask[head] and not off >> head & 1:
            observed = (ctypes.c_uint32(value) for value in (head, active[head], mass[head]))
            library().gate_observe(ctypes.byref(words), ctypes.byref(gate), *observed)


@settings(deadline=None, max_examples=150)
@given(
    chosen=st.builds(
        GatingSettings,
        active=st.one_of(st.integers(0, 15), st.just(65535)),
        mass=st.one_of(st.integers(0, 2000), st.just(2**31 - 1)),
        probe=st.one_of(st.integers(1, 5), st.just(255)),
    ),
    mask=st.lists(st.booleans(), min_size=HEADS, max_size=HEADS),
    steps=st.lists(
        st.tuples(
            st.lists(ACTIVE, min_size=HEADS, max_size=HEADS),
            st.lists(MASS, min_size=HEADS, max_size=HEADS),
        ),
        max_size=40,
    ),
)
def test_heads_are_off_when_those_of_the_twin_are(chosen, mask, steps):
    words, gate, twin = GatingWords(chosen.active, chosen.mass, chosen.probe), Gate(), HeadGate(chosen, mask)
    library().gate_reset(ctypes.byref(gate))
    for active, mass in steps:
        step(words, gate, mask, active, mass)
        twin.observe(np.array(active), np.array(mass))
        assert [bool(gate.off >> head & 1) for head in range(HEADS)] == twin.off.tolist()
        assert list(gate.active) == twin.active.tolist()
        assert list(gate.mass) == twin.mass.tolist()


@given(
    active=st.sampled_from([0, 1, 65535, 65536, 2**32 - 1]),
    mass=st.sampled_from([0, 1, 2**31 - 1, 2**31]),
    probe=st.sampled_from([0, 1, 255, 256]),
)
def test_settings_are_checked(active, mass, probe):
    words = GatingWords(active, mass, probe)
    expected = 0
    if active > 65535:
        expected = 8
    elif mass >= 2**31:
        expected = 9
    elif probe > 255 or (probe == 0 and (active or mass)):
        expected = 10
    assert library().gating_check(ctypes.byref(words)) == expected
