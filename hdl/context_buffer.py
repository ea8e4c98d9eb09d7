"""Contexts of several heads between the accumulators and the normaliser."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from reluctant.golden import formats

from . import layouts
from .config import UnitConfig
from .memory import Ram

__all__ = ["ContextBuffer", "ContextReadout", "address_bits", "context_head"]

_MAGNITUDE_BITS = bits_for(formats.CONTEXT_BITS - 1)
_BYTE = 8


def address_bits(config: UnitConfig) -> int:
    """Width of the address of a context word."""
    return ceil_log2(config.sizes.context_entries * config.sizes.head_words)


def context_head(config: UnitConfig) -> data.StructLayout:
    """A head whose contexts are all in the buffer, or all zero."""
    return data.StructLayout(
        {
            "record": layouts.result_record(config),
            "base": address_bits(config),  # of its first word; the others follow; nothing there if it is zero
            "magnitude": _MAGNITUDE_BITS,  # formats.magnitude_bits of its contexts; 0 if it is zero
        }
    )


class ContextReadout(wiring.Signature):
    """How heads and their words are read from a :class:`ContextBuffer`, as its side sees it.

    Members
    -------
    head : Out(stream of context_head)
        Heads in order. The payload is there a cycle before ``valid`` and holds until the cycle after the transfer;
        ``valid`` comes back at the earliest 3 cycles after a transfer.
    keep : In(1)
        At a transfer: the head and its contexts stay in the buffer, to be read again after ``rewind``. Without,
        they are forgotten, which is only allowed for the oldest head that is still there.
    rewind : In(1)
        At a transfer that keeps its head: the next head is the oldest that is still there.
    read_addr : In, read_data : Out(sizes.word * 32)
        Context words, latency 2 cycles.

    ``keep`` and ``rewind`` are only obeyed if ``rms_layer`` is built.
    """

    def __init__(self, config: UnitConfig):
        super().__init__(
            {
                "head": Out(stream.Signature(context_head(config))),
                "keep": In(1),
                "rewind": In(1),
                "read_addr": In(address_bits(config)),
                "read_data": Out(config.sizes.word * formats.CONTEXT_BITS),
            }
        )


class ContextBuffer(wiring.Component):
    """Ring of ``sizes.context_entries`` heads' contexts, and a queue of records of heads.

    The queue is as long as the ring if ``rms_layer`` is built, for a whole job has to fit then; else 2, for a record is
    wide, and a third one waits at ``o``.

    Words and records arrive independently, each in head order; a zero head (``record.zero``) has no words. A head
    is valid at ``o.head`` 6 cycles after its last word, 3 cycles after its record and 3 cycles after the transfer of
    the head before it, whichever is latest. Nothing stalls ``word``: the sender allocates an entry before it sends.

    Parameters
    ----------
    config
        The unit's configuration.

    Members
    -------
    word : In(StructLayout)
        ``valid``; ``last`` (the head's last word); ``data``, ``sizes.word`` signed 32-bit contexts, the first lowest.
    allocate : In(1)
        One entry is taken, for the next non-zero head; only while ``space``.
    space : Out(1)
        An entry is free; registered, and right in the cycle after an ``allocate``.
    record : In(stream of layouts.result_record)
        Heads in order, zero heads too.
    o : Out(ContextReadout)
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        word = data.StructLayout({"valid": 1, "last": 1, "data": config.sizes.word * formats.CONTEXT_BITS})
        super().__init__(
            {
                "word": In(word),
                "allocate": In(1),
                "space": Out(1, init=1),
                "record": In(stream.Signature(layouts.result_record(config))),
                "o": Out(ContextReadout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        entries = self.config.sizes.context_entries
        self._layered = "rms_layer" in self.config.normalisers
        self._row_bits = ceil_log2(entries)
        self._records = entries if self._layered else 2
        rows = 1 << self._row_bits
        m.submodules.contexts = contexts = Ram(
            width=len(self.word.data), depth=entries * self.config.sizes.head_words, latency=2
        )
        m.submodules.records = records = Ram(
            width=len(self.record.payload.as_value()), depth=1 << ceil_log2(self._records)
        )
        m.submodules.magnitudes = magnitudes = Ram(width=_MAGNITUDE_BITS, depth=rows)
        self._write_words(m, contexts)
        written = self._measure(m, magnitudes)
        self._queue_heads(m, records, magnitudes, written)
        m.d.comb += [
            contexts.read_addr.eq(self.o.read_addr),
            self.o.read_data.eq(contexts.read_data),
        ]
        return m

    def _after(self, base):
        """Address of the entry after the one at ``base``."""
        sizes = self.config.sizes
        last = (sizes.context_entries - 1) * sizes.head_words
        return Mux(base == last, 0, base + sizes.head_words)[: len(base)]

    def _write_words(self, m, contexts):
        address = Signal(address_bits(self.config))
        base = Signal.like(address)
        m.d.comb += [
            contexts.write_en.eq(self.word.valid),
            contexts.write_addr.eq(address),
            contexts.write_data.eq(self.word.data),
        ]
        with m.If(self.word.valid):
            m.d.sync += address.eq(address + 1)
            with m.If(self.word.last):
                m.d.sync += [address.eq(self._after(base)), base.eq(self._after(base))]

    def _measure(self, m, magnitudes):
        """Bit length of the OR of a head's contexts, 4 registers behind the words; the number of heads measured."""
        bits = formats.CONTEXT_BITS
        elements = [self.word.data[n * bits : (n + 1) * bits] for n in range(self.config.sizes.word)]
        first, fresh = Signal(init=1), Signal(reset_less=True)
        valid, last = Signal(), Signal(4)
        seen, total = Signal(bits - 1, reset_less=True), Signal(bits - 1, reset_less=True)
        m.d.sync += [
            valid.eq(self.word.valid),
            fresh.eq(first),
            seen.eq(reduce(or_, (element[:-1] ^ element[-1].replicate(bits - 1) for element in elements))),
            last.eq(Cat(self.word.valid & self.word.last, last)),
        ]
        with m.If(self.word.valid):
            m.d.sync += first.eq(self.word.last)
        with m.If(valid):
            m.d.sync += total.eq(Mux(fresh, seen, total | seen))

        magnitude = Signal(_MAGNITUDE_BITS, reset_less=True)
        m.d.sync += magnitude.eq(_bit_length(m, total))
        written = Signal(self._row_bits + 1)
        m.d.sync += written.eq(written + last[3])
        m.d.comb += [
            magnitudes.write_en.eq(last[3]),
            magnitudes.write_addr.eq(written[:-1]),
            magnitudes.write_data.eq(magnitude),
        ]
        return written

    def _queue_heads(self, m, records, magnitudes, written):
        head, record = self.o.head, self.o.head.payload.record
        pushed, loaded, valid = Signal(ceil_log2(self._records) + 1), Signal(), Signal()
        row, entry, base = Signal.like(pushed), Signal.like(written), Signal(address_bits(self.config))
        fetch = ~loaded & (row != pushed)
        m.d.comb += [
            records.write_en.eq(self.record.valid & self.record.ready),
            records.write_addr.eq(pushed[:-1]),
            records.write_data.eq(self.record.payload.as_value()),
            records.read_en.eq(fetch),
            records.read_addr.eq(row[:-1]),
            magnitudes.read_addr.eq(entry[:-1]),
            record.as_value().eq(records.read_data),
            head.payload.base.eq(base),
            head.payload.magnitude.eq(Mux(record.zero, 0, magnitudes.read_data)),
            head.valid.eq(valid),
        ]
        m.d.sync += [
            pushed.eq(pushed + records.write_en),
            loaded.eq(loaded | fetch),
            valid.eq(loaded & (record.zero | (entry != written))),
        ]
        advance = Signal()
        m.d.comb += advance.eq(head.valid & head.ready)
        here = Cat(row, entry, base)
        there = Cat(
            (row + 1)[: len(row)], (entry + ~record.zero)[: len(entry)], Mux(record.zero, base, self._after(base))
        )
        with m.If(advance):
            m.d.sync += [loaded.eq(0), valid.eq(0)]
        self._forget(m, advance, here, there, fetch)

    def _forget(self, m, advance, here, there, fetch):
        """The place of the next head. Which heads are still there: the oldest, free entries, queued records."""
        forget = Signal()
        m.d.comb += forget.eq(advance & ~self.o.keep if self._layered else advance)
        following = there
        if self._layered:
            oldest = Signal(len(here))
            with m.If(forget):
                m.d.sync += oldest.eq(there)
            following = Mux(self.o.rewind, oldest, there)
        with m.If(advance):
            m.d.sync += here.eq(following)

        entries = self.config.sizes.context_entries
        release, free = Signal(), Signal(range(entries + 1), init=entries)
        m.d.sync += [release.eq(forget & ~self.o.head.payload.record.zero), free.eq(free + release - self.allocate)]
        with m.If(release != self.allocate):
            m.d.sync += self.space.eq(release | (free > 1))

        level, full = Signal(range(self._records + 1)), Signal()
        push, pop = self.record.valid & ~full, Signal()
        m.d.comb += self.record.ready.eq(~full)
        m.d.sync += pop.eq(forget if self._layered else fetch)  # what is fetched is held at o
        m.d.sync += level.eq(level + push - pop)
        with m.If(push != pop):
            m.d.sync += full.eq(push & (level == self._records - 1))


def _bit_length(m, value):
    """Bit length of ``value``, a cycle later; a byte at a time first, so that no path sees all bits."""
    chunks = [value[n : n + _BYTE] for n in range(0, len(value), _BYTE)]
    lengths = [Signal(range(_BYTE + 1), name=f"length_{n}", reset_less=True) for n in range(len(chunks))]
    result = 0
    for n, (chunk, length) in enumerate(zip(chunks, lengths, strict=True)):
        bits = 0
        for bit in range(len(chunk)):
            bits = Mux(chunk[bit], bit + 1, bits)
        m.d.sync += length.eq(bits)
        result = Mux(length.any(), n * _BYTE + length, result)
    return result
