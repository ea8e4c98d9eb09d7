"""From heads, context words and scaled elements to the output packet."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from reluctant.golden import formats

from . import layouts
from .config import UnitConfig
from .stream_fifo import StreamFifo

__all__ = ["ResultPacker", "result_beat"]

_HEADER_BYTES = 16
_SHORT_BEAT = 4
"""Groups of an output beat up to which a longer queue is worth its area: a beat would take longer through the lane."""


def result_beat(config: UnitConfig) -> data.StructLayout:
    """A beat of the output stream; ``last`` marks the end of the job's packet."""
    return data.StructLayout({"data": 8 * config.lanes, "last": 1})


def _tagged_beat(config: UnitConfig) -> data.StructLayout:
    """A beat on its way to the output; ``tag`` of its job, meaningful with ``last``."""
    return data.StructLayout({**result_beat(config).members, "tag": layouts.TAG_BITS})


def header(record) -> list:
    """Bytes of a head's header, in order, as values of 8 bits; see "Header bytes" in docs/design.md."""
    head, stats = record.head, record.stats
    flags = Cat(head.masked, stats.null, stats.softmax, stats.fallback)
    fields = ((head.head, 1), (flags, 1), (stats.exponent, 1), (Const(0, 8), 1))
    fields += ((stats.active, 4), (stats.mass, 5), (stats.weight_sum, 3))
    packed = Cat(Cat(value, Const(0, 8 * size - len(value))) for value, size in fields)
    return [packed[8 * n : 8 * n + 8] for n in range(_HEADER_BYTES)]


