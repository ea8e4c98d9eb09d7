import random

import pytest
from amaranth.sim import Simulator

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.context_accumulators import ContextAccumulators


def _elements(word, count):
    values = [(word >> (32 * index)) & 0xFFFFFFFF for index in range(count)]
    return [value - (1 << 32) if value >> 31 else value for value in values]


@pytest.mark.parametrize("lanes", [4, 16, 32])
def test_passes_leave_in_four_words(lanes):
    dut, rng = ContextAccumulators(UnitConfig(lanes=lanes, head_dim=32)), random.Random(lanes)
    stimulus, expected, ended = [], [], -4
    for number, rows in enumerate([1, 4, 9, 1, 2, 5, 300]):
        total = [0] * lanes
        final = number % 2 == 1
        for row in range(rows):
            if rng.random() < 0.2:
                stimulus.append((0, 1, 1, 1, [rng.randint(-9, 9)] * lanes))
            low, high = (-32640, -32640) if rows == 300 else (-32640, 32385)
            products = [rng.randint(low, high) for _ in range(lanes)]
            total = [a + b for a, b in zip(total, products, strict=True)]
            last = row == rows - 1
            while last and len(stimulus) - ended < dut.drain:
                stimulus.append((0, 0, 1, 1, [7] * lanes))
            stimulus.append((1, row == 0, last, final and last, products))
        ended = len(stimulus) - 1
        for word in range(4):
            part = total[word * lanes // 4 : (word + 1) * lanes // 4]
            expected.append((ended + 2 + word, part, final and word == 3))
    seen = []

    async def bench(ctx):
        for cycle in range(len(stimulus) + 8):
            valid, first, last, final, products = (
                stimulus[cycle] if cycle < len(stimulus) else (0, 0, 0, 0, [0] * lanes)
            )
            ctx.set(dut.product, {"valid": valid, "first": first, "last": last, "final": final})
            ctx.set(dut.products, products)
            if ctx.get(dut.word.valid):
                elements = _elements(ctx.get(dut.word.data), lanes // 4)
                seen.append((cycle, elements, bool(ctx.get(dut.word.last))))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == expected
