"""Carries out what the host of a serial link asks for."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from .axi_lite import WORD_SHIFT, AxiLiteSignature
from .link_bus import LinkBus
from .link_protocol import MARK, MOVING_BITS, SEQUENCES, TICK, Code, Identity, Status

__all__ = ["LinkExecutor", "link_beat"]

WORD_BYTES = 4
ARGUMENT_BITS = 16
ACTS = ("begin", "byte", "step", "end", "stop", "refuse", "skip")
"""What an operation does in a cycle.

begin: what it waited for is there. byte: one of several that make a word or a beat. step: a word or beat is done. end:
the operation is over; stop: the program is. refuse, skip: an access is refused, beats are not taken.
"""


def link_beat(lanes: int) -> data.StructLayout:
    """A beat of a packet, in either direction."""
    return data.StructLayout({"data": 8 * lanes, "last": 1})


def _bytes(value) -> list:
    return [value[place : place + 8] for place in range(0, len(value), 8)]


def _select(values: Sequence, index):
    """One of a power of two, by the low bits of an index: multiplexers of two, which take fewer LUTs than Array."""
    for bit in index[: ceil_log2(len(values))]:
        values = [Mux(bit, odd, even) for even, odd in zip(values[::2], values[1::2], strict=True)]
    return values[0]


class LinkExecutor(wiring.Component):
    """Takes a request from the link's buffer, does it once, and has the reply sent, as ``link_protocol`` says.

    A request with the sequence number of the one before gets the reply that is still there. Three cycles a byte, plus
    what bus and streams take. Every program ends: an access is given up after ``TICK`` cycles, streams and interrupt
    are waited for as long as the program says, and the program is read in one direction only. While an access that was
    given up is not answered, only ECHO and IDENTIFY are done, as the bus must keep its address.

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
        connect(m, flipped(self.axi), bus.axi)
        self._code, self._mark, self._count = Signal(Code), Signal(), Signal(8)
        self._argument = Signal(ARGUMENT_BITS)
        self._index = Signal(ceil_log2(max(lanes, WORD_BYTES)))  # of a byte, where several make one thing
        self._busy = Signal()  # an access is under way, or a beat passes
        self._word, self._beat = Signal(32, reset_less=True), Signal.like(self.o.payload, reset_less=True)
        self._pending = Signal()
        self._refused, self._stopped, self._lost, self._bad, self._last = (
            Signal(name=name) for name in ("refused", "stopped", "lost", "bad", "last")
        )
        m.d.comb += [
            bus.addr.eq(self._argument),
            bus.data.eq(self._word),
            bus.write.eq(self._code == Code.WRITE),
            self.o.payload.eq(self._beat),
            self.o.valid.eq(self._pending),
        ]
        with m.If(self.o.ready):
            m.d.sync += self._pending.eq(0)
        with m.If(self.take & self.at_end):
            m.d.sync += self._bad.eq(1)
        self._wrong, self._fails = (Signal(name=name) for name in ("wrong", "fails"))
        self._act = Signal(data.StructLayout(dict.fromkeys(ACTS, 1)), name="act")
        self._shift, self._last_of_word, self._last_of_beat = (
            Signal(name=name) for name in ("shift", "last_of_word", "last_of_beat")
        )
        m.d.comb += [
            self._last_of_word.eq(self._index[: ceil_log2(WORD_BYTES)] == WORD_BYTES - 1),
            self._last_of_beat.eq(self._index == lanes - 1),
            self._wrong.eq(self._argument[self.addr_width - WORD_SHIFT :].any()),
            self._fails.eq(bus.refused | self._wrong),
        ]
        self._time(m)
        self._give(m)
        with m.FSM(name="state"):
            self._accept(m)
            self._decode(m)
            with m.State("RUN"):
                self._run(m)
            self._answer(m)
        with m.If(self._shift):
            m.d.sync += self._word.eq(Cat(self._word[8:], self.data))
        return m

    def _time(self, m: Module):
        """The clock of what is waited for, and the limit that moves up to 0 with it."""
        self._waiting, self._tick = Signal(name="waiting"), Signal(name="tick")
        self._expired, self._next_address = Signal(), Signal()
        time = Signal(range(TICK))
        moving = self._argument[:MOVING_BITS]
        m.d.comb += [self._tick.eq(time == TICK - 1), self._expired.eq(moving == 0)]
        m.d.sync += time.eq(Mux(self._waiting | self._bus.busy, time + 1, 0))
        with m.If((self._waiting & self._tick) | self._next_address):
            m.d.sync += moving.eq(moving + 1)

    def _accept(self, m: Module):
        """From the frame to the program in it."""
        sequence = Signal(range(SEQUENCES))
        with m.State("LISTEN"):
            m.d.comb += self.listen.eq(1)
            m.d.sync += self._index.eq(0)
            with m.If(self.received):
                m.d.comb += self.open.eq(1)
                m.next = "LENGTH"
        with m.State("LENGTH"), m.If(self.settled):
            m.d.comb += self.take.eq(1)
            m.d.sync += self._index[0].eq(1)
            with m.If(self._index[0]):
                m.next = "HEADER"
            with m.If(self.data != Mux(self._index[0], self.written[8:], self.written[:8])):
                m.next = "LISTEN"
        with m.State("HEADER"), m.If(self.settled):
            hello, number = self.data[-1], self.data[:-1]
            m.d.sync += self._index.eq(0)
            with m.If(self.session & ~hello & (number == sequence)):
                m.next = "REPLY"
            with m.Else():
                m.d.comb += self.execute.eq(1)
                m.d.sync += [sequence.eq(number), self.session.eq(self.session | hello)]
                m.d.sync += [flag.eq(0) for flag in (self._refused, self._stopped, self._bad, self._last)]
                m.d.sync += self._lost.eq(~hello & ~self.session)
                m.next = "NUMBER"
        with m.State("NUMBER"):
            m.d.comb += [self.put.eq(1), self.put_data.eq(self.data), self.take.eq(1)]
            m.next = "OPERATION"
            with m.If(self._lost):
                m.next = "STATUS"

    def _decode(self, m: Module):
        """The next operation: its four bytes move through the registers of what they mean."""
        with m.State("OPERATION"), m.If(self.settled):
            place = self._index[:2]
            m.d.comb += self.take.eq(1)
            m.d.sync += self._index.eq(self._index + 1)
            with m.If(place == 0):
                m.d.sync += [self._code.eq(self.data[: len(self._code)]), self._mark.eq((self.data & MARK).any())]
                with m.If(self._bad | (self.data == Code.END)):
                    m.next = "STATUS"
            with m.If(place == 1):
                m.d.sync += self._count.eq(self.data)
            with m.If(place[1] & ~self._bus.busy):
                m.d.sync += self._argument.eq(Cat(self._argument[8:], self.data))
            with m.If(place == 3):
                m.d.sync += [self._index.eq(0), self._busy.eq(0)]
                m.next = "RUN"
                with m.If(self._bus.busy & (self._code != Code.ECHO) & (self._code != Code.IDENTIFY)):
                    m.d.sync += self._stopped.eq(1)
                    m.next = "STATUS"

    def _give(self, m: Module):
        """What the operation puts into the reply, when it does."""
        given = {
            Code.IDENTIFY: _select([Const(byte, 8) for byte in reversed(self.identity.pack())], self._count),
            Code.READ: self._word[:8],
            Code.WRITE: self._fails,
            Code.SEND: self._stopped,
            Code.RECEIVE: _select(_bytes(self.i.payload.data), self._index),
        }
        m.d.comb += self.put_data.eq(_select([given.get(code, self.data) for code in Code], self._code))

    def _run(self, m: Module):
        """The operation, ``count + 1`` times. Its part says what happens in a cycle; what follows from it is here."""
        act = self._act
        with m.Switch(self._code):
            with m.Case(Code.WAIT):
                m.d.comb += [self._waiting.eq(1), act.end.eq(self.irq | self.i.valid | self._expired)]
            with m.Case(Code.ECHO):
                m.d.comb += [flag.eq(self.settled) for flag in (self.put, self.take, act.step)]
            with m.Case(Code.IDENTIFY):
                m.d.comb += [self.put.eq(1), act.step.eq(1)]
            with m.Case(Code.READ):
                self._read(m)
            with m.Case(Code.WRITE):
                self._write(m)
            with m.Case(Code.SEND):
                self._send_beats(m)
            with m.Case(Code.RECEIVE):
                self._receive_beats(m)
        give_up = Signal()
        m.d.comb += [
            give_up.eq(self._busy & self._bus.busy & ~self._bus.answered & self._tick),
            self._bus.give_up.eq(give_up),
            self._next_address.eq(act.step & ~self._mark & ((self._code == Code.READ) | (self._code == Code.WRITE))),
        ]
        m.d.sync += [
            self._busy.eq((self._busy | act.begin) & ~act.step),
            self._index.eq(Mux(act.step, 0, self._index + act.byte)),
            self._count.eq(self._count - act.step),
            self._refused.eq(self._refused | act.refuse),
            self._stopped.eq(self._stopped | act.skip | give_up),
        ]
        with m.If(act.stop | give_up | (self._bad & ~self._busy)):
            m.next = "STATUS"
        with m.Elif(act.end | (act.step & (self._count == 0))):
            m.next = "OPERATION"

    def _read(self, m: Module):
        bus, act = self._bus, self._act
        with m.If(~self._busy):
            wrong = self._wrong | self._refused | self._bad
            m.d.comb += bus.start.eq(~wrong)
            m.d.comb += [act.begin.eq(1), act.refuse.eq(wrong), act.stop.eq(wrong)]
        with m.Elif(bus.busy):
            m.d.comb += [bus.take.eq(bus.answered), act.refuse.eq(bus.refused), act.stop.eq(bus.refused)]
            m.d.sync += self._word.eq(bus.read_data)
        with m.Else():
            m.d.comb += [self.put.eq(1), self._shift.eq(1), act.byte.eq(1), act.step.eq(self._last_of_word)]

    def _write(self, m: Module):
        bus, act = self._bus, self._act
        with m.If(~self._busy):
            m.d.comb += [flag.eq(self.settled) for flag in (self.take, self._shift, act.byte)]
            m.d.comb += act.begin.eq(self.settled & self._last_of_word)
            m.d.comb += bus.start.eq(act.begin & ~self._wrong)
        with m.Else():
            m.d.comb += [flag.eq(bus.answered | self._wrong) for flag in (self.put, bus.take, act.step)]
            m.d.comb += act.refuse.eq(self._fails)

    def _send_beats(self, m: Module):
        act = self._act
        with m.If(~self._busy):
            m.d.comb += [self._waiting.eq(1), act.skip.eq(self._pending & self._expired)]
            m.d.comb += act.begin.eq(~self._pending | self._expired | self._stopped)
        with m.Elif(self.settled):
            m.d.comb += [self.take.eq(1), act.byte.eq(1)]
            m.d.comb += [flag.eq(self._last_of_beat) for flag in (self.put, act.step)]
            with m.If(~self._stopped):
                m.d.sync += self._beat.data.eq(Cat(self._beat.data[8:], self.data))
                m.d.sync += self._beat.last.eq(self._mark & (self._count == 0))
                m.d.sync += self._pending.eq(self._last_of_beat)

    def _receive_beats(self, m: Module):
        act = self._act
        with m.If(~self._busy):
            m.d.comb += [self._waiting.eq(1), act.begin.eq(self.i.valid), act.end.eq(self._expired & ~self.i.valid)]
        with m.Else():
            m.d.comb += [self.put.eq(1), act.byte.eq(1)]
            m.d.comb += [flag.eq(self._last_of_beat) for flag in (self.i.ready, act.step)]
            m.d.comb += act.end.eq(self._last_of_beat & self.i.payload.last)
            m.d.sync += self._last.eq(self.i.payload.last)

    def _answer(self, m: Module):
        """The rest of the reply, and off with it."""
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
        with m.State("STATUS"):
            m.d.comb += [self.put_data.eq(Cat(status.values())), self.put.eq(1)]
            m.next = "FINISH"
        with m.State("FINISH"):
            m.d.comb += self.finish.eq(1)
            m.d.sync += self._index.eq(0)
            m.next = "REPLY_LENGTH"
        with m.State("REPLY_LENGTH"):
            m.d.comb += [self.put_data.eq(Mux(self._index[0], self.end[8:], self.end[:8])), self.put.eq(1)]
            m.d.sync += self._index[0].eq(1)
            with m.If(self._index[0]):
                m.next = "REPLY"
        with m.State("REPLY"):
            m.d.comb += [self.reply.eq(1), self.send.eq(1)]
            m.next = "SENDING"
        with m.State("SENDING"), m.If(self.sent):
            m.next = "LISTEN"
