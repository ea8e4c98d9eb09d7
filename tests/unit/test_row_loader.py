"""Packets into the row loader: contents, banks, wrong lengths, stalls and latency."""

import random

import pytest

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.row_loader import RowLoader
from tests.unit.helpers import receive, run, send

SMALL = UnitConfig(lanes=4, head_dim=16, slots=8, heads=1, kv_heads=1)
WIDE = UnitConfig(lanes=8, head_dim=24, slots=8, heads=6, kv_heads=3)


def expected_beats(config, job):
    kv = 2 * config.kv_heads * job["beats"] if job["append"] else 0
    return kv, kv + (config.heads * job["beats"] if job["attend"] else 0)


def random_job(config, source, tag):
    append, attend = source.choice([(0, 1), (1, 0), (1, 1)])
    return {"append": append, "attend": attend, "beats": source.randint(1, config.sizes.beats), "position": tag}


def make_packet(config, job, source, change=0, bad=0):
    """Beats of a packet that is ``change`` beats too long; ``bad`` in a beat before the last means nothing."""
    count = expected_beats(config, job)[1] + change
    beats = [
        {"data": source.getrandbits(config.lanes * 8), "last": 0, "bad": int(source.random() < 0.1)}
        for _ in range(count)
    ]
    beats[-1] |= {"last": 1, "bad": bad}
    return beats


async def read_bank(ctx, dut, loaded):
    """All beats of a loaded packet, in packet order."""
    job, bank, config = loaded["job"], loaded["bank"], dut.config
    kv, total = expected_beats(config, job)
    found = []
    for index in range(kv):
        ctx.set(dut.kv_addr, bank * dut.kv_depth + index)
        await ctx.tick().repeat(dut.kv_latency)
        found.append(ctx.get(dut.kv_data))
    for index in range(total - kv):
        ctx.set(dut.q_addr, bank * dut.q_depth + index)
        await ctx.tick().repeat(dut.q_latency)
        found.append(ctx.get(dut.q_data))
    return found


async def release(ctx, dut, bank):
    ctx.set(dut.release, 1 << bank)
    await ctx.tick()
    ctx.set(dut.release, 0)


@pytest.mark.parametrize("config", [SMALL, WIDE])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_packets_good_short_and_long(config, stall):
    source = random.Random(f"{config.lanes} {stall}")
    dut = RowLoader(config)
    jobs, packets, good, short, long, broken = [], [], [], 0, 0, set()
    for tag in range(60):
        job = random_job(config, source, tag)
        total = expected_beats(config, job)[1]
        change = (
            source.choice([0, 0, 0, source.randint(1, 2 * total), -source.randint(1, total - 1)]) if total > 1 else 0
        )
        bad = int(source.random() < 0.4)
        packet = make_packet(config, job, source, change, bad)
        jobs.append(job)
        packets.append(packet)
        short, long = short + (change < 0 or bad), long + (change > 0 and not bad)
        broken.add((bad, (change > 0) - (change < 0)))
        if change == 0 and not bad:
            good.append((job, [beat["data"] for beat in packet]))
    assert len(broken) == 6
    counted = {"short": 0, "long": 0, "banks": set()}

    async def count(ctx):
        while True:
            _, _, was_short, was_long = await ctx.tick().sample(dut.too_short, dut.too_long)
            counted["short"] += was_short
            counted["long"] += was_long

    async def feed_jobs(ctx):
        await send(ctx, dut.job, jobs, stall=stall, seed=1)

    async def feed_beats(ctx):
        await send(ctx, dut.i, [beat for packet in packets for beat in packet], stall=stall, seed=2)
        await ctx.tick().repeat(4)

    async def check(ctx):
        held = []  # banks are released late and out of order
        for index, (job, beats) in enumerate(good):
            if len(held) == 2:
                await release(ctx, dut, held.pop(source.randrange(2)))
            (loaded,) = await receive(ctx, dut.o, 1, stall=stall, seed=index)
            assert {name: loaded["job"][name] for name in job} == job
            assert loaded["bank"] not in held
            held.append(loaded["bank"])
            counted["banks"].add(loaded["bank"])
            assert await read_bank(ctx, dut, loaded) == beats
        for bank in held:
            await release(ctx, dut, bank)

    run(dut, feed_jobs, feed_beats, check, processes=[count])
    assert counted == {"short": short, "long": long, "banks": {0, 1}}


def test_offered_the_cycle_after_the_last_beat_and_ready_again_four_later():
    dut = RowLoader(SMALL)
    job = {"append": 1, "attend": 1, "beats": 2, "position": 9}
    count = expected_beats(SMALL, job)[1]
    seen = []

    async def drive(ctx):
        ctx.set(dut.job.payload, job)
        ctx.set(dut.job.valid, 1)
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.valid, 1)
        for _ in range(count + 6):
            ctx.set(dut.i.payload.last, len([1 for ready, _ in seen if ready]) == count - 1)
            _, _, ready, valid, waiting = await ctx.tick().sample(dut.i.ready, dut.o.valid, dut.waiting)
            assert not waiting
            seen.append((ready, valid))

    run(dut, drive)
    assert seen == [(0, 0)] + [(1, 0)] * count + [(0, 1), (0, 0), (0, 0)] + [(1, 0)] * 2


def test_no_beat_without_job_or_bank():
    dut = RowLoader(SMALL)
    job = {"attend": 1, "beats": 1}

    async def drive(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.i.payload.last, 1)
        ctx.set(dut.o.ready, 1)
        for _ in range(10):  # no job
            await ctx.tick()
            assert not ctx.get(dut.i.ready)
            assert not ctx.get(dut.waiting)
        ctx.set(dut.job.payload, job)
        ctx.set(dut.job.valid, 1)
        taken = 0
        for _ in range(20):  # two banks, then none
            taken += ctx.get(dut.i.ready)
            await ctx.tick()
        assert taken == 2
        assert not ctx.get(dut.waiting)
        ctx.set(dut.i.valid, 0)
        await release(ctx, dut, 1)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.waiting)
        ctx.set(dut.i.valid, 1)
        await ctx.tick()
        assert ctx.get(dut.o.valid)
        assert ctx.get(dut.o.payload.bank) == 1

    run(dut, drive)
