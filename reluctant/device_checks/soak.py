"""Random workloads for as long as wanted; each has a seed of its own that repeats it."""

import time
from collections.abc import Iterator

import numpy as np

from reluctant.boards.errors import HostError
from reluctant.choices import ModeName, NormaliserName
from reluctant.golden.gating import GatingSettings
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.trace import Trace
from reluctant.hdl.system_config import SystemConfig
from reluctant.steps import Scenario

from .attention import lacks_mode, lacks_normaliser
from .check import Bench, Check, CheckFailed
from .workloads import draw_trace

__all__ = ["draw_scenario", "soak_checks"]

SECONDS = 60
MOST_LAYERS, MOST_BUDGET, MOST_TOKENS = 4, 48, 64


def soak_checks() -> Iterator[Check]:
    """All of this module."""
    yield Check("soak/random-steps", _soak)


def _soak(bench: Bench) -> None:
    """One workload, and more until the time is over; ends at the first that differs."""
    end = time.monotonic() + SECONDS * bench.minutes
    seed, steps = bench.seed, 0
    while True:
        trace, scenario = draw_scenario(bench.config, np.random.default_rng([seed, 0x50AC]))
        try:
            steps += bench.run(trace, scenario)["steps"]
        except (CheckFailed, HostError) as error:
            again = f"--only soak --seed {seed} --minutes 0 repeats it"
            raise CheckFailed(f"workload of seed {seed}, after {steps:,} steps: {error} ({again})") from error
        left = max(0, end - time.monotonic())
        bench.progress(f"soak: {steps:,} steps, {left / SECONDS:.1f} minutes left")
        if not left:
            return
        seed += 1


def draw_scenario(config: SystemConfig, random: np.random.Generator) -> tuple[Trace, Scenario]:
    """A workload that the build can run: any mode, normaliser, mask, policy, gating and length of rows."""
    unit = config.unit
    layers = int(random.integers(1, min(MOST_LAYERS, config.layers, unit.slots) + 1))
    budget = int(random.integers(1, min(MOST_BUDGET, unit.slots // layers) + 1))
    tokens = int(min(MOST_TOKENS, budget + random.integers(0, 2 * budget + 1)))
    mode = _pick(random, [name for name in ModeName if lacks_mode(config, name) is None])
    normaliser = _pick(random, [name for name in NormaliserName if lacks_normaliser(config, name) is None])
    head_dim = unit.lanes * int(random.integers(1, unit.sizes.beats + 1)) if random.random() < 0.3 else unit.head_dim
    mask = tuple(np.flatnonzero(random.random(unit.heads) < 0.2).tolist()) if random.random() < 0.3 else ()
    hybrid = mode is ModeName.HYBRID
    scenario = Scenario(
        layers=tuple(range(layers)),
        tokens=tokens,
        mode=mode,
        normaliser=normaliser,
        mask=mask,
        min_active=int(random.integers(0, budget + 1)) if hybrid else 0,
        min_mass=int(random.integers(0, 1 << 20)) if hybrid and random.random() < 0.3 else 0,
        policy=_draw_policy(random, budget, rate=unit.phases != "serial"),
        gating=_draw_gating(random, budget) if unit.head_log else GatingSettings(),
    )
    sinks = normaliser is NormaliserName.SUM
    return draw_trace(unit, random, layers=layers, tokens=tokens, head_dim=head_dim, sinks=sinks), scenario


def _pick(random: np.random.Generator, items: list):
    return items[random.integers(len(items))]


def _draw_policy(random: np.random.Generator, budget: int, *, rate: bool) -> PolicySettings:
    policy = _pick(random, [*Policy])
    numbers: dict = {}
    if policy in (Policy.STREAMING, Policy.BUZZ, Policy.NACL):
        numbers["sinks"] = int(random.integers(0, max(1, min(5, budget - budget // 4))))
    if policy is Policy.H2O:
        numbers["normalised"] = rate and bool(random.random() < 0.5)
    if policy is Policy.BUZZ:
        numbers["stride"] = int(random.integers(1, 9))
    if policy is Policy.NACL:
        numbers |= {"share": int(random.integers(0, 257)), "seed": int(random.integers(0, 1 << 32))}
    return PolicySettings.create(policy, budget, **numbers)


def _draw_gating(random: np.random.Generator, budget: int) -> GatingSettings:
    if random.random() < 0.7:
        return GatingSettings()
    return GatingSettings(active=int(random.integers(1, budget // 2 + 2)), probe=int(random.integers(1, 6)))
