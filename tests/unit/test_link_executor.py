"""Programs, given to the executor through the link's buffer, with a bus and streams that may not answer."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring

from reluctant.boards.link_session import operation
from reluctant.hdl.link_buffer import LinkBuffer
from reluctant.hdl.link_config import LinkConfig
from reluctant.hdl.link_executor import LinkExecutor
from reluctant.hdl.link_protocol import HELLO, PROTOCOL, TICK, Code, Identity, Status

from .helpers import receive, run, send, wait

LANES, ADDRESS_BITS = 8, 8
IDENTITY = Identity(PROTOCOL, LANES, 256, 0xDEADBEEF, 12_345_678, "twenty characters ok")
PATIENCE = 4 * TICK


class Harness(wiring.Component):
    """The framer's place is taken by the test."""

    def __init__(self):
        self.executor = LinkExecutor(ADDRESS_BITS, IDENTITY)
        self.buffer = LinkBuffer(LinkConfig("x", 4_000_000, 1_000_000, IDENTITY.buffer))
        self.put, self.put_data, self.take, self.receive = Signal(), Signal(8), Signal(), Signal()
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.executor, m.submodules.buffer = executor, buffer = self.executor, self.buffer
        m.d.comb += [
            buffer.receive.eq(self.receive),
            buffer.put.eq(self.put | executor.put),
            buffer.put_data.eq(Mux(executor.listen, self.put_data, executor.put_data)),
            buffer.take.eq(self.take | executor.take),
        ]
        for name in ("data", "settled", "at_end", "written", "end"):
            m.d.comb += getattr(executor, name).eq(getattr(buffer, name))
        for name in ("open", "execute", "finish", "reply"):
            m.d.comb += getattr(buffer, name).eq(getattr(executor, name))
        return m


class Bus:
    """A slave with four registers, a word apart, of which the last is refused; silent while told to be."""

    def __init__(self, axi):
        self.axi, self.silent, self.words, self.log = axi, False, [10, 11, 12, 13], []

    async def serve(self, ctx):
        axi, names = self.axi, ("awaddr", "wdata", "araddr")
        while True:
            for ready in (axi.awready, axi.wready, axi.arready):
                ctx.set(ready, 0)
            _, _, write, read, *held = await ctx.tick().sample(
                axi.awvalid & axi.wvalid, axi.arvalid, *(getattr(axi, name) for name in names)
            )
            while (write or read) and self.silent:
                _, _, valid, *now = await ctx.tick().sample(
                    Mux(write, axi.awvalid & axi.wvalid, axi.arvalid), *(getattr(axi, name) for name in names)
                )
                assert valid
                assert now == held, "address or data changed before they were taken"
            if write or read:
                place, ready, valid, response, taken = (
                    (held[0] >> 2, (axi.awready, axi.wready), axi.bvalid, axi.bresp, axi.bready)
                    if write
                    else (held[2] >> 2, (axi.arready,), axi.rvalid, axi.rresp, axi.rready)
                )
                if write and place < 3:
                    self.words[place] = held[1]
                self.log.append((place, held[1] if write else None))
                for signal in ready:
                    ctx.set(signal, 1)
                ctx.set(axi.rdata, self.words[place % 4])
                ctx.set(response, 2 if place >= 3 else 0)
                await ctx.tick()
                for signal in ready:
                    ctx.set(signal, 0)
                ctx.set(valid, 1)
                done = False
                while not done:
                    _, _, done = await ctx.tick().sample(taken)
                ctx.set(valid, 0)


async def ask(ctx, dut, header: int, program: bytes, *, end: bytes = bytes([Code.END])) -> tuple[int, bytes, Status]:
    """Header, body and status of the reply."""
    executor, buffer = dut.executor, dut.buffer
    frame = bytes([header]) + program + end
    frame = (len(frame) + 6).to_bytes(2, "little") + frame + bytes(4)
    ctx.set(dut.receive, 1)
    await ctx.tick()
    ctx.set(dut.receive, 0)
    ctx.set(dut.put, 1)
    for byte in frame:
        ctx.set(dut.put_data, byte)
        await ctx.tick()
    ctx.set(dut.put, 0)
    ctx.set(executor.received, 1)
    await ctx.tick()
    ctx.set(executor.received, 0)
    for _ in range(PATIENCE):
        if ctx.get(executor.send):
            break
        await ctx.tick()
    else:
        raise AssertionError("no reply")
    reply = []
    await wait(ctx, 3)
    while not ctx.get(buffer.at_end):
        reply.append(ctx.get(buffer.data))
        ctx.set(dut.take, 1)
        await ctx.tick()
        ctx.set(dut.take, 0)
        await wait(ctx, 2)
    ctx.set(executor.sent, 1)
    await ctx.tick()
    ctx.set(executor.sent, 0)
    assert int.from_bytes(bytes(reply[:2]), "little") == len(reply) + 4
    return reply[2], bytes(reply[3:-1]), Status(reply[-1])


