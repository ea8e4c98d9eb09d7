"""The scheduler's core starts, is held, bitten and restarted: programs put together by hand, and what they saw."""

import pytest

from reluctant.hdl.scheduler import COLD, HOST, TRAP, WATCHDOG

from .helpers import wait
from .rv32 import Program
from .scheduler_bench import BASE, CONFIG, TARGET, UNIT, UNIT_MAP, ZERO, A, B, Bench, C, D, reg, sleep, start


def counting_program(kick=False):
    """Counts its starts at LOG, notes the cause behind, then loops, with signs of life or without."""
    program = Program()
    start(program)
    program.lw(A, TARGET)
    program.addi(A, A, 1)
    program.sw(A, TARGET)
    program.lw(B, BASE, reg("START_CAUSE"))
    program.add(C, A, A)
    program.add(C, C, C)
    program.add(C, C, TARGET)
    program.sw(B, C)
    program.label("loop")
    if kick:
        program.sw(ZERO, BASE, reg("WATCHDOG"))
    program.jump("loop")
    return program


def test_starts_by_the_host():
    bench = Bench(counting_program(kick=True))
    dut = bench.dut

    async def check(ctx):
        await wait(ctx, 300)
        await bench.pulse(ctx, "restart")
        await wait(ctx, 300)
        assert ctx.get(dut.cause) == HOST
        ctx.set(dut.cold, 1)
        await bench.pulse(ctx, "restart")
        await wait(ctx, 300)
        assert await bench.log(ctx, 4) == [3, COLD, HOST, COLD]
        await bench.pulse(ctx, "restart")  # held: the core does not start
        await wait(ctx, 300)
        assert await bench.log(ctx, 4) == [3, COLD, HOST, COLD]
        ctx.set(dut.hold, 0)
        await wait(ctx, 300)
        ctx.set(dut.cold, 0)
        await bench.hold(ctx)
        ctx.set(dut.hold, 0)
        await wait(ctx, 300)
        assert await bench.log(ctx, 6) == [5, COLD, HOST, COLD, COLD, HOST]

    bench.run(check)


def test_watchdog():
    """Bites a core that gives no sign of life, not one that does; not while the core is held."""
    bench, alive, bites = Bench(counting_program()), Bench(counting_program(kick=True)), []

    async def bitten(ctx):
        for _ in range(2):
            await bench.until(ctx, bench.dut.bitten, 5000)
            bites.append(1)
            await wait(ctx, 100)
        assert ctx.get(bench.dut.cause) == WATCHDOG
        assert await bench.log(ctx, 4) == [3, COLD, WATCHDOG, WATCHDOG]
        for _ in range(CONFIG.watchdog + 100):
            await ctx.tick()
            assert not ctx.get(bench.dut.bitten)

    async def spared(ctx):
        for _ in range(2 * CONFIG.watchdog):
            await ctx.tick()
            assert not ctx.get(alive.dut.bitten)
        assert await alive.log(ctx, 2) == [1, COLD]

    bench.run(bitten)
    assert len(bites) == 2
    alive.run(spared)


def test_sleeping_core_is_not_bitten():
    program = Program()
    sleep(program)
    bench = Bench(program)

    async def check(ctx):
        await bench.asleep(ctx)
        for _ in range(2 * CONFIG.watchdog):
            await ctx.tick()
            assert not ctx.get(bench.dut.bitten)

    bench.run(check)


def test_restart_after_a_trap_during_an_access_to_the_unit():
    """The firmware's own restart; and one by the host in the midst of an access, which goes on to its end."""
    program = Program()
    start(program)
    program.lw(A, TARGET)
    program.addi(A, A, 1)
    program.sw(A, TARGET)
    program.addi(B, ZERO, 1)
    program.bne(A, B, "later")
    program.sw(ZERO, BASE, reg("RESTART"))
    program.label("wait")
    program.jump("wait")
    program.label("later")
    program.lw(B, BASE, reg("START_CAUSE"))
    program.sw(B, TARGET, 4)
    program.li(C, UNIT)
    program.sw(A, C, UNIT_MAP.address("JOB_N"))
    program.lw(D, C, UNIT_MAP.address("JOB_SLOT"))
    program.sw(D, TARGET, 8)
    sleep(program)
    bench = Bench(program)
    bench.delay = lambda: 40

    async def check(ctx):
        await bench.until(ctx, bench.dut.trapped)
        await bench.until(ctx, bench.dut.unit.request)
        assert ctx.get(bench.dut.cause) == TRAP
        await wait(ctx, 10)
        await bench.pulse(ctx, "restart")
        await bench.asleep(ctx)
        assert await bench.log(ctx, 3) == [3, HOST, ~(UNIT_MAP.address("JOB_SLOT") // 4) & 0xFFFFFFFF]
        assert [data for _, data, _ in bench.written] == [2, 3]

    bench.run(check)


@pytest.mark.parametrize("after", range(24))
def test_restart_at_any_time_loses_no_access(after):
    """However the restart meets the core, the unit sees whole accesses and the core's first fetch is right."""
    program = Program()
    start(program)
    program.li(C, UNIT)
    program.label("loop")
    program.sw(C, C, UNIT_MAP.address("JOB_N"))
    program.lw(B, BASE, reg("EVENTS"))
    program.lw(D, C, UNIT_MAP.address("JOB_SLOT"))
    program.sw(D, TARGET)
    program.jump("loop")
    bench = Bench(program)

    async def check(ctx):
        await wait(ctx, 150 + after)
        await bench.pulse(ctx, "restart")
        await wait(ctx, 200)
        count = len(bench.written)
        await wait(ctx, 200)
        assert len(bench.written) > count
        assert set(bench.written) == {(UNIT_MAP.address("JOB_N"), UNIT, 0xF)}
        assert await bench.log(ctx, 1) == [~(UNIT_MAP.address("JOB_SLOT") // 4) & 0xFFFFFFFF]

    bench.run(check)


def test_host_loads_firmware_while_the_core_is_held():
    bench = Bench(counting_program())
    other = Program()
    start(other)
    other.li(A, 77)
    other.sw(A, TARGET)
    sleep(other)
    image = other.image()

    async def check(ctx):
        await wait(ctx, 20)
        await bench.hold(ctx)
        for at in range(0, len(image), 4):
            await bench.poke(ctx, at, int.from_bytes(image[at : at + 4], "little"))
        ctx.set(bench.dut.hold, 0)
        await bench.asleep(ctx)
        assert await bench.log(ctx, 1) == [77]

    bench.run(check)
