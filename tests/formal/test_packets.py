"""From packets to input banks, and from contexts to packets: every beat in its place, every packet whole."""

import pytest
from amaranth.hdl import Array, Assert, Assume, Cat, Const, Module, Mux, Signal

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.result_packer import ResultPacker
from reluctant.hdl.row_loader import RowLoader
from reluctant.hdl.word_reader import WordReader

from .harness import Tap, check, constant, delayed, hold, same_order, streak, transfer

CONFIG = UnitConfig(lanes=4, head_dim=16, slots=4, heads=1, kv_heads=1, softmax=False, normalisers=("rms_head",))


class LoaderBench:
    """A row loader behind lawful jobs, any packets and releases of banks in use; rows have 1 or 2 beats.

    ``over``: the job's packet has ended; ``broken``: it ended with a bad beat; ``count``: beats taken of it;
    ``expected``: beats it should have.
    """

    def __init__(self):
        self.m = m = Module()
        m.submodules.dut = self.dut = dut = RowLoader(CONFIG)
        append, attend, beats, data, last, bad = Signal(), Signal(), Signal(2), Signal(4), Signal(), Signal()
        job = dut.job.payload
        hold(m, dut.job, "job", assume=True)
        hold(m, dut.i, "i", assume=True)
        self.over, self.count, self.expected, self.busy = Signal(), Signal(4), Signal(4), Signal(2)
        self.broken = Signal()
        self.kv_beats = 2 * CONFIG.kv_heads * beats
        m.d.comb += [
            Cat(job.append, job.attend, job.beats).eq(Cat(append, attend, beats)),
            Cat(dut.i.payload.data, dut.i.payload.last).eq(Cat(data, Const(0, 8 * CONFIG.lanes - 4), last)),
            dut.i.payload.bad.eq(bad),
            Assume(append | attend),
            Assume((beats == 1) | (beats == 2)),
            Assume((dut.release & ~self.busy) == 0),
            self.expected.eq(Mux(append, self.kv_beats, 0) + Mux(attend, CONFIG.heads * beats, 0)),
        ]
        occupied = Mux(transfer(dut.o), 1 << dut.o.payload.bank, 0)
        m.d.sync += self.busy.eq((self.busy | occupied) & ~dut.release)
        with m.If(transfer(dut.i)):
            m.d.sync += [self.count.eq(self.count + (self.count != 15)), self.over.eq(dut.i.payload.last)]
            m.d.sync += self.broken.eq(bad)
        with m.If(transfer(dut.job)):
            m.d.sync += [self.count.eq(0), self.over.eq(0)]
        self.inputs = [append, attend, beats, data, last, bad, dut.job.valid, dut.i.valid, dut.o.ready]
        self.inputs += [dut.release]


def test_loader_passes_or_drops_every_job_once(tmp_path):
    """Any jobs, packets of any length, any stall, 16 cycles from reset.

    A job is taken the cycle after it is passed on, its packet having as many beats as it should, or when it is dropped
    as too short or too long, and at no other time; a packet with a bad last beat is too short; beats are taken only of
    the job's own packet; it is passed on with a bank that is free; ``o`` holds. A job whose packet is over is offered
    or dropped at once, and a job that finds a free bank waits one cycle at most.
    """
    bench = LoaderBench()
    m, dut, count, expected = bench.m, bench.dut, bench.count, bench.expected
    hold(m, dut.o, "o", assume=False)
    ends = Cat(dut.o.valid, dut.too_short, dut.too_long)
    passed = delayed(m, transfer(dut.o), "passed")
    right = Mux(bench.broken, 0b010, Cat(count == expected, count < expected, count > expected))
    m.d.comb += [
        Assert(ends == Mux(bench.over & ~passed, right, 0)),
        Assert(transfer(dut.job) == (passed | dut.too_short | dut.too_long)),
        Assert(~dut.i.ready | (dut.job.valid & ~bench.over)),
        Assert(dut.waiting == (dut.i.ready & ~dut.i.valid)),
        Assert(~dut.o.valid | ~bench.busy.bit_select(dut.o.payload.bank, 1)),
        Assert(streak(m, dut.job.valid & ~dut.i.ready & ~bench.over & ~bench.busy.all(), "idle") <= 1),
    ]
    check(tmp_path, m, bench.inputs, depth=16)


