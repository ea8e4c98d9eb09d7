"""From the context buffer's memory to whole words, or to groups of elements."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from reluctant.golden import formats

from .config import UnitConfig
from .context_buffer import address_bits
from .memory import SmallRam

__all__ = ["WordReader"]

_PLACES = 4
"""For words: one is read, comes 2 cycles later and may be taken 3 later; so many are under way at a word a cycle."""


class WordReader(wiring.Component):
    """Reads a head's context words over and over, ahead of who takes them, whole or group by group.

    The first word is there 2 cycles after ``run``; then a word a cycle, or a group a cycle, and behind the last word
    the first one again. A group is ``sizes.normaliser_lanes`` elements; it is the low part of ``data``, which shifts
    as groups are taken.

    Parameters
    ----------
    config
        The unit's configuration.

    Members
    -------
    run : In(1)
        There is a head; low in the first cycle, and for 2 cycles or more between two heads.
    base : In, words : In(range(sizes.head_words + 1))
        The head's words, whole output beats of 4, from the cycle before ``run`` rises on.
    whole : In(1)
        Words are taken whole, else group by group; changes only between two readings of all words.
    read_addr : Out, read_data : In
        Memory port of latency 2.
    data : Out(sizes.word * 32), valid : Out(1)
        The word, or what is left of it.
    take : In(1)
        A word or a group is taken; only while ``valid``.
    beat_start : Out(1)
        The next group is the first of its output beat (of ``lanes`` elements).
    final : Out(1)
        The next group is the last one of the head.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        sizes = config.sizes
        width = sizes.word * formats.CONTEXT_BITS
        super().__init__(
            {
                "run": In(1),
                "base": In(address_bits(config)),
                "words": In(range(sizes.head_words + 1)),
                "whole": In(1),
                "read_addr": Out(address_bits(config)),
                "read_data": In(width),
                "data": Out(width),
                "valid": Out(1),
                "take": In(1),
                "beat_start": Out(1, init=1),
                "final": Out(1),
            }
        )
        self.per_word = sizes.word // sizes.normaliser_lanes

    def elaborate(self, platform):
        m = Module()
        sizes = self.config.sizes
        word, last, group_end = Signal(len(self.data), reset_less=True), Signal(), Signal(init=self.per_word == 1)
        word_end, free = Signal(), Signal()
        m.d.comb += [word_end.eq(self.whole | group_end), free.eq(~self.valid | (self.take & word_end))]
        arrives, last_arrives = self._read(m, self.take & word_end)
        ran = Signal()  # when it is low, what was read of the head before is forgotten
        m.d.sync += ran.eq(self.run)
        following, there = self._wait(m, arrives, Cat(self.read_data, last_arrives), free, ran)
        with m.If(free):
            m.d.sync += [self.valid.eq(there & ran), last.eq(following[-1])]
        with m.Elif(~ran):
            m.d.sync += self.valid.eq(0)
        with m.If(~self.valid | self.take):
            rest = word >> (sizes.normaliser_lanes * formats.CONTEXT_BITS)
            m.d.sync += word.eq(Mux(~self.valid | word_end, following, rest))
        self._count_groups(m, free, ran, group_end, last, following[-1])
        m.d.comb += self.data.eq(word)
        return m

    def _read(self, m, leaves):
        """One word after the other, as long as there are places. Returns whether one arrives, and whether the last."""
        address, left, is_last = Signal.like(self.base), Signal.like(self.words), Signal()
        count, may_read, reads = Signal(range(_PLACES + 1)), Signal(), Signal()
        m.d.comb += [reads.eq(self.run & may_read), self.read_addr.eq(Mux(self.run, address, self.base))]
        with m.If(~self.run):  # the first word is being read already
            m.d.sync += [address.eq(self.base + 1), left.eq(self.words - 2), is_last.eq(0)]
            m.d.sync += [count.eq(1), may_read.eq(1)]
        with m.Else():
            with m.If(reads & is_last):
                m.d.sync += [address.eq(self.base), left.eq(self.words - 1), is_last.eq(0)]
            with m.Elif(reads):
                m.d.sync += [address.eq(address + 1), left.eq(left - 1), is_last.eq(left == 1)]
            with m.If(reads & ~leaves):
                m.d.sync += [count.eq(count + 1), may_read.eq(count < _PLACES - 1)]
            with m.Elif(leaves & ~reads):
                m.d.sync += [count.eq(count - 1), may_read.eq(1)]
        ran, comes, last_comes = Signal(), Signal(), Signal()
        arrives, last_arrives = Signal(), Signal()
        m.d.sync += [
            ran.eq(self.run),
            comes.eq(reads),
            last_comes.eq(reads & is_last),
            arrives.eq(self.run & (comes | ~ran)),
            last_arrives.eq(last_comes),
        ]
        return arrives, last_arrives

    def _wait(self, m, arrives, arrived, free, ran):
        """Where words wait for the first one to leave. Returns the next one, and whether there is one.

        As in :class:`~reluctant.hdl.stream_fifo.StreamFifo` every word is written, even one that passes by.
        """
        m.submodules.ring = ring = SmallRam(width=len(arrived), depth=_PLACES)
        produce, consume = Signal(range(_PLACES)), Signal(range(_PLACES))
        behind, waits = Signal(range(_PLACES)), Signal()
        pull = free & (waits | arrives)
        m.d.comb += [
            ring.write_en.eq(arrives),
            ring.write_addr.eq(produce),
            ring.write_data.eq(arrived),
            ring.read_addr.eq(consume),
        ]
        with m.If(~ran):
            m.d.sync += [produce.eq(0), consume.eq(0), behind.eq(0), waits.eq(0)]
        with m.Else():
            m.d.sync += [produce.eq(produce + arrives), consume.eq(consume + pull)]
            with m.If(arrives & ~pull):
                m.d.sync += [behind.eq(behind + 1), waits.eq(1)]
            with m.Elif(pull & ~arrives):
                m.d.sync += [behind.eq(behind - 1), waits.eq(behind != 1)]
        return Mux(waits, ring.read_data, arrived), waits | arrives

    def _count_groups(self, m, free, ran, group_end, last, last_follows):
        """Where in its word and output beat the next group is."""
        sizes = self.config.sizes
        position = Signal(exact_log2(sizes.lanes // sizes.normaliser_lanes))
        following = (position + 1)[: len(position)]
        ends = following[: ceil_log2(self.per_word)].all()
        with m.If(~ran):
            m.d.sync += [position.eq(0), self.beat_start.eq(1), group_end.eq(self.per_word == 1)]
        with m.Elif(self.take & ~self.whole):
            m.d.sync += [position.eq(following), self.beat_start.eq(position.all()), group_end.eq(ends)]
        with m.If(free):
            m.d.sync += self.final.eq(last_follows & (self.per_word == 1))
        with m.Elif(self.take):
            m.d.sync += self.final.eq(last & ends)
