"""The weight list replays every head's rows once a beat of its rows, and comes to an end."""

from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.weight_list import WeightList

from .harness import check, constant, delayed, hold, streak, transfer

MOST_BEATS = 2


class Bench:
    """A weight list behind heads, stats and entries that keep its protocol; rows have one or two beats.

    Of what is only passed on, a head's ``row`` and ``active`` are free and the rest is 0; weights have 2 bits.
    ``reserved`` counts places that wait for their entries, ``ended`` heads whose last entry is in, ``left`` those whose
    final row is out, ``recorded`` those whose record is out.
    """

    def __init__(self, slots):
        config = UnitConfig(
            lanes=4, head_dim=16, slots=slots, heads=2, kv_heads=1, softmax=False, normalisers=(), position_bits=8
        )
        self.m = m = Module()
        m.submodules.dut = self.dut = dut = WeightList(config)
        self.entry = entry = dut.entry
        self.pushed, self.told = Signal(5), Signal(5)
        self.ended, self.left, self.recorded = Signal(5), Signal(5), Signal(5)
        self.reserved, count = Signal(4), Signal(range(slots + 1))
        row, beats = Signal.like(dut.head.payload.row), Signal.like(dut.head.payload.result.beats)
        active = Signal.like(dut.stats.payload.active)
        m.d.comb += [
            dut.head.payload.row.eq(row),
            dut.head.payload.result.beats.eq(beats),
            dut.stats.payload.active.eq(active),
        ]
        hold(m, dut.head, "head", assume=True)
        hold(m, dut.stats, "stats", assume=True)
        any_entry = entry.keep | entry.drop | entry.end
        m.d.sync += [
            self.pushed.eq(self.pushed + transfer(dut.head)),
            self.told.eq(self.told + transfer(dut.stats)),
            self.ended.eq(self.ended + entry.end),
            self.left.eq(self.left + (transfer(dut.o) & dut.o.payload.final)),
            self.recorded.eq(self.recorded + transfer(dut.record)),
            self.reserved.eq(self.reserved + dut.reserve - (entry.keep | entry.drop)),
            count.eq(Mux(entry.end, 0, count + (entry.keep | entry.drop))),
        ]
        known = delayed(m, self.told, "told")
        m.d.comb += [
            Assume((beats >= 1) & (beats <= MOST_BEATS)),
            Assume(~dut.stats.valid | (self.told < self.pushed)),
            Assume(~dut.reserve | dut.room),
            Assume(~(entry.keep & entry.drop)),
            Assume((count < slots) | ~(entry.keep | entry.drop)),
            Assume(entry.weight < 4),
            Assume(~(entry.keep | entry.drop) | (self.reserved != 0)),
            Assume(~any_entry | (self.ended < known)),
            Assume(~dut.record.ready | (self.recorded < self.left)),
            Assert(self.left <= self.ended),
            Assert(dut.record.valid | (self.recorded == self.left)),
        ]
        self.inputs = [
            *(row, beats, dut.head.valid, active, dut.stats.valid),
            *(dut.reserve, entry, dut.o.ready, dut.record.ready),
        ]


def test_every_row_comes_once_a_pass_and_in_order(tmp_path):
    """Any heads of up to 3 weights and 1 or 2 beats, any arrival of entries, any stall, 12 cycles from reset.

    A free but constant number picks a head, another one a row of it. The picked head comes in as many passes as it has
    beats; in each the picked row comes in its turn with its weight; first, last, final, beat and zero are right, and,
    from the cycle after its final row on, the record's count, head and statistics; ``o`` holds.
    """
    bench = Bench(3)
    m, dut, entry, row = bench.m, bench.dut, bench.entry, bench.dut.o.payload
    record = dut.record.payload
    hold(m, dut.o, "o", assume=False)
    picks = constant(m, 4, "picks")
    head_pick, row_pick = picks[:2], picks[2:]
    rows, kept = Signal(3), Signal(len(Cat(entry.row, entry.weight)))
    beats, mark, active = Signal(3), Signal.like(record.head.row), Signal.like(record.stats.active)
    with m.If(transfer(dut.head) & (bench.pushed == head_pick)):
        m.d.sync += [beats.eq(dut.head.payload.result.beats), mark.eq(dut.head.payload.row)]
    with m.If(transfer(dut.stats) & (bench.told == head_pick)):
        m.d.sync += active.eq(dut.stats.payload.active)
    with m.If(entry.keep & (bench.ended == head_pick)):
        m.d.sync += rows.eq(rows + 1)
        with m.If(rows == row_pick):
            m.d.sync += kept.eq(Cat(entry.row, entry.weight))
    complete = bench.ended > head_pick
    turn, beat = Signal(3), Signal(3)
    ours = dut.o.valid & (bench.left == head_pick)
    last = row.zero | (complete & (turn + 1 == rows))
    with m.If(ours):
        m.d.comb += [
            Assert(row.zero == (complete & (rows == 0))),
            Assert(row.zero | (turn < rows)),
            Assert(Cat(row.first, row.last) == Cat(turn == 0, last)),
            Assert(row.final == (last & (row.zero | (beat + 1 == beats)))),
        ]
        with m.If(~row.zero):
            m.d.comb += [Assert(row.beat == beat), Assert((turn != row_pick) | (Cat(row.row, row.weight) == kept))]
    with m.If((bench.recorded == head_pick) & (bench.left > head_pick)):
        m.d.comb += [
            Assert(record.rows == rows),
            Assert(record.head.row == mark),
            Assert(record.stats.active == active),
        ]
    with m.If(ours & dut.o.ready & ~row.zero):
        m.d.sync += [turn.eq(Mux(row.last, 0, turn + 1)), beat.eq(beat + row.last)]
    check(tmp_path, m, [*bench.inputs, picks], depth=12)


def test_all_rows_leave(tmp_path):
    """Once entries stop after whole heads, and ``o`` is ready, all rows and records have left after 10 cycles.

    There is room then. Any heads of up to 2 weights and 1 or 2 beats, any arrival of entries and any stall before; runs
    of 16 cycles.
    """
    bench = Bench(2)
    m, dut, entry = bench.m, bench.dut, bench.entry
    stop, stopped = Signal(), Signal()
    m.d.sync += stopped.eq(stop)
    m.d.comb += Assume(stop | ~stopped)
    with m.If(stop):
        m.d.comb += [
            Assume(~(entry.keep | entry.drop | entry.end | dut.reserve | dut.stats.valid)),
            Assume((bench.ended == bench.told) & (bench.reserved == 0)),
            Assume(dut.o.ready & (dut.record.ready == (bench.recorded != bench.left))),
        ]
    quiet = streak(m, stop, "stop")
    m.d.comb += Assert(
        (quiet < 10) | (~dut.o.valid & (bench.left == bench.ended) & (bench.recorded == bench.left) & dut.room)
    )
    check(tmp_path, m, [*bench.inputs, stop], depth=16)
