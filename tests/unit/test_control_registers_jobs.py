"""The control's job queue: what START accepts, what it refuses, and the log of the latest jobs."""

import random

import pytest

from .control_registers_bench import FULL, GOOD, Bench, bare_registers, read_log, start_bare
from .helpers import receive, run
from .register_bus import access


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_jobs_leave_in_order_as_they_were_at_start(stall):
    bench, rng, sent, received = Bench(FULL, stall, seed=5), random.Random(6), [], []

    async def host(ctx):
        while len(sent) < 12:
            base = rng.randrange(12)
            n = rng.randrange(1, 13 - base)
            job = {"n": n, "slot": rng.randrange(n), "base": base, "position": rng.getrandbits(20)}
            job |= {"mask": rng.getrandbits(6), "sinks": rng.getrandbits(20), "recent": rng.getrandbits(20)}
            control = {"append": 1, "attend": 1, "evict": rng.randrange(2), "emit_context": rng.randrange(2)}
            control |= {"silent": rng.randrange(2)}
            control |= {"normaliser": rng.randrange(5), "metric": rng.randrange(3), "profile": rng.randrange(3)}
            beats = rng.randrange(1, 4)
            registers = {f"JOB_{key.upper()}": value for key, value in job.items()}
            registers |= {"JOB_HEAD_DIM": 8 * beats, "JOB_CONTROL": bench.map.encode("JOB_CONTROL", **control)}
            if await bench.start(ctx, **registers):
                sent.append(job | control | {"beats": beats, "tag": len(sent) % 4})
            else:
                assert await bench.errors(ctx) == {"queue_full"}

    async def unit(ctx):
        received.extend(await receive(ctx, bench.dut.job, 12, stall=0.9, seed=7))

    bench.run(host, unit)
    assert received == sent


def test_queue_fills_and_soft_reset_empties_it():
    bench = Bench(FULL, 0.2, seed=8)
    pulses = []

    async def host(ctx):
        for level in range(FULL.job_queue):
            status = bench.map.decode("STATUS", await bench.read(ctx, "STATUS"))
            assert status == {"busy": level > 0, "queued": level, "room": FULL.job_queue - level}
            assert await bench.start(ctx, JOB_POSITION=level)
        assert not await bench.start(ctx, JOB_POSITION=99)
        assert await bench.errors(ctx) == {"queue_full"}
        # A bad job is bad before the queue is full.
        assert not await bench.start(ctx, JOB_N=0)
        assert await bench.errors(ctx) == {"bad_job"}
        # Neither a zero nor a byte that is not strobed resets.
        assert await bench.write(ctx, "CONTROL", 0)
        assert await bench.write(ctx, "CONTROL", 1, strobe=0b1110)
        assert bench.map.decode("STATUS", await bench.read(ctx, "STATUS"))["queued"] == FULL.job_queue
        assert pulses == []
        assert ctx.get(bench.dut.job.payload.position) == 0
        assert await bench.write(ctx, "CONTROL", 1)
        await ctx.tick().repeat(6)
        assert len(pulses) == 1
        status = bench.map.decode("STATUS", await bench.read(ctx, "STATUS"))
        assert status == {"busy": 0, "queued": 0, "room": FULL.job_queue}
        assert await bench.read(ctx, "JOB_BASE") == GOOD["JOB_BASE"]
        assert await bench.read(ctx, "CONTROL") == 0
        assert await bench.start(ctx, JOB_N=1, JOB_POSITION=7)
        assert ctx.get(bench.dut.job.payload.position) == 7

    async def watch(ctx):
        for _ in range(4000):
            _, _, pulse = await ctx.tick().sample(bench.dut.soft_reset)
            if pulse:
                pulses.append(1)

    bench.run(host, watch)


REFUSED = [
    {"JOB_N": 0},
    {"JOB_N": 12},
    {"JOB_BASE": 11, "JOB_N": 2},
    {"JOB_CONTROL": 0b01, "JOB_BASE": 8, "JOB_SLOT": 4},
    {"JOB_SLOT": 1},
    {"JOB_HEAD_DIM": 0},
    {"JOB_HEAD_DIM": 12},
    {"JOB_HEAD_DIM": 32},
    {"JOB_CONTROL": 0b11 | 5 << 4},
    {"JOB_CONTROL": 0b110},
    {"JOB_CONTROL": 0b11 | 3 << 8},
    {"JOB_CONTROL": 0},
    {"JOB_CONTROL": 0b11 | 3 << 16},
    {"JOB_N": 17},
    {"JOB_N": 1 | 1 << 31},
    {"JOB_SLOT": 1 << 4},
    {"JOB_BASE": 1 | 1 << 8},
    {"JOB_HEAD_DIM": 16 | 1 << 16},
    {"JOB_POSITION": 1 << 20},
    {"JOB_SINKS": 1 << 24},
    {"JOB_RECENT": 1 << 31},
]


