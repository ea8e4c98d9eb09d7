"""From the context buffer's memory to whole words, or to groups of elements."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from reluctant.golden import formats

from .config import UnitConfig
from .context_buffer import address_bits

__all__ = ["WordReader"]


class WordReader(wiring.Component):
    """Reads a head's context words ahead of who takes them, whole or group by group.

    The first word is there 2 cycles after ``start``; then a word a cycle, or a group a cycle. A group is
    ``sizes.normaliser_lanes`` elements; it is the low part of ``data``, which shifts as groups are taken.

    Parameters
    ----------
    config
        The unit's configuration.

    Members
    -------
    start : In(1)
        Read ``words`` (2 or more) words from ``base`` on; only when the last word of the read before is taken, or is
        being taken in this cycle.
    base : In, words : In(range(sizes.head_words + 1))
    read_en, read_addr : Out, read_data : In
        Memory port of latency 1 that holds its data while ``read_en`` is low.
    data : Out(sizes.word * 32), valid : Out(1)
        The word, or what is left of it.
    take_word, take_group : In(1)
        Only while ``valid``, and never both.
    beat_start : Out(1)
        The next group is the first of its output beat (of ``lanes`` elements).
    final : Out(1)
        The next group is the last one of the read.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        sizes = config.sizes
        width = sizes.word * formats.CONTEXT_BITS
        super().__init__(
            {
                "start": In(1),
                "base": In(address_bits(config)),
                "words": In(range(sizes.head_words + 1)),
                "read_en": Out(1),
                "read_addr": Out(address_bits(config)),
                "read_data": In(width),
                "data": Out(width),
                "valid": Out(1),
                "take_word": In(1),
                "take_group": In(1),
                "beat_start": Out(1),
                "final": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        sizes = self.config.sizes
        position = Signal(exact_log2(sizes.lanes // sizes.normaliser_lanes))  # group within the output beat
        word_end = position[: ceil_log2(sizes.word // sizes.normaliser_lanes)].all()
        m.d.sync += position.eq(position + self.take_group)

        address, left = Signal.like(self.base), Signal.like(self.words)
        loaded, loaded_last = Signal(), Signal()  # the memory's output holds a word; it is the last one
        word, last = Signal(len(self.data), reset_less=True), Signal()
        free, fetch = Signal(), Signal()
        m.d.comb += [
            free.eq(~self.valid | self.take_word | (self.take_group & word_end)),
            fetch.eq((left != 0) & (free | ~loaded)),
            self.read_en.eq(self.start | fetch),
            self.read_addr.eq(Mux(self.start, self.base, address)),
        ]
        with m.If(self.start):
            m.d.sync += [address.eq(self.base + 1), left.eq(self.words - 1), loaded_last.eq(0)]
        with m.Elif(fetch):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), loaded_last.eq(left == 1)]
        with m.If(self.read_en):
            m.d.sync += loaded.eq(1)
        with m.Elif(free):
            m.d.sync += loaded.eq(0)

        with m.If(free):
            m.d.sync += [self.valid.eq(loaded), word.eq(self.read_data), last.eq(loaded_last)]
        with m.Elif(self.take_group):
            m.d.sync += word.eq(word >> (sizes.normaliser_lanes * formats.CONTEXT_BITS))
        m.d.comb += [
            self.data.eq(word),
            self.beat_start.eq(position == 0),
            self.final.eq(last & word_end),
        ]
        return m
