"""From shifted scores to 8-bit weights: block exponent for ReLU, exp2 for softmax."""

from itertools import pairwise

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from reluctant.golden import formats
from reluctant.golden.formats import Mode

from .block_shift import BlockShift
from .config import UnitConfig
from .score_buffer import score_entry, score_summary
from .softmax_shift import SoftmaxShift
from .weight_list import weight_entry, weight_stats

__all__ = ["Weighting", "weight_update"]


def weight_update(config: UnitConfig) -> data.StructLayout:
    """A row's non-zero weight, for slot statistics."""
    return data.StructLayout({"valid": 1, "row": config.sizes.row_bits, "weight": formats.WEIGHT_BITS})


class Weighting(wiring.Component):
    """Reads a head's bank once, turns shifted scores into weights and marks the zero ones.

    ::

        summary ─► issue ─► bank ─► t, slot ─┬─► BlockShift ────┬─► round ─► entry, update
                     └─► block exponent ─────┴─► SoftmaxShift ──┘

    ReLU heads read the low end of their bank, softmax heads both ends, low end first; one entry a cycle while the
    weight list has room, heads back to back. The first ``entry`` comes 5 cycles after the summary of a ReLU head;
    heads of the other modes wait two cycles more for the choice between ReLU and softmax, and softmax entries take
    7 cycles more. The pipeline drains before and after a softmax head, so that order holds.

    A head falls back to softmax when its mode is hybrid and ``active < min_active`` or ``mass < min_mass``.

    Members
    -------
    summary : In(stream(:func:`score_buffer.score_summary`))
        ``ready`` rises with the last read of the head.
    index : Out(slot_bits), high : Out(1)
        What is read of the summary's bank.
    score : In(:func:`score_buffer.score_entry`)
        It, 2 cycles later.
    stats : Out(stream(:func:`weight_list.weight_stats`))
        With the first read of the head.
    room : In(1), reserve : Out(1)
        The weight list has a place; it is taken for the entry that is read in this cycle. Heads without reads wait for
        it too.
    entry : Out(:func:`weight_list.weight_entry`)
    update : Out(:func:`weight_update`)
        The same cycle as the ``entry`` of a weight that is not zero, unless its head is silent.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        sizes = config.sizes
        super().__init__(
            {
                "summary": In(stream.Signature(score_summary(config))),
                "index": Out(sizes.slot_bits),
                "high": Out(1),
                "score": In(score_entry(config)),
                "stats": Out(stream.Signature(weight_stats(config))),
                "room": In(1),
                "reserve": Out(1),
                "entry": Out(weight_entry(config)),
                "update": Out(weight_update(config)),
            }
        )
        self.masked = self.summary.payload.masked
        # The head has issued its first read.
        self.started = Signal()
        # Number of reads of this end of the bank, once the present one is issued; and once the next one is.
        self.number = Signal(sizes.count_bits, init=1)
        self.following = Signal(sizes.count_bits, init=2)
        # The present read, not the first of the low end, is the last of this end.
        self.end_last = Signal()
        # The present read (or, for a head without reads, the mark of its end) is issued; it reads; it is the last.
        self.go = Signal()
        self.reads = Signal()
        self.last = Signal()
        # Mode of the head, and what blocks its start.
        self.softmax = Signal()
        self.fallback = Signal()
        self.undecided = Signal()
        self.draining = Signal()
        # The high end has entries; it has one.
        self.rest_some = Signal(reset_less=True)
        self.rest_single = Signal(reset_less=True)
        # All heads in the pipeline are softmax heads.
        self.softmax_path = Signal()

    def elaborate(self, platform):
        m = Module()
        self._issue(m)
        if self.config.softmax:
            self._drain(m, self._choose(m))
        self._announce(m)
        token, base, exponent = self._fetch(m)
        self._weigh(m, token, base, exponent)
        return m

    def _issue(self, m):
        """One read a cycle. ``index`` rests at 0, so the first read is issued in the summary's first cycle."""
        summary = self.summary
        low_empty, low_last = Signal(), Signal()
        able = Signal()
        m.d.comb += [
            low_empty.eq(self.masked | summary.payload.none),
            low_last.eq(low_empty | Mux(self.started, self.end_last, summary.payload.single)),
            able.eq(summary.valid & ~self.undecided & (self.started | ~self.draining) & self.room),
            self.stats.valid.eq(able & ~self.started),
            self.go.eq(able & (self.started | self.stats.ready)),
            self.reserve.eq(self.go & self.reads),
            summary.ready.eq(self.go & self.last),
        ]
        limit = summary.payload.active
        if self.config.softmax:
            rest = summary.payload.rest
            limit = Mux(self.high, rest, limit)
            m.d.sync += [self.rest_some.eq(rest != 0), self.rest_single.eq(rest == 1)]
            m.d.comb += [
                self.reads.eq(~low_empty | self.softmax),
                self.last.eq(Mux(self.high, self.end_last, low_last & ~(self.softmax & self.rest_some))),
            ]
        else:
            m.d.comb += [self.reads.eq(~low_empty), self.last.eq(low_last)]
        with m.If(self.go):
            m.d.sync += self.started.eq(~self.last)
            with m.If(self.last | (low_last & ~self.high)):
                m.d.sync += [self.index.eq(0), self.number.eq(1), self.following.eq(2)]
                m.d.sync += [self.high.eq(~self.last), self.end_last.eq(self.rest_single)]
            with m.Else():
                m.d.sync += [self.index.eq(self.number), self.number.eq(self.following)]
                m.d.sync += [self.following.eq(self.following + 1), self.end_last.eq(self.following == limit)]

    def _choose(self, m):
        """Choose between ReLU and softmax in two cycles of their own, unless the mode is ReLU.

        Returns whether the head will be, in the next cycle, one for softmax.
        """
        payload = self.summary.payload
        compared, chosen, few_active, little_mass = Signal(), Signal(), Signal(), Signal()
        few = few_active | little_mass
        softmax, decides = (payload.mode == Mode.SOFTMAX) | few, compared & self.undecided
        m.d.comb += self.undecided.eq(~chosen & ~payload.plain)
        m.d.sync += [
            few_active.eq(payload.active < payload.min_active),
            little_mass.eq(payload.mass < payload.min_mass),
            compared.eq(self.summary.valid & self.undecided),
        ]
        with m.If(decides):
            m.d.sync += [
                chosen.eq(1),
                self.softmax.eq(softmax),
                self.fallback.eq((payload.mode == Mode.HYBRID) & few),
                self.high.eq(softmax & payload.none),
                self.end_last.eq(self.rest_single),
            ]
        with m.If(self.go & self.last):
            m.d.sync += [chosen.eq(0), self.softmax.eq(0), self.fallback.eq(0)]
        return self.softmax | (decides & softmax)

    def _drain(self, m, softmax):
        """Softmax heads begin, and others begin behind them, when the pipeline is empty.

        ``draining`` is a register: for a cycle too long behind the first read of a head that follows a softmax head.
        """
        left, flows = Signal(range(3 + SoftmaxShift.latency + 1)), Signal()
        still = self.go | (flows & (left != 1))
        with m.If(self.go):
            m.d.sync += left.eq(3 + SoftmaxShift.latency)
        with m.Elif(flows):
            m.d.sync += left.eq(left - 1)
        m.d.sync += [flows.eq(still), self.draining.eq(still & (softmax | self.softmax_path))]
        with m.If(self.go & ~self.started):
            m.d.sync += self.softmax_path.eq(self.softmax)

    def _announce(self, m):
        """Tell the weight list what is known of the head."""
        payload, stats = self.summary.payload, self.stats.payload
        m.d.comb += [
            stats.active.eq(Mux(self.masked, 0, payload.active)),
            stats.mass.eq(Mux(self.masked, 0, payload.mass)),
            stats.null.eq(~self.masked & ~self.softmax & payload.none),
            stats.softmax.eq(self.softmax),
            stats.fallback.eq(self.fallback),
        ]

    def _fetch(self, m):
        """What accompanies a read through the memory, and the block exponent beside it; 2 cycles."""
        sizes = self.config.sizes
        layout = data.StructLayout({"reads": 1, "end": 1, "silent": 1})
        token = [Signal(layout, name=f"fetch{i}") for i in range(2)]
        base = [Signal(sizes.row_bits, name=f"base{i}", reset_less=True) for i in range(2)]
        m.d.sync += [
            token[0].reads.eq(self.reserve),
            token[0].end.eq(self.go & self.last),
            token[0].silent.eq(self.summary.payload.silent),
            token[1].eq(token[0]),
            base[0].eq(self.summary.payload.row),
            base[1].eq(base[0]),
        ]
        return token[1], base[1], self._exponent(m)

    def _exponent(self, m):
        """Bit length of the magnitude above its low 8 bits: group by group of 4, then the highest group; 2 cycles."""
        high = self.summary.payload.magnitude[formats.WEIGHT_BITS :]
        groups = [high[low : low + 4] for low in range(0, len(high), 4)]
        lengths = [Signal(range(5), name=f"length{i}", reset_less=True) for i in range(len(groups))]
        masked = Signal(reset_less=True)
        exponent = Signal(formats.EXPONENT_BITS, reset_less=True)
        m.d.sync += [masked.eq(self.masked), exponent.eq(0)]
        for i, (group, length) in enumerate(zip(groups, lengths, strict=True)):
            m.d.sync += length.eq(0)
            for bit in range(len(group)):
                with m.If(group[bit]):
                    m.d.sync += length.eq(bit + 1)
            with m.If((length != 0) & ~masked):
                m.d.sync += exponent.eq(4 * i + length)
        return exponent

    def _weigh(self, m, token, base, exponent):
        """Shift, round, and send with the row."""
        config, sizes = self.config, self.config.sizes
        layout = data.StructLayout({"reads": 1, "end": 1, "silent": 1, "row": sizes.row_bits})
        stages = SoftmaxShift.latency if config.softmax else BlockShift.latency
        line = [Signal(layout, name=f"shift{i}") for i in range(stages)]
        exponents = [Signal(formats.EXPONENT_BITS, name=f"exponent{i}", reset_less=True) for i in range(2)]
        m.d.sync += [
            line[0].reads.eq(token.reads),
            line[0].end.eq(token.end),
            line[0].silent.eq(token.silent),
            line[0].row.eq(base + self.score.slot),
            exponents[0].eq(exponent),
            exponents[1].eq(exponents[0]),
        ]
        m.d.sync += [after.eq(before) for before, after in pairwise(line)]
        m.submodules.block_shift = block = BlockShift(sizes.shifted_bits - 1)
        m.d.comb += [block.shifted.eq(self.score.shifted), block.exponent.eq(exponent)]
        doubled, done, scale = block.doubled, line[BlockShift.latency - 1], exponents[1]
        if config.softmax:
            soft = self._softmax_shift(m)
            chosen = Signal(layout)
            m.d.comb += chosen.eq(Array([done, line[-1]])[self.softmax_path])
            doubled, done = Mux(self.softmax_path, soft, doubled), chosen
            scale = Mux(self.softmax_path, 0, scale)
        self._round(m, doubled, done, scale)

    def _softmax_shift(self, m):
        """The softmax path; its constants are taken while a softmax head waits to start and the pipeline is empty."""
        payload = self.summary.payload
        m.submodules.softmax_shift = soft = SoftmaxShift(self.config.sizes.shifted_bits)
        for name in ("peak", "kappa_mantissa", "kappa_shift"):
            port = getattr(soft, name)
            held = Signal.like(port, reset_less=True)
            with m.If(self.softmax & ~self.started & ~self.draining):
                m.d.sync += held.eq(payload[name])
            m.d.comb += port.eq(held)
        m.d.comb += soft.shifted.eq(self.score.shifted)
        return soft.doubled

    def _round(self, m, doubled, done, exponent):
        """Halve with rounding and cap at 255: both shifts give twice the weight, truncated."""
        rounded = doubled + 1
        entry, earns = Signal(weight_entry(self.config)), Signal()
        m.d.sync += [
            earns.eq(done.reads & (doubled != 0) & ~done.silent),
            entry.keep.eq(done.reads & (doubled != 0)),
            entry.drop.eq(done.reads & (doubled == 0)),
            entry.end.eq(done.end),
            entry.row.eq(done.row),
            entry.weight.eq(Mux(rounded[-1], formats.WEIGHT_MAX, rounded[1:-1])),
            entry.exponent.eq(exponent),
        ]
        m.d.comb += [
            self.entry.eq(entry),
            self.update.valid.eq(earns),
            self.update.row.eq(entry.row),
            self.update.weight.eq(entry.weight),
        ]
