"""Accesses, pulses and streams between two clocks: nothing is lost, doubled or torn, whatever the clocks."""

import random

import pytest

from reluctant.hdl.bus_crossing import BusCrossing
from reluctant.hdl.event_crossing import EventCrossing
from reluctant.hdl.stream_crossing import StreamCrossing

from .helpers import receive, send, wait
from .register_bus import access
from .two_clocks import CLOCKS, run_two

clocks = pytest.mark.parametrize("clocks", CLOCKS, ids=lambda value: "-".join(map(str, value)))
ADDRESS_BITS = 6


@clocks
def test_accesses(clocks):
    """Each arrives once, as it was asked, and its answer is its own; a started job shows with the answer."""
    dut, draw = BusCrossing(ADDRESS_BITS), random.Random(f"{clocks}")
    seen, told, started = [], [], []

    async def unit(ctx):
        """Answers after a while, sometimes with ``started`` before or in the cycle of done."""
        bus = dut.unit
        while True:
            _, _, request, *what = await ctx.tick("unit").sample(bus.request, bus.write, bus.addr, bus.data, bus.strobe)
            if not request:
                continue
            delay, starts = draw.randint(0, 5), draw.random() < 0.3
            pulse = draw.randint(0, delay) if starts else None
            answer = {"error": draw.getrandbits(1), "read_data": draw.getrandbits(32)}
            for cycle in range(delay + 1):
                ctx.set(dut.unit_started, cycle == pulse)
                ctx.set(bus.done, cycle == delay)
                if cycle == delay:
                    ctx.set(bus.error, answer["error"])
                    ctx.set(bus.read_data, answer["read_data"])
                _, _, request, *again = await ctx.tick("unit").sample(
                    bus.request, bus.write, bus.addr, bus.data, bus.strobe
                )
                assert request
                assert again == what
            seen.append(tuple(what))
            told.append((answer["read_data"], answer["error"], starts))
            for signal in (bus.done, dut.unit_started):
                ctx.set(signal, 0)
            ctx.set(bus.error, draw.getrandbits(1))
            ctx.set(bus.read_data, draw.getrandbits(32))
            _, _, request = await ctx.tick("unit").sample(bus.request)
            assert not request

    async def watch(ctx):
        async for _, _, pulse, done in ctx.tick().sample(dut.started, dut.bus.done):
            assert done or not pulse
            if done:
                started.append(bool(pulse))

    async def host(ctx):
        asked, got = [], []
        for _ in range(60):
            await wait(ctx, draw.choice([0, 0, 1, 7]))
            write, addr, data, strobe = (
                draw.getrandbits(1),
                draw.getrandbits(ADDRESS_BITS),
                draw.getrandbits(32),
                0b0110,
            )
            asked.append((write, addr, data if write else 0, strobe))
            answer = await access(ctx, dut.bus, addr, data if write else None, strobe, longest=300)
            got.append(answer[:2])
        assert seen == asked
        assert [(*answer, pulse) for answer, pulse in zip(got, started, strict=True)] == told
        assert any(started)

    run_two(dut, clocks, host, processes=[unit, watch])


@clocks
def test_an_access_waits(clocks):
    """While ``wait`` is high none begins; one that has begun goes on."""
    dut, requests = BusCrossing(ADDRESS_BITS), 0

    async def unit(ctx):
        nonlocal requests
        async for _, _, request, done in ctx.tick("unit").sample(dut.unit.request, dut.unit.done):
            ctx.set(dut.unit.done, request & ~done)
            requests += request & ~done

    async def host(ctx):
        ctx.set(dut.wait, 1)
        ctx.set(dut.bus.request, 1)
        await wait(ctx, 200)
        assert requests == 0
        ctx.set(dut.wait, 0)
        await ctx.tick()
        ctx.set(dut.wait, 1)
        done = False
        while not done:
            _, _, done = await ctx.tick().sample(dut.bus.done)
        ctx.set(dut.bus.request, 0)
        await wait(ctx, 200)
        assert requests == 1

    run_two(dut, clocks, host, processes=[unit])


@pytest.mark.parametrize("busy", [0.02, 0.5])
@clocks
def test_events(clocks, busy):
    """A pulse comes after each; never more than went in; each one that comes alone comes alone."""
    dut, draw = EventCrossing(i_domain="unit", o_domain="sync"), random.Random(f"{clocks} {busy}")
    order, traffic = [], []

    async def watch(ctx):
        async for _, _, pulse in ctx.tick().sample(dut.o):
            if pulse:
                order.append("out")

    async def unit(ctx):
        for _ in range(400):
            pulse = draw.random() < busy
            ctx.set(dut.i, pulse)
            await ctx.tick("unit")
            if pulse:
                order.append("in")
        ctx.set(dut.i, 0)
        await wait(ctx, 100, "unit")
        await wait(ctx, 100)
        assert order[-1] == "out"
        traffic.extend(order)
        for count in range(5):
            order.clear()
            ctx.set(dut.i, 1)
            await ctx.tick("unit")
            ctx.set(dut.i, 0)
            await wait(ctx, 10 + count, "unit")
            await wait(ctx, 10 + count)
            assert order == ["out"]

    run_two(dut, clocks, unit, processes=[watch])
    pulses = 0
    for what in traffic:
        pulses += 1 if what == "in" else -1
        assert pulses >= 0


@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.6, 0.0), (0.0, 0.6)])
@clocks
def test_streams(clocks, stalls):
    """All payloads in order, a payload in each cycle of the slower clock; ``empty`` says when all are taken."""
    dut, count = StreamCrossing(16, i_domain="sync", o_domain="unit"), 150
    draw = random.Random(f"{clocks} {stalls}")
    payloads = [draw.getrandbits(16) for _ in range(count)]
    taken, edges = 0, []

    async def watch(ctx):
        """``empty`` never claims too much."""
        nonlocal taken
        async for _, _, valid, ready in ctx.tick("unit").sample(dut.o.valid, dut.o.ready):
            taken += valid & ready

    async def host(ctx):
        assert ctx.get(dut.empty)
        for number, payload in enumerate(payloads):
            await send(ctx, dut.i, [payload], stall=stalls[0], seed=number)
            assert not ctx.get(dut.empty)
        while not ctx.get(dut.empty):
            await ctx.tick()
        assert taken == count

    async def unit(ctx):
        got = await receive(ctx, dut.o, count, stall=stalls[1], cycles=edges, domain="unit")
        assert got == payloads

    run_two(dut, clocks, host, unit, processes=[watch])
    if stalls == (0.0, 0.0):
        slower = max(clocks[:2]) / clocks[1]
        assert edges[-1] - edges[20] <= (count - 20) * slower * 1.02 + 1
