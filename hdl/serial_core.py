"""The data path of a unit that does one thing at a time."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from . import layouts
from .attention_core import core_members
from .config import UnitConfig
from .result_packer import header
from .serial_array import SerialArray
from .serial_report import report
from .serial_rows import SerialRows
from .serial_statistics import SerialStatistics
from .serial_weights import SerialWeights

__all__ = ["SerialCore"]


class SerialCore(wiring.Component):
    """The same jobs, packets, results and bits as :class:`~reluctant.hdl.attention_core.AttentionCore`, in little area.

    One job after the other, one head after the other, and of a head one phase after the other::

        packet ─┬─► store            (new rows; a victim is searched first)
                ├─► lanes ─► scores  (keys: all rows, beat by beat)
        store ──┴─► lanes ─► words   (values: a pass for each beat; the first one weighs)

    A head that runs takes about ``n * beats`` cycles for its keys, ``n`` for the first pass over its values, as many as
    it has weights for each further one, and about 16 a phase beside. ``job`` is taken when it is over, so its payload
    is what the whole core works from.

    Parameters
    ----------
    config
        A build with serial phases.

    Members
    -------
    as those of :class:`~reluctant.hdl.attention_core.AttentionCore`
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        super().__init__(core_members(config))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.array = self.array = SerialArray(config)
        m.submodules.weights = self.weights = SerialWeights(config)
        if config.statistics:
            m.submodules.statistics = self.statistics = SerialStatistics(config)
        m.submodules.rows = self.rows = SerialRows(config)
        self._registers()
        self._rows(m)
        self._sequence(m)
        self._connect(m)
        report(m, self)
        return m

    def _registers(self):
        sizes = self.config.sizes
        self.head = Signal(sizes.head_bits)
        self.kv = Signal(sizes.kv_bits)
        self.base = Signal(sizes.row_bits)  # first row attended
        self.target = Signal(sizes.slot_bits, reset_less=True)  # of the new row
        self.index = Signal(sizes.count_bits)  # of a slot, an entry, or a row of the packet
        self.beat = Signal(sizes.beat_bits)
        self.timer = Signal(range(self.array.score_latency + 4))
        self.copying, self.value = Signal(), Signal()  # a new row is copied; its value
        self.keyed = Signal()  # the keys of the head are done
        self.go = Signal()  # the store is free
        self.masked = Signal()
        self.job_last = Signal()  # the head is the job's last

    def _rows(self, m):
        """What is read and written: of the packet, and of the store."""
        config, rows = self.config, self.rows
        slot = Mux(self.keyed, self.weights.slot, Mux(self.copying, self.target, self.index))
        self.last_beat, self.first_pass = Signal(), Signal()
        m.d.comb += [
            self.last_beat.eq(self.beat + 1 == self.job.payload.beats),
            self.first_pass.eq(self.beat == 0),
            self.go.eq(rows.go),
            rows.take.eq(self.i.valid & self.i.ready),
            rows.data.eq(self.i.payload.data),
            rows.slot.eq(slot),
            rows.values.eq(self.value | self.keyed),
            self.array.row.eq(rows.stored),
            self.array.query.eq(rows.query),
        ]
        for name in ("beat", "index", "copying", "value", "kv", "head", "base"):
            m.d.comb += getattr(rows, name).eq(getattr(self, name))
        if config.shared_memory:
            connect(m, flipped(self.memory), rows.memory)

    def _connect(self, m):
        """Between store, packet, lanes and weights."""
        config, job = self.config, self.job.payload
        array, weights = self.array, self.weights
        valued = Signal()
        m.d.sync += valued.eq(weights.keep & self.go)
        m.d.comb += [
            array.axpy.eq(self.keyed),
            array.weight.eq(weights.weight),
            array.theta.eq(self.settings.theta),
            weights.scored.eq(array.scored),
            weights.shifted.eq(array.shifted),
            weights.go.eq(self.go),
            weights.index.eq(self.index),
            weights.weighing.eq(self.keyed & self.first_pass),
            array.valid.eq(valued | self.key_valid),
            array.last.eq(self.key_last),
        ]
        self.valued = valued
        if config.statistics:
            statistics = self.statistics
            peeks = ~self.job.valid
            peeked = Signal()
            m.d.comb += [
                statistics.row.eq(Mux(peeks, self.peek.payload, self.rows.row)),
                statistics.update.eq(weights.keep & self.go & self.first_pass & ~job.silent),
                statistics.weight.eq(weights.weight),
                statistics.job.position.eq(job.position),
                statistics.job.sinks.eq(job.sinks),
                statistics.job.recent.eq(job.recent),
                statistics.job.metric.eq(job.metric),
                self.peek.ready.eq(peeks & ~peeked),
                self.peeked.valid.eq(peeked),
                self.peeked.payload.eq(statistics.record),
            ]
            m.d.sync += [
                peeked.eq(Mux(peeked, ~self.peeked.ready, self.peek.valid & peeks)),
                self.searched.eq(self.index),
            ]
            m.d.comb += statistics.slot.eq(self.searched)

    def _sequence(self, m):
        """What is done when."""
        config, sizes, job = self.config, self.config.sizes, self.job.payload
        self.key_valid, self.key_last = Signal(), Signal()
        self.searched = Signal(sizes.slot_bits, reset_less=True)
        self.more = Signal()
        self.dropped_short, self.dropped_long, self.over = Signal(), Signal(), Signal()
        self.header_begins = Signal()
        limit = Mux(self.keyed & ~self.first_pass, self.weights.count, job.n)
        m.d.comb += [
            self.more.eq(self.index != limit),
            self.masked.eq(job.mask.bit_select(self.head, 1)),
            self.settings_addr.eq(_times(job.profile, config.heads) + self.head if config.profiles > 1 else self.head),
            self.job_last.eq(self.head == config.heads - 1),
        ]
        m.d.sync += [self.key_valid.eq(0), self.timer.eq(self.timer + 1)]
        with m.FSM(name="phase"):
            self._load(m)
            self._append(m)
            self._keys(m)
            self._values(m)
            self._answer(m)

    def _load(self, m):
        config, job, beat = self.config, self.job.payload, self.i.payload
        final = self.last_beat & (self.index == Mux(job.attend, self.rows.count - 1, 2 * config.kv_heads - 1))
        with m.State("IDLE"):
            m.d.sync += [
                self.index.eq(Mux(job.append, 0, 2 * config.kv_heads)),
                self.beat.eq(0),
                self.head.eq(0),
                self.kv.eq(0),
                self.base.eq(job.base),
            ]
            with m.If(self.job.valid):
                m.next = "LOAD"
        with m.State("LOAD"):
            m.d.comb += self.i.ready.eq(1)
            with m.If(self.i.valid):
                m.d.sync += self.beat.eq(self.beat + 1)
                with m.If(self.last_beat):
                    m.d.sync += [self.beat.eq(0), self.index.eq(self.index + 1)]
                with m.If(beat.last):
                    m.next = "SHORT"
                    with m.If(final & ~beat.bad):
                        m.next = "GROUP"
                with m.Elif(final):
                    m.next = "SWALLOW"
        with m.State("SWALLOW"):
            m.d.comb += self.i.ready.eq(1)
            with m.If(self.i.valid & beat.last):
                m.next = "LONG"
                with m.If(beat.bad):
                    m.next = "SHORT"
        with m.State("SHORT"):
            m.d.comb += [self.dropped_short.eq(1), self.job.ready.eq(1)]
            m.next = "IDLE"
        with m.State("LONG"):
            m.d.comb += [self.dropped_long.eq(1), self.job.ready.eq(1)]
            m.next = "IDLE"

    def _append(self, m):
        """The new row of a KV head, and the search before it."""
        config, job = self.config, self.job.payload
        self.placed, self.no_victim = Signal(), Signal()
        slot = self.statistics.victim if config.statistics else job.slot
        place = Mux(job.evict, slot, job.slot)
        m.d.comb += self.job_events.row.eq(Cat(self.placed | self.no_victim, job.tag, self.kv, place, self.no_victim))
        with m.State("GROUP"):
            m.d.sync += [self.index.eq(0), self.beat.eq(0), self.target.eq(job.slot)]
            m.next = "HEAD"
            with m.If(job.append):
                self._begin_append(m)
        if config.statistics:
            statistics = self.statistics
            with m.State("SEARCH"):
                m.d.comb += statistics.search.eq(self.more)
                with m.If(self.more):
                    m.d.sync += self.index.eq(self.index + 1)
                with m.Else():
                    m.next = "VICTIM"
            with m.State("VICTIM"):
                m.d.sync += self.target.eq(statistics.victim)
                m.d.comb += [self.placed.eq(statistics.found), self.no_victim.eq(~statistics.found)]
                with m.If(statistics.found):
                    m.d.sync += self.copying.eq(1)
                    m.next = "READ"
                with m.Elif(job.attend):
                    m.next = "HEAD"
                with m.Else():
                    m.next = "NEXT_GROUP"
        with m.State("READ"):
            if config.statistics:
                m.d.comb += self.statistics.append.eq(self.first_pass & ~self.value)
            m.next = "WRITE"
        with m.State("WRITE"):
            m.d.comb += self.rows.write.eq(self.go)
            with m.If(self.go):
                m.d.sync += self.beat.eq(self.beat + 1)
                m.next = "READ"
                with m.If(self.last_beat):
                    m.d.sync += [self.beat.eq(0), self.value.eq(~self.value)]
                    with m.If(self.value):
                        m.d.sync += self.copying.eq(0)
                        m.next = "NEXT_GROUP"
                        with m.If(job.attend):
                            m.next = "HEAD"

    def _begin_append(self, m):
        job = self.job.payload
        if self.config.statistics:
            m.d.comb += self.statistics.start.eq(1)
            with m.If(job.evict):
                m.next = "SEARCH"
            with m.Else():
                m.d.comb += self.placed.eq(1)
                m.d.sync += self.copying.eq(1)
                m.next = "READ"
        else:
            m.d.comb += self.placed.eq(1)
            m.d.sync += self.copying.eq(1)
            m.next = "READ"

    def _keys(self, m):
        """Scores of all rows; sums are zero before and behind them."""
        array, weights = self.array, self.weights
        with m.State("HEAD"):
            m.d.sync += self.timer.eq(0)
            m.next = "CLEAR"
        with m.State("CLEAR"):
            m.d.comb += [array.shift.eq(1), weights.rewind.eq(1), weights.clear.eq(~self.keyed)]
            m.d.sync += self.index.eq(0)
            with m.If(self.timer == self.config.sizes.words - 1):
                m.d.sync += self.timer.eq(0)
                m.next = "SETTLE"
                with m.If(self.masked):
                    m.next = "REPORT"
                with m.If(self.keyed):
                    m.next = "REPORT"
                    with m.If(weights.sums.active.any()):
                        m.next = "PASS"
        with m.State("SETTLE"), m.If(self.timer == array.settle):
            m.d.comb += array.rebase.eq(1)
            m.next = "KEYS"
        with m.State("KEYS"):
            with m.If(~self.more):
                m.d.sync += self.timer.eq(0)
                m.next = "SCORES"
            with m.Elif(self.go):
                m.d.sync += [self.key_valid.eq(1), self.key_last.eq(self.last_beat), self.beat.eq(self.beat + 1)]
                with m.If(self.last_beat):
                    m.d.sync += [self.beat.eq(0), self.index.eq(self.index + 1)]
        with m.State("SCORES"), m.If(self.timer == array.score_latency + 2):
            m.d.sync += [self.timer.eq(0), self.keyed.eq(1)]
            m.next = "CLEAR"

    def _values(self, m):
        """A pass for each beat; the first one weighs."""
        weights = self.weights
        with m.State("PASS"):
            m.d.comb += weights.read.eq(self.more)
            with m.If(self.more), m.If(self.go):
                m.d.sync += self.index.eq(self.index + 1)
            with m.Else():
                m.d.sync += self.timer.eq(0)
                m.next = "FLUSH"
        with m.State("FLUSH"):
            with m.If(~self.go):
                m.d.sync += self.timer.eq(self.timer)
            with m.If(self.timer == self.array.latency + 4):
                m.next = "WORDS"
                with m.If(self.first_pass):
                    m.next = "REPORT"
                m.d.sync += self.timer.eq(0)

    def _answer(self, m):
        """Header, and the words of each pass."""
        config, sizes, array = self.config, self.config.sizes, self.array
        record = Signal(layouts.result_record(config))
        sums, head, stats = self.weights.sums, record.head, record.stats
        m.d.comb += [
            head.head.eq(self.head),
            head.masked.eq(self.masked),
            head.tag.eq(self.job.payload.tag),
            stats.exponent.eq(sums.exponent),
            stats.active.eq(sums.active),
            stats.mass.eq(sums.mass),
            stats.weight_sum.eq(sums.weight_sum),
            stats.null.eq(~self.masked & ~sums.active.any()),
        ]
        self.record = record
        content = header(record)
        content += [Const(0, 8)] * (-len(content) % config.lanes)
        beats = [Cat(content[at : at + config.lanes]) for at in range(0, len(content), config.lanes)]
        shown = self.timer[: max(1, (len(beats) - 1).bit_length())]
        o = self.o.payload
        m.d.comb += o.data.eq(array.word)
        with m.State("REPORT"):
            m.d.comb += self.header_begins.eq(1)
            m.d.sync += self.timer.eq(0)
            m.next = "HEADER"
        with m.State("HEADER"):
            m.d.comb += self.o.valid.eq(1)
            with m.Switch(shown):
                for number, beat in enumerate(beats):
                    with m.Case(number):
                        m.d.comb += o.data.eq(beat)
            with m.If(~self.o.ready):
                m.d.sync += self.timer.eq(self.timer)
            with m.Elif(self.timer == len(beats) - 1):
                m.d.sync += self.timer.eq(0)
                m.next = "WORDS"
        with m.State("WORDS"):
            last_word = self.timer == sizes.words - 1
            m.d.comb += [
                self.o.valid.eq(1),
                o.last.eq(last_word & self.last_beat & self.job_last),
                array.shift.eq(self.o.ready),
            ]
            m.d.sync += self.index.eq(0)
            with m.If(~self.o.ready):
                m.d.sync += self.timer.eq(self.timer)
            with m.Elif(last_word):
                m.d.sync += [self.timer.eq(0), self.beat.eq(self.beat + 1)]
                with m.If(self.last_beat):
                    m.d.sync += self.beat.eq(0)
                    m.next = "NEXT_HEAD"
                with m.Elif(self.weights.count.any()):
                    m.next = "PASS"
        self._advance(m)

    def _advance(self, m):
        """To the next head, KV head or job."""
        config, sizes = self.config, self.config.sizes
        member = Signal(range(max(2, sizes.group)))
        with m.State("NEXT_HEAD"):
            m.d.sync += [self.head.eq(self.head + 1), member.eq(member + 1), self.keyed.eq(0)]
            m.next = "HEAD"
            with m.If(member == sizes.group - 1):
                m.d.sync += member.eq(0)
                m.next = "NEXT_GROUP"
        with m.State("NEXT_GROUP"):
            m.d.sync += [self.kv.eq(self.kv + 1), self.base.eq(self.base + config.slots)]
            m.next = "GROUP"
            with m.If(self.kv == config.kv_heads - 1):
                m.next = "DONE"
        with m.State("DONE"):
            m.d.comb += [self.over.eq(1), self.job.ready.eq(1)]
            m.next = "IDLE"


def _times(value, constant: int):
    """``value * constant`` from shifts and additions, so that no multiplier is spent on it."""
    return sum(value << bit for bit in range(constant.bit_length()) if constant >> bit & 1)
