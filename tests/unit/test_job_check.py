"""Which jobs are refused: every rule by itself, and random jobs against a plain restatement of the rules."""

import random

import pytest

from reluctant.golden.formats import Normaliser
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.job_check import JobCheck
from reluctant.hdl.register_block import field_layout
from reluctant.hdl.register_map import RegisterMap

from .helpers import plain, run

CONFIGS = {
    "odd": UnitConfig(
        lanes=8, head_dim=24, slots=12, heads=6, kv_heads=3, profiles=3, normalisers=("rms_layer", "sum")
    ),
    "power": UnitConfig(lanes=4, head_dim=16, slots=8, heads=2, kv_heads=2, statistics=False, normalisers=()),
    "most": UnitConfig(lanes=16, head_dim=256, slots=65_536, heads=32, kv_heads=1, profiles=256),
}
GOOD = {"n": 4, "slot": 3, "base": 2, "position": 9, "head_dim": 16, "mask": 1, "sinks": 1, "recent": 2}
GOOD |= {"append": 1, "attend": 1, "evict": 0, "emit_context": 1, "normaliser": 0, "metric": 1, "profile": 0}
GOOD |= {"silent": 1}
CONTROL = ("append", "attend", "evict", "emit_context", "normaliser", "metric", "profile", "silent")


def is_bad(config, job):
    built = {Normaliser.NONE} | {Normaliser[name.upper()] for name in config.normalisers}
    in_place = job["append"] and not job["evict"]
    rules = [
        not job["append"] and not job["attend"],
        (job["attend"] or job["evict"]) and not 1 <= job["n"] <= config.slots - job["base"],
        in_place and job["base"] + job["slot"] >= config.slots,
        in_place and job["attend"] and job["slot"] >= job["n"],
        not 1 <= job["head_dim"] <= config.head_dim or job["head_dim"] % config.lanes != 0,
        job["normaliser"] not in built,
        job["metric"] > 2,
        job["profile"] >= config.profiles,
        job["evict"] and not (job["append"] and config.statistics),
    ]
    return any(rules)


def build(config):
    """A checker fed by values alone."""
    return JobCheck(config, field_layout(RegisterMap(config), "storage"))


async def check(ctx, dut, job, misfit=0):
    """Present a job; returns bad as promised, 2 cycles later."""
    values = {"JOB_CONTROL": {name: job[name] for name in CONTROL}}
    values |= {f"JOB_{name.upper()}": {"value": value} for name, value in job.items() if name not in CONTROL}
    ctx.set(dut.values, values)
    ctx.set(dut.misfit, misfit)
    await ctx.tick().repeat(dut.latency)
    return ctx.get(dut.bad)


@pytest.mark.parametrize("name", CONFIGS)
def test_random_jobs(name):
    config, rng = CONFIGS[name], random.Random(11)
    dut, slots = build(config), config.slots
    edge = [0, 1, 2, slots // 2, slots - 2, slots - 1, slots]
    bits = {"slot": config.sizes.slot_bits, "base": config.sizes.slot_bits, "n": config.sizes.count_bits}
    seen = set()

    async def bench(ctx):
        for _ in range(1500):
            job = dict(GOOD)
            for field in rng.sample([*bits, "head_dim", "control", "control"], rng.randrange(1, 4)):
                if field in bits:
                    job[field] = min(rng.choice(edge), (1 << bits[field]) - 1)
                elif field == "head_dim":
                    job[field] = rng.choice([0, config.lanes, config.head_dim, config.lanes + 1, config.lanes * 3])
                    job[field] = min(job[field], (1 << config.head_dim.bit_length()) - 1)
                else:
                    job |= {key: rng.randrange(2) for key in ("append", "attend", "evict")}
                    job["normaliser"] = rng.choice([0, 0, 0, *range(8)])
                    job["metric"] = rng.choice([0, 1, 2, 3])
                    job["profile"] = rng.choice([0, config.profiles - 1, min(255, config.profiles), 255])
            bad = await check(ctx, dut, job)
            assert bad == is_bad(config, job), job
            seen.add(bad)

    run(dut, bench)
    assert seen == {0, 1}


ONE_FAULT = [
    {"append": 0, "attend": 0},
    {"n": 0},
    {"n": 11},
    {"append": 0, "n": 0},
    {"append": 0, "base": 9},
    {"slot": 4},
    {"attend": 0, "slot": 10},
    {"attend": 0, "base": 11, "slot": 1},
    {"head_dim": 0},
    {"head_dim": 12},
    {"head_dim": 31},
    {"head_dim": 28},
    {"normaliser": 1},
    {"normaliser": 3},
    {"normaliser": 5},
    {"normaliser": 7},
    {"metric": 3},
    {"profile": 3},
    {"profile": 255},
    {"append": 0, "evict": 1},
    {"evict": 1, "n": 0},
    {"evict": 1, "attend": 0, "n": 11},
]
FINE = [
    {},
    {"append": 0},
    {"append": 0, "slot": 11},
    {"attend": 0, "n": 0},
    {"attend": 0, "base": 6, "slot": 5},
    {"n": 10},
    {"base": 0, "n": 12, "slot": 11},
    {"base": 8},
    {"base": 11, "n": 1, "slot": 0},
    {"evict": 1, "slot": 11},
    {"evict": 1, "attend": 0},
    {"head_dim": 8},
    {"head_dim": 24},
    {"normaliser": 2},
    {"normaliser": 4},
    {"metric": 2},
    {"profile": 2},
    {"mask": 63},
]


def test_each_rule():
    config = CONFIGS["odd"]
    dut = build(config)

    async def bench(ctx):
        for change in ONE_FAULT:
            assert await check(ctx, dut, GOOD | change), change
        for change in FINE:
            assert not await check(ctx, dut, GOOD | change), change
            assert await check(ctx, dut, GOOD | change, misfit=1)

    run(dut, bench)


def test_eviction_needs_statistics():
    dut = build(CONFIGS["power"])

    async def bench(ctx):
        assert await check(ctx, dut, GOOD | {"evict": 1})
        assert not await check(ctx, dut, GOOD)

    run(dut, bench)


def test_job_is_what_was_asked():
    config = CONFIGS["odd"]
    dut = build(config)

    async def bench(ctx):
        await check(ctx, dut, GOOD)
        expected = {name: value for name, value in GOOD.items() if name != "head_dim"} | {"beats": 2, "tag": 0}
        assert plain(ctx.get(dut.job)) == expected

    run(dut, bench)
