"""hdl/result_packer.py: bytes of the header, beats of every part, room, done."""

import pytest

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.result_packer import ResultPacker

from . import helpers
from .normaliser_model import Head, header

STATS = {"exponent": 21, "active": 130, "mass": 0x1234567, "weight_sum": 0x8765, "null": 0, "softmax": 1, "fallback": 1}


def build(lanes, lanes_of_normaliser=0, normalisers=("sum",)):
    return UnitConfig(
        lanes=lanes,
        head_dim=256,
        slots=256,
        heads=8,
        normalisers=normalisers,
        normaliser_lanes=lanes_of_normaliser,
    )


def beats_of(data, lanes):
    return [int.from_bytes(data[n : n + lanes], "little") for n in range(0, len(data), lanes)]


async def begin(ctx, dut, head, *, contexts, outputs):
    ctx.set(dut.head, head.record())
    ctx.set(dut.contexts, contexts)
    ctx.set(dut.outputs, outputs)
    ctx.set(dut.begin, 1)


@pytest.mark.parametrize("lanes", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("last", [0, 1])
def test_header_and_contexts_of_a_zero_head(lanes, last):
    """The first beat 2 cycles after begin, then one a cycle; ``sent`` until ``advance``."""
    dut = ResultPacker(build(lanes))
    head = Head(beats=1, contexts=None, head=5, masked=1, last=last, stats=STATS)
    expected = [*beats_of(header(head, lanes), lanes), 0, 0, 0, 0]

    async def bench(ctx):
        ctx.set(dut.o.ready, 1)
        await begin(ctx, dut, head, contexts=1, outputs=0)
        for _ in range(2):
            assert not ctx.get(dut.o.valid)
            assert not ctx.get(dut.words)
            await ctx.tick()
        for number, beat in enumerate(expected):
            assert ctx.get(dut.o.valid)
            final = number == len(expected) - 1
            assert (ctx.get(dut.o.payload.data), ctx.get(dut.o.payload.last)) == (beat, final and last)
            assert not ctx.get(dut.done)
            await ctx.tick()
        assert ctx.get(dut.done) == last
        await ctx.tick()
        assert not ctx.get(dut.done)
        for _ in range(5):
            assert ctx.get(dut.sent)
            assert not ctx.get(dut.o.valid)
            await ctx.tick()
        ctx.set(dut.advance, 1)
        await ctx.tick()
        assert not ctx.get(dut.sent)

    helpers.run(dut, bench)


@pytest.mark.parametrize(("lanes", "lanes_of_normaliser"), [(16, 1), (16, 4), (8, 1), (32, 4)])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_outputs_under_claims(lanes, lanes_of_normaliser, stall):
    """Elements of claimed beats arrive 9 cycles later and are never lost; ``room`` lets at least two beats come."""
    dut = ResultPacker(build(lanes, lanes_of_normaliser))
    beats, groups = 256 // lanes, lanes // lanes_of_normaliser
    head = Head(beats=beats, contexts=[1], normaliser=4, stats=STATS)
    outputs = bytes(range(256))
    expected = beats_of(header(head, lanes) + outputs, lanes)
    most = 0

    async def producer(ctx):
        nonlocal most
        pipeline, taken, claimed = [None] * 9, 0, 0
        while taken < 256 or any(item is not None for item in pipeline):
            issue = ctx.get(dut.sent) and taken < 256 and (taken % lanes or ctx.get(dut.room))
            ctx.set(dut.claim, bool(issue and taken % lanes == 0))
            claimed += bool(issue and taken % lanes == 0)
            pipeline.append(outputs[taken : taken + lanes_of_normaliser] if issue else None)
            taken += lanes_of_normaliser if issue else 0
            arrived = pipeline.pop(0)
            ctx.set(dut.elements_valid, arrived is not None)
            ctx.set(dut.elements, int.from_bytes(arrived or b"\xaa", "little"))
            most = max(most, claimed - (len(received) - dut.config.sizes.header_beats))
            await ctx.tick()
        ctx.set(dut.elements_valid, 0)

    received = []

    async def consumer(ctx):
        await begin(ctx, dut, head, contexts=0, outputs=1)
        stalls = helpers.Stalls(stall, 3, longest=3 * groups)
        while len(received) < len(expected):
            for _ in range(stalls.length()):
                await ctx.tick()
            ctx.set(dut.o.ready, 1)
            _, _, valid, data = await ctx.tick().sample(dut.o.valid, dut.o.payload.data)
            ctx.set(dut.o.ready, 0)
            if valid:
                received.append(data)

    helpers.run(dut, producer, consumer)
    assert received == expected
    assert most >= 2
