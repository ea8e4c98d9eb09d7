"""Stream coroutines and a runner for tests in Amaranth's simulator.

>>> async def feed(ctx):
...     await send(ctx, dut.i, [1, 2, 3], stall=0.3, seed=7)
>>> async def check(ctx):
...     assert await receive(ctx, dut.o, 3, stall=0.5) == [1, 2, 3]
>>> run(dut, feed, check)

Structured payloads are sent as dictionaries (fields left out are zero) and received as dictionaries of integers.
"""

import gc
import random
import re
import warnings

import pytest
from amaranth.hdl import UnusedElaboratable
from amaranth.lib import data
from amaranth.sim import Simulator

__all__ = ["Stalls", "plain", "receive", "refuses", "run", "run_cycles", "send", "wait"]


class Stalls:
    """A seeded source of stalls: :meth:`length` is 0 with probability ``1 - stall``, else 1 to ``longest`` cycles."""

    def __init__(self, stall: float, seed: int, longest: int = 6):
        self.stall, self.longest = stall, longest
        self.random = random.Random(f"stalls {seed}")

    def length(self) -> int:
        if self.stall == 0 or self.random.random() >= self.stall:
            return 0
        return self.random.randint(1, self.longest)


def plain(value):
    """``value`` with every structure or array in it turned into a dictionary or list of integers."""
    if isinstance(value, data.Const):
        layout = value.shape()
        if isinstance(layout, data.StructLayout):
            return {name: plain(value[name]) for name, _ in layout}
        return [plain(value[index]) for index, _ in layout]
    return value


def refuses(make, message: str, error: type[Exception] = ValueError):
    """``make()`` must raise ``error`` with exactly this message; a half-made component is forgotten in silence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            make()
        gc.collect()


async def wait(ctx, cycles: int, domain: str = "sync"):
    """Let ``cycles`` clock edges pass (``ctx.tick().repeat`` warns when a failing test abandons it)."""
    for _ in range(cycles):
        await ctx.tick(domain)


async def send(ctx, stream, payloads, *, stall: float = 0.0, seed: int = 0, domain: str = "sync"):
    """Send ``payloads`` in order, with random gaps between them; valid and payload hold until the transfer.

    Back to back (one payload a cycle) with ``stall`` 0. The payload is zero between transfers, so that a consumer that
    reads it without valid is found out.
    """
    stalls = Stalls(stall, seed)
    for payload in payloads:
        await wait(ctx, stalls.length(), domain)
        ctx.set(stream.payload, payload)
        ctx.set(stream.valid, 1)
        ready = False
        while not ready:
            _, _, ready = await ctx.tick(domain).sample(stream.ready)
        ctx.set(stream.valid, 0)
        ctx.set(stream.payload, {} if isinstance(stream.payload, data.View) else 0)


async def receive(
    ctx,
    stream,
    count: int,
    *,
    stall: float = 0.0,
    seed: int = 1,
    cycles: list | None = None,
    domain: str = "sync",
) -> list:
    """Take ``count`` payloads, with random spells of ``ready`` low; returns them as :func:`plain` values.

    Asserts that a payload once offered stays the same, and valid high, until it is taken. ``cycles``, if given, gets
    for each payload the number of clock edges from the call up to and including the transfer.
    """
    stalls = Stalls(stall, seed)
    received, waiting, offered, edge = [], stalls.length(), None, 0
    while len(received) < count:
        ctx.set(stream.ready, waiting == 0)
        _, _, valid, payload = await ctx.tick(domain).sample(stream.valid, stream.payload)
        edge += 1
        payload = plain(payload)
        if offered is not None:
            assert valid, f"valid fell before payload {len(received)} was taken"
            assert payload == offered, f"payload {len(received)} changed before it was taken"
        offered = payload if valid and waiting else None
        if waiting:
            waiting -= 1
        elif valid:
            received.append(payload)
            if cycles is not None:
                cycles.append(edge)
            waiting = stalls.length()
    ctx.set(stream.ready, 0)
    return received


def run(dut, *testbenches, timeout: int = 100_000, processes=(), vcd=None):
    """Run ``testbenches`` (async functions of the context) to their end, or fail after ``timeout`` cycles."""

    async def watchdog(ctx):
        for _ in range(timeout):
            await ctx.tick()
        raise AssertionError(f"testbenches still running after {timeout} cycles")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    for process in processes:
        simulator.add_process(process)
    simulator.add_testbench(watchdog, background=True)
    if vcd is None:
        simulator.run()
    else:
        with simulator.write_vcd(vcd):
            simulator.run()


async def run_cycles(ctx, count: int, observe=None):
    """Let ``count`` clock edges pass; before each, ``observe(edge)`` may read signals with ``ctx.get``."""
    for edge in range(count):
        if observe is not None:
            observe(edge)
        await ctx.tick()
