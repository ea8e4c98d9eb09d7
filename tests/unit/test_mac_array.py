import random

import pytest
from amaranth.sim import Simulator

from reluctant.golden import formats
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.mac_array import MacArray
from reluctant.hdl.multiplier import Multiplier


def _pack(values):
    return sum((value & 0xFF) << (8 * index) for index, value in enumerate(values))


def _rows(rng, beats, lanes, count):
    """Random rows and queries, with the extremes among them."""
    for index in range(count):
        low, high = (-128, -128) if index == 0 else (127, 127) if index == 1 else (-128, 127)
        yield [[[rng.randint(low, high) for _ in range(lanes)] for _ in range(beats)] for _ in range(2)]


@pytest.mark.parametrize(("lanes", "head_dim"), [(4, 16), (8, 24), (16, 64), (32, 256), (64, 64)])
def test_dot_and_axpy_interleave(lanes, head_dim):
    config = UnitConfig(lanes=lanes, head_dim=head_dim, slots=32)
    dut, rng = MacArray(config), random.Random(lanes)
    beats = config.sizes.beats
    stimulus, scores, products = [], [], []
    for slot, (row, query) in enumerate(_rows(rng, beats, lanes, 24)):
        for beat in range(beats):
            while rng.random() < 0.4:
                weight, values = rng.choice([0, 1, 128, 255]), [rng.randint(-128, 127) for _ in range(lanes)]
                control = {"valid": 1, "axpy": 1, "first": 1, "last": 1, "weight": weight}
                products.append((len(stimulus), [weight * value for value in values]))
                stimulus.append((control, _pack(values), rng.getrandbits(8 * lanes)))
            if rng.random() < 0.2:
                stimulus.append(({"valid": 0, "first": 1, "last": 1}, rng.getrandbits(8 * lanes), 0))
            last = beat == beats - 1
            control = {"valid": 1, "first": beat == 0, "last": last, "final": slot == 23, "slot": slot, "weight": 77}
            stimulus.append((control, _pack(row[beat]), _pack(query[beat])))
        exact = sum(a * b for x, y in zip(row, query, strict=True) for a, b in zip(x, y, strict=True))
        scores.append((len(stimulus) - 1, slot, exact, slot == 23))
    assert scores[0][2] == head_dim << 14
    seen_scores, seen_products = [], []

    async def bench(ctx):
        for cycle in range(len(stimulus) + 16):
            control, row, query = stimulus[cycle] if cycle < len(stimulus) else ({}, 0, 0)
            ctx.set(dut.control, control)
            ctx.set(dut.row, row)
            ctx.set(dut.query, query)
            if ctx.get(dut.score.valid):
                score = dut.score
                values = ctx.get(score.slot), ctx.get(score.score), bool(ctx.get(score.last))
                seen_scores.append((cycle - dut.score_latency, *values))
            if ctx.get(dut.product.valid):
                values = [ctx.get(dut.products[lane]) for lane in range(lanes)]
                seen_products.append((cycle - Multiplier.latency, values))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen_scores == scores
    assert seen_products == products
    assert formats.score_bits(head_dim) == config.sizes.score_bits