class ResultPacker(wiring.Component):
    """Output packet of a job: of each head the header, contexts if wanted, outputs if wanted.

    The first header beat is valid 2 cycles after ``begin``, when ``o`` is free; header and contexts then go a beat a
    cycle. Elements fill a beat from the low end; three beats of elements are buffered, 5 where a beat has only 4
    groups, and ``room`` keeps further ones from coming. ``o`` comes from a queue.

    Parameters
    ----------
    config
        The unit's configuration.

    Members
    -------
    head : In(layouts.result_record)
        The head that begins, held from ``begin`` until ``sent``.
    begin : In(1)
        ``head`` is there. May stay high: the next head begins after ``advance``.
    contexts, outputs : In(1)
        Whether ``head`` has these parts; at least one.
    sent : Out(1)
        Header and contexts are on their way; until ``advance``.
    advance : In(1)
        The next head is next; only when all beats of this one are claimed.
    words : Out(1)
        The context words of ``head`` are wanted and taken, one after the other.
    word : In(sizes.word * 32), word_valid : In(1), word_take : Out(1)
    room : Out(1), claim : In(1)
        One more beat of elements may come; it will. Claim only while ``sent``.
    elements_valid : In(1), elements : In(normaliser_lanes * 8)
    o : Out(stream of result_beat)
    result : Out(layouts.head_result)
        Of ``head``, when its header begins, before any beat of it is at ``o``.
    done : Out(1), done_tag : Out
        Pulse in the cycle after the transfer of a packet's last beat, and the tag of its job.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        sizes = config.sizes
        self.groups = config.lanes // sizes.normaliser_lanes
        self.queued = 4 if self.groups <= _SHORT_BEAT else 2
        super().__init__(
            {
                "head": In(layouts.result_record(config)),
                "begin": In(1),
                "contexts": In(1),
                "outputs": In(1),
                "sent": Out(1),
                "advance": In(1),
                "words": Out(1),
                "word": In(8 * config.lanes),
                "word_valid": In(1),
                "word_take": Out(1),
                "room": Out(1, init=1),
                "claim": In(1),
                "elements_valid": In(1),
                "elements": In(sizes.normaliser_lanes * formats.DATA_BITS),
                "o": Out(stream.Signature(result_beat(config))),
                "result": Out(layouts.head_result(config)),
                "done": Out(1),
                "done_tag": Out(layouts.TAG_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        built = bool(self.config.normalisers)
        shape = _tagged_beat(self.config)
        m.submodules.queue = queue = StreamFifo(shape, self.queued if built else 2)
        self._push = queue.i
        take = Signal()  # an assembled beat goes out
        beat, full = self._assemble(m, take) if built else (Const(0, 8 * self.config.lanes), Const(0, 1))
        self._parts(m, beat, full, take)
        self._output(m, queue.o)
        self._report(m)
        if built:
            self._account(m, take)
        return m

    def _assemble(self, m, take):
        """Elements shift into a beat from the top; the beat and whether it is full."""
        beat = Signal(8 * self.config.lanes, reset_less=True)
        count, full = Signal(exact_log2(self.groups)), Signal()
        with m.If(self.elements_valid):
            m.d.sync += [beat.eq(Cat(beat, self.elements)[len(self.elements) :]), count.eq(count + 1)]
        m.d.sync += full.eq((full & ~take) | (self.elements_valid & count.all()))
        return beat, full

    def _parts(self, m, beat, full, take):
        """The sequence of parts; ``left`` counts the part's beats down to 0."""
        sizes, push = self.config.sizes, self._push
        beats = self.head.head.beats
        left, end = Signal(range(max(4 * sizes.beats, sizes.header_beats))), Signal()  # end: left is 0
        zero, last = Signal(reset_less=True), Signal(reset_less=True)
        tag = Signal(layouts.TAG_BITS, reset_less=True)
        accept = Signal()
        m.d.comb += [accept.eq(push.valid & push.ready), push.payload.tag.eq(tag)]
        m.d.comb += self.word_take.eq(push.ready & self.word_valid & self.words)
        with m.If(self.advance):
            m.d.sync += self.sent.eq(0)
        with m.If(accept):
            m.d.sync += [left.eq(left - 1), end.eq(left == 1)]
        with m.FSM(name="part"):
            with m.State("IDLE"), m.If(self.begin & ~self.sent):
                m.d.comb += self.result.valid.eq(1)
                m.d.sync += [left.eq(sizes.header_beats - 1), end.eq(sizes.header_beats == 1)]
                m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [push.valid.eq(1), push.payload.data.eq(self._header_beat(left))]
                m.d.sync += [zero.eq(self.head.zero), last.eq(self.head.head.last), tag.eq(self.head.head.tag)]
                with m.If(accept & end):
                    with m.If(self.contexts):
                        m.d.sync += [left.eq(4 * beats - 1), end.eq(0), self.words.eq(~self.head.zero)]
                        m.next = "CONTEXT"
                    with m.Else():
                        m.d.sync += [left.eq(beats - 1), end.eq(beats == 1), self.sent.eq(1)]
                        m.next = "OUTPUT"
            with m.State("CONTEXT"):
                m.d.comb += [
                    push.valid.eq(self.word_valid | zero),
                    push.payload.data.eq(Mux(zero, 0, self.word)),
                    push.payload.last.eq(last & ~self.outputs & end),
                ]
                with m.If(accept & end):
                    m.d.sync += [left.eq(beats - 1), end.eq(beats == 1), self.sent.eq(1), self.words.eq(0)]
                    with m.If(self.outputs):
                        m.next = "OUTPUT"
                    with m.Else():
                        m.next = "IDLE"
            with m.State("OUTPUT"):
                m.d.comb += [
                    push.valid.eq(full | zero),
                    push.payload.data.eq(Mux(zero, 0, beat)),
                    push.payload.last.eq(last & end),
                    take.eq(push.ready & full),
                ]
                with m.If(accept & end):
                    m.next = "IDLE"

    def _header_beat(self, left):
        lanes, header_bytes = self.config.lanes, header(self.head)
        header_bytes += [Const(0, 8)] * (-len(header_bytes) % lanes)
        beats = [Cat(header_bytes[n : n + lanes]) for n in range(0, len(header_bytes), lanes)]
        return Array(reversed(beats))[left[: bits_for(len(beats) - 1)]] if len(beats) > 1 else beats[0]

    def _output(self, m, tail):
        m.d.comb += [
            self.o.valid.eq(tail.valid),
            self.o.payload.data.eq(tail.payload.data),
            self.o.payload.last.eq(tail.payload.last),
            tail.ready.eq(self.o.ready),
        ]
        m.d.sync += [self.done.eq(tail.valid & self.o.ready & tail.payload.last), self.done_tag.eq(tail.payload.tag)]

    def _report(self, m):
        """The head at hand for the job log."""
        head, stats = self.head.head, self.head.stats
        m.d.comb += [self.result[name].eq(head[name]) for name in ("tag", "head", "masked")]
        m.d.comb += [self.result[name].eq(stats[name]) for name in ("null", "softmax", "fallback", "active", "mass")]

    def _account(self, m, take):
        """Beats in the assembly and the queue, those that will come included."""
        places = 1 + self.queued
        level = Signal(range(places + 1))
        direct = self._push.valid & self._push.ready & ~take
        m.d.sync += level.eq(level + (self.claim | direct) - (self.o.valid & self.o.ready))
        m.d.comb += self.room.eq(level < places)
