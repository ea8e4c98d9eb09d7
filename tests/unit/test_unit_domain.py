"""The unit on a clock of its own: jobs from start to end, resets in mid-packet and mid-answer, waiting for the host."""

import pytest

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.register_map import RegisterMap
from reluctant.hdl.unit_domain import UnitDomain

from .helpers import receive, send, wait
from .register_bus import access
from .two_clocks import run_two

CONFIG = UnitConfig(
    lanes=4, head_dim=16, slots=4, heads=1, kv_heads=1, softmax=False, normalisers=(), counter_bits=16, job_queue=2
)
BEATS, ANSWER = 3 * 4, 4 + 16
"""Beats of a packet that appends and attends, and of its answer."""
REGISTERS = RegisterMap(CONFIG)
LONGEST = 400
"""Cycles of an access at the worst of the clocks."""
clocks = pytest.mark.parametrize("clocks", [(20, 10, 5), (7, 13, 2)], ids=lambda value: "-".join(map(str, value)))


async def write(ctx, dut, name, **values):
    word = REGISTERS.encode(name, **values)
    return (await access(ctx, dut.bus, REGISTERS.address(name) // 4, word, longest=LONGEST))[1]


async def read(ctx, dut, name, *indices):
    word, error, _ = await access(ctx, dut.bus, REGISTERS.address(name, *indices) // 4, longest=LONGEST)
    assert not error
    return REGISTERS.decode(name, word)


async def start(ctx, dut):
    """Start a job that appends row 0 and attends to it."""
    for name, value in {"n": 1, "head_dim": 16}.items():
        await write(ctx, dut, f"JOB_{name.upper()}", value=value)
    await write(ctx, dut, "JOB_CONTROL", append=1, attend=1)
    assert not await write(ctx, dut, "START")


def beats(value: int, count=BEATS):
    return [{"data": value * 0x01010101, "last": n == count - 1} for n in range(count)]


async def answers(ctx, dut, value: int):
    """The next packet is the answer to a packet of this value."""
    packet = await receive(ctx, dut.o, ANSWER)
    assert [beat["last"] for beat in packet] == [0] * (ANSWER - 1) + [1]
    assert packet[1]["data"] == 1  # active rows
    assert packet[2]["data"] == 16 * value * value  # the mass


async def pulse(ctx, signal):
    ctx.set(signal, 1)
    await ctx.tick()
    ctx.set(signal, 0)


async def reset(ctx, dut):
    """As the firmware does it; what comes next comes at once."""
    await write(ctx, dut, "CONTROL", soft_reset=1)
    await pulse(ctx, dut.reset)


class Watch:
    """Counts pulses, and finds a verdict that comes other than with an answer."""

    def __init__(self, dut):
        self.dut, self.started, self.finished = dut, 0, 0

    async def run(self, ctx):
        dut = self.dut
        async for _, _, started, finished, done in ctx.tick().sample(dut.started, dut.finished, dut.bus.done):
            assert done or not started
            self.started += started
            self.finished += finished


@clocks
def test_jobs_from_start_to_end(clocks):
    """When the end of a job is told, the job log can be read."""
    dut = UnitDomain(CONFIG)
    watch = Watch(dut)

    async def host(ctx):
        for number in range(1, 4):
            await start(ctx, dut)
            assert watch.started == number
            await send(ctx, dut.i, beats(number), stall=0.3)
            await answers(ctx, dut, number)
            while watch.finished < number:
                await ctx.tick()
            assert (await read(ctx, dut, "JOB_STATE"))[f"done{number - 1}"] == 1
            assert (await read(ctx, dut, "JOBS_DONE"))["value"] == number
        while ctx.get(dut.busy):
            await ctx.tick()
        assert not ctx.get(dut.waiting)

    run_two(dut, clocks, host, processes=[watch.run])
    assert (watch.started, watch.finished) == (3, 3)


@pytest.mark.parametrize("taken", [1, BEATS - 1])
@clocks
def test_reset_in_mid_packet(clocks, taken):
    """Beats on their way are dropped, those in the queue too; one offered from then on is of the next job's packet."""
    dut, over, sent = UnitDomain(CONFIG), False, False

    async def host(ctx):
        nonlocal over
        await start(ctx, dut)
        await start(ctx, dut)
        while not sent:
            await ctx.tick()
        await reset(ctx, dut)
        over = True
        await start(ctx, dut)
        await answers(ctx, dut, 3)
        assert (await read(ctx, dut, "JOB_STATE"))["short2"] == 0

    async def packets(ctx):
        nonlocal sent
        await send(ctx, dut.i, beats(9)[:taken])
        sent = True
        while not over:
            await ctx.tick()
        await send(ctx, dut.i, beats(3))

    run_two(dut, clocks, host, packets)


@pytest.mark.parametrize("taken", [0, 10])
@clocks
def test_reset_in_mid_answer(clocks, taken):
    """A cut answer keeps the beats that had left the unit, and ends before the next one begins."""
    dut = UnitDomain(CONFIG)

    async def host(ctx):
        await start(ctx, dut)
        await send(ctx, dut.i, beats(2))
        first = await receive(ctx, dut.o, taken)
        await wait(ctx, 300)
        await wait(ctx, 300, "unit")
        await reset(ctx, dut)
        await start(ctx, dut)
        await send(ctx, dut.i, beats(3))
        while not first or not first[-1]["last"]:
            first += await receive(ctx, dut.o, 1)
        left = min(ANSWER, taken + 17)
        assert len(first) == (ANSWER if left == ANSWER else left + 1)
        assert first[2]["data"] == 16 * 2 * 2
        await answers(ctx, dut, 3)

    run_two(dut, clocks, host)


@clocks
def test_waiting_for_the_host(clocks):
    """A unit that waits says so, and each beat ends the wait, though the unit takes it within a cycle."""
    dut, gap = UnitDomain(CONFIG), 20
    longest, streak = [0], 0

    async def watch(ctx):
        nonlocal streak
        async for _, _, waiting, offered in ctx.tick().sample(dut.waiting, dut.i.valid):
            assert not (waiting and offered)
            streak = streak + 1 if waiting else 0
            longest[0] = max(longest[0], streak)

    async def host(ctx):
        assert not ctx.get(dut.waiting)
        await start(ctx, dut)
        for _ in range(2):
            while not ctx.get(dut.waiting):
                await ctx.tick()
            longest[0] = 0
            for beat in beats(1)[:-1]:
                await send(ctx, dut.i, [beat])
                await wait(ctx, gap)
            assert longest[0] <= gap
            await wait(ctx, 80)
            assert longest[0] > 40
            await send(ctx, dut.i, beats(1)[-1:])
            await answers(ctx, dut, 1)
            await wait(ctx, 30)
            assert not ctx.get(dut.waiting)
            longest[0] = 0
            await start(ctx, dut)

    run_two(dut, clocks, host, processes=[watch])
