"""Random units run random programs, and agree with the integer model in every bit.

More units: ``pytest tests/integration/test_random_configurations.py --configurations 40 --configurations-seed 1``.
"""

import shutil

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from reluctant.hdl.config import SERIAL, UnitConfig

from .random_programs import configurations, random_program

JOBS = 60
CASES = {
    "three_beats": UnitConfig(
        lanes=16, head_dim=48, slots=19, heads=4, kv_heads=2, profiles=3, mass_bits=9, position_bits=9, counter_bits=16
    ),
    "one_port_grouped": UnitConfig(
        lanes=8, head_dim=16, slots=11, heads=8, kv_heads=1, store="single", job_queue=2, mass_bits=18
    ),
    "four_lanes_bare": UnitConfig(
        lanes=4, head_dim=16, slots=6, heads=1, kv_heads=1, softmax=False, normalisers=(), statistics=False
    ),
    "serial": UnitConfig(
        **SERIAL,
        lanes=8,
        head_dim=32,
        slots=16,
        heads=4,
        kv_heads=1,
        mass_bits=9,
        position_bits=9,
        counter_bits=0,
        head_log=False,
    ),
    "serial_three_beats": UnitConfig(
        **SERIAL,
        lanes=16,
        head_dim=48,
        slots=11,
        heads=4,
        kv_heads=2,
        profiles=3,
        mass_bits=18,
    ),
    "serial_four_lanes_bare": UnitConfig(
        **SERIAL,
        lanes=4,
        head_dim=16,
        slots=6,
        heads=1,
        kv_heads=1,
        statistics=False,
    ),
}
WIDE = {
    "64_lanes": UnitConfig(lanes=64, head_dim=64, slots=9, heads=2, kv_heads=2),
    "128_lanes": UnitConfig(lanes=128, head_dim=256, slots=5, heads=2, kv_heads=1, normaliser_lanes=16),
}


def check(config: UnitConfig, number: int) -> None:
    """Three programs on one build: at full speed, and twice with every channel held back at random."""
    for stalls in (None, 1, 2):
        scenario = random_program(config, 10 * number + (stalls or 0), JOBS)
        scenario.run(stall_seed=None if stalls is None else 10 * number + stalls)


@pytest.mark.parametrize("name", CASES)
def test_chosen_configuration(name):
    check(CASES[name], number=0)


@pytest.mark.parametrize("name", WIDE)
def test_wide_configuration(name):
    check(WIDE[name], number=0)


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_nothing_undefined_gets_out():
    """Icarus knows X: no output depends on a register or a memory that nobody has written."""
    random_program(CASES["one_port_grouped"], seed=5, jobs=40).run(stall_seed=5, simulator="icarus")


def test_drawn_configurations(request):
    """Hypothesis draws units; a failure prints the unit and the number of its programs."""

    @seed(request.config.getoption("--configurations-seed"))
    @settings(
        max_examples=request.config.getoption("--configurations"),
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(config=configurations(), number=st.integers(0, 1 << 30))
    def draw(config, number):
        check(config, number)

    draw()