def test_loader_keeps_every_beat(tmp_path):
    """Any jobs, packets, stalls and releases, 13 cycles from reset; free but constant numbers pick a job and a beat.

    From the cycle in which the job is passed on until its bank is released, the beat is read at its address.
    """
    bench = LoaderBench()
    m, dut = bench.m, bench.dut
    job_pick, beat_pick = constant(m, 2, "job_pick"), constant(m, 3, "beat_pick")
    jobs, kept, watched, bank = Signal(4), Signal(32), Signal(), Signal()
    in_kv, index = Signal(), Signal(3)
    ours = jobs == job_pick
    with m.If(transfer(dut.i) & ours & (bench.count == beat_pick)):
        m.d.sync += kept.eq(dut.i.payload.data)
    with m.If(transfer(dut.job)):
        m.d.sync += jobs.eq(jobs + 1)
    with m.If(transfer(dut.o) & ours & (beat_pick < bench.expected)):
        append = dut.job.payload.append
        of_kv = append & (beat_pick < bench.kv_beats)
        m.d.sync += [watched.eq(1), bank.eq(dut.o.payload.bank), in_kv.eq(of_kv)]
        m.d.sync += index.eq(beat_pick - Mux(append & ~of_kv, bench.kv_beats, 0))
    with m.If(watched & dut.release.bit_select(bank, 1)):
        m.d.sync += watched.eq(0)
    asked_kv = watched & in_kv & (dut.kv_addr == bank * dut.kv_depth + index)
    asked_q = watched & ~in_kv & (dut.q_addr == bank * dut.q_depth + index)
    with m.If(delayed(m, asked_kv, "kv", dut.kv_latency)):
        m.d.comb += Assert(dut.kv_data == kept)
    with m.If(delayed(m, asked_q, "q", dut.q_latency)):
        m.d.comb += Assert(dut.q_data == kept)
    check(tmp_path, m, [*bench.inputs, dut.kv_addr, dut.q_addr, job_pick, beat_pick], depth=13)


def test_reader_gives_every_word_once_and_in_order(tmp_path):
    """Heads of one output beat (4 words of 2 elements), any base, by words or by groups of one element, 16 cycles.

    Words hold until taken; each is the memory's, in order, and the first again behind the last; from 2 cycles after
    ``run`` one is always there; ``beat_start`` and ``final`` mark the first group of a beat and the last of a head.
    """
    config = UnitConfig(lanes=8, head_dim=16, slots=4, heads=1, kv_heads=1, normaliser_lanes=1)
    m = Module()
    m.submodules.dut = dut = WordReader(config)

    def memory(address):
        return Cat(address, Const(0, 32 - len(address)), address, Const(1, 32 - len(address)))

    asked = Signal.like(dut.read_addr)
    m.d.sync += [asked.eq(dut.read_addr), dut.read_data.eq(memory(asked))]
    ran, whole_was = delayed(m, dut.run, "run"), delayed(m, dut.whole, "whole")
    index, group, age = Signal.like(dut.words), Signal(2), Signal(2)
    odd = group[0]
    ends_word = dut.take & (odd | dut.whole)
    m.d.comb += [
        dut.words.eq(config.sizes.words),
        Assume(~dut.run | (dut.base == delayed(m, dut.base, "base"))),
        Assume(~dut.run | ran | ~delayed(m, dut.run, "before", 2)),
        Assume(~dut.run | delayed(m, Const(1, 1), "begun")),
        Assume(~dut.take | (dut.valid & dut.run)),
        Assume((dut.whole == whole_was) | ((index == 0) & (group == 0))),
        Assert(~dut.run | (age < 2) | dut.valid),
    ]
    m.d.sync += age.eq(Mux(dut.run, Mux(age == 2, 2, age + 1), 0))
    with m.If(~dut.run):
        m.d.sync += [index.eq(0), group.eq(0)]
    with m.Elif(dut.take):
        m.d.sync += index.eq(Mux(ends_word, Mux(index + 1 == dut.words, 0, index + 1), index))
        m.d.sync += group.eq(Mux(dut.whole, 0, group + 1))
    word = memory((dut.base + index)[: len(dut.base)])
    with m.If(dut.valid & dut.run):
        m.d.comb += [
            Assert(Mux(odd, dut.data[:32] == word[32:], dut.data == word)),
            Assert(dut.whole | (dut.beat_start == ((index == 0) & ~odd))),
            Assert(dut.whole | (dut.final == ((index + 1 == dut.words) & odd))),
        ]
    check(tmp_path, m, [dut.run, dut.whole, dut.base, dut.take], depth=16)


