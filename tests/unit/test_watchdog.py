"""The watchdog: when it bites, and when it does not."""

import pytest

from reluctant.hdl.watchdog import Watchdog

from .helpers import refuses, run, wait


async def until_bite(ctx, dut, limit=100):
    """Cycles from here to the bite; None if there is none."""
    for cycle in range(1, limit):
        await ctx.tick()
        if ctx.get(dut.bite):
            return cycle
    return None


@pytest.mark.parametrize("cycles", [1, 2, 20])
def test_bites_after_so_many_cycles_and_again(cycles):
    dut = Watchdog(cycles)

    async def check(ctx):
        ctx.set(dut.working, 1)
        assert [await until_bite(ctx, dut) for _ in range(3)] == [cycles] * 3
        if cycles > 1:
            await ctx.tick()
            assert not ctx.get(dut.bite)

    run(dut, check)


def test_kick_and_rest_wind_it_up():
    dut = Watchdog(20)

    async def check(ctx):
        ctx.set(dut.working, 1)
        for name, value in (("kick", 1), ("working", 0)) * 3:
            await wait(ctx, 19)
            assert not ctx.get(dut.bite)
            ctx.set(getattr(dut, name), value)
            await ctx.tick()
            assert not ctx.get(dut.bite)
            ctx.set(getattr(dut, name), 1 - value)
        assert await until_bite(ctx, dut) == 20
        ctx.set(dut.working, 0)
        assert await until_bite(ctx, dut) is None

    run(dut, check)


def test_refuses_no_time():
    refuses(lambda: Watchdog(0), "cycles is 0: at least 1 is needed")
