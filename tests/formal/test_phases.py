"""The order of phases: no head, key beat or value row is lost, repeated or out of place, and all come to an end."""

import pytest
from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import connect

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.head_sequencer import HeadSequencer
from reluctant.hdl.row_fetch import READ_LATENCY, RowFetch
from reluctant.hdl.slot_walker import SlotWalker, walk

from .harness import Tap, check, delayed, hold, same_order, streak, transfer

CONFIG = UnitConfig(lanes=4, head_dim=16, slots=4, heads=2, kv_heads=1)


def lawful_walk(m, config, start):
    """Assume that a key phase stays inside the store and the queries."""
    sizes = config.sizes
    m.d.comb += [
        Assume((start.n >= 1) & (start.n <= config.slots)),
        Assume((start.beats >= 1) & (start.beats <= sizes.beats)),
        Assume(start.row + start.n <= sizes.rows),
        Assume(start.query + start.beats <= sizes.query_depth),
    ]


def test_walker_gives_every_beat_once_and_in_order(tmp_path):
    """Any phases of 1 to 4 rows of 1 to 4 beats, any stall, 20 cycles from reset: a phase gives its beats row by row,
    with their addresses and marks, from the cycle after it is taken when idle and with none between two phases; one
    phase waits behind the present one; beats hold."""
    m, sizes = Module(), CONFIG.sizes
    m.submodules.dut = dut = SlotWalker(CONFIG)
    hold(m, dut.i, "i", assume=True)
    hold(m, dut.o, "o", assume=False)
    lawful_walk(m, CONFIG, dut.i.payload)
    phase, slot, beat, pending = Signal(walk(CONFIG)), Signal(4), Signal(4), Signal()
    behind, waits = Signal(walk(CONFIG)), Signal()
    last, final, free = Signal(), Signal(), Signal()
    m.d.comb += [last.eq(beat + 1 == phase.beats), final.eq(last & (slot + 1 == phase.n))]
    m.d.comb += free.eq(~pending | (transfer(dut.o) & final))
    with m.If(transfer(dut.o)):
        m.d.sync += [beat.eq(Mux(last, 0, beat + 1)), slot.eq(slot + last)]
    with m.If(free):
        m.d.sync += [phase.eq(Mux(waits, behind, dut.i.payload)), slot.eq(0), beat.eq(0)]
        m.d.sync += [pending.eq(waits | dut.i.valid), waits.eq(0)]
    with m.Elif(transfer(dut.i)):
        m.d.sync += [behind.eq(dut.i.payload), waits.eq(1)]
    got = dut.o.payload
    m.d.comb += [Assert(dut.o.valid == pending), Assert(dut.i.ready == ~waits)]
    with m.If(pending):
        m.d.comb += [
            Assert(got.addr == phase.row + slot + beat * sizes.rows),
            Assert(got.query == phase.query + beat),
            Assert(got.slot == slot),
            Assert(Cat(got.first, got.last, got.final) == Cat(beat == 0, last, final)),
            Assert(Cat(got.bank, got.release) == Cat(phase.bank, phase.release & final)),
        ]
    check(tmp_path, m, [dut.i.payload, dut.i.valid, dut.o.ready], depth=20)


def lawful_groups(m, config, group, *, rows=None, beats=None):
    """Assume jobs as the appender sends them, one group a KV head; returns the number of the group in its job."""
    sizes, job = config.sizes, group.payload.job
    kv, first = Signal(range(config.kv_heads + 1)), Signal(group.payload.shape())
    last = Signal()
    hold(m, group, "group", assume=True)
    m.d.comb += [
        last.eq(kv == config.kv_heads - 1),
        Assume(group.payload.kv == kv),
        Assume(group.payload.last == last),
        Assume((job.n >= 1) & (job.n <= (rows or config.slots))),
        Assume((job.beats >= 1) & (job.beats <= (beats or sizes.beats))),
        Assume(job.profile == 0),
        Assume(group.payload.row == kv * config.slots),
    ]
    with m.If(kv != 0):
        m.d.comb += Assume(Cat(job, group.payload.bank) == Cat(first.job, first.bank))
    with m.If(transfer(group)):
        m.d.sync += [kv.eq(Mux(last, 0, kv + 1)), first.eq(group.payload)]
    return kv


