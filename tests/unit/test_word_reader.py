"""hdl/word_reader.py: words and groups in order, latency, throughput."""

import random

import pytest

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.word_reader import WordReader

from . import helpers


def memory(dut):
    """A memory of latency 1 that holds its data while read_en is low; word a holds elements 100 * a, 100 * a + 1, …"""

    async def process(ctx):
        while True:
            _, _, enable, address = await ctx.tick().sample(dut.read_en, dut.read_addr)
            if enable:
                ctx.set(dut.read_data, word_at(dut, address))

    return process


def word_at(dut, address):
    return sum((100 * address + n) << (32 * n) for n in range(dut.config.sizes.word))


async def start(ctx, dut, base, words):
    ctx.set(dut.base, base)
    ctx.set(dut.words, words)
    ctx.set(dut.start, 1)
    await ctx.tick()
    ctx.set(dut.start, 0)


@pytest.mark.parametrize("lanes_of_normaliser", [1, 2, 4])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_words_and_groups(lanes_of_normaliser, stall):
    dut = WordReader(UnitConfig(lanes=16, head_dim=48, normaliser_lanes=lanes_of_normaliser))
    word, stalls, chosen = dut.config.sizes.word, helpers.Stalls(stall, 1), random.Random(2)
    width = 32 * lanes_of_normaliser

    async def take(ctx, signal):
        """Let the reader wait or not, take, and say how many cycles it made wait."""
        for _ in range(stalls.length()):
            await ctx.tick()
        waited = 0
        while not ctx.get(dut.valid):
            waited += 1
            await ctx.tick()
        data, flags = ctx.get(dut.data), (ctx.get(dut.beat_start), ctx.get(dut.final))
        ctx.set(signal, 1)
        await ctx.tick()
        ctx.set(signal, 0)
        return data, flags, waited

    async def bench(ctx):
        for _ in range(12):
            base, words, grouped = chosen.randrange(50), 4 * chosen.randint(1, 3), chosen.randrange(2)
            await start(ctx, dut, base, words)
            per_word = word // lanes_of_normaliser if grouped else 1
            for index in range(words * per_word):
                data, flags, waited = await take(ctx, dut.take_group if grouped else dut.take_word)
                expected = word_at(dut, base + index // per_word)
                if grouped:
                    expected = expected >> width * (index % per_word)
                    data, expected = data & ((1 << width) - 1), expected & ((1 << width) - 1)
                    assert flags == (index % (4 * per_word) == 0, index == words * per_word - 1)
                assert data == expected
                if stall == 0:
                    assert waited == (1 if index == 0 else 0)
            for _ in range(3):
                assert not ctx.get(dut.valid)
                await ctx.tick()

    helpers.run(dut, bench, processes=[memory(dut)])
