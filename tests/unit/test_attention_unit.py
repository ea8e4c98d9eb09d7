"""The unit on its register bus: what it says beside its registers of the jobs that it runs."""

import pytest

from reluctant.hdl.attention_unit import AttentionUnit
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.register_map import RegisterMap

from .helpers import receive, run, send
from .register_bus import access

CONFIG = UnitConfig(
    lanes=4, head_dim=16, slots=4, heads=1, kv_heads=1, softmax=False, normalisers=(), counter_bits=16, job_queue=2
)
BEATS = 3 * 4
"""Beats of a packet that appends and attends."""
REGISTERS = RegisterMap(CONFIG)


async def write(ctx, dut, name, **values):
    """Write a register; returns the error."""
    return (await access(ctx, dut.bus, REGISTERS.address(name) // 4, REGISTERS.encode(name, **values)))[1]


async def read(ctx, dut, name, *indices):
    """Fields of a register."""
    word, error, _ = await access(ctx, dut.bus, REGISTERS.address(name, *indices) // 4)
    assert not error
    return REGISTERS.decode(name, word)


async def start(ctx, dut, **settings):
    """Start a job that appends row 0 and attends to it; returns the error."""
    for name, value in (settings | {"n": 1, "head_dim": 16}).items():
        await write(ctx, dut, f"JOB_{name.upper()}", value=value)
    await write(ctx, dut, "JOB_CONTROL", append=1, attend=1)
    return await write(ctx, dut, "START")


def beats(bad=0, count=BEATS):
    """A packet of ones."""
    return [{"data": 0x01010101, "last": n == count - 1, "bad": bad and n == count - 1} for n in range(count)]


def pulses(dut, seen):
    """Appends the names of pulses to ``seen``."""

    async def watch(ctx):
        async for _, _, started, finished in ctx.tick().sample(dut.started, dut.finished):
            seen.extend(["started"] * started + ["finished"] * finished)

    return watch


def test_a_job_from_start_to_end():
    dut, seen = AttentionUnit(CONFIG), []

    async def host(ctx):
        assert not ctx.get(dut.busy)
        assert not ctx.get(dut.waiting)
        assert not await start(ctx, dut)
        await ctx.tick().repeat(3)
        assert seen == ["started"]
        assert ctx.get(dut.busy)
        assert ctx.get(dut.waiting)
        await send(ctx, dut.i, beats())
        assert not ctx.get(dut.waiting)
        packet = await receive(ctx, dut.o, 4 + 16)
        assert [beat["last"] for beat in packet] == [0] * 19 + [1]
        assert packet[1]["data"] == 1  # active rows
        assert packet[2]["data"] == 16  # the mass
        while "finished" not in seen:
            await ctx.tick()
        assert not ctx.get(dut.busy)
        assert await read(ctx, dut, "JOBS_DONE") == {"value": 1}
        assert (await read(ctx, dut, "JOB_STATE"))["done0"] == 1
        assert (await read(ctx, dut, "JOB_HEADS.SUMMARY", 0, 0))["active"] == 1
        assert await read(ctx, dut, "JOB_HEADS.MASS", 0, 0) == {"value": 16}
        assert await read(ctx, dut, "JOB_SLOTS", 0, 0) == {"slot": 0, "dropped": 0}

    run(dut, host, processes=[pulses(dut, seen)])
    assert seen == ["started", "finished"]


@pytest.mark.parametrize("count", [1, BEATS - 1, BEATS, BEATS + 1])
def test_a_broken_packet_is_too_short(count):
    """Whatever its length; the interrupt tells of it, and the next job runs."""
    dut, seen = AttentionUnit(CONFIG), []

    async def host(ctx):
        await write(ctx, dut, "IRQ_ENABLE", error=1)
        assert not await start(ctx, dut)
        await send(ctx, dut.i, beats(bad=1, count=count))
        while "finished" not in seen:
            await ctx.tick()
        state = await read(ctx, dut, "JOB_STATE")
        assert {name for name, value in state.items() if value} == {"done0", "short0"}
        errors = await read(ctx, dut, "ERROR")
        assert {name for name, value in errors.items() if value} == {"packet_short"}
        assert ctx.get(dut.irq)
        assert not await start(ctx, dut)
        await send(ctx, dut.i, beats())
        await receive(ctx, dut.o, 4 + 16)
        await ctx.tick().repeat(4)
        assert await read(ctx, dut, "JOBS_STARTED") == {"value": 2}
        assert await read(ctx, dut, "JOBS_DONE") == {"value": 2}

    run(dut, host, processes=[pulses(dut, seen)])


def test_a_refused_job_starts_nothing():
    dut, seen = AttentionUnit(CONFIG), []

    async def host(ctx):
        assert await start(ctx, dut, slot=2)
        await ctx.tick().repeat(5)
        assert not ctx.get(dut.busy)
        assert await read(ctx, dut, "JOBS_STARTED") == {"value": 0}

    run(dut, host, processes=[pulses(dut, seen)])
    assert seen == []
