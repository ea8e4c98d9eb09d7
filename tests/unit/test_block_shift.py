import random

import pytest

from reluctant.golden import formats
from reluctant.hdl.block_shift import BlockShift

from .helpers import refuses, run


def check(width, cases):
    """Every (shifted, exponent) gives the weight of the formats, one a cycle, BlockShift.latency cycles later."""
    dut = BlockShift(width)

    async def drive(ctx):
        outputs = []
        for shifted, exponent in [*cases, *[(0, 0)] * BlockShift.latency]:
            ctx.set(dut.shifted, shifted)
            ctx.set(dut.exponent, exponent)
            _, _, doubled = await ctx.tick().sample(dut.doubled)
            outputs.append(min(formats.WEIGHT_MAX, (doubled + 1) >> 1))
        assert outputs[BlockShift.latency :] == [formats.relu_weight(*case) for case in cases]

    run(dut, drive)


def test_exhaustive_below_2048():
    check(11, [(t, e) for e in range(4) for t in range(1 << (8 + e))])


@pytest.mark.parametrize("width", [20, 24])
def test_every_exponent(width):
    rng = random.Random(width)
    cases = []
    for exponent in range(width - 8 + 1):
        top = 1 << (8 + exponent)
        half = 1 << max(0, exponent - 1)
        cases += [(t, exponent) for t in (0, 1, half - 1, half, half + 1, top - half - 1, top - half, top - 1)]
        cases += [(rng.randrange(top), exponent) for _ in range(20)]
    check(width, cases)


def test_width_is_checked():
    refuses(lambda: BlockShift(25), "width is 25: 1 to 24 is allowed")
