"""The result gate: beats pass unchanged and in order, and a packet that the unit does not end is ended."""

import random

import pytest

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.result_gate import ResultGate

from .helpers import run

CONFIG = UnitConfig(lanes=4, head_dim=16, slots=4, heads=1, kv_heads=1)


@pytest.mark.parametrize(("busy", "free"), [(1.0, 1.0), (0.5, 0.5), (1.0, 0.2), (0.3, 1.0)])
def test_packets_pass_and_cut_ones_are_ended(busy, free):
    """A unit that is reset at random: what it offered is withdrawn, or not, and it is quiet for a few cycles."""
    dut, draw = ResultGate(CONFIG), random.Random(f"{busy} {free}")
    sent, got, resets = [], [], 0

    async def unit(ctx):
        nonlocal resets
        left, value = 0, 0
        for _ in range(4000):
            if draw.random() < 0.03:
                resets += 1
                for pulse in (0, 1, 0):
                    ctx.set(dut.i.valid, 0)
                    ctx.set(dut.reset, pulse)
                    await ctx.tick()
                if sent and not sent[-1][1]:
                    sent.append(("end", 1))
                left = 0
                continue
            if not ctx.get(dut.i.valid) and draw.random() < busy:
                left, value = left or draw.randint(1, 6), value + 1
                ctx.set(dut.i.payload, {"data": value, "last": left == 1})
                ctx.set(dut.i.valid, 1)
            _, _, valid, ready = await ctx.tick().sample(dut.i.valid, dut.i.ready)
            if valid and ready:
                sent.append((value, int(left == 1)))
                left -= 1
                ctx.set(dut.i.valid, 0)
        ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(100)

    async def host(ctx):
        held = None
        while True:
            ctx.set(dut.o.ready, int(draw.random() < free))
            _, _, valid, ready, beat = await ctx.tick().sample(dut.o.valid, dut.o.ready, dut.o.payload)
            now = (beat.data, beat.last) if valid else None
            assert held is None or held == now, "an offered beat holds"
            held = None if ready else now
            if valid and ready:
                got.append(now)

    run(dut, unit, processes=[host])
    wanted = [got[index] if data == "end" else (data, last) for index, (data, last) in enumerate(sent)]
    assert got == wanted
    assert all(last for (data, _), (_, last) in zip(sent, got, strict=True) if data == "end")
    assert resets > 50
    assert sum(data == "end" for data, _ in sent) > 10


def test_one_beat_a_cycle_after_one_cycle():
    dut = ResultGate(CONFIG)

    async def check(ctx):
        ctx.set(dut.o.ready, 1)
        for value in range(10):
            ctx.set(dut.i.payload, {"data": value, "last": value == 9})
            ctx.set(dut.i.valid, 1)
            assert ctx.get(dut.i.ready)
            await ctx.tick()
            assert (ctx.get(dut.o.valid), ctx.get(dut.o.payload.data)) == (1, value)

    run(dut, check)
