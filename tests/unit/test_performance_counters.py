"""Performance counters: exact under any pattern of events, through clears, wraps and reads at any time."""

import random

import pytest

from reluctant.hdl import performance_counters
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.performance_counters import PerformanceCounters, counter_events

from .helpers import run

NAMES = tuple(counter_events(UnitConfig()).members)


def build(counter_bits=48):
    return PerformanceCounters(UnitConfig(counter_bits=counter_bits))


async def read(ctx, dut, index, step=None):
    """Ask for counter ``index``; returns its value and the cycles it took. ``step`` runs before every edge."""
    ctx.set(dut.index, index)
    ctx.set(dut.start, 1)
    for cycle in range(1, dut.longest_read + 1):
        if step is not None:
            step()
        await ctx.tick()
        ctx.set(dut.start, 0)
        if ctx.get(dut.done):
            value = ctx.get(dut.low) | ctx.get(dut.high) << 32
            return value, cycle
    raise AssertionError(f"no answer in {dut.longest_read} cycles")


@pytest.mark.parametrize("counter_bits", [16, 24, 33, 48, 64])
def test_counts_every_event(counter_bits):
    dut = build(counter_bits)
    rng = random.Random(counter_bits)
    rates = [rng.choice([0.02, 0.3, 1.0]) for _ in NAMES]
    counts = [0] * len(NAMES)

    async def bench(ctx):
        def step():
            for index, (name, rate) in enumerate(zip(NAMES, rates, strict=True)):
                event = rng.random() < rate
                ctx.set(dut.events[name], event)
                counts[index] += event

        for _ in range(rng.randrange(200, 400)):
            step()
            await ctx.tick()
        # While events go on, a read gives what happened up to some cycle of the read.
        for _ in range(6):
            index = rng.randrange(len(NAMES))
            before = counts[index]
            value, _ = await read(ctx, dut, index, step)
            assert before <= value <= counts[index]
        # Without events it is exact.
        ctx.set(dut.events, {})
        for index, count in enumerate(counts):
            assert (await read(ctx, dut, index))[0] == count

    run(dut, bench)


def test_read_ends_in_the_time_promised():
    dut = build()
    latencies = set()

    async def bench(ctx):
        for index in (0, 5, 12):
            for _ in range(dut.scan):
                latencies.add((await read(ctx, dut, index))[1])
                await ctx.tick().repeat(2)

    run(dut, bench)
    assert max(latencies) <= dut.longest_read


@pytest.mark.parametrize(("word_bits", "counter_bits"), [(16, 16), (8, 17)])
def test_carries_and_wraps(monkeypatch, word_bits, counter_bits):
    """Events from the first cycle, at the full rate, over a wrap (16 bits), and over carries between three words."""
    monkeypatch.setattr(performance_counters, "WORD_BITS", word_bits)
    dut = build(counter_bits)
    cycles = (1 << 16) + 40

    async def bench(ctx):
        ctx.set(dut.events, {"busy_cycles": 1, "pipeline_wait_cycles": 1})
        for _ in range(cycles):
            await ctx.tick()
        ctx.set(dut.events, {})
        for index, name in enumerate(NAMES):
            expected = cycles if name in ("busy_cycles", "pipeline_wait_cycles") else 0
            assert (await read(ctx, dut, index))[0] == expected % (1 << counter_bits)

    run(dut, bench)


def test_clear():
    dut = build(48)
    rng = random.Random(9)

    async def bench(ctx):
        for _ in range(12):
            ctx.set(dut.events, dict.fromkeys(NAMES, 1))
            await ctx.tick().repeat(rng.randrange(1, 120))
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            after = rng.randrange(1, 90)
            await ctx.tick().repeat(after)
            ctx.set(dut.events, {})
            for index in rng.sample(range(len(NAMES)), 4):
                assert (await read(ctx, dut, index))[0] == after

    run(dut, bench)


def test_answer_holds_until_the_next_read():
    dut = build(48)

    async def bench(ctx):
        ctx.set(dut.events, {"jobs": 1})
        await ctx.tick().repeat(5)
        value, _ = await read(ctx, dut, NAMES.index("jobs"))
        await ctx.tick().repeat(150)
        assert ctx.get(dut.low) == value
        assert ctx.get(dut.done) == 0

    run(dut, bench)


def test_names_follow_the_register_map():
    assert NAMES[0] == "busy_cycles"
    assert NAMES[-1] == "pipeline_wait_cycles"
    assert len(NAMES) == 13
