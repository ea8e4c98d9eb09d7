"""Components between two clocks in Amaranth's simulator, with synchronisers that are late at random."""

import random

from amaranth.hdl import Fragment, Module, Mux, Signal
from amaranth.sim import Simulator

__all__ = ["CLOCKS", "run_two"]

CLOCKS = [(10, 10, 0), (20, 10, 5), (13, 7, 0), (7, 13, 2), (10, 90, 4), (90, 10, 4)]
"""Periods of ``sync`` and ``unit``, and how much later the first edge of ``unit`` is."""


class _Synchroniser:
    """Flip-flops of which the first may see the last change before an edge only at the next one.

    So does one that is metastable at the edge, or whose wire is long. ``process`` must run beside.
    """

    def __init__(self, described, seed: str):
        self.i, self.o, self.domain = described.i, described.o, described._o_domain
        assert described._stages == 2
        self.init = described._init
        self.before, self.late = Signal.like(self.i, name="before"), Signal()
        self.random = random.Random(seed)

    def elaborate(self, platform):
        m = Module()
        first, second = (Signal(self.i.shape(), name=name, init=self.init, reset_less=True) for name in ("one", "two"))
        seen = Signal.like(first, name="seen")
        m.d[self.domain] += [first.eq(Mux(self.late & (self.i != seen), self.before, self.i)), second.eq(first)]
        m.d[self.domain] += seen.eq(self.i)
        m.d.comb += self.o.eq(second)
        return m

    async def process(self, ctx):
        """Remembers what was there before the last change, and draws."""
        value = self.i.init
        async for (fresh,) in ctx.changed(self.i):
            ctx.set(self.before, value)
            ctx.set(self.late, self.random.getrandbits(1))
            value = fresh


class _Platform:
    """Makes synchronisers; ``late`` ones."""

    def __init__(self, seed):
        self.seed, self.made = seed, []

    def get_ff_sync(self, described):
        """What Amaranth asks for instead of its own."""
        self.made.append(_Synchroniser(described, f"{self.seed} {len(self.made)}"))
        return self.made[-1].elaborate(self)


def run_two(dut, clocks, *testbenches, processes=(), seed=0, timeout: int = 40_000):
    """Run ``testbenches`` to their end on clocks as in :data:`CLOCKS`, or fail after ``timeout`` cycles of ``sync``."""
    platform = _Platform(seed)
    simulator = Simulator(Fragment.get(dut, platform))
    period, unit_period, shift = clocks
    simulator.add_clock(period * 1e-9)
    simulator.add_clock(unit_period * 1e-9, phase=(unit_period / 2 + shift) * 1e-9, domain="unit")

    async def watchdog(ctx):
        for _ in range(timeout):
            await ctx.tick()
        raise AssertionError(f"testbenches still running after {timeout} cycles")

    for testbench in testbenches:
        simulator.add_testbench(testbench)
    for process in (*processes, *(item.process for item in platform.made)):
        simulator.add_process(process)
    simulator.add_testbench(watchdog, background=True)
    simulator.run()
