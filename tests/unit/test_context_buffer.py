"""hdl/context_buffer.py: order, magnitudes, space, reading again, latencies."""

import random

import pytest

from reluctant.golden import formats
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.context_buffer import ContextBuffer

from . import helpers


def config(lanes=16, head_dim=48, heads=3, normalisers=("rms_head", "rms_layer")):
    return UnitConfig(lanes=lanes, head_dim=head_dim, heads=heads, kv_heads=1, normalisers=normalisers)


def contexts(chosen, config):
    """A head's contexts, None for a zero head; of any length in beats and any magnitude."""
    if chosen.random() < 0.3:
        return None
    bits = chosen.randint(0, 31)
    size = config.lanes * chosen.randint(1, config.sizes.beats)
    return [chosen.randint(-(1 << bits), (1 << bits) - 1) for _ in range(size)]


def pack(elements):
    return sum((element & 0xFFFFFFFF) << (32 * n) for n, element in enumerate(elements))


def sender(dut, heads, *, stall=0.0, seed=0):
    """Testbench of what comes from the accumulators: allocation, then words."""
    word = dut.config.sizes.word

    async def bench(ctx):
        stalls = helpers.Stalls(stall, seed)
        for head in heads:
            if head is None:
                continue
            while not ctx.get(dut.space):
                await ctx.tick()
            ctx.set(dut.allocate, 1)
            await ctx.tick()
            ctx.set(dut.allocate, 0)
            for start in range(0, len(head), word):
                for _ in range(stalls.length()):
                    await ctx.tick()
                last = start + word == len(head)
                ctx.set(dut.word, {"valid": 1, "last": last, "data": pack(head[start : start + word])})
                await ctx.tick()
                ctx.set(dut.word, {"valid": 0, "last": 1, "data": 99})

    return bench


def recorder(dut, heads, *, stall=0.0, seed=0):
    """Testbench that queues records; a head's number is in its ``n``."""

    async def bench(ctx):
        records = [{"zero": head is None, "head": {"n": n}} for n, head in enumerate(heads)]
        await helpers.send(ctx, dut.record, records, stall=stall, seed=seed)

    return bench


async def await_head(ctx, dut):
    while not ctx.get(dut.o.head.valid):
        await ctx.tick()
    return helpers.plain(ctx.get(dut.o.head.payload))


async def check_head(ctx, dut, number, contexts):
    """Wait for the next head and compare all of it."""
    head = await await_head(ctx, dut)
    assert head["record"]["head"]["n"] == number
    assert head["record"]["zero"] == (contexts is None)
    assert head["magnitude"] == (0 if contexts is None else formats.magnitude_bits(contexts))
    word = dut.config.sizes.word
    for index in range(len(contexts or []) // word):
        ctx.set(dut.o.read_addr, head["base"] + index)
        await ctx.tick()
        ctx.set(dut.o.read_addr, 0)
        await ctx.tick()
        assert ctx.get(dut.o.read_data) == pack(contexts[index * word : (index + 1) * word])


async def transfer(ctx, dut, *, keep=0, rewind=0):
    ctx.set(dut.o.keep, keep)
    ctx.set(dut.o.rewind, rewind)
    ctx.set(dut.o.head.ready, 1)
    await ctx.tick()
    for signal in (dut.o.keep, dut.o.rewind, dut.o.head.ready):
        ctx.set(signal, 0)


BUILDS = [
    config(),
    config(lanes=4, head_dim=16, heads=1, normalisers=()),
    config(lanes=8, head_dim=24, heads=2, normalisers=("sum",)),
    config(lanes=32, head_dim=64, heads=2),
]


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: f"{build.lanes}-{build.head_dim}-{build.heads}")
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_heads_in_order(build, stall):
    dut = ContextBuffer(build)
    chosen = random.Random(f"{build} {stall}")
    heads = [contexts(chosen, build) for _ in range(40)]

    async def reader(ctx):
        stalls = helpers.Stalls(0.2, 5, longest=60)
        for number, head in enumerate(heads):
            for _ in range(stalls.length()):
                await ctx.tick()
            await check_head(ctx, dut, number, head)
            await transfer(ctx, dut)

    helpers.run(dut, sender(dut, heads, stall=stall), recorder(dut, heads, stall=stall), reader)


