"""Copies new rows from the input banks into the store and sends the heads on their way."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from . import layouts
from .config import UnitConfig
from .kv_store import store_write
from .slot_statistics import slot_append, victim, victim_search

__all__ = ["RowAppender"]


class RowAppender(wiring.Component):
    """Takes loaded jobs one by one and goes through their KV heads: copy the new row, if any; emit the group, if any.

    Key beat b of row r goes to ``b * rows + r`` of the store, value beat b to ``(beats + b) * rows + r``, with
    ``r = kv * slots + base + slot`` and ``rows``, ``slots`` and ``beats`` (of the longest row) of the configuration.
    With ``job.evict`` the slot is the victim's; when there is none, that KV head's row is dropped, and its group
    attends to the rows that are kept.

    A group is valid a cycle before the last beat of its key row is written, long before a key phase can ask for it:
    ``job.beats + 2`` cycles after its KV head began, or 1 cycle if nothing is appended; waiting and searching come on
    top. Its value row follows in the next ``job.beats`` cycles, before a value phase can ask for it; the bank is read
    a cycle earlier, before the packet after can reach it. The first KV head begins when its job is taken, each other
    one when the group before is taken and its value row read.

    **Waiting.** A row that groups in flight may still read is not overwritten, and no victim is searched among rows
    whose weights still come: an attending job waits while ``kv_heads`` or more groups are in flight (that is, until
    those of the same KV head are retired), a job that only appends until none is. Rows behind all those attended
    since the unit was last empty are written at once.

    Parameters
    ----------
    config
        ``append``, ``search`` and ``victim`` exist only with ``config.statistics``; without, ``job.evict`` is ignored.

    Members
    -------
    i : In(stream(layouts.loaded_job(config)))
    o : Out(stream(layouts.group(config)))
        One for each KV head of an attending job, in order.
    retired : In(1)
        One cycle: the oldest group in flight (emitted, not yet retired) has all its rows fetched.
    kv_addr : Out, kv_data : In(lanes * 8)
        Read port of :class:`reluctant.hdl.row_loader.RowLoader`, 1 cycle of latency.
    write : Out(store_write(config))
        To the store, which takes every beat.
    append : Out(stream(slot_append(config)))
        The row whose token is new; taken before its group is emitted.
    search : Out(stream(victim_search(config))), victim : In(stream(victim(config)))
        One answer for each search.
    release : Out(2)
        One cycle, bit b: bank b is free, after a job that only appends. (Attending jobs still need their queries.)
    appended : Out(1)
        One cycle, with ``release``: a job that only appends is finished.
    no_victim : Out(1)
        One cycle: a row was dropped since no row was evictable.
    placed : Out(layouts.placed_row(config))
        One cycle for each row, when it is known where it goes; before the job's ``appended`` and its last group.
    tag : Out(layouts.TAG_BITS)
        Of the job, with ``appended``.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        self.bank_depth = 2 * config.kv_heads * config.sizes.beats
        members = {
            "i": In(stream.Signature(layouts.loaded_job(config))),
            "o": Out(stream.Signature(layouts.group(config))),
            "retired": In(1),
            "kv_addr": Out(range(2 * self.bank_depth)),
            "kv_data": In(config.lanes * 8),
            "write": Out(store_write(config)),
            "release": Out(2),
            "appended": Out(1),
            "no_victim": Out(1),
            "placed": Out(layouts.placed_row(config)),
            "tag": Out(layouts.TAG_BITS),
        }
        if config.statistics:
            members |= {
                "append": Out(stream.Signature(slot_append(config))),
                "search": Out(stream.Signature(victim_search(config))),
                "victim": In(stream.Signature(victim(config))),
            }
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        state = _State(self.config)
        blocked = self._flight(m, state)
        with m.FSM():
            with m.State("IDLE"):
                self._idle(m, state)
            with m.State("START"):
                self._start(m, state, blocked)
            if self.config.statistics:
                self._search_states(m, state)
            with m.State("COPY"):
                self._copy(m, state)
            with m.State("FINISH"):
                self._finish(m, state)
        self._outputs(m, state)
        return m

    def _flight(self, m, state):
        """Counts the groups in flight and the rows they may read. Returns whether rows must not be overwritten."""
        kv_heads = self.config.kv_heads
        in_flight = Signal(bits_for(2 * kv_heads + 14))
        end = Signal.like(state.limit)  # of the rows attended since none was in flight
        emit = self.o.valid & self.o.ready
        full = Signal()  # a cycle late: groups are farther apart
        m.d.sync += [in_flight.eq(in_flight + emit - self.retired), full.eq(in_flight.all())]
        emitted = Signal()  # no other job has begun since
        m.d.sync += emitted.eq(emit)
        with m.If(emitted & (state.limit > end)):
            m.d.sync += end.eq(state.limit)
        with m.Elif(~emit & (in_flight == 0)):
            m.d.sync += end.eq(0)
        m.d.comb += self.o.valid.eq(state.attends & state.copied & ~state.emitted & ~state.notes & ~full)
        with m.If(emit):
            m.d.sync += state.emitted.eq(1)
        m.d.comb += state.behind.eq(Mux(state.kv == 0, state.target >= end, state.was_behind))
        return Mux(state.job.attend, in_flight >= kv_heads, in_flight != 0)

    def _next_group(self, m, state, job, target):
        """The next KV head of ``job``, whose row goes to ``target``."""
        m.d.sync += [
            state.target.eq(target),
            state.copied.eq(~job.append),
            state.emitted.eq(0),
            state.searched.eq(0),
            state.dropped.eq(0),
        ]
        with m.If(job.append):
            m.next = "START"
        with m.Else():
            m.next = "FINISH"

    def _idle(self, m, state):
        job = self.i.payload.job
        m.d.comb += self.i.ready.eq(1)
        with m.If(self.i.valid):
            m.d.sync += [
                state.loaded.eq(self.i.payload),
                state.attends.eq(job.attend),
                state.kv.eq(0),
                state.row.eq(job.base),
                state.limit.eq(job.base + job.n),
                state.key_at.eq(Mux(self.i.payload.bank, Const(self.bank_depth), 0)),
            ]
            self._next_group(m, state, job, job.base + job.slot)

    def _start(self, m, state, blocked):
        """Waits until the row may be written, and for a victim before."""
        job = state.job
        m.d.sync += [
            state.was_behind.eq(state.behind),
            state.addr.eq(state.target),
            state.left.eq(job.beats),
            state.value.eq(0),
        ]
        with m.If(state.kv == 0):  # V rows follow the K rows of all KV heads
            m.d.sync += state.value_at.eq(state.key_at + _times(job.beats, self.config.kv_heads))
        ready = state.searched | state.behind | ~blocked
        if self.config.statistics:
            searches = job.evict & ~state.searched
            with m.If(searches & ~blocked):
                m.next = "SEARCH"
            with m.Elif(~searches & ready):
                m.d.sync += state.notes.eq(~state.dropped)
                m.d.comb += state.placed.valid.eq(~job.evict)
                m.next = "COPY"
        else:
            with m.If(ready):
                m.d.comb += state.placed.valid.eq(1)
                m.next = "COPY"

    def _search_states(self, m, state):
        with m.State("SEARCH"):
            m.d.comb += self.search.valid.eq(1)
            with m.If(self.search.ready):
                m.next = "VICTIM"
        with m.State("VICTIM"):
            answer = self.victim.payload
            m.d.comb += self.victim.ready.eq(1)
            m.d.sync += [
                state.target.eq(state.row + answer.slot),
                state.dropped.eq(~answer.found),
                state.searched.eq(1),
            ]
            with m.If(self.victim.valid):
                m.d.comb += [state.misses.eq(~answer.found), state.placed.valid.eq(1)]
                m.next = "START"

    def _copy(self, m, state):
        """Reads and writes one beat a cycle, key row first. A dropped row goes nowhere."""
        sizes = self.config.sizes
        m.d.comb += state.copies.eq(1)
        m.d.sync += [state.left.eq(state.left - 1), state.addr.eq(state.addr + sizes.rows)]
        with m.If(state.row_ends & ~state.value):
            m.d.sync += [
                state.addr.eq(state.target + sizes.beats * sizes.rows),
                state.left.eq(state.job.beats),
                state.value.eq(1),
                state.copied.eq(1),
            ]
        with m.Elif(state.row_ends):
            m.next = "FINISH"

    def _finish(self, m, state):
        """Waits until the group is taken, then turns to the next KV head or job."""
        config, job = self.config, state.job
        with m.If(Mux(job.attend, state.emitted | (self.o.valid & self.o.ready), ~state.notes)):
            m.d.sync += [state.kv.eq(state.kv + 1), state.row.eq(state.row + config.slots)]
            self._next_group(m, state, job, state.target + config.slots)
            with m.If(state.kv == config.kv_heads - 1):
                m.d.comb += state.finishes.eq(~job.attend)
                m.d.sync += state.attends.eq(0)
                m.next = "IDLE"

    def _outputs(self, m, state):
        """Read addresses, payloads and pulses."""
        job = state.job
        kv_addr = Signal.like(self.kv_addr, reset_less=True)
        reads, valid = Signal(), Signal()  # a beat is read, and written
        addr = [Signal.like(state.addr, name=f"write_addr_{stage}", reset_less=True) for stage in range(2)]
        m.d.sync += [reads.eq(state.copies & ~state.dropped), valid.eq(reads), addr[0].eq(state.addr)]
        m.d.sync += [kv_addr.eq(Mux(state.value, state.value_at, state.key_at)), addr[1].eq(addr[0])]
        with m.If(state.copies & state.value):
            m.d.sync += state.value_at.eq(state.value_at + 1)
        with m.Elif(state.copies):
            m.d.sync += state.key_at.eq(state.key_at + 1)
        m.d.comb += [
            state.row_ends.eq(state.left == 1),
            self.kv_addr.eq(kv_addr),
            self.write.valid.eq(valid),
            self.write.addr.eq(addr[1]),
            self.write.data.eq(self.kv_data),
            self.o.payload.job.eq(job),
            self.o.payload.bank.eq(state.loaded.bank),
            self.o.payload.kv.eq(state.kv),
            self.o.payload.row.eq(state.row),
            self.o.payload.last.eq(state.kv == self.config.kv_heads - 1),
            state.placed.tag.eq(job.tag),
            state.placed.kv.eq(state.kv),
            state.placed.slot.eq(job.slot),
            state.placed.dropped.eq(0),
            self.tag.eq(job.tag),
        ]
        for port, value in (
            (self.appended, state.finishes),
            (self.release, Mux(state.finishes, Mux(state.loaded.bank, 0b10, 0b01), 0)),
            (self.no_victim, state.misses),
        ):
            pulse = Signal.like(port)
            m.d.sync += pulse.eq(value)
            m.d.comb += port.eq(pulse)
        m.d.sync += self.placed.eq(state.placed)
        if self.config.statistics:
            self._statistics_outputs(m, state)

    def _statistics_outputs(self, m, state):
        job, search = state.job, self.search.payload
        m.d.comb += [
            self.append.valid.eq(state.notes),
            self.append.payload.row.eq(state.target),
            self.append.payload.position.eq(job.position),
            search.row.eq(state.row),
        ]
        m.d.comb += [search[name].eq(job[name]) for name in ("n", "position", "sinks", "recent", "metric")]
        with m.If(job.evict):
            answer = self.victim.payload
            m.d.comb += [state.placed.slot.eq(answer.slot), state.placed.dropped.eq(~answer.found)]
        with m.If(self.append.valid & self.append.ready):
            m.d.sync += state.notes.eq(0)


