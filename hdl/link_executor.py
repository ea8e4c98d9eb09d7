"""Carries out what the host of a serial link asks for."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .axi_lite import WORD_SHIFT, AxiLiteSignature
from .link_bus import LinkBus
from .link_protocol import MARK, REPLY_HEADER_BYTES, SEQUENCES, TICK, Code, Identity, Status

__all__ = ["LinkExecutor", "link_beat"]

WORD_BYTES = 4
ARGUMENT_BITS = 16


def link_beat(lanes: int) -> data.StructLayout:
    """A beat of a packet, in either direction."""
    return data.StructLayout({"data": 8 * lanes, "last": 1})


class LinkExecutor(wiring.Component):
    """Takes a request from the link's buffer, does it once, and has the reply sent, as ``link_protocol`` says.

    A request with the sequence number of the one before gets the reply that is still there. Two cycles a byte, plus
    what bus and streams take. Every program ends: an access is given up after ``TICK`` cycles, streams and interrupt
    are waited for as long as the program says, and reading the program goes on in one direction only. While an access
    that was given up is not answered, only ECHO and IDENTIFY are done, as the bus must keep its address.

    Parameters
    ----------
    addr_width
        Bits of a byte address. An access to an address with more bits is refused.
    identity
        What IDENTIFY gives.

    Members
    -------
    received, sent : In(1), listen, send : Out(1)
        To the framer, see :class:`LinkFramer`.
    open, execute, finish, reply, take, put : Out(1), put_data : Out(8), data : In(8), settled, at_end : In(1),
    written, end : In
        To the buffer, see :class:`LinkBuffer`.
    axi : Out(AxiLiteSignature(addr_width))
    o : Out(stream(link_beat)), i : In(stream(link_beat))
        Packets to the device and from it. A beat to the device stays offered after its program ended.
    irq : In(1)
    session : Out(1)
        A host has begun a session.
    """

    def __init__(self, addr_width: int, identity: Identity):
        self.addr_width, self.identity = addr_width, identity
        beats = stream.Signature(link_beat(identity.beat_bytes))
        bits = ceil_log2(identity.buffer)
        super().__init__(
            {
                **dict.fromkeys(("received", "sent", "settled", "at_end", "irq"), In(1)),
                **dict.fromkeys(("listen", "send", "open", "execute", "finish", "reply", "take", "put"), Out(1)),
                "put_data": Out(8),
                "data": In(8),
                "written": In(bits),
                "end": In(bits),
                "axi": Out(AxiLiteSignature(addr_width)),
                "o": Out(beats),
                "i": In(beats),
                "session": Out(1),
            }
        )

    def elaborate(self, platform):
        m, lanes = Module(), self.identity.beat_bytes
        m.submodules.bus = self._bus = bus = LinkBus(self.addr_width)
        wiring.connect(m, wiring.flipped(self.axi), bus.axi)
        self._sequence = Signal(range(SEQUENCES))
        self._code, self._mark, self._count = Signal(Code), Signal(), Signal(8)
        self._argument = Signal(ARGUMENT_BITS)
        self._index = Signal(ceil_log2(max(lanes, WORD_BYTES)))
        self._word, self._beat = Signal(32, reset_less=True), Signal.like(self.o.payload, reset_less=True)
        self._refused, self._stopped, self._lost, self._bad, self._last = (
            Signal(name=name) for name in ("refused", "stopped", "lost", "bad", "last")
        )
        self._pending = Signal()
        self._over = Signal()  # something was read behind the end of the program
        self._put, self._give = Signal(), Signal(8)  # registered, as they come late in a cycle
        m.d.sync += [self.put.eq(self._put), self.put_data.eq(self._give)]
        m.d.comb += [
            bus.addr.eq(self._argument),
            bus.data.eq(self._word),
            self.o.payload.eq(self._beat),
            self.o.valid.eq(self._pending),
        ]
        with m.If(self.o.ready):
            m.d.sync += self._pending.eq(0)
        with m.If(self.take & self.at_end):
            m.d.sync += self._over.eq(1)
        self._time(m)
        with m.FSM(name="state"):
            self._accept(m)
            self._decode(m)
            self._wait_and_tell(m)
            self._access(m)
            self._send_beats(m)
            self._receive_beats(m)
            self._answer(m)
        return m

    def _time(self, m: Module):
        """The clock of what is waited for, and the limit that moves up to 0 with it."""
        self._restart, self._waiting, self._tick = (Signal(name=name) for name in ("restart", "waiting", "tick"))
        self._expired, self._next_address = Signal(), Signal()
        time = Signal(range(TICK))
        m.d.comb += [self._tick.eq(time == TICK - 1), self._expired.eq(self._argument == 0)]
        m.d.sync += time.eq(Mux(self._restart, 0, time + 1))
        with m.If((self._waiting & self._tick) | self._next_address):
            m.d.sync += self._argument.eq(self._argument + 1)

    def _accept(self, m: Module):
        """From the frame to the program in it."""
        with m.State("LISTEN"):
            m.d.comb += self.listen.eq(1)
            with m.If(self.received):
                m.d.comb += self.open.eq(1)
                m.next = "LENGTH_LOW"
        for state, after, length in (
            ("LENGTH_LOW", "LENGTH_HIGH", self.written[:8]),
            ("LENGTH_HIGH", "HEADER", self.written[8:]),
        ):
            with m.State(state), m.If(self.settled):
                m.d.comb += self.take.eq(1)
                m.next = after
                with m.If(self.data != length):
                    m.next = "LISTEN"
        with m.State("HEADER"), m.If(self.settled):
            hello, number = self.data[-1], self.data[:-1]
            flags = (self._refused, self._stopped, self._lost, self._bad, self._last, self._over)
            with m.If(self.session & ~hello & (number == self._sequence)):
                m.next = "REPLY"
            with m.Else():
                m.d.comb += [self.take.eq(1), self.execute.eq(1)]
                m.d.sync += [self._sequence.eq(number), *(flag.eq(0) for flag in flags)]
                m.next = "CODE"
                with m.If(hello):
                    m.d.sync += self.session.eq(1)
                with m.Elif(~self.session):
                    m.d.sync += self._lost.eq(1)
                    m.next = "DRAIN"

    def _decode(self, m: Module):
        """The next operation."""
        with m.State("CODE"), m.If(self.settled):
            m.d.comb += self.take.eq(1)
            m.d.sync += [self._code.eq(self.data[: len(self._code)]), self._mark.eq((self.data & MARK).any())]
            m.next = "COUNT"
            with m.If(self._over):
                m.d.sync += self._bad.eq(1)
                m.next = "DRAIN"
            with m.Elif(self.data == Code.END):
                m.next = "DRAIN"
        with m.State("COUNT"), m.If(self.settled):
            m.d.comb += self.take.eq(1)
            m.d.sync += self._count.eq(self.data)
            m.next = "ARGUMENT_LOW"
        for state, after, part in (
            ("ARGUMENT_LOW", "ARGUMENT_HIGH", self._argument[:8]),
            ("ARGUMENT_HIGH", "BEGIN", self._argument[8:]),
        ):
            with m.State(state), m.If(self.settled):
                m.d.comb += self.take.eq(1)
                with m.If(~self._bus.busy):
                    m.d.sync += part.eq(self.data)
                m.next = after
        with m.State("BEGIN"):
            m.d.sync += self._index.eq(0)
            m.d.comb += self._restart.eq(1)
            for code in (code for code in Code if code is not Code.END):
                with m.If(self._code == code):
                    m.next = code.name
            with m.If(self._bus.busy & (self._code != Code.ECHO) & (self._code != Code.IDENTIFY)):
                m.d.sync += self._stopped.eq(1)
                m.next = "DRAIN"

    def _done(self, m: Module, again: str, after: str = "CODE"):
        """One of ``count + 1`` is done: what comes then."""
        m.d.sync += [self._count.eq(self._count - 1), self._index.eq(0)]
        m.next = again
        with m.If(self._count == 0):
            m.next = after

    def _wait_and_tell(self, m: Module):
        with m.State("WAIT"):
            m.d.comb += self._waiting.eq(1)
            with m.If(self.irq | self.i.valid | self._expired):
                m.next = "CODE"
        with m.State("ECHO"), m.If(self.settled):
            m.d.comb += [self.take.eq(1), self._put.eq(1), self._give.eq(self.data)]
            self._done(m, "ECHO")
        with m.State("IDENTIFY"):
            content = Array(Const(byte, 8) for byte in reversed(self.identity.pack()))
            m.d.comb += [self._put.eq(1), self._give.eq(content[self._count[: ceil_log2(len(content))]])]
            self._done(m, "IDENTIFY")

    def _access(self, m: Module):
        """READ and WRITE."""
        bus = self._bus
        wrong, answered = Signal(), Signal()
        m.d.comb += [
            wrong.eq(self._argument[self.addr_width - WORD_SHIFT :].any()),
            answered.eq(bus.answered | wrong),
            bus.write.eq(self._code == Code.WRITE),
        ]
        last = self._index[: ceil_log2(WORD_BYTES)].all()
        with m.State("READ"):
            m.d.comb += [self._restart.eq(1), bus.start.eq(~wrong & ~self._refused)]
            m.next = "READING"
            with m.If(self._refused):
                m.next = "DRAIN"
        with m.State("READING"):
            with m.If(answered & (bus.refused | wrong)):
                m.d.sync += self._refused.eq(1)
                m.d.comb += bus.take.eq(1)
                m.next = "DRAIN"
            with m.Elif(answered):
                m.d.comb += [self._put.eq(1), self._give.eq(bus.read_data.word_select(self._index[:2], 8))]
                m.d.sync += self._index.eq(self._index + 1)
                with m.If(last):
                    m.d.comb += [bus.take.eq(1), self._next_address.eq(~self._mark)]
                    self._done(m, "READ")
            with m.Elif(self._tick):
                self._give_up(m)
        with m.State("WRITE"), m.If(self.settled):
            m.d.comb += [self.take.eq(1), self._restart.eq(1)]
            m.d.sync += [self._word.eq(Cat(self._word[8:], self.data)), self._index.eq(self._index + 1)]
            with m.If(last):
                m.d.comb += bus.start.eq(~wrong)
                m.next = "WRITING"
        with m.State("WRITING"):
            with m.If(answered):
                m.d.comb += [bus.take.eq(1), self._put.eq(1), self._give.eq(bus.refused | wrong)]
                m.d.comb += self._next_address.eq(~self._mark)
                m.d.sync += self._refused.eq(self._refused | bus.refused | wrong)
                self._done(m, "WRITE")
            with m.Elif(self._tick):
                self._give_up(m)

    def _give_up(self, m: Module):
        m.d.comb += self._bus.give_up.eq(1)
        m.d.sync += self._stopped.eq(1)
        m.next = "DRAIN"

    def _send_beats(self, m: Module):
        last = self._index == self.identity.beat_bytes - 1
        with m.State("SEND"):
            m.d.comb += self._waiting.eq(1)
            with m.If(~self._pending & ~self._stopped):
                m.next = "BEAT"
            with m.Elif(self._expired | self._stopped):
                m.d.comb += [self._put.eq(1), self._give.eq(self._count)]
                m.d.sync += self._stopped.eq(1)
                m.next = "SKIP"
        with m.State("BEAT"), m.If(self.settled):
            m.d.comb += self.take.eq(1)
            m.d.sync += [
                self._beat.data.eq(Cat(self._beat.data[8:], self.data)),
                self._beat.last.eq(self._mark & (self._count == 0)),
                self._index.eq(self._index + 1),
            ]
            with m.If(last):
                m.d.sync += self._pending.eq(1)
                self._done(m, "SEND", "SENT")
        with m.State("SENT"):
            m.d.comb += [self._put.eq(1), self._give.eq(self._count)]
            m.next = "CODE"
        with m.State("SKIP"), m.If(self.settled):
            m.d.comb += self.take.eq(1)
            m.d.sync += self._index.eq(self._index + 1)
            with m.If(last):
                self._done(m, "SKIP")

    def _receive_beats(self, m: Module):
        with m.State("RECEIVE"):
            m.d.comb += self._waiting.eq(1)
            with m.If(self.i.valid):
                m.next = "TAKE"
            with m.Elif(self._expired):
                m.next = "CODE"
        with m.State("TAKE"):
            m.d.comb += [self._put.eq(1), self._give.eq(self.i.payload.data.word_select(self._index, 8))]
            m.d.sync += [self._index.eq(self._index + 1), self._last.eq(self.i.payload.last)]
            with m.If(self._index == self.identity.beat_bytes - 1):
                m.d.comb += self.i.ready.eq(1)
                self._done(m, "RECEIVE")
                with m.If(self.i.payload.last):
                    m.next = "CODE"

    def _answer(self, m: Module):
        """The reply's header, and off with it."""
        status = {
            Status.REFUSED: self._refused,
            Status.STOPPED: self._stopped,
            Status.LOST: self._lost,
            Status.BAD: self._bad,
            Status.LAST: self._last,
            Status.INTERRUPT: self.irq,
            Status.OUTPUT: self.i.valid,
            Status.PENDING: self._pending,
        }
        assert [bit.value for bit in status] == [1 << place for place in range(8)]
        header = [self.end[:8], self.end[8:], self._sequence, Cat(status.values())]
        assert len(header) == REPLY_HEADER_BYTES
        with m.State("DRAIN"):
            m.next = "FINISH"
        with m.State("FINISH"):
            m.d.comb += self.finish.eq(1)
            m.d.sync += self._index.eq(0)
            m.next = "REPLY_HEADER"
        with m.State("REPLY_HEADER"):
            place = self._index[:2]
            m.d.comb += [self._put.eq(1), self._give.eq(Array(header)[place])]
            m.d.sync += self._index.eq(self._index + 1)
            with m.If(place == REPLY_HEADER_BYTES - 1):
                m.next = "REPLY"
        with m.State("REPLY"):
            m.d.comb += self.reply.eq(1)
            m.next = "SEND_REPLY"
        with m.State("SEND_REPLY"):
            m.d.comb += self.send.eq(1)
            m.next = "SENDING"
        with m.State("SENDING"), m.If(self.sent):
            m.next = "LISTEN"