def execute(*asks, streams=(), timeout=60_000):
    """Run ``asks`` (async functions of context, harness, bus) one after the other, with ``streams`` beside them."""
    dut = Harness()
    bus = Bus(dut.executor.axi)

    async def check(ctx):
        for each in asks:
            await each(ctx, dut, bus)

    run(dut, check, *(stream(dut) for stream in streams), processes=[bus.serve], timeout=timeout)


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


async def begin(ctx, dut, bus):
    assert await ask(ctx, dut, 3, b"") == (3, b"", Status.LOST)
    program = operation(Code.ECHO, 5, data=b"hello") + operation(Code.IDENTIFY, len(IDENTITY.pack()))
    header, body, status = await ask(ctx, dut, HELLO | 3, program)
    assert (header, body[:5], Identity.unpack(body[5:]), status) == (HELLO | 3, b"hello", IDENTITY, Status(0))
    assert ctx.get(dut.executor.session)


def test_a_request_is_done_once():
    async def check(ctx, dut, bus):
        program = operation(Code.WRITE, 3, 0, data=words(7, 8, 9)) + operation(Code.READ, 3, 0)
        wanted = (4, bytes(3) + words(7, 8, 9), Status(0))
        for _ in range(3):
            assert await ask(ctx, dut, 4, program) == wanted
        assert len(bus.log) == 6
        assert await ask(ctx, dut, 5, program) == (5, *wanted[1:])
        assert len(bus.log) == 12

    execute(begin, check)


def test_words_stay_or_move_on():
    async def check(ctx, dut, bus):
        assert await ask(ctx, dut, 4, operation(Code.READ, 2, 1, mark=True)) == (4, words(11, 11), Status(0))
        program = operation(Code.WRITE, 2, 1, mark=True, data=words(20, 30)) + operation(Code.READ, 2, 1)
        assert await ask(ctx, dut, 5, program) == (5, bytes(2) + words(30, 12), Status(0))

    execute(begin, check)


def test_refusals_end_where_they_should():
    async def check(ctx, dut, bus):
        program = operation(Code.WRITE, 2, 3, data=words(1, 2)) + operation(Code.WRITE, 1, 0, data=words(3))
        assert await ask(ctx, dut, 4, program) == (4, bytes([1, 1, 0]), Status.REFUSED)
        assert bus.log == [(3, 1), (4, 2), (0, 3)]
        program += operation(Code.READ, 1, 0) + operation(Code.WRITE, 1, 1, data=words(5))
        assert await ask(ctx, dut, 5, program) == (5, bytes([1, 1, 0]), Status.REFUSED)
        assert await ask(ctx, dut, 6, operation(Code.READ, 4, 1)) == (6, words(11, 12), Status.REFUSED)
        assert len(bus.log) == 9
        for address in (64, 0x8000):  # beyond the bus
            assert await ask(ctx, dut, 7, operation(Code.READ, 1, address)) == (7, b"", Status.REFUSED)
            assert await ask(ctx, dut, 8, operation(Code.WRITE, 1, address, data=words(1))) == (
                8,
                b"\1",
                Status.REFUSED,
            )
        assert len(bus.log) == 9

    execute(begin, check)


def test_bus_that_does_not_answer_is_given_up():
    """Its signals hold until it does; meanwhile the host can only hear that."""

    async def check(ctx, dut, bus):
        bus.silent = True
        program = operation(Code.WRITE, 2, 1, data=words(0x12345678, 5))
        assert await ask(ctx, dut, 4, program) == (4, b"", Status.STOPPED)
        for code in (Code.READ, Code.WRITE, Code.SEND, Code.RECEIVE, Code.WAIT):
            program = operation(code, 1, 0x5555, data=b"\xff" * 8 if code in (Code.WRITE, Code.SEND) else b"")
            assert await ask(ctx, dut, 10 + code, program) == (10 + code, b"", Status.STOPPED)
        assert (await ask(ctx, dut, HELLO | 6, operation(Code.ECHO, 2, 0x5555, data=b"ok")))[1] == b"ok"
        bus.silent = False
        await wait(ctx, 20)
        assert bus.log == [(1, 0x12345678)]
        assert await ask(ctx, dut, 7, operation(Code.READ, 1, 1)) == (7, words(0x12345678), Status(0))

    execute(begin, check)


