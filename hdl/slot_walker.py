"""Addresses of a key phase: every slot of a head, row by row."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import UnitConfig

__all__ = ["SlotWalker", "key_beat", "walk"]


def walk(config: UnitConfig) -> data.StructLayout:
    """A key phase: rows ``row ... row + n - 1`` of ``beats`` beats (both at least 1) against the query at ``query``."""
    sizes = config.sizes
    return data.StructLayout(
        {
            "row": sizes.row_bits,
            "n": sizes.count_bits,
            "beats": sizes.beats_bits,
            "query": sizes.query_bits,  # address of the query's first beat
            "bank": 1,  # input bank to release behind the last beat...
            "release": 1,  # ...if this is the job's last key phase
        }
    )


def key_beat(config: UnitConfig) -> data.StructLayout:
    """One beat of a key and of the query to fetch. ``first``, ``last`` of its row; ``final`` of the phase."""
    sizes = config.sizes
    return data.StructLayout(
        {
            "addr": range(sizes.store_depth),
            "query": sizes.query_bits,
            "slot": sizes.slot_bits,
            "first": 1,
            "last": 1,
            "final": 1,
            "bank": 1,
            "release": 1,
        }
    )


class SlotWalker(wiring.Component):
    """Walks slots 0 ... n - 1 of a head, all beats of a row before the next row.

    One beat a cycle, the first one cycle after ``i`` is taken when idle; phases follow each other without a bubble.
    One phase waits behind the present one, so that ``i.ready`` needs nothing of ``o``.

    Members
    -------
    i : In(stream(walk))
    o : Out(stream(key_beat))
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        super().__init__({"i": In(stream.Signature(walk(config))), "o": Out(stream.Signature(key_beat(config)))})

    def elaborate(self, platform):
        m = Module()
        sizes = self.config.sizes
        phase, waiting = Signal(walk(self.config)), Signal(walk(self.config), reset_less=True)
        active, queued = Signal(), Signal()
        row = Signal(sizes.row_bits)
        addr = Signal(range(sizes.store_depth))
        query = Signal(sizes.query_bits)
        slot = Signal(sizes.slot_bits)
        # Beats and rows behind the present ones, and whether there are none: a register, for the sake of the clock.
        beats_left, rows_left = Signal(sizes.beats_bits), Signal(sizes.count_bits)
        first, single, last, last_row = Signal(), Signal(), Signal(), Signal()
        final = Signal()  # last beat of the last row
        moves, leaves = Signal(), Signal()
        m.d.comb += [
            self.o.valid.eq(active),
            self.o.payload.addr.eq(addr),
            self.o.payload.query.eq(query),
            self.o.payload.slot.eq(slot),
            self.o.payload.first.eq(first),
            self.o.payload.last.eq(last),
            self.o.payload.final.eq(final),
            self.o.payload.bank.eq(phase.bank),
            self.o.payload.release.eq(phase.release & final),
            self.i.ready.eq(~queued),
            moves.eq(~active | self.o.ready),
            leaves.eq(~active | final),
        ]
        start = Signal(walk(self.config))
        m.d.comb += start.eq(Mux(queued, waiting, self.i.payload))
        m.d.sync += queued.eq(~(moves & leaves) & (queued | self.i.valid))
        with m.If(~queued):
            m.d.sync += waiting.eq(self.i.payload)
        with m.If(moves & leaves):
            m.d.sync += [
                phase.eq(start),
                active.eq(queued | self.i.valid),
                row.eq(start.row),
                addr.eq(start.row),
                query.eq(start.query),
                slot.eq(0),
                beats_left.eq(start.beats - 1),
                rows_left.eq(start.n - 1),
                first.eq(1),
                single.eq(start.beats == 1),
                last.eq(start.beats == 1),
                last_row.eq(start.n == 1),
                final.eq((start.beats == 1) & (start.n == 1)),
            ]
        with m.Elif(moves):
            m.d.sync += [
                first.eq(last),
                last.eq(Mux(last, single, beats_left == 1)),
                final.eq(Mux(last, single & (rows_left == 1), last_row & (beats_left == 1))),
                beats_left.eq(Mux(last, phase.beats, beats_left) - 1),
                addr.eq(Mux(last, row + 1, addr + sizes.rows)),
                query.eq(Mux(last, phase.query, query + 1)),
            ]
            with m.If(last):
                m.d.sync += [row.eq(row + 1), slot.eq(slot + 1), rows_left.eq(rows_left - 1)]
                m.d.sync += last_row.eq(rows_left == 1)
        return m
