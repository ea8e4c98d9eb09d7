"""The schedule of the array: order, pacing, reservations, and nothing lost under stalls."""

import random
from itertools import pairwise

import pytest

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.row_fetch import READ_LATENCY, RowFetch
from reluctant.hdl.slot_walker import SlotWalker

from .helpers import receive, run, send

CONFIG = UnitConfig(lanes=4, head_dim=16, slots=16, heads=4, kv_heads=2)


def _walks(rng, count):
    for _ in range(count):
        row = rng.randrange(16)
        yield {
            "row": row,
            "n": rng.randint(1, 16),
            "beats": rng.randint(1, 4),
            "query": rng.randrange(16),
            "bank": rng.randrange(2),
            "release": rng.randrange(2),
        }


def _key_beats(walk):
    for slot in range(walk["n"]):
        for beat in range(walk["beats"]):
            last = beat == walk["beats"] - 1
            final = last and slot == walk["n"] - 1
            yield {
                "addr": beat * CONFIG.sizes.rows + walk["row"] + slot,
                "query": walk["query"] + beat,
                "slot": slot,
                "first": int(beat == 0),
                "last": int(last),
                "final": int(final),
                "bank": walk["bank"],
                "release": int(walk["release"] and final),
            }


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_walker_addresses(stall):
    dut, rng = SlotWalker(CONFIG), random.Random(1)
    walks = list(_walks(rng, 30))
    expected = [beat for walk in walks for beat in _key_beats(walk)]
    cycles = []

    async def feed(ctx):
        await send(ctx, dut.i, walks, stall=stall, seed=1)

    async def check(ctx):
        assert await receive(ctx, dut.o, len(expected), stall=stall, cycles=cycles) == expected
        if stall == 0:
            assert cycles == list(range(2, 2 + len(expected))), "a bubble between phases"

    run(dut, feed, check)


def _value_rows(rng, heads):
    """Pairs of a value row and, with the final one of a head, its record."""
    for head in range(heads):
        beats, rows = rng.randint(1, 4), rng.choice([0, 0, 1, 2, 5])
        record = {
            "rows": rows,
            "stats": {"null": int(rows == 0), "fallback": rng.randrange(2), "softmax": rng.randrange(2)},
            "head": {"group_last": head % 2, "result": {"head": head % 4, "beats": beats}},
        }
        if rows == 0:
            yield {"zero": 1, "final": 1}, record
        slots = sorted(rng.sample(range(16), rows))
        for beat in range(beats if rows else 0):
            for index, slot in enumerate(slots):
                last = index == rows - 1
                final = last and beat == beats - 1
                value = {
                    "row": slot,
                    "beat": beat,
                    "weight": rng.randint(1, 255),
                    "first": int(index == 0),
                    "last": int(last),
                    "final": int(final),
                }
                yield value, record if final else None


def _reads(values, keys):
    sizes = CONFIG.sizes
    value_reads = [((sizes.beats + row["beat"]) * sizes.rows + row["row"]) for row in values if not row.get("zero")]
    return value_reads, [(beat["addr"], beat["query"]) for beat in keys]


@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_every_row_is_fetched_once_and_in_order(stall):
    dut, rng = RowFetch(CONFIG), random.Random(int(stall * 10) + 5)
    keys = [beat for walk in _walks(rng, 12) for beat in _key_beats(walk)]
    pairs = list(_value_rows(rng, 40))
    values = [row for row, _ in pairs]
    heads = [pair for pair in pairs if pair[1]]
    value_reads, key_reads = _reads(values, keys)
    seen_values, seen_keys, controls, pass_ends, retired, allocated = [], [], [], [], [], []
    released = [0, 0]
    done = [False]

    async def watch(ctx):
        held = 0
        pending, cycle = [], 0
        while not done[0]:
            ctx.set(dut.stall, rng.random() < stall)
            held = max(0, held - (rng.random() < 0.2)) if stall else 0
            ctx.set(dut.space, held < 3)
            await ctx.delay(0)
            if ctx.get(dut.read_en):
                pending.append((cycle, ctx.get(dut.read_addr), ctx.get(dut.query_addr)))
            if ctx.get(dut.allocate):
                assert held < 3
                held += 1
                allocated.append(cycle)
            if ctx.get(dut.control.valid):
                issued, addr, query = pending.pop(0)
                assert cycle - issued == READ_LATENCY
                axpy = ctx.get(dut.control.axpy)
                (seen_values if axpy else seen_keys).append(addr if axpy else (addr, query))
                controls.append((axpy, ctx.get(dut.control.weight)))
                if axpy and ctx.get(dut.control.last):
                    pass_ends.append(cycle)
            for bank in range(2):
                released[bank] += (ctx.get(dut.query_released) >> bank) & 1
            retired.append(ctx.get(dut.retired))
            await ctx.tick()
            cycle += 1

    async def feed_keys(ctx):
        await send(ctx, dut.key, keys, stall=stall, seed=2)

    async def feed_values(ctx):
        await send(ctx, dut.value, values, stall=stall, seed=3)

    async def feed_heads(ctx):
        await send(ctx, dut.head, [record for _, record in heads])

    async def check(ctx):
        records = await receive(ctx, dut.record, len(heads), stall=stall, seed=4)
        for record, (row, head) in zip(records, heads, strict=True):
            assert record["zero"] == row.get("zero", 0)
            assert record["head"]["head"] == head["head"]["result"]["head"]
            assert record["stats"]["fallback"] == head["stats"]["fallback"]
        while len(seen_keys) < len(keys):
            await ctx.tick()
        await ctx.tick().repeat(4)
        done[0] = True

    run(dut, feed_keys, feed_values, feed_heads, check, watch)
    assert seen_values == value_reads
    assert seen_keys == key_reads
    assert [weight for axpy, weight in controls if axpy] == [row["weight"] for row in values if not row.get("zero")]
    assert min(b - a for a, b in pairwise(pass_ends)) >= 4
    assert sum(retired) == sum(record["head"]["group_last"] for _, record in heads)
    assert len(allocated) == sum(not row.get("zero", 0) for row, _ in heads)
    assert sum(released) == sum(beat["release"] for beat in keys)


def test_keys_fill_the_cycles_that_values_leave():
    dut, rng = RowFetch(CONFIG), random.Random(3)
    keys = [beat for walk in _walks(rng, 40) for beat in _key_beats(walk)]
    values = [row for row, _ in _value_rows(rng, 20)]
    reads = []

    async def feed_keys(ctx):
        await send(ctx, dut.key, keys)

    async def feed_values(ctx):
        await send(ctx, dut.value, values, stall=0.5, seed=3)

    async def drain(ctx):
        ctx.set(dut.space, 1)
        await receive(ctx, dut.record, sum(row["final"] for row in values))

    async def watch(ctx):
        for _ in range(len(keys)):
            reads.append(ctx.get(dut.read_en))
            await ctx.tick()

    run(dut, feed_keys, feed_values, drain, watch)
    assert reads == [0] + [1] * (len(keys) - 1)