BEATS = [
    {"data": int.from_bytes(bytes(range(place, place + LANES)), "little"), "last": place % 3 == 2} for place in range(9)
]


def beat_bytes(beats) -> bytes:
    return b"".join(beat["data"].to_bytes(LANES, "little") for beat in beats)


def test_packets_pass():
    async def give(ctx, dut, bus):
        for place in range(0, 9, 3):
            program = operation(Code.SEND, 3, -2, mark=True, data=beat_bytes(BEATS[place : place + 3]))
            assert (await ask(ctx, dut, 20 + place, program))[:2] == (20 + place, bytes(3))

    async def take(ctx, dut, bus):
        for place in range(0, 9, 3):
            header, body, status = await ask(ctx, dut, 40 + place, operation(Code.RECEIVE, 20, -3))
            assert (header, body, status & Status.LAST) == (
                40 + place,
                beat_bytes(BEATS[place : place + 3]),
                Status.LAST,
            )
        assert await ask(ctx, dut, 60, operation(Code.RECEIVE, 20, -1)) == (60, b"", Status(0))

    def device(dut):
        async def check(ctx):
            assert await receive(ctx, dut.executor.o, 9, stall=0.4) == BEATS
            await send(ctx, dut.executor.i, BEATS, stall=0.4)

        return check

    execute(begin, give, take, streams=[device])


def test_beats_that_are_not_taken_are_skipped():
    async def check(ctx, dut, bus):
        program = operation(Code.SEND, 3, -1, mark=True, data=beat_bytes(BEATS[:3]))
        program += operation(Code.SEND, 2, -1, data=beat_bytes(BEATS[3:5])) + operation(Code.WRITE, 1, 0, data=words(4))
        wanted = (4, bytes([0, 1, 1, 1, 1, 0]), Status.STOPPED | Status.PENDING)
        assert await ask(ctx, dut, 4, program) == wanted
        assert bus.words[0] == 4
        assert await ask(ctx, dut, 5, operation(Code.SEND, 1, 0, data=bytes(8))) == (
            5,
            b"\1",
            Status.STOPPED | Status.PENDING,
        )
        assert await receive(ctx, dut.executor.o, 1) == [BEATS[0]]
        assert await ask(ctx, dut, 6, b"") == (6, b"", Status(0))

    execute(begin, check)


def test_interrupt_or_output_ends_a_wait():
    async def check(ctx, dut, bus):
        assert await ask(ctx, dut, 4, operation(Code.WAIT, argument=-2)) == (4, b"", Status(0))
        ctx.set(dut.executor.irq, 1)
        assert await ask(ctx, dut, 5, operation(Code.WAIT, argument=-200)) == (5, b"", Status.INTERRUPT)
        ctx.set(dut.executor.irq, 0)
        ctx.set(dut.executor.i.valid, 1)
        assert await ask(ctx, dut, 6, operation(Code.WAIT, argument=-200)) == (6, b"", Status.OUTPUT)

    execute(begin, check)


def test_programs_that_go_on_behind_their_frame_end():
    async def check(ctx, dut, bus):
        for number, code in enumerate((Code.ECHO, Code.WRITE, Code.READ, Code.SEND, Code.RECEIVE, Code.WAIT), 10):
            for length in range(6):
                status = (await ask(ctx, dut, number + 10 * length, bytes([code, 255, 0, 0, 1])[:length], end=b""))[2]
                assert Status.BAD in status or length < 5 or code in (Code.READ, Code.RECEIVE, Code.WAIT)
                ctx.set(dut.executor.o.ready, 1)
                await ctx.tick()
                ctx.set(dut.executor.o.ready, 0)
        assert await ask(ctx, dut, 99, operation(Code.READ, 1, 2)) == (99, words(bus.words[2]), Status(0))

    execute(begin, check)


def test_frame_of_another_length_is_dropped():
    async def check(ctx, dut, bus):
        for change in (1, -1, 256):
            program = operation(Code.WRITE, 1, 0, data=words(99))
            frame = bytes([5]) + program + bytes([0])
            frame = (len(frame) + 6 + change).to_bytes(2, "little") + frame + bytes(4)
            ctx.set(dut.receive, 1)
            await ctx.tick()
            ctx.set(dut.receive, 0)
            ctx.set(dut.put, 1)
            for byte in frame:
                ctx.set(dut.put_data, byte)
                await ctx.tick()
            ctx.set(dut.put, 0)
            ctx.set(dut.executor.received, 1)
            await ctx.tick()
            ctx.set(dut.executor.received, 0)
            await wait(ctx, 50)
            assert ctx.get(dut.executor.listen)
        assert bus.log == []

    execute(begin, check)
