"""The mailbox against queues of lists, with both sides at work at once."""

import random
from collections import deque

import pytest

from reluctant.hdl.mailbox import Mailbox, MessageRing
from reluctant.hdl.messages import MESSAGE_WORDS

from .helpers import Stalls, run, wait


async def put(ctx, writer, message, rng, stalls):
    """Write the words of a message in any order, some of them twice, and send it when there is room."""
    while not ctx.get(writer.room):
        await ctx.tick()
    order = list(enumerate(message))
    rng.shuffle(order)
    wrong = [(index, ~word & 0xFFFFFFFF) for index, word in order[::3]]
    for index, word in wrong + order:
        await wait(ctx, stalls.length())
        ctx.set(writer.index, index)
        ctx.set(writer.data, word)
        ctx.set(writer.write, 1)
        await ctx.tick()
        ctx.set(writer.write, 0)
    await wait(ctx, stalls.length())
    ctx.set(writer.words, len(message))
    ctx.set(writer.send, 1)
    await ctx.tick()
    ctx.set(writer.send, 0)


async def get(ctx, reader, rng, stalls):
    """The oldest message, read in any order, and taken."""
    while not ctx.get(reader.count):
        await ctx.tick()
    words = ctx.get(reader.words)
    message, order = [None] * words, list(range(words))
    rng.shuffle(order)
    for index in order:
        await wait(ctx, stalls.length())
        ctx.set(reader.index, index)
        await ctx.tick()
        message[index] = ctx.get(reader.data)
    ctx.set(reader.take, 1)
    await ctx.tick()
    ctx.set(reader.take, 0)
    return message


@pytest.mark.parametrize("messages", [2, 4, 16])
@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.0, 0.6), (0.6, 0.0)], ids=["fast", "slow reader", "slow writer"])
def test_messages_arrive_whole_and_in_order_both_ways(messages, stalls):
    dut, rng = Mailbox(messages), random.Random(f"mailbox {messages}")
    sent = {
        name: [[rng.getrandbits(32) for _ in range(rng.choice([1, 2, 7, MESSAGE_WORDS]))] for _ in range(24)]
        for name in ("command", "reply")
    }

    def benches(name, seed):
        writer, reader = getattr(dut, f"{name}_writer"), getattr(dut, f"{name}_reader")

        async def write(ctx):
            for message in sent[name]:
                await put(ctx, writer, message, random.Random(seed), Stalls(stalls[0], seed))

        async def read(ctx):
            for number, message in enumerate(sent[name]):
                assert await get(ctx, reader, random.Random(number), Stalls(stalls[1], seed)) == message, number
            assert ctx.get(reader.count) == 0
            assert ctx.get(writer.room) == messages

        return write, read

    run(dut, *benches("command", 1), *benches("reply", 2))


@pytest.mark.parametrize("messages", [2, 4])
def test_full_ring_takes_nothing_and_empty_ring_gives_nothing(messages):
    dut, rng, stalls = MessageRing(messages), random.Random(3), Stalls(0.0, 0)

    async def check(ctx):
        ctx.set(dut.o.take, 1)
        await wait(ctx, 2)
        ctx.set(dut.o.take, 0)
        assert (ctx.get(dut.o.count), ctx.get(dut.i.room), ctx.get(dut.o.words)) == (0, messages, 0)
        held = deque([rng.getrandbits(32) for _ in range(5)] for _ in range(messages))
        for level, message in enumerate(held):
            assert (ctx.get(dut.o.count), ctx.get(dut.i.room)) == (level, messages - level)
            await put(ctx, dut.i, message, rng, stalls)
            await ctx.tick()
        assert (ctx.get(dut.o.count), ctx.get(dut.i.room)) == (messages, 0)
        for index in range(MESSAGE_WORDS):
            ctx.set(dut.i.index, index)
            ctx.set(dut.i.data, 0xDEADBEEF)
            ctx.set(dut.i.write, 1)
            ctx.set(dut.i.send, 1)
            await ctx.tick()
        ctx.set(dut.i.write, 0)
        ctx.set(dut.i.send, 0)
        assert (ctx.get(dut.o.count), ctx.get(dut.i.room)) == (messages, 0)
        for message in held:
            assert await get(ctx, dut.o, rng, stalls) == message
        assert (ctx.get(dut.o.count), ctx.get(dut.o.words)) == (0, 0)

    run(dut, check)


def test_message_can_be_taken_while_one_is_sent():
    dut, rng, stalls = MessageRing(2), random.Random(4), Stalls(0.0, 0)

    async def check(ctx):
        await put(ctx, dut.i, [1, 2, 3], rng, stalls)
        for index, word in enumerate((4, 5)):
            ctx.set(dut.i.index, index)
            ctx.set(dut.i.data, word)
            ctx.set(dut.i.write, 1)
            await ctx.tick()
        ctx.set(dut.i.write, 0)
        ctx.set(dut.i.words, 2)
        ctx.set(dut.i.send, 1)
        ctx.set(dut.o.take, 1)
        await ctx.tick()
        ctx.set(dut.i.send, 0)
        ctx.set(dut.o.take, 0)
        assert (ctx.get(dut.o.count), ctx.get(dut.o.words), ctx.get(dut.i.room)) == (0, 0, 1)
        assert await get(ctx, dut.o, rng, stalls) == [4, 5]

    run(dut, check)
