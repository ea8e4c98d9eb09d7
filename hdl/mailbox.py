"""Messages between the host and the scheduler's core: a ring of commands and a ring of replies."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from .memory import Ram
from .messages import MESSAGE_WORDS

__all__ = ["Mailbox", "MessageReader", "MessageRing", "MessageWriter"]

WORDS_BITS = MESSAGE_WORDS.bit_length()
INDEX_BITS = exact_log2(MESSAGE_WORDS)


class MessageWriter(wiring.Signature):
    """Where messages are written, as the writer sees it; for rings of ``messages``.

    Members
    -------
    write : Out(1), index : Out(5), data : Out(32)
        A word of the next message; ignored without room. Any number of words, in any order.
    send : Out(1), words : Out(6)
        The next message is sent, ``words`` of it, 1 to ``MESSAGE_WORDS``; ignored without room. The message behind it
        is then the next one, a word written in the same cycle still belongs to the one sent.
    room : In(range(messages + 1))
        Messages that can be sent.
    """

    def __init__(self, messages: int):
        super().__init__(
            {
                "write": Out(1),
                "index": Out(INDEX_BITS),
                "data": Out(32),
                "send": Out(1),
                "words": Out(WORDS_BITS),
                "room": In(range(messages + 1)),
            }
        )


class MessageReader(wiring.Signature):
    """Where messages are read, as the reader sees it; for rings of ``messages``.

    Members
    -------
    count : In(range(messages + 1))
        Messages that wait.
    words : In(6)
        Words of the oldest; 0 if none waits.
    index : Out(5), data : In(32)
        A word of the oldest message, 1 cycle of latency; anything beyond its length or when none waits.
    take : Out(1)
        The oldest message is dropped; ignored when none waits.
    """

    def __init__(self, messages: int):
        super().__init__(
            {
                "count": In(range(messages + 1)),
                "words": In(WORDS_BITS),
                "index": Out(INDEX_BITS),
                "data": In(32),
                "take": Out(1),
            }
        )


class MessageRing(wiring.Component):
    """A queue of messages that are written and read word by word, in any order of the words.

    A message is counted by ``o`` from the second cycle after it was sent. The oldest is never written over: words are
    ignored while there is no room.

    Parameters
    ----------
    messages
        Messages held: a power of two, at least 2.

    Members
    -------
    i : In(MessageWriter(messages)), o : In(MessageReader(messages))
    """

    def __init__(self, messages: int):
        self.messages = messages
        super().__init__({"i": In(MessageWriter(messages)), "o": In(MessageReader(messages))})

    def elaborate(self, platform):
        m = Module()
        i, o = self.i, self.o
        m.submodules.ram = ram = Ram(width=32, depth=self.messages * MESSAGE_WORDS)
        newest, oldest = Signal(exact_log2(self.messages)), Signal(exact_log2(self.messages))
        held, full, room = Signal.like(o.count), Signal(), Signal.like(i.room, init=self.messages)
        lengths = Array(Signal(WORDS_BITS, name=f"length_{index}", reset_less=True) for index in range(self.messages))
        send, take, next_oldest = Signal(), Signal(), Signal.like(oldest)
        m.d.comb += [
            full.eq(room == 0),
            send.eq(i.send & ~full),
            take.eq(o.take & (o.count != 0)),
            next_oldest.eq(oldest + take),
            i.room.eq(room),
            ram.write_en.eq(i.write & ~full),
            ram.write_addr.eq(Cat(i.index, newest)),
            ram.write_data.eq(i.data),
            ram.read_addr.eq(Cat(o.index, oldest)),
            o.data.eq(ram.read_data),
        ]
        m.d.sync += [
            newest.eq(newest + send),
            oldest.eq(next_oldest),
            held.eq(held + send - take),
            room.eq(room - send + take),
            o.count.eq(held - take),
            o.words.eq(Mux(held == take, 0, lengths[next_oldest])),
        ]
        with m.If(send):
            m.d.sync += lengths[newest].eq(i.words)
        return m


class Mailbox(wiring.Component):
    """Commands from the host to the core, and replies from the core to the host.

    Parameters
    ----------
    messages
        Commands, and replies, held: a power of two, at least 2.

    Members
    -------
    command_writer : In(MessageWriter), reply_reader : In(MessageReader)
        The host's side.
    command_reader : In(MessageReader), reply_writer : In(MessageWriter)
        The core's side.
    """

    def __init__(self, messages: int):
        self.messages = messages
        writer, reader = In(MessageWriter(messages)), In(MessageReader(messages))
        super().__init__(
            {
                "command_writer": writer,
                "command_reader": reader,
                "reply_writer": writer,
                "reply_reader": reader,
            }
        )

    def elaborate(self, platform):
        m = Module()
        for name in ("command", "reply"):
            m.submodules[f"{name}s"] = ring = MessageRing(self.messages)
            connect(m, flipped(getattr(self, f"{name}_writer")), ring.i)
            connect(m, flipped(getattr(self, f"{name}_reader")), ring.o)
        return m
