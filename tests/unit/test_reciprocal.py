"""hdl/reciprocal.py against formats.reciprocal and formats.rsqrt."""

import gc
import random

import pytest
from amaranth.sim import Simulator

from reluctant.golden import formats
from reluctant.hdl.reciprocal import Reciprocal


def run(dut, items):
    """Drive one (value, root) a cycle; the (y, k) that came ``latency`` cycles later."""
    results = []

    async def bench(ctx):
        for cycle in range(len(items) + dut.latency):
            if cycle >= dut.latency:
                results.append((ctx.get(dut.o.y), ctx.get(dut.o.k)))
            if cycle < len(items):
                value, root = items[cycle]
                ctx.set(dut.i, {"value": value, "root": root})
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return results


def check(items, results, functions):
    for (value, root), (y, k) in zip(items, results, strict=True):
        if value == 0:
            assert y == 0
            continue
        use_root = root if len(functions) == 2 else "rsqrt" in functions
        assert (y, k) == (formats.rsqrt if use_root else formats.reciprocal)(value), (value, root)


@pytest.mark.parametrize("functions", [("reciprocal", "rsqrt"), ("reciprocal",), ("rsqrt",)])
@pytest.mark.parametrize("width", [1, 4, 9])
def test_every_value(width, functions):
    items = [(value, root) for value in range(1 << width) for root in (0, 1)]
    check(items, run(Reciprocal(width, functions), items), functions)


@pytest.mark.parametrize(
    ("width", "functions"),
    [(16, ("reciprocal", "rsqrt")), (17, ("reciprocal",)), (39, ("rsqrt",)), (44, ("reciprocal", "rsqrt"))],
)
def test_every_magnitude(width, functions):
    chosen = random.Random(width)
    items = [(value, root) for length in range(width) for value in (1 << length, (2 << length) - 1) for root in (0, 1)]
    items += [(chosen.getrandbits(chosen.randint(1, width)), chosen.getrandbits(1)) for _ in range(3000)]
    check(items, run(Reciprocal(width, functions), items), functions)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_refuses_what_cannot_be_built():
    with pytest.raises(ValueError, match="width is 0: at least 1 is needed"):
        Reciprocal(0)
    with pytest.raises(ValueError, match=r"functions is \(\): one or both of reciprocal, rsqrt are needed"):
        Reciprocal(8, ())
    with pytest.raises(ValueError, match="'cube'"):
        Reciprocal(8, ("cube",))
    gc.collect()  # the components that were refused are never elaborated