class _State:
    """Registers and strobes that the states of the appender share."""

    def __init__(self, config: UnitConfig):
        sizes = config.sizes
        depth = 4 * config.kv_heads * sizes.beats
        self.loaded = Signal(layouts.loaded_job(config), reset_less=True)
        self.job = self.loaded.job
        self.kv = Signal(sizes.kv_bits)
        self.row = Signal(sizes.row_bits, reset_less=True)  # first of those attended
        self.limit = Signal(sizes.count_bits + 1, reset_less=True)  # base + n
        self.target = Signal(sizes.row_bits, reset_less=True)  # row to write
        self.behind = Signal()  # the row is behind those that groups in flight read
        self.was_behind = Signal()
        self.attends = Signal()  # the job has groups to emit
        self.copied = Signal()  # this KV head's key row is in the store, or nothing is appended
        self.emitted = Signal()  # its group is taken
        self.notes = Signal()  # its row waits to be told to the slot statistics
        self.searched = Signal()
        self.dropped = Signal()  # there is no victim
        self.value = Signal()  # copying the value row
        self.key_at = Signal(range(depth), reset_less=True)  # next beat of the K rows
        self.value_at = Signal(range(depth), reset_less=True)  # and of the V rows
        self.left = Signal(sizes.beats_bits, reset_less=True)  # beats of this row, this one included
        self.addr = Signal(range(sizes.store_depth), reset_less=True)
        self.placed = Signal(layouts.placed_row(config))
        self.row_ends = Signal()
        self.copies = Signal()
        self.finishes = Signal()
        self.misses = Signal()


def _times(value, factor: int):
    """``value * factor`` for a constant factor, as shifts and additions."""
    terms = [value << bit for bit in range(factor.bit_length()) if factor >> bit & 1]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
