"""The non-zero weights of the heads that wait for their value phase."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from reluctant.golden import formats

from . import layouts
from .config import UnitConfig
from .memory import Ram
from .score_buffer import queued_heads
from .stream_fifo import StreamFifo

__all__ = ["WeightList", "weight_entry", "weight_stats"]


def _part(layout: data.StructLayout, *names: str) -> data.StructLayout:
    return data.StructLayout({name: layout.members[name] for name in names})


def weight_stats(config: UnitConfig) -> data.StructLayout:
    """What is known of a head when the first of its weights is on its way."""
    stats = layouts.head_stats(config)
    return _part(stats, "active", "mass", "null", "softmax", "fallback")


def weight_entry(config: UnitConfig) -> data.StructLayout:
    """One weight, in the order of the heads; a head without weights is one entry with neither keep nor drop."""
    sizes = config.sizes
    return data.StructLayout(
        {
            "keep": 1,  # the weight is not zero
            "drop": 1,  # the weight is zero: the room reserved for it is given back
            "end": 1,  # last entry of the head
            "row": sizes.row_bits,
            "weight": formats.WEIGHT_BITS,
            "exponent": formats.EXPONENT_BITS,  # of the head, meaningful at its end
        }
    )


class WeightList(wiring.Component):
    """A ring of (row, weight), which replays each head once per beat of its rows.

    ::

        entry ─► ring ─► output queue ─► o
        head, stats ─► record

    An entry can be at ``o`` 3 cycles after it came in: rows of the first pass follow the writer. A row is held back
    only while nothing behind it tells whether it is the last of its head. ``o`` brings one entry a cycle, without a
    bubble between passes and between heads, as far as entries are there. Every head takes ``head.result.beats >= 1``
    passes over its rows; places are freed during the last one.

    Parameters
    ----------
    config
        The ring has ``1 << slot_bits`` places, so that one head always fits. :func:`queued_heads` heads are known,
        and 4 of them (2 in a build of at most 8 lanes) may have entries.

    Members
    -------
    head : In(stream(:func:`layouts.value_head`))
        Before its stats.
    stats : In(stream(:func:`weight_stats`))
        At least one cycle before the first entry of the head.
    reserve : In(1)
        Reserves one place; only while ``room`` is high.
    room : Out(1)
        A place is free.
    entry : In(:func:`weight_entry`)
        Feed-forward; each ``keep`` or ``drop`` had reserved a place.
    o : Out(stream(:func:`layouts.value_row`)
        A head without rows is one entry with zero, first, last and final set; its row, beat and weight mean nothing.
    record : Out(stream(:func:`layouts.value_record`))
        Of each head, in order; to be taken only once the head's final entry was, in a cycle after that.
    """

    steps = 4

    def __init__(self, config: UnitConfig):
        self.config = config
        sizes = config.sizes
        self.depth = 1 << sizes.slot_bits
        self.heads = queued_heads(config)
        self.records = self.heads // 2
        super().__init__(
            {
                "head": In(stream.Signature(layouts.value_head(config))),
                "stats": In(stream.Signature(weight_stats(config))),
                "reserve": In(1),
                "room": Out(1, init=1),
                "entry": In(weight_entry(config)),
                "o": Out(stream.Signature(layouts.value_row(config))),
                "record": Out(stream.Signature(layouts.value_record(config))),
            }
        )
        # Places neither reserved nor in use, a cycle ago.
        self.space = Signal(range(self.depth + 1), init=self.depth)
        # Ring pointers have one bit more than an address, so that full differs from empty.
        pointer_bits = sizes.slot_bits + 1
        self.write = Signal(pointer_bits)
        self.read = Signal(pointer_bits)
        self.read_next = Signal(pointer_bits, init=1)
        # First row of the head being read.
        self.base = Signal(pointer_bits)
        self.base_next = Signal(pointer_bits, init=1)
        # The head being read is complete; then its end in the ring, whether it has no rows, and its beats are known.
        self.complete = Signal()
        self.plan = Signal(
            data.StructLayout({"end": pointer_bits, "none": 1, "beats": sizes.beats_bits}), reset_less=True
        )
        # A plan is queued; while the head being read has none, it is the next one.
        self.pending = Signal()
        # Beats of the head being written.
        self.written_beats = Signal(sizes.beats_bits)
        self.beat = Signal(sizes.beat_bits)
        self.first = Signal(init=1)
        # Entries that no first pass has read yet; there is one, there are more.
        self.unread = Signal(range(self.depth + 1))
        self.some = Signal()
        self.more = Signal()
        # Steps that the output queue can still take; there is one.
        self.credit = Signal(range(self.steps + 1), init=self.steps)
        self.may = Signal(init=1)
        # A step is read; it is the last of its head; it frees its place.
        self.issue = Signal()
        self.leave = Signal()
        self.freed = Signal()

    def elaborate(self, platform):
        m = Module()
        sizes = self.config.sizes
        m.submodules.ring = ring = Ram(width=sizes.row_bits + formats.WEIGHT_BITS, depth=self.depth)
        self._write(m, ring)
        self._account(m)
        step = self._read(m, ring)
        self._output(m, ring, step)
        self._record(m)
        return m

    def _write(self, m, ring):
        """Append entries; with a head's end, queue what its passes need for the reader and its sums for the record."""
        entry, sizes = self.entry, self.config.sizes
        outcome = data.StructLayout(
            {"rows": sizes.count_bits, "weight_sum": sizes.weight_sum_bits, "exponent": formats.EXPONENT_BITS}
        )
        m.submodules.outcomes = outcomes = StreamFifo(outcome, self.records)
        m.submodules.beats = beats = StreamFifo(sizes.beats_bits, self.heads)
        came, came_beats = Signal(), Signal(sizes.beats_bits, reset_less=True)  # in time: entries are not that soon
        m.d.sync += [came.eq(self.head.valid & self.head.ready), came_beats.eq(self.head.payload.result.beats)]
        rows, rows_next = Signal(sizes.count_bits), Signal(sizes.count_bits)
        weight_sum, sum_next = Signal(sizes.weight_sum_bits), Signal(sizes.weight_sum_bits)
        some = Signal()
        plan = Signal(self.plan.shape())
        m.d.comb += [
            ring.write_en.eq(entry.keep),
            ring.write_addr.eq(self.write),
            ring.write_data.eq(Cat(entry.row, entry.weight)),
            rows_next.eq(rows + entry.keep),
            sum_next.eq(weight_sum + Mux(entry.keep, entry.weight, 0)),
            beats.i.valid.eq(came),
            beats.i.payload.eq(came_beats),
            beats.o.ready.eq(entry.end),
            plan.end.eq(self.write + entry.keep),
            plan.none.eq(~(some | entry.keep)),
            self.written_beats.eq(beats.o.payload),
            plan.beats.eq(self.written_beats),
            outcomes.i.valid.eq(entry.end),
            outcomes.i.payload.rows.eq(rows_next),
            outcomes.i.payload.weight_sum.eq(sum_next),
            outcomes.i.payload.exponent.eq(entry.exponent),
        ]
        m.d.sync += [self.write.eq(plan.end), rows.eq(rows_next), weight_sum.eq(sum_next)]
        m.d.sync += some.eq(some | entry.keep)
        with m.If(entry.end):
            m.d.sync += [rows.eq(0), weight_sum.eq(0), some.eq(0)]
        self._queue_plan(m, plan)

    def _queue_plan(self, m, plan):
        """The plan of the head being read is in registers; those behind it wait in a queue."""
        m.submodules.plans = plans = StreamFifo(plan.shape(), self.records - 1)
        direct = ~self.complete & ~plans.o.valid
        m.d.comb += [
            plans.i.valid.eq(self.entry.end & ~direct),
            plans.i.payload.eq(plan),
            plans.o.ready.eq(self.leave | ~self.complete),
        ]
        m.d.comb += self.pending.eq(plans.o.valid)
        with m.If(self.leave | ~self.complete):
            m.d.sync += [
                self.complete.eq(plans.o.valid | (direct & self.entry.end)),
                self.plan.eq(Mux(plans.o.valid, plans.o.payload, plan)),
            ]

    def _account(self, m):
        """Count free places, a cycle late; ``room`` knows of the reservations that are not counted yet."""
        reserved = Signal()
        change = Signal(signed(3))
        m.d.sync += [
            reserved.eq(self.reserve),
            change.eq(self.freed + self.entry.drop - self.reserve),
            self.space.eq(self.space + change),
            self.room.eq(
                (self.space > 2)
                | ((self.space == 2) & ~(reserved & self.reserve))
                | ((self.space == 1) & ~reserved & ~self.reserve)
            ),
        ]

    def _read(self, m, ring):
        """Walk over the current head, pass by pass; returns the step that is read in this cycle."""
        plan = self.plan
        step = Signal(_part(layouts.value_row(self.config), "zero", "beat", "first", "last", "final"))
        last_pass, at_end = Signal(), Signal()
        behind = self.some & (self.more | self.entry.keep)
        m.d.comb += [
            self.issue.eq(self.may & (self.complete | (behind & ~self.pending))),
            last_pass.eq(self.beat + 1 == plan.beats),
            at_end.eq(self.read_next == plan.end),
            step.zero.eq(self.complete & plan.none),
            step.beat.eq(self.beat),
            step.first.eq(self.first),
            step.last.eq(self.complete & (plan.none | at_end)),
            step.final.eq(self.complete & (plan.none | (at_end & last_pass))),
            self.leave.eq(self.may & step.final),  # a complete head is always issued
            # Before its plan is there, the head is in its first pass, and still the one being written.
            self.freed.eq(self.issue & ~step.zero & Mux(self.complete, last_pass, self.written_beats == 1)),
            ring.read_addr.eq(self.read),
        ]
        first_read = self.issue & ~step.zero & (self.beat == 0)
        with m.If(self.entry.keep & ~first_read):
            m.d.sync += [self.unread.eq(self.unread + 1), self.some.eq(1), self.more.eq(self.some)]
        with m.Elif(first_read & ~self.entry.keep):
            m.d.sync += [self.unread.eq(self.unread - 1), self.some.eq(self.more), self.more.eq(self.unread > 2)]
        with m.If(self.issue & ~step.zero):
            m.d.sync += [self.first.eq(step.last), self.read.eq(self.read_next), self.read_next.eq(self.read_next + 1)]
        with m.If(self.may & self.complete & ~plan.none & at_end):
            with m.If(last_pass):
                m.d.sync += [self.base.eq(self.read_next), self.base_next.eq(self.read_next + 1), self.beat.eq(0)]
            with m.Else():
                m.d.sync += [
                    self.read.eq(self.base),
                    self.read_next.eq(self.base_next),
                    self.beat.eq(self.beat + 1),
                ]
        return step

    def _output(self, m, ring, step):
        """Join what was read with its step in a queue."""
        m.submodules.output = output = StreamFifo(layouts.value_row(self.config), self.steps)
        issued = Signal()
        held = Signal.like(step, reset_less=True)
        m.d.sync += [issued.eq(self.issue), held.eq(step)]
        taken = self.o.valid & self.o.ready
        m.d.sync += self.credit.eq(self.credit + taken - self.issue)
        with m.If(taken != self.issue):
            m.d.sync += self.may.eq(taken | (self.credit != 1))
        queued = output.i.payload
        m.d.comb += [output.i.valid.eq(issued), Cat(queued.row, queued.weight).eq(ring.read_data)]
        m.d.comb += [queued[name].eq(held[name]) for name in ("zero", "beat", "first", "last", "final")]
        wiring.connect(m, output.o, wiring.flipped(self.o))

    def _record(self, m):
        """The oldest head with its statistics, and what came of its weights."""
        m.submodules.values = values = StreamFifo(layouts.value_head(self.config), self.heads)
        m.submodules.stats = known = StreamFifo(weight_stats(self.config), self.records)
        wiring.connect(m, wiring.flipped(self.head), values.i)
        wiring.connect(m, wiring.flipped(self.stats), known.i)
        outcomes, record = m.submodules.outcomes, self.record.payload
        m.d.comb += [queue.o.ready.eq(self.record.ready) for queue in (values, known, outcomes)]
        m.d.comb += [record.stats[name].eq(known.o.payload[name]) for name in weight_stats(self.config).members]
        m.d.comb += [
            self.record.valid.eq(outcomes.o.valid),
            record.head.eq(values.o.payload),
            record.rows.eq(outcomes.o.payload.rows),
            record.stats.weight_sum.eq(outcomes.o.payload.weight_sum),
            record.stats.exponent.eq(outcomes.o.payload.exponent),
        ]
