import random

import pytest

from reluctant.golden import formats
from reluctant.hdl.softmax_shift import SoftmaxShift

from .helpers import refuses, run


def check(width, peak, kappa, scores):
    """Every score gives the weight of the number formats, one a cycle, SoftmaxShift.latency cycles later."""
    dut = SoftmaxShift(width)

    async def drive(ctx):
        ctx.set(dut.peak, peak)
        ctx.set(dut.kappa_mantissa, kappa[0])
        ctx.set(dut.kappa_shift, kappa[1])
        outputs = []
        for score in [*scores, *[peak] * SoftmaxShift.latency]:
            ctx.set(dut.shifted, score)
            _, _, doubled = await ctx.tick().sample(dut.doubled)
            outputs.append((doubled + 1) >> 1)
        assert outputs[SoftmaxShift.latency :] == [formats.softmax_weight(peak - score, *kappa) for score in scores]

    run(dut, drive)


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("mantissa", [0, 1, 0x7FFF, 0x8000, 0xC0DE, 0xFFFF])
def test_random_differences(shift, mantissa):
    rng = random.Random(f"{shift} {mantissa}")
    width, peak = 25, rng.randint(0, (1 << 24) - 1)
    lowest = -(1 << 24)
    scores = [peak, peak - 1, lowest, lowest + 1]
    # around the place where weights vanish, and at every magnitude of the difference
    edge = (formats.EXP2_ZERO << (formats.EXP2_FRACTION + formats.KAPPA_SHIFT_STEP * shift)) // max(1, mantissa)
    scores += [peak - edge + step for step in range(-20, 21)]
    scores += [peak - rng.randrange(1 << rng.randint(1, 25)) for _ in range(150)]
    check(width, peak, (mantissa, shift), [max(lowest, min(peak, score)) for score in scores])


def test_extreme_difference():
    width = 21
    check(width, (1 << 20) - 1, (0xFFFF, 3), [-(1 << 20), 0, (1 << 20) - 1])


def test_every_visible_argument():
    """kappa = 1 / 512: the difference is the table's argument."""
    check(18, 0, (1, 0), [-x for x in range(5200)])


def test_width_is_checked():
    refuses(lambda: SoftmaxShift(17), "width is 17: 18 to 25 is allowed")
