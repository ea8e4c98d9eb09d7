"""Sums of products, against Python."""

import random

from reluctant.hdl.multiply_accumulate import MultiplyAccumulate

from .helpers import run


def test_adds_products_and_loads():
    """Operands in every cycle; ``add`` and ``load`` at random."""
    dut, chance = MultiplyAccumulate(8, 9), random.Random(1)
    wrap = 1 << dut.bits

    async def bench(ctx):
        products, total = [0, 0], None
        for cycle in range(400):
            a, b, c = chance.randrange(-128, 128), chance.randrange(-256, 256), chance.randrange(wrap)
            add, load = chance.random() < 0.6, cycle == 0 or chance.random() < 0.1
            for name, value in (("a", a), ("b", b), ("c", c), ("add", add), ("load", load)):
                ctx.set(getattr(dut, name), value)
            await ctx.tick()
            products.append(a * b)
            if load:
                total = c
            elif add:
                total = (total + products[-dut.latency]) % wrap
            assert ctx.get(dut.o) == total, cycle

    run(dut, bench)
