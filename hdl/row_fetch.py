"""Which beat is fetched next: the schedule of the multiplier array, one decision a cycle."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import UnitConfig
from .context_accumulators import ContextAccumulators
from .mac_array import beat_control
from .slot_walker import key_beat

__all__ = ["RowFetch", "fetch_events"]

READ_LATENCY = 2
"""Cycles from an address to its data, of the store and of the query memory."""

fetch_events = data.StructLayout(
    {"key_beat": 1, "value_beat": 1, "key_row": 1, "value_row": 1, "null": 1, "fallback": 1, "softmax": 1}
)
"""One-cycle pulses for the performance counters."""


class RowFetch(wiring.Component):
    """Merges key beats and value rows into one stream of reads, and never starts what could not finish.

    A value row goes first whenever it may, else a key beat: so the keys of head h + 1 fill every cycle that the
    values of head h leave. A value row may go if

    * the context buffer has room for its head (asked once, at the head's first row),
    * it does not end a pass less than 4 cycles after another pass ended (the accumulators are still draining),
    * it does not end a head while the record of the head before waits.

    Behind this component nothing stalls. A head without value rows takes no read, only its place in the order.

    Members
    -------
    key : In(stream(slot_walker.key_beat)), value : In(stream(layouts.value_row))
    head : In(stream(layouts.value_record))
        Taken once for each final value row, after it; ``valid`` is not looked at.
    stall : In(1), the store's port is taken in this cycle: no read
    read_addr, read_en : Out, to the store; query_addr : Out, to the row loader
    control : Out(mac_array.beat_control), together with the data, 2 cycles after the address
    space : In(1), the context buffer has a free entry; allocate : Out(1), it is taken now
    record : Out(stream(layouts.result_record)), one a head, in order; valid the cycle after its final row was taken
    retired : Out(1), a record leaves, and with it a group
    query_released : Out(2), the queries of this input bank are fetched
    events : Out(fetch_events)
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        sizes = config.sizes
        super().__init__(
            {
                "key": In(stream.Signature(key_beat(config))),
                "value": In(stream.Signature(layouts.value_row(config))),
                "head": In(stream.Signature(layouts.value_record(config))),
                "stall": In(1),
                "read_addr": Out(range(sizes.store_depth)),
                "read_en": Out(1),
                "query_addr": Out(sizes.query_bits),
                "control": Out(beat_control(config)),
                "space": In(1),
                "allocate": Out(1),
                "record": Out(stream.Signature(layouts.result_record(config))),
                "retired": Out(1),
                "query_released": Out(2),
                "events": Out(fetch_events),
            }
        )

    def elaborate(self, platform):
        m = Module()
        advance, take_value, take_key = Signal(), Signal(), Signal()
        ended = self._report(m)
        self._decide(m, advance, take_value, take_key, ended)
        self._read(m, advance, take_value, take_key)
        return m

    def _decide(self, m, advance, take_value, take_key, ended):
        """From registers alone, but for ``stall``: much hangs on it."""
        row = self.value.payload
        open_head, drains = Signal(), Signal()
        pace = Signal(range(ContextAccumulators.drain))
        permitted = (open_head | self.space) & ~((row.last & drains) | (row.final & ended))
        fetch_value = Signal()
        m.d.comb += [
            fetch_value.eq(self.value.valid & ~row.zero & permitted),
            self.value.ready.eq(Mux(row.zero, ~ended, permitted & advance)),
            take_value.eq(fetch_value & advance),
            self.key.ready.eq(advance & ~fetch_value),
            take_key.eq(self.key.valid & self.key.ready),
            self.allocate.eq(take_value & ~open_head),
        ]
        with m.If(take_value):
            m.d.sync += open_head.eq(~row.final)
        with m.If(take_value & row.last):
            m.d.sync += [pace.eq(ContextAccumulators.drain - 1), drains.eq(1)]
        with m.Elif(advance & drains):
            m.d.sync += [pace.eq(pace - 1), drains.eq(pace != 1)]

    def _read(self, m, advance, take_value, take_key):
        """One register of addresses, then the controls travel beside the memories."""
        config, sizes = self.config, self.config.sizes
        key, row = self.key.payload, self.value.payload
        issue = Signal(beat_control(config))
        addr = Signal(range(sizes.store_depth), reset_less=True)
        query = Signal(sizes.query_bits, reset_less=True)
        release = Signal(2)
        offset = Signal(range(sizes.store_depth), init=sizes.beats * sizes.rows)
        counted = Signal(data.StructLayout({"key_row": 1, "value_row": 1}))
        with m.If(advance):
            m.d.sync += [
                issue.valid.eq(take_value | take_key),
                issue.axpy.eq(take_value),
                issue.first.eq(Mux(take_value, row.first, key.first)),
                issue.last.eq(Mux(take_value, row.last, key.last)),
                issue.final.eq(Mux(take_value, row.final, key.final)),
                issue.slot.eq(key.slot),
                issue.weight.eq(row.weight),
                addr.eq(Mux(take_value, row.row + offset, key.addr)),
                query.eq(key.query),
                release.eq(Mux(take_key & key.release, 1 << key.bank, 0)),
                counted.key_row.eq(take_key & key.last),
                counted.value_row.eq(take_value & (row.beat == 0)),
            ]
        with m.If(take_value & row.last):
            m.d.sync += offset.eq(Mux(row.final, sizes.beats * sizes.rows, offset + sizes.rows))
        reads = issue.valid & ~self.stall
        m.d.comb += [
            advance.eq(~(issue.valid & self.stall)),
            self.read_addr.eq(addr),
            self.read_en.eq(reads),
            self.query_addr.eq(query),
            self.query_released.eq(Mux(reads, release, 0)),
            self.events.key_beat.eq(reads & ~issue.axpy),
            self.events.value_beat.eq(reads & issue.axpy),
            self.events.key_row.eq(reads & counted.key_row),
            self.events.value_row.eq(reads & counted.value_row),
        ]
        control, valid = issue, reads
        for index in range(READ_LATENCY):
            stage = Signal(beat_control(config), name=f"read_{index}")
            m.d.sync += [stage.eq(control), stage.valid.eq(valid)]
            control, valid = stage, stage.valid
        m.d.comb += self.control.eq(control)

    def _report(self, m):
        """The head's record leaves behind its last row, or in the place of one. Returns whether it waits to leave."""
        row, head, record = self.value.payload, self.head.payload, self.record
        ended, zero, leaves = Signal(), Signal(), Signal()
        ends = self.value.valid & self.value.ready & row.final
        m.d.sync += ended.eq(ends | (ended & ~record.ready))
        with m.If(ends):
            m.d.sync += zero.eq(row.zero)
        m.d.comb += [
            leaves.eq(ended & record.ready),
            self.head.ready.eq(leaves),
            record.valid.eq(ended),
            record.payload.zero.eq(zero),
            record.payload.stats.eq(head.stats),
            record.payload.head.eq(head.head.result),
            self.retired.eq(leaves & head.head.group_last),
            self.events.null.eq(leaves & head.stats.null),
            self.events.fallback.eq(leaves & head.stats.fallback),
            self.events.softmax.eq(leaves & head.stats.softmax),
        ]
        return ended