def test_start_refuses_what_cannot_run():
    bench = Bench(FULL, 0.1, seed=9)

    async def host(ctx):
        for change in REFUSED:
            assert not await bench.start(ctx, **change), change
            assert await bench.errors(ctx) == {"bad_job"}, change
            assert not ctx.get(bench.dut.job.valid), change
            for name in change:
                assert await bench.write(ctx, name, 0)
        assert await bench.start(ctx)
        assert ctx.get(bench.dut.job.valid)
        assert await bench.read(ctx, "START") == 0

    bench.run(host)


def test_a_word_too_wide_is_remembered_byte_by_byte():
    bench = Bench(FULL)

    async def host(ctx):
        assert not await bench.start(ctx, JOB_POSITION=1 << 24 | 1 << 20)
        assert await bench.write(ctx, "JOB_POSITION", 0, strobe=0b1000)
        assert not await bench.write(ctx, "START", 0)
        assert await bench.write(ctx, "JOB_POSITION", 0, strobe=0b0100)
        assert await bench.write(ctx, "START", 0)

    bench.run(host)


def test_job_log():
    """Tags go up with each job accepted, also over a soft reset; state by tag; heads and slots while jobs run."""
    dut, registers = bare_registers(FULL)
    tags = []

    async def event(ctx, events, **finished):
        ctx.set(dut.job_events, events)
        ctx.set(dut.finished, finished)
        await ctx.tick()
        ctx.set(dut.job_events, {name: {} for name in events})
        ctx.set(dut.finished, {})

    async def host(ctx):
        for _ in range(3):
            assert not await start_bare(ctx, dut, registers)
        assert await start_bare(ctx, dut, registers)  # the queue is full
        assert await read_log(ctx, dut, registers) == (3, [0, 0, 0, 0])
        tags.extend(job["tag"] for job in await receive(ctx, dut.job, 2))
        await access(ctx, dut.bus, registers.address("CONTROL") // 4, 1)
        assert not await start_bare(ctx, dut, registers)
        ctx.set(dut.busy, 1)
        tags.extend(job["tag"] for job in await receive(ctx, dut.job, 1))
        assert tags == [0, 1, 3]
        await event(ctx, {"too_short": {"valid": 1, "tag": 1}}, dropped=1)
        await event(ctx, {"too_long": {"valid": 1, "tag": 3}}, dropped=1)
        await event(ctx, {"row": {"valid": 1, "tag": 2, "kv": 1, "slot": 9, "dropped": 1}})
        await event(ctx, {"append_done": {"valid": 1, "tag": 0}}, append_done=1)
        assert await read_log(ctx, dut, registers) == (4, [0b0001, 0b0011, 0b1000, 0b0101])
        await event(ctx, {"result_done": {"valid": 1, "tag": 2}}, result_done=1)
        assert not await start_bare(ctx, dut, registers)
        assert await read_log(ctx, dut, registers) == (5, [0, 0b0011, 0b1001, 0b0101])
        head = {"valid": 1, "tag": 3, "head": 5, "masked": 0, "null": 1, "softmax": 0, "fallback": 1, "active": 7}
        await event(ctx, {"head": head | {"mass": 12345}})
        ctx.set(dut.job_events.head, head | {"mass": 12345, "valid": 0})
        await ctx.tick()
        expected = {("SUMMARY", 3, 5): 7 | 1 << 29 | 1 << 31, ("MASS", 3, 5): 12345}
        for (name, *indices), word in expected.items():
            address = registers.address(f"JOB_HEADS.{name}", *indices) // 4
            assert await access(ctx, dut.bus, address) == (word, 0, 3)
            assert (await access(ctx, dut.bus, address, 1))[1] == 1
        assert await access(ctx, dut.bus, registers.address("JOB_SLOTS", 2, 1) // 4) == (9 | 1 << 31, 0, 3)

    run(dut, host)


def test_started_and_ended():
    """A pulse for each job accepted, before its START is answered or with it; one for each cycle with ends."""
    dut, registers = bare_registers(FULL)
    pulses = {"started": 0, "ended": 0}

    async def watch(ctx):
        async for _, _, started, ended in ctx.tick().sample(dut.started, dut.ended):
            pulses["started"] += started
            pulses["ended"] += ended

    async def host(ctx):
        for number in range(1, 4):
            assert not await start_bare(ctx, dut, registers)
            assert pulses["started"] == number
        assert ctx.get(dut.working)
        assert await start_bare(ctx, dut, registers)
        ctx.set(dut.finished, {"dropped": 1, "append_done": 1})
        await ctx.tick().repeat(2)
        ctx.set(dut.finished, {})
        await ctx.tick()
        assert not ctx.get(dut.ended)
        await receive(ctx, dut.job, 3)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.working)

    run(dut, host, processes=[watch])
    assert pulses == {"started": 3, "ended": 2}