def credits_in_use(m, sequencer):
    """Score banks of heads that run; assumes that no more are released."""
    used = Signal(3)
    m.d.sync += used.eq(used + transfer(sequencer.walk) - sequencer.released)
    m.d.comb += [Assume(~sequencer.released | (used != 0)), Assert(used <= HeadSequencer.score_banks)]
    return used


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_sequencer_gives_every_head_once_and_in_order(tmp_path, kv_heads):
    """Any masks, any stall, 2 heads a job, 14 cycles from reset.

    Heads come in order with the settings of their own number; a head that runs and its key phase transfer together,
    never a third one in two banks; a masked head has no key phase; a group is taken with its last head; the last key
    phase of a job, or the job's last masked head, releases the queries. Payloads hold, and a masked head is valid until
    taken. A head whose two sides are ready and that has a bank is gone after at most 2 cycles: no bank is ever lost.
    """
    config = UnitConfig(lanes=4, head_dim=16, slots=4, heads=2, kv_heads=kv_heads)
    m, sizes = Module(), config.sizes
    m.submodules.dut = dut = HeadSequencer(config)
    kv = lawful_groups(m, config, dut.group)
    used = credits_in_use(m, dut)
    group, job = dut.group.payload, dut.group.payload.job
    m.d.comb += dut.settings.theta.eq(delayed(m, dut.settings_addr, "settings_addr", 2))
    index, number = Signal(range(sizes.group + 1)), Signal(4)
    masked, group_last = Signal(), Signal()
    m.d.comb += [
        number.eq(kv * sizes.group + index),
        masked.eq(job.mask.bit_select(number, 1)),
        group_last.eq(index == sizes.group - 1),
    ]
    head, key = dut.head, dut.walk
    with m.If(transfer(head)):
        m.d.sync += index.eq(Mux(group_last, 0, index + 1))
    described, later = head.payload.value, job.mask >> (number + 1)
    everything = (1 << config.heads) - 1
    release = later == (Const(everything, config.heads) >> (number + 1))
    over = delayed(m, transfer(head) & group_last, "over")
    m.d.comb += [
        Assert(transfer(key) == (transfer(head) & ~masked)),
        Assert(transfer(dut.group) == over),
        Assert(dut.masked == delayed(m, transfer(head) & masked, "masked_head")),
        Assert(
            dut.query_released == Mux(transfer(dut.group) & group.last & (job.mask == everything), 1 << group.bank, 0)
        ),
        Assert((~head.valid & ~key.valid) | dut.group.valid),
        Assert((used < 2) | masked | (~head.valid & ~key.valid)),
    ]
    with m.If(head.valid):
        m.d.comb += [
            Assert(head.payload.theta == number),
            Assert(described.result.head == number),
            Assert(Cat(described.row, described.result.n) == Cat(group.row, job.n)),
            Assert(Cat(described.result.masked, described.group_last) == Cat(masked, group_last)),
            Assert(described.result.last == (group.last & group_last)),
        ]
    with m.If(key.valid):
        start = key.payload
        m.d.comb += [
            Assert(Cat(start.row, start.n, start.beats) == Cat(group.row, job.n, job.beats)),
            Assert(start.query == Mux(group.bank, sizes.query_depth // 2, 0) + number * job.beats),
            Assert(start.bank == group.bank),
            Assert(start.release == release),
        ]
    was = delayed(m, head.valid & ~head.ready & masked, "masked_waits")
    with m.If(was):
        m.d.comb += Assert(head.valid)
    able = dut.group.valid & ~over & head.ready & key.ready & (masked | (used < 2))
    waited = streak(m, able & ~transfer(head), "able", 7)
    m.d.comb += Assert(waited <= 2)
    check(
        tmp_path,
        m,
        [dut.group.payload, dut.group.valid, head.ready, key.ready, dut.released],
        depth=14,
    )


def lawful_values(m, config, stream, beats=None):
    """Assume value rows as the weight list sends them: whole passes, beat by beat, or one entry ``zero``."""
    sizes, row = config.sizes, stream.payload
    inside, beat = Signal(), Signal(range(sizes.beats + 1))
    hold(m, stream, "value", assume=True)
    m.d.comb += [
        Assume(row.first == ~inside),
        Assume(row.beat == beat),
        Assume(row.row < sizes.rows),
        Assume(~row.final | row.last),
        Assume(~row.zero | (row.first & row.final & (beat == 0))),
        Assume((beat != (beats or sizes.beats) - 1) | (row.final == row.last)),
    ]
    with m.If(transfer(stream) & ~row.zero):
        m.d.sync += [inside.eq(~row.last), beat.eq(Mux(row.final, 0, beat + row.last))]
    return beat, inside


def passes_apart(m, dut):
    """Assert that passes end at least as far apart as the accumulators need to drain."""
    ends, age = Signal(), Signal(range(8), init=7)
    m.d.comb += [ends.eq(dut.control.valid & dut.control.axpy & dut.control.last), Assert(~ends | (age >= 4))]
    m.d.sync += age.eq(Mux(ends, 1, Mux(age == 7, 7, age + 1)))


def test_fetch_reads_every_beat_once_and_in_order(tmp_path):
    """Any key beats and lawful value rows, any stall of the store, of the context buffer and of the records, 14 cycles.

    What is taken is read once, in the order in which it was taken, at its address, and its controls come with the
    data; nothing is read while the store's port is taken; passes end at least 4 cycles apart; one record a head, in
    order and held, from the cycle after its final row on; an entry of the context buffer is taken once a head that has
    rows, and only when there is one; ``retired`` with the record of a group's last head. A read that is due happens in
    the first cycle in which the port is free, a value row that may go is taken within 4 cycles.
    """
    m, sizes = Module(), CONFIG.sizes
    m.submodules.dut = dut = RowFetch(CONFIG)
    key, row, head = dut.key.payload, dut.value.payload, dut.head.payload
    hold(m, dut.key, "key", assume=True)
    hold(m, Tap(Const(1), head, dut.head.ready), "head", assume=True)
    hold(m, dut.record, "record", assume=False)
    beat, inside = lawful_values(m, CONFIG, dut.value)
    takes_key, takes_row = Signal(), Signal()
    m.d.comb += [
        takes_key.eq(transfer(dut.key)),
        takes_row.eq(transfer(dut.value) & ~row.zero),
        Assert(~(takes_key & takes_row)),
        Assert(~(dut.read_en & dut.stall)),
        Assert(~dut.allocate | dut.space),
        Assert(dut.allocate == (takes_row & ~inside & (beat == 0))),
        Assert(dut.control.valid == delayed(m, dut.read_en, "read", READ_LATENCY)),
        Assert(dut.retired == (transfer(dut.record) & head.head.group_last)),
        Assert(dut.head.ready == transfer(dut.record)),
        Assert((dut.query_released == 0) | dut.events.key_beat),
    ]
    taken = takes_key | takes_row
    value_addr = row.row + (sizes.beats + beat) * sizes.rows
    key_part = Cat(key.query, Mux(key.release, 1 << key.bank, 0)[:2])
    asked = Cat(takes_row, Mux(takes_row, value_addr, key.addr)[: len(key.addr)], Mux(takes_row, 0, key_part))
    read_part = Mux(dut.events.value_beat, 0, Cat(dut.query_addr, dut.query_released))
    read = Cat(dut.events.value_beat, dut.read_addr, read_part)
    wanted = Cat(
        takes_row,
        Mux(takes_row, Cat(row.first, row.last, row.final), Cat(key.first, key.last, key.final)),
        Mux(takes_row, row.weight, key.slot),
    )
    control = dut.control
    given = Cat(
        control.axpy, control.first, control.last, control.final, Mux(control.axpy, control.weight, control.slot)
    )
    ends = Signal()
    m.d.comb += ends.eq(transfer(dut.value) & row.final)
    m.d.comb += Assert(Cat(dut.record.payload.stats, dut.record.payload.head) == Cat(head.stats, head.head.result))
    m.d.comb += Assert(dut.record.valid | ~delayed(m, ends, "ends"))
    picks = [
        same_order(m, Tap(taken, asked), Tap(dut.read_en, read), name="reads"),
        same_order(m, Tap(taken, wanted), Tap(control.valid, given), name="controls"),
        same_order(m, Tap(ends, row.zero), Tap(transfer(dut.record), dut.record.payload.zero), name="records"),
    ]
    passes_apart(m, dut)
    due = Signal()
    m.d.sync += due.eq(taken | (due & dut.stall))
    m.d.comb += Assert(dut.read_en == (due & ~dut.stall))
    able = dut.value.valid & dut.record.ready & dut.space & ~dut.stall
    m.d.comb += Assert(streak(m, able & ~transfer(dut.value), "able", 7) < 4)
    check(
        tmp_path,
        m,
        [dut.key.payload, dut.key.valid, row, dut.value.valid, head, dut.record.ready, dut.stall, dut.space, *picks],
        depth=14,
    )


def test_passes_end_at_least_4_cycles_apart(tmp_path):
    """For runs of every length, by induction: any key beats, lawful value rows, at most 2 cycles of stall in a row.

    Longer stalls are in the bounded check above.
    """
    m = Module()
    m.submodules.dut = dut = RowFetch(CONFIG)
    hold(m, dut.key, "key", assume=True)
    lawful_values(m, CONFIG, dut.value)
    passes_apart(m, dut)
    m.d.comb += Assume((streak(m, dut.stall, "stall", 7) < 2) | ~dut.stall)
    check(
        tmp_path,
        m,
        [dut.key.payload, dut.key.valid, dut.value.payload, dut.value.valid, dut.record.ready, dut.stall, dut.space],
        depth=16,
        mode="prove",
    )


def test_everything_comes_to_rest(tmp_path):
    """From groups to reads with a selector that gives each head no row, or one, and then returns its bank.

    Any groups of 2 heads with at most 2 rows of 2 beats, any stall; groups stop coming and stalls end at any time from
    reset on. 28 cycles later no stream is valid and both banks are free, in all runs of 34 cycles.
    """
    m = Module()
    m.submodules.sequencer = sequencer = HeadSequencer(CONFIG)
    m.submodules.walker = walker = SlotWalker(CONFIG)
    m.submodules.fetch = fetch = RowFetch(CONFIG)
    connect(m, sequencer.walk, walker.i)
    connect(m, walker.o, fetch.key)
    lawful_groups(m, CONFIG, sequencer.group, rows=2, beats=2)
    lawful_values(m, CONFIG, fetch.value, beats=1)
    used = credits_in_use(m, sequencer)
    scored = Signal(4)  # heads whose value row is to come
    key_end = fetch.control.valid & ~fetch.control.axpy & fetch.control.final
    gives = transfer(fetch.value)
    m.d.sync += scored.eq(scored + key_end - gives)
    m.d.comb += [
        sequencer.released.eq(gives),
        Assume(~fetch.value.valid | (scored != 0)),
        Assume(fetch.value.payload.final),
    ]
    stop, stopped, waiting = Signal(), Signal(), Signal()
    m.d.sync += [stopped.eq(stop), waiting.eq(sequencer.group.valid & ~sequencer.group.ready)]
    m.d.comb += Assume(stop | ~stopped)
    with m.If(stop):
        m.d.comb += [
            Assume(sequencer.group.valid == waiting),
            Assume(sequencer.head.ready & fetch.record.ready & fetch.space & ~fetch.stall),
            Assume(fetch.value.valid == (scored != 0)),
        ]
    valid = [sequencer.group, sequencer.head, sequencer.walk, walker.o, fetch.value, fetch.record]
    at_rest = ~Cat(*(stream.valid for stream in valid), fetch.control.valid, fetch.read_en).any() & (used == 0)
    m.d.comb += Assert((streak(m, stop, "stop") < 28) | at_rest)
    check(
        tmp_path,
        m,
        [
            sequencer.group.payload,
            sequencer.group.valid,
            sequencer.head.ready,
            fetch.value.payload,
            fetch.value.valid,
            fetch.record.ready,
            fetch.stall,
            fetch.space,
            stop,
        ],
        depth=34,
    )
