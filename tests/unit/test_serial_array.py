"""Scores and contexts of the serial array, against numpy."""

import numpy as np
import pytest

from reluctant.hdl.config import SERIAL, UnitConfig
from reluctant.hdl.serial_array import SerialArray

from .helpers import run


def packed(values) -> int:
    """Signed bytes as one word."""
    return int.from_bytes(np.asarray(values, np.int8).tobytes(), "little")


async def clear(ctx, dut):
    """Shift zeros through all lanes; the words that leave."""
    words = []
    ctx.set(dut.shift, 1)
    for _ in range(4):
        words.append(ctx.get(dut.word))
        await ctx.tick()
    ctx.set(dut.shift, 0)
    return words


async def beat(ctx, dut, row, **signals):
    for name, value in {"valid": 1, "row": packed(row), **signals}.items():
        ctx.set(getattr(dut, name), value)
    await ctx.tick()
    ctx.set(dut.valid, 0)


@pytest.mark.parametrize("lanes", [4, 16])
@pytest.mark.parametrize("theta", [0, 700, -(1 << 19), (1 << 19) - 1])
def test_scores_then_contexts(lanes, theta):
    config = UnitConfig(lanes=lanes, head_dim=32, slots=16, **SERIAL)
    dut, random, scores = SerialArray(config), np.random.default_rng(lanes), []
    keys, query = random.integers(-128, 128, (7, 32)), random.integers(-128, 128, 32)
    keys[0], keys[1] = query.clip(-128, 127), -128
    values, weights = random.integers(-128, 128, (7, lanes)), random.integers(1, 256, 7)
    parts = [slice(at, at + lanes) for at in range(0, 32, lanes)]

    async def bench(ctx):
        ctx.set(dut.theta, theta)
        await clear(ctx, dut)
        await ctx.tick().repeat(dut.settle)
        ctx.set(dut.rebase, 1)
        await ctx.tick()
        ctx.set(dut.rebase, 0)
        for key in keys:
            for part in parts:
                await beat(ctx, dut, key[part], query=packed(query[part]), last=part.stop == 32)
        await ctx.tick().repeat(dut.score_latency + 1)
        await clear(ctx, dut)
        ctx.set(dut.axpy, 1)
        for row, weight in zip(values, weights.tolist(), strict=True):
            await beat(ctx, dut, row, weight=weight)
        await ctx.tick().repeat(dut.latency)
        words = b"".join(word.to_bytes(lanes, "little") for word in await clear(ctx, dut))
        assert np.frombuffer(words, "<i4").tolist() == (weights @ values).tolist()

    async def watch(ctx):
        async for _, _, scored, shifted in ctx.tick().sample(dut.scored, dut.shifted):
            scores.extend([shifted] * scored)

    run(dut, bench, processes=[watch])
    assert scores == np.maximum(0, keys @ query - theta).tolist()