@pytest.mark.parametrize(("row_beats", "contexts", "depth"), [(1, True, 14), (2, False, 18)])
def test_packets_are_whole_and_in_order(tmp_path, row_beats, contexts, depth):
    """Any heads with any parts, zero or not, of one beat in 14 cycles, and in 18 cycles, without contexts, of two.

    Any arrival of words and of elements that were claimed, any stall.

    A head's beats are as many as its parts have; ``last`` is on the last beat of a packet's last head and nowhere else;
    context words and beats of elements leave once, in order and unchanged; heads without rows have zeros; ``o`` holds.
    A head's result is told once, before the head is sent; the end of a packet comes with its tag.
    """
    m, sizes = Module(), CONFIG.sizes
    m.submodules.dut = dut = ResultPacker(CONFIG)
    hold(m, dut.o, "o", assume=False)
    zero, last, tag = Signal(), Signal(), Signal(2)
    header, words = sizes.header_beats, sizes.words * row_beats
    m.d.comb += [
        Cat(dut.head.zero, dut.head.head.last).eq(Cat(zero, last)),
        dut.head.head.tag.eq(tag),
        dut.head.head.beats.eq(row_beats),
        Assume(dut.contexts | dut.outputs),
        Assume(~dut.contexts | int(contexts)),
    ]
    # A head is there from `begin` until `advance`, which comes when it is sent and its elements are claimed.
    held = Cat(zero, last, dut.contexts, dut.outputs, tag)
    hold(m, Tap(dut.begin, held, dut.advance), "head", assume=True)
    begun, told, beats_due = Signal(), Signal(), Signal(4)
    begins = dut.begin & ~begun
    m.d.sync += begun.eq(dut.begin & ~dut.advance)
    m.d.sync += told.eq((told | dut.result.valid) & ~dut.advance)
    m.d.comb += [
        Assert(~dut.result.valid | (dut.begin & ~told)),
        Assert(~dut.sent | told),
        Assert(dut.result.tag == tag),
    ]
    m.d.comb += [Assume(~dut.advance | (dut.begin & dut.sent & (beats_due == 0))), Assert(~dut.sent | begun)]
    # Words and elements come for heads that want them, when there is room.
    words_due, claimed = Signal(6), Signal(6)
    elements_end, shifted = Signal(), Signal(24)
    m.d.sync += [
        words_due.eq(words_due + Mux(begins & dut.contexts & ~zero, words, 0) - dut.word_take),
        beats_due.eq(beats_due + Mux(begins & dut.outputs & ~zero, row_beats, 0) - dut.claim),
        claimed.eq(claimed + Mux(dut.claim, dut.groups, 0) - dut.elements_valid),
    ]
    m.d.comb += [
        Assume(~dut.word_valid | (words_due != 0)),
        Assume(~dut.claim | (dut.sent & dut.room & (beats_due != 0))),
        Assume(~dut.elements_valid | (claimed != 0)),
        Assert(~dut.word_take | (dut.word_valid & dut.words)),
        Assert(~dut.words | (begun & dut.contexts & ~zero & ~dut.sent)),
        elements_end.eq(dut.elements_valid & (claimed[:2] == 1)),
    ]
    hold(m, Tap(dut.word_valid, dut.word, dut.word_take), "word", assume=True)
    with m.If(dut.elements_valid):
        m.d.sync += shifted.eq(Cat(shifted, dut.elements)[8:])
    # Which beat of which head is at `o`.
    heads = Array(Signal(6, name=f"head{n}") for n in range(4))
    written, read, beat = Signal(2), Signal(2), Signal(5)
    with m.If(begins):
        m.d.sync += [heads[written].eq(held), written.eq(written + 1)]
    front_zero, front_last, front_contexts, front_outputs = heads[read][:4]
    first_output = header + Mux(front_contexts, words, 0)
    end = beat + 1 == first_output + Mux(front_outputs, row_beats, 0)
    in_context = (beat >= header) & (beat < first_output)
    in_output = beat >= first_output
    with m.If(transfer(dut.o)):
        m.d.sync += [beat.eq(Mux(end, 0, beat + 1)), read.eq(read + end)]
    data = dut.o.payload.data
    with m.If(dut.o.valid):
        m.d.comb += [
            Assert(written != read),
            Assert(dut.o.payload.last == (end & front_last)),
            Assert(~(front_zero & (beat >= header)) | (data == 0)),
        ]
    m.d.comb += Assert(dut.done == delayed(m, transfer(dut.o) & end & front_last, "end"))
    m.d.comb += Assert(~dut.done | (dut.done_tag == delayed(m, heads[read][4:], "tag")))
    sent = transfer(dut.o) & ~front_zero
    beats = Tap(elements_end, Cat(shifted, dut.elements))
    picks = [
        same_order(m, Tap(dut.word_take, dut.word), Tap(sent & in_context, data), name="words"),
        same_order(m, beats, Tap(sent & in_output, data), name="outputs"),
    ]
    inputs = [zero, last, tag, dut.contexts, dut.outputs, dut.begin, dut.advance, dut.word, dut.word_valid, dut.claim]
    check(tmp_path, m, [*inputs, dut.elements_valid, dut.elements, dut.o.ready, *picks], depth=depth)