def test_heads_are_read_again_after_rewind():
    build = config()
    dut = ContextBuffer(build)
    chosen = random.Random(3)
    heads = [contexts(chosen, build) for _ in range(8 * build.heads)]

    async def reader(ctx):
        for first in range(0, len(heads), build.heads):
            job = range(first, first + build.heads)
            for _ in range(2):
                for number in job:
                    await check_head(ctx, dut, number, heads[number])
                    await transfer(ctx, dut, keep=1, rewind=number == job[-1])
            for number in job:
                await check_head(ctx, dut, number, heads[number])
                await transfer(ctx, dut)

    helpers.run(dut, sender(dut, heads), recorder(dut, heads), reader)


@pytest.mark.parametrize("build", BUILDS[:2], ids=["layer", "no layer"])
def test_space_counts_entries(build):
    """All entries at one a cycle; then none, until a head with contexts (not a zero head) is forgotten."""
    dut = ContextBuffer(build)
    entries = build.sizes.context_entries

    async def bench(ctx):
        ctx.set(dut.allocate, 1)
        for _ in range(entries):
            assert ctx.get(dut.space)
            await ctx.tick()
        ctx.set(dut.allocate, 0)
        assert not ctx.get(dut.space)
        for start in range(4 * entries):
            ctx.set(dut.word, {"valid": 1, "last": start % 4 == 3, "data": 1})
            await ctx.tick()
        ctx.set(dut.word.valid, 0)
        await helpers.send(ctx, dut.record, [{"zero": 1}, {"zero": 0}])
        await next_head(ctx)
        await ctx.tick().repeat(4)
        assert not ctx.get(dut.space)
        await next_head(ctx)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.space)
        ctx.set(dut.allocate, 1)
        await ctx.tick()
        assert not ctx.get(dut.space)

    async def next_head(ctx):
        await await_head(ctx, dut)
        await transfer(ctx, dut)

    helpers.run(dut, bench)


@pytest.mark.parametrize(("build", "held"), [(BUILDS[0], 6), (BUILDS[1], 3)], ids=["layer", "no layer"])
def test_records_held(build, held):
    dut = ContextBuffer(build)

    async def bench(ctx):
        taken = 0
        ctx.set(dut.record.valid, 1)
        for _ in range(30):
            taken += ctx.get(dut.record.ready)
            await ctx.tick()
        assert taken == held

    helpers.run(dut, bench)


@pytest.mark.parametrize(("late", "latency"), [("word", 6), ("record", 3), ("transfer", 3)])
def test_latency(late, latency):
    build = config()
    dut = ContextBuffer(build)

    async def word(ctx, last):
        ctx.set(dut.word, {"valid": 1, "last": last, "data": 7})
        await ctx.tick()
        ctx.set(dut.word.valid, 0)

    async def bench(ctx):
        records, words = [{"head": {"n": n}} for n in range(2)], [0, 0, 0, 1] * 2
        if late == "record":
            for last in words:
                await word(ctx, last)
            await ctx.tick().repeat(10)
            await helpers.send(ctx, dut.record, records[:1])
        else:
            await helpers.send(ctx, dut.record, records)
            for last in words[:4] if late == "word" else words:
                await word(ctx, last)
        if late == "transfer":
            await ctx.tick().repeat(10)
            await transfer(ctx, dut)
        # the tick just passed was the first of the promised cycles
        for _ in range(latency - 1):
            assert not ctx.get(dut.o.head.valid)
            await ctx.tick()
        assert ctx.get(dut.o.head.valid)

    helpers.run(dut, bench)
