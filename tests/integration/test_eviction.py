"""Eviction in a full store: victims, contexts and slot tables against the model, over many steps."""

import numpy as np
import pytest

from reluctant.golden import formats
from reluctant.golden.formats import Metric, Mode, Normaliser
from reluctant.sim.program import HeadSettings, Job

from .layers import SMALL, Scenario

CONFIG = SMALL
STEPS = 120
SINKS, RECENT = 2, 3


def settings() -> dict[tuple[int, int], HeadSettings]:
    """ReLU in profile 0; in profile 1 one head of each mode, and a head that never sees an active row."""
    kappa = formats.encode_kappa(2.0**-9)
    modes = (Mode.RELU, Mode.SOFTMAX, Mode.HYBRID, Mode.RELU)
    thetas = (-100, 0, 12_000, 200_000)
    mixed = {
        (1, head): HeadSettings(mode=modes[head], theta=thetas[head], kappa=kappa, min_active=3)
        for head in range(CONFIG.heads)
    }
    return {(0, head): HeadSettings(alpha=formats.encode_alpha(4.0)) for head in range(CONFIG.heads)} | mixed


def rows(random: np.random.Generator, count: int) -> np.ndarray:
    """Rows about a common direction, as a model's are: some keys gather much mass, others little."""
    direction = np.arange(CONFIG.head_dim) % 5 * 12 - 20
    return np.clip(random.normal(0, 25, (count, CONFIG.head_dim)) + direction, -128, 127).astype(np.int8)


def fill_and_evict(scenario: Scenario, metric: Metric, *, base: int = 0, size: int = CONFIG.slots, **job) -> None:
    """``STEPS`` tokens through ``size`` slots: each is appended until they are full, then takes a victim's place."""
    random = np.random.default_rng(int(metric))
    for token in range(STEPS):
        full = token >= size
        step = Job(
            n=min(size, token + 1),
            base=base,
            head_dim=CONFIG.head_dim,
            slot=0 if full else token,
            position=token,
            evict=full,
            metric=metric,
            emit_context=token % 2 == 0,
            **job,
        )
        scenario.step(step, queries=rows(random, CONFIG.heads), keys=rows(random, CONFIG.kv_heads))


@pytest.mark.parametrize("stall_seed", [None, 5])
@pytest.mark.parametrize("metric", Metric)
def test_victims_and_contexts(metric, stall_seed):
    scenario = Scenario(CONFIG, settings(), seed=metric)
    fill_and_evict(scenario, metric, sinks=SINKS, recent=RECENT, normaliser=Normaliser.RMS_HEAD)
    scenario.read_slots()
    scenario.run(stall_seed=stall_seed)
    model = scenario.model
    assert len(model.victims) == (STEPS - CONFIG.slots) * CONFIG.kv_heads
    assert (np.sort(model.position, axis=1)[:, :SINKS] == range(SINKS)).all()
    newest = range(STEPS - RECENT - 1, STEPS)
    assert (np.sort(model.position, axis=1)[:, -RECENT - 1 :] == newest).all()
    # The KV heads keep different rows exactly where rows' merits count.
    assert (model.position[0] == model.position[1]).all() == (metric is Metric.POSITION)


def test_victims_under_mixed_modes_and_masks():
    """Masked heads and null heads earn nothing, softmax heads earn their weights."""
    scenario = Scenario(CONFIG, settings())
    fill_and_evict(scenario, Metric.MASS, sinks=1, recent=1, profile=1, mask=0b0001, normaliser=Normaliser.SUM)
    scenario.read_slots()
    scenario.run(stall_seed=9)
    assert scenario.model.counters["FALLBACKS"] > 20


def test_two_sequences_evict_in_their_own_regions():
    scenario = Scenario(CONFIG, settings())
    fill_and_evict(scenario, Metric.MASS, size=5, normaliser=Normaliser.SUM)
    before = scenario.model.position[:, :5].copy()
    fill_and_evict(scenario, Metric.RATE, base=5, size=8)
    scenario.read_slots()
    scenario.run(stall_seed=3)
    assert (scenario.model.position[:, :5] == before).all()


def test_mass_saturates():
    """A row that wins every query reaches the end of its count and stays the last to go."""
    scenario = Scenario(CONFIG, settings())
    keys = np.full((CONFIG.kv_heads, CONFIG.head_dim), 127, np.int8)
    queries = np.full((CONFIG.heads, CONFIG.head_dim), 127, np.int8)
    for token in range(CONFIG.slots):
        job = Job(n=token + 1, head_dim=CONFIG.head_dim, slot=token, position=token)
        scenario.step(job, queries=queries, keys=keys if token == 4 else keys // (token + 2))
    again = Job(n=CONFIG.slots, head_dim=CONFIG.head_dim, append=False)
    for _ in range(140):
        scenario.step(again, queries=queries)
    evict = Job(n=CONFIG.slots, head_dim=CONFIG.head_dim, evict=True, metric=Metric.MASS, position=100, attend=False)
    for _ in range(CONFIG.slots - 1):
        scenario.step(evict)
    scenario.read_slots()
    scenario.run()
    assert (scenario.model.mass[:, 4] == (1 << CONFIG.mass_bits) - 1).all()


def test_nothing_evictable_leaves_the_rows():
    """Sinks or the recent window hold everything back: the row is dropped, an error bit says so, the rest goes on."""
    scenario = Scenario(CONFIG, settings())
    for token in range(CONFIG.slots):
        scenario.step(Job(n=token + 1, head_dim=CONFIG.head_dim, slot=token, position=token, attend=token % 3 == 0))
    guards = ({"sinks": CONFIG.slots}, {"recent": 200}, {"sinks": 6, "recent": 100 - 6})
    for guard in guards:
        for attend in (True, False):
            scenario.step(
                Job(n=CONFIG.slots, head_dim=CONFIG.head_dim, position=100, evict=True, attend=attend, **guard)
            )
    assert scenario.model.victims == []
    scenario.step(Job(n=CONFIG.slots, head_dim=CONFIG.head_dim, position=100, evict=True, sinks=6, recent=100 - 7))
    assert scenario.model.victims == [(0, 6), (1, 6)]
    scenario.read_slots()
    results = scenario.run(stall_seed=2)
    assert results.errors == ("no_victim",)


@pytest.mark.parametrize("metric", [Metric.MASS, Metric.RATE])
def test_first_of_equals_goes(metric):
    """Rows that no query has seen have no mass; KV heads whose rows differ in it choose for themselves."""
    scenario = Scenario(CONFIG, settings())
    for token in range(CONFIG.slots):
        scenario.step(Job(n=0, head_dim=CONFIG.head_dim, slot=token, position=token, attend=False))
    scenario.step(Job(n=4, head_dim=CONFIG.head_dim, append=False, mask=0b0011, profile=1))  # KV head 1, slots 0-3
    evict = Job(n=CONFIG.slots, head_dim=CONFIG.head_dim, evict=True, metric=metric, position=100, attend=False)
    for _ in range(5):
        scenario.step(evict)
    earners = set(np.flatnonzero(scenario.model.mass[1]).tolist())
    assert earners
    assert [slot for kv, slot in scenario.model.victims if kv == 0] == [0, 1, 2, 3, 4]
    assert [slot for kv, slot in scenario.model.victims if kv == 1] == sorted(set(range(9)) - earners)[:5]
    scenario.read_slots()
    scenario.run()
