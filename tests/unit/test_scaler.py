"""hdl/scaler.py against formats.scale and formats.round_shift."""

import random

import pytest

from reluctant.golden import formats
from reluctant.hdl.scaler import Scaler

from . import helpers

WIDTH = formats.CONTEXT_BITS
SHIFTS = range(formats.SHIFT_MIN, formats.SHIFT_MAX + 1)


def elements(chosen, count):
    """Contexts of every magnitude and both signs, powers of two and their neighbours among them."""
    values = [-(1 << (WIDTH - 1)), (1 << (WIDTH - 1)) - 1, 0, -1, 1]
    while len(values) < count:
        near = (1 << chosen.randrange(WIDTH - 1)) + chosen.choice([-1, 0, 1])
        values += [near, -near, chosen.getrandbits(WIDTH) - (1 << (WIDTH - 1)) >> chosen.randrange(WIDTH)]
    return values[:count]


def schedule(chosen):
    """(element, shift, multiplier, gain, square) a cycle; a shift stays for two cycles or more."""
    items = []
    for shift in SHIFTS:
        for element in elements(chosen, 60):
            multiplier = chosen.choice([0, 1 << 14, 1 << 15, 1 << 16, chosen.randint(1 << 14, 1 << 16)])
            gain = chosen.choice([formats.GAIN_ONE, -(1 << 15), (1 << 15) - 1, chosen.randint(-1024, 1024)])
            items.append((element, shift, multiplier, gain, chosen.getrandbits(1)))
        items.append((0, shift, 0, 0, 0))  # a cycle in which the next shift is still to come
    return items


@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("gains", [False, True])
def test_every_shift(squares, gains):
    dut = Scaler(squares=squares, gains=gains)
    assert dut.latency == (9 if gains else 7)
    items = schedule(random.Random(1))

    def at(cycle):
        return items[cycle] if 0 <= cycle < len(items) else (0,) * 5

    async def bench(ctx):
        for cycle in range(len(items) + dut.latency):
            element, shift, *_ = at(cycle)
            ctx.set(dut.element, element)
            ctx.set(dut.shift, shift - formats.SHIFT_MIN)
            ctx.set(dut.multiplier, at(cycle - dut.multiplier_delay)[2])
            ctx.set(dut.square, at(cycle - dut.multiplier_delay)[4])
            ctx.set(dut.gain, at(cycle - dut.gain_delay)[3])
            check_product(ctx, at(cycle - dut.product_latency))
            check_output(ctx, at(cycle - dut.latency))
            await ctx.tick()

    def check_product(ctx, item):
        element, shift, multiplier, _, square = item
        shifted = formats.saturate(formats.round_shift(element, shift), formats.SCALED_BITS)
        assert ctx.get(dut.product) == shifted * (shifted if square and squares else multiplier), item

    def check_output(ctx, item):
        element, shift, multiplier, gain, square = item
        if not (square and squares):
            gain = gain if gains else formats.GAIN_ONE
            assert ctx.get(dut.o) == formats.scale(element, shift, multiplier, gain), item

    helpers.run(dut, bench)
