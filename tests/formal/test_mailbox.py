"""The mailbox: no message is lost, changed or out of place, and the counts of both sides are right."""

from amaranth.hdl import Assert, Assume, Module, Signal

from reluctant.hdl.mailbox import MessageRing
from reluctant.hdl.messages import MESSAGE_WORDS

from .harness import check, constant, delayed

MESSAGES = 2


def test_ring_keeps_every_message(tmp_path):
    """Any writes, sends, reads and takes, 10 cycles from reset; free but constant numbers pick a message and a word.

    While that message is the oldest, its length is the one sent, and the word is read as it was last written for it.
    What either side counts is what was sent and not taken; the reader learns of a message a cycle later.
    """
    m = Module()
    m.submodules.dut = dut = MessageRing(MESSAGES)
    i, o = dut.i, dut.o
    message, word = constant(m, 3, "message"), constant(m, 5, "word")
    sent, taken = Signal(4), Signal(4)
    written, kept, length = Signal(), Signal(32), Signal(6)
    room = i.room != 0
    ours = room & (sent == message)
    with m.If(i.write & ours & (i.index == word)):
        m.d.sync += [written.eq(1), kept.eq(i.data)]
    with m.If(i.send & room):
        m.d.sync += sent.eq(sent + 1)
        with m.If(ours):
            m.d.sync += length.eq(i.words)
    with m.If(o.take & (o.count != 0)):
        m.d.sync += taken.eq(taken + 1)
    shown = (o.count != 0) & (taken == message)
    with m.If(shown):
        m.d.comb += Assert(o.words == length)
    with m.If(delayed(m, shown & written & (o.index == word), "read")):
        m.d.comb += Assert(o.data == kept)
    m.d.comb += [
        Assume((i.words >= 1) & (i.words <= MESSAGE_WORDS)),
        Assert(i.room == MESSAGES - (sent - taken)[:4]),
        Assert(sent - taken <= MESSAGES),
        Assert(o.count == (delayed(m, sent, "sent") - taken)[:4]),
        Assert((o.count == 0) == (o.words == 0)),
    ]
    inputs = [i.write, i.index, i.data, i.send, i.words, o.index, o.take, message, word]
    check(tmp_path, m, inputs, depth=10)
