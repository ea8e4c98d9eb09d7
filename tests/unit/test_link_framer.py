"""Framer and buffer together: frames in, frames out."""

import random

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring

from reluctant.boards.link_frames import FrameReader, encode_frame
from reluctant.hdl.link_buffer import LinkBuffer
from reluctant.hdl.link_config import LinkConfig
from reluctant.hdl.link_framer import LinkFramer

from .helpers import receive, run, wait

SIZE = 256
GAP = 11
"""Cycles between two bytes of the line."""


class Harness(wiring.Component):
    """The executor's place is taken by the test."""

    def __init__(self):
        self.framer, self.buffer = LinkFramer(), LinkBuffer(LinkConfig("x", 4_000_000, 1_000_000, SIZE))
        self.put, self.put_data, self.take = Signal(), Signal(8), Signal()
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.framer, m.submodules.buffer = framer, buffer = self.framer, self.buffer
        m.d.comb += [
            framer.read.eq(buffer.data),
            framer.settled.eq(buffer.settled),
            framer.at_end.eq(buffer.at_end),
            framer.full.eq(buffer.full),
            buffer.receive.eq(framer.receive),
            buffer.put.eq(framer.put | self.put),
            buffer.put_data.eq(Mux(framer.listen, framer.data, self.put_data)),
            buffer.take.eq(framer.take | self.take),
        ]
        return m


async def pulse(ctx, signal) -> None:
    ctx.set(signal, 1)
    await ctx.tick()
    ctx.set(signal, 0)


async def feed(ctx, dut, line: bytes) -> list[int]:
    """Bytes on the line; after how many of them a frame was there."""
    found = []
    for place, byte in enumerate(line):
        ctx.set(dut.framer.rx_data, byte)
        ctx.set(dut.framer.rx_valid, 1)
        _, _, received = await ctx.tick().sample(dut.framer.received)
        ctx.set(dut.framer.rx_valid, 0)
        if received:
            found.append(place + 1)
        await wait(ctx, GAP - 1)
    return found


async def request(ctx, dut) -> bytes:
    """What the buffer has, length and CRC included."""
    await pulse(ctx, dut.buffer.open)
    data = []
    await wait(ctx, 2)
    for _ in range(ctx.get(dut.buffer.written)):
        data.append(ctx.get(dut.buffer.data))
        await pulse(ctx, dut.take)
        await wait(ctx, 2)
    return bytes(data)


def frames(count: int) -> list[bytes]:
    rng = random.Random(3)
    return [
        bytes(rng.choice((0x7E, 0x7D, 0x5E, 0x20, rng.randrange(256))) for _ in range(rng.randint(1, 60)))
        for _ in range(count)
    ]


def test_frames_are_received():
    dut = Harness()

    async def check(ctx):
        for content in [*frames(6), bytes(SIZE - 7)]:
            frame = encode_frame(content)
            ctx.set(dut.framer.listen, 1)
            assert await feed(ctx, dut, frame) == [len(frame)]
            ctx.set(dut.framer.listen, 0)
            data = await request(ctx, dut)
            assert FrameReader().feed(encode_frame(content)).contents == [content]
            assert data[:-4] == (len(content) + 6).to_bytes(2, "little") + content
            await ctx.tick()

    run(dut, check)


def test_what_is_no_frame_is_dropped():
    """And the flag that ends it begins the next."""
    dut, good = Harness(), encode_frame(b"\x05right")
    flipped = bytearray(encode_frame(bytes(range(40, 70))))
    flipped[9] ^= 4
    bad = {
        "damaged": bytes(flipped),
        "cut": encode_frame(bytes(30))[:-8],
        "begun again": encode_frame(bytes(30))[:9] + b"\x7d",
        "too long": encode_frame(bytes(SIZE - 6)),
        "much too long": encode_frame(bytes(SIZE * 2)),
        "noise": bytes(range(0x7D)),
        "flags": b"\x7e" * 5,
    }

    async def check(ctx):
        for name, line in bad.items():
            ctx.set(dut.framer.listen, 1)
            assert await feed(ctx, dut, line.removesuffix(b"\x7e") + good) == [
                len(line.removesuffix(b"\x7e")) + len(good)
            ], name
            ctx.set(dut.framer.listen, 0)
            assert (await request(ctx, dut))[2:-4] == b"\x05right", name

    run(dut, check)


def test_a_frame_without_its_beginning_is_dropped():
    dut, frame = Harness(), encode_frame(b"\x01nothing")

    async def check(ctx):
        await feed(ctx, dut, frame[:1])
        ctx.set(dut.framer.listen, 1)
        assert await feed(ctx, dut, frame[1:]) == []
        assert await feed(ctx, dut, frame[1:]) == [len(frame) - 1]

    run(dut, check)


def test_replies_are_sent():
    """As often as asked for, whatever is received in between; requests stay out of the reply's half."""
    dut, contents = Harness(), frames(2)

    async def check(ctx):
        for content in contents:
            await pulse(ctx, dut.buffer.execute)
            for byte in content:
                ctx.set(dut.put_data, byte)
                await pulse(ctx, dut.put)
            await pulse(ctx, dut.buffer.finish)
            ctx.set(dut.put, 1)
            for byte in (len(content) + 6).to_bytes(2, "little"):
                ctx.set(dut.put_data, byte)
                await ctx.tick()
            ctx.set(dut.put, 0)
            assert ctx.get(dut.buffer.end) == len(content) + 6
            for stall in (0.0, 0.5):
                ctx.set(dut.buffer.reply, 1)
                await pulse(ctx, dut.framer.send)
                ctx.set(dut.buffer.reply, 0)
                wanted = encode_frame(content)
                assert bytes(await receive(ctx, dut.framer.o, len(wanted), stall=stall)) == wanted
                ctx.set(dut.framer.listen, 1)
                await feed(ctx, dut, encode_frame(bytes(SIZE)))
                ctx.set(dut.framer.listen, 0)
                await ctx.tick()

    run(dut, check)
