"""hdl/word_reader.py: words and groups in order, latency, throughput."""

import random

import pytest

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.word_reader import WordReader

from . import helpers


def memory(dut):
    """A memory of latency 2; word a holds elements 100 * a, 100 * a + 1, …"""

    async def process(ctx):
        before = 0
        while True:
            _, _, address = await ctx.tick().sample(dut.read_addr)
            ctx.set(dut.read_data, word_at(dut, before))
            before = address

    return process


def word_at(dut, address):
    return sum((100 * address + n) << (32 * n) for n in range(dut.config.sizes.word))


@pytest.mark.parametrize("lanes_of_normaliser", [1, 2, 4])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_words_and_groups(lanes_of_normaliser, stall):
    """Heads that are read up to three times, each time whole or by groups, some not to their end."""
    dut = WordReader(UnitConfig(lanes=16, head_dim=48, normaliser_lanes=lanes_of_normaliser))
    word, stalls, chosen = dut.config.sizes.word, helpers.Stalls(stall, 1), random.Random(2)
    width = 32 * lanes_of_normaliser

    async def take(ctx):
        """Let the reader wait or not, take, and say how many cycles it made wait."""
        await helpers.wait(ctx, stalls.length())
        waited = 0
        while not ctx.get(dut.valid):
            waited += 1
            await ctx.tick()
        data, flags = ctx.get(dut.data), (ctx.get(dut.beat_start), ctx.get(dut.final))
        ctx.set(dut.take, 1)
        await ctx.tick()
        ctx.set(dut.take, 0)
        return data, flags, waited

    async def read(ctx, base, words, grouped, first):
        ctx.set(dut.whole, not grouped)
        per_word = word // lanes_of_normaliser if grouped else 1
        for index in range(words * per_word):
            data, flags, waited = await take(ctx)
            expected = word_at(dut, base + index // per_word)
            if grouped:
                expected = expected >> width * (index % per_word)
                data, expected = data & ((1 << width) - 1), expected & ((1 << width) - 1)
                assert flags == (index % (4 * per_word) == 0, index == words * per_word - 1)
            assert data == expected
            if stall == 0:
                assert waited == (2 if first and index == 0 else 0)

    async def bench(ctx):
        for _ in range(20):
            base, words = chosen.randrange(50), 4 * chosen.randint(1, 3)
            ctx.set(dut.base, base)
            ctx.set(dut.words, words)
            await ctx.tick()
            ctx.set(dut.run, 1)
            for reading in range(chosen.randrange(4)):
                await read(ctx, base, words, chosen.randrange(2), reading == 0)
            ctx.set(dut.run, 0)
            ctx.set(dut.base, 99)
            await ctx.tick()

    helpers.run(dut, bench, processes=[memory(dut)])
