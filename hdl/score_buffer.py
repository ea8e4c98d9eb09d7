"""Scores of two heads in two banks, each filled from both ends, and the sums of a head when its last score is in."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from reluctant.golden.formats import Mode

from . import layouts
from .config import UnitConfig
from .memory import Ram
from .stream_fifo import StreamFifo

__all__ = ["ScoreBuffer", "queued_heads", "score_entry", "score_summary", "scored"]


def queued_heads(config: UnitConfig) -> int:
    """Heads between their arrival and their last row: few in small builds, whose devices make queues of registers."""
    return 4 if config.lanes <= 8 else 8


def scored(config: UnitConfig) -> data.StructLayout:
    """One score from the array; ``slot`` counts from the head's first row."""
    sizes = config.sizes
    return data.StructLayout(
        {"valid": 1, "slot": sizes.slot_bits, "score": signed(sizes.score_bits), "last": 1}  # last: of the head
    )


def score_entry(config: UnitConfig) -> data.StructLayout:
    """One entry of a bank. Without softmax only shifted scores above zero are kept, so they need no sign."""
    sizes = config.sizes
    shifted = signed(sizes.shifted_bits) if config.softmax else sizes.shifted_bits - 1
    return data.StructLayout({"slot": sizes.slot_bits, "shifted": shifted})


def score_summary(config: UnitConfig) -> data.StructLayout:
    """A head whose scores are all in the buffer. Only masked and row are meaningful of a masked one."""
    sizes = config.sizes
    head = layouts.score_head(config).members
    settings = ("mode", "kappa_mantissa", "kappa_shift", "min_active", "min_mass") if config.softmax else ()
    return data.StructLayout(
        {
            "active": sizes.count_bits,  # shifted scores above zero
            "none": 1,  # active is zero
            "single": 1,  # active is one
            "rest": sizes.count_bits,  # the others; only built with softmax
            "mass": sizes.mass_bits,  # sum of those above zero
            "magnitude": sizes.shifted_bits - 1,  # OR of those above zero
            "peak": signed(sizes.shifted_bits),  # maximum of all; only built with softmax
            "masked": 1,
            "row": sizes.row_bits,  # first row of the head
            "silent": 1,
            **({"plain": 1} if config.softmax else {}),  # masked, or its mode is ReLU
            **{name: head[name] for name in settings},
        }
    )


class ScoreBuffer(wiring.Component):
    """Shifts scores by the threshold, keeps them in one of two banks and sums up the head.

    ::

        score ─► s - theta ─┬─► bank 0 / 1: above zero from the low end up, the others from the high end down
                            └─► active, rest, mass, magnitude, peak ─► summary

    A bank has ``1 << slot_bits`` entries. Positive number i is entry i; other number i is the i-th entry from the top.
    The others are kept only in a build with softmax, for heads whose mode is not ReLU. They never meet: ``active +
    rest <= slots`` as long as a head brings at most ``slots`` scores.

    ``summary`` is valid 2 cycles after the last score of its head, if no earlier summary waits, and in no two cycles on
    end for two heads; it stays until its bank has been read. Masked heads pass in order, without scores and without a
    bank. A score is taken every cycle; nothing stalls. What must hold for that:

    * a head is pushed at least two cycles before its first score, and only while fewer than two unmasked heads are
      between their push and their ``released``;
    * heads bring their scores in the order in which they were pushed.

    The head queue holds :func:`queued_heads` descriptions, that of the summary included.

    Members
    -------
    head : In(stream(:func:`layouts.score_head`))
    score : In(:func:`scored`)
    summary : Out(stream(:func:`score_summary`))
        ``ready`` means that the last read of the bank is issued in this cycle.
    index : In(slot_bits), high : In(1)
        Entry of the summary's bank to read, counted from the low or from the high end. Meaningful while a summary
        of an unmasked head is valid.
    entry : Out(:func:`score_entry`)
        The entry, 2 cycles after ``index`` and ``high``.
    released : Out(1)
        One cycle high for every unmasked head, the cycle after its summary was taken: the bank may be written again.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        sizes = config.sizes
        super().__init__(
            {
                "head": In(stream.Signature(layouts.score_head(config))),
                "score": In(scored(config)),
                "summary": Out(stream.Signature(score_summary(config))),
                "index": In(sizes.slot_bits),
                "high": In(1),
                "entry": Out(score_entry(config)),
                "released": Out(1),
            }
        )
        # The head being scored: rows above the threshold, the other rows, their sum, their OR and their maximum.
        self.active = Signal(sizes.count_bits)
        self.none = Signal(init=1)
        self.single = Signal()
        self.rest = Signal(sizes.count_bits)
        self.mass = Signal(sizes.mass_bits)
        self.magnitude = Signal(sizes.shifted_bits - 1)
        self.peak = Signal(signed(sizes.shifted_bits), init=-(1 << (sizes.shifted_bits - 1)))
        # It is complete, but an earlier summary is in the way.
        self.held = Signal()
        # The summary's part of the above.
        self.done = Signal()
        self.done_active = Signal.like(self.active, reset_less=True)
        self.done_none = Signal.like(self.none, reset_less=True)
        self.done_single = Signal.like(self.single, reset_less=True)
        self.done_rest = Signal.like(self.rest, reset_less=True)
        self.done_mass = Signal.like(self.mass, reset_less=True)
        self.done_magnitude = Signal.like(self.magnitude, reset_less=True)
        self.done_peak = Signal.like(self.peak, reset_less=True)
        # Banks of the next head pushed, of the next score and of the next summary.
        self.push_bank = Signal()
        self.score_bank = Signal()
        self.read_bank = Signal()
        # The shifted score on its way into the bank.
        self.valid = Signal()
        self.positive = Signal(reset_less=True)
        self.shifted = Signal(signed(sizes.shifted_bits), reset_less=True)

    def elaborate(self, platform):
        m = Module()
        keep_rest, bank, slot, last = self._shift(m)
        self._store(m, keep_rest, bank, slot)
        self._sum(m, last)
        self._summarise(m)
        return m

    def _shift(self, m):
        """Subtract the threshold; one cycle. Thresholds wait by bank, as masked heads have none."""
        config, sizes = self.config, self.config.sizes
        thetas = [Signal(signed(sizes.score_bits), name=f"theta{bank}", reset_less=True) for bank in range(2)]
        with m.If(self.head.valid & self.head.ready & ~self.head.payload.value.result.masked):
            m.d.sync += [Array(thetas)[self.push_bank].eq(self.head.payload.theta), self.push_bank.eq(~self.push_bank)]
        theta = Mux(self.score_bank, thetas[1], thetas[0])
        slot = Signal(sizes.slot_bits, reset_less=True)
        last = Signal(reset_less=True)
        bank = Signal(reset_less=True)
        keep_rest = Signal(reset_less=True)
        m.d.sync += [
            self.valid.eq(self.score.valid),
            self.shifted.eq(self.score.score - theta),
            self.positive.eq(self.score.score > theta),
            slot.eq(self.score.slot),
            last.eq(self.score.last),
            bank.eq(self.score_bank),
        ]
        with m.If(self.score.valid & self.score.last):
            m.d.sync += self.score_bank.eq(~self.score_bank)
        if config.softmax:
            kept = [Signal(name=f"keep_rest{bank}", reset_less=True) for bank in range(2)]
            with m.If(self.head.valid & self.head.ready & ~self.head.payload.value.result.masked):
                m.d.sync += Array(kept)[self.push_bank].eq(self.head.payload.mode != Mode.RELU)
            m.d.sync += keep_rest.eq(Mux(self.score_bank, kept[1], kept[0]))
        return keep_rest, bank, slot, last

    def _store(self, m, keep_rest, bank, slot):
        """Write the shifted score to its end of its bank; read for the weighting."""
        sizes = self.config.sizes
        layout = score_entry(self.config)
        m.submodules.banks = banks = Ram(width=layout.size, depth=2 << sizes.slot_bits, latency=2)
        written = Signal(layout)
        low, high = self.active[: sizes.slot_bits], ~self.rest[: sizes.slot_bits]
        m.d.comb += [
            written.slot.eq(slot),
            written.shifted.eq(self.shifted),
            banks.write_en.eq(self.valid & (self.positive | keep_rest)),
            banks.write_addr.eq(Cat(Mux(self.positive, low, high) if self.config.softmax else low, bank)),
            banks.write_data.eq(written),
            banks.read_en.eq(self.done),
            banks.read_addr.eq(Cat(self.index ^ self.high.replicate(sizes.slot_bits), self.read_bank)),
            self.entry.as_value().eq(banks.read_data),
        ]

    def _sum(self, m, last):
        """Running sums of the head; they move on with its last score, or wait here until the summary is free."""
        hit = Signal()
        names = ("active", "none", "single", "mass", "magnitude") + (("rest", "peak") if self.config.softmax else ())
        following = {name: Signal.like(getattr(self, name), name=f"{name}_next") for name in names}
        above = Mux(hit, self.shifted[:-1], 0)
        m.d.comb += [
            hit.eq(self.valid & self.positive),
            following["active"].eq(self.active + hit),
            following["none"].eq(self.none & ~hit),
            following["single"].eq(Mux(hit, self.none, self.single)),
            following["mass"].eq(self.mass + above),
            following["magnitude"].eq(self.magnitude | above),
        ]
        if self.config.softmax:
            higher = self.valid & (self.shifted > self.peak)
            m.d.comb += [
                following["rest"].eq(self.rest + (self.valid & ~self.positive)),
                following["peak"].eq(Mux(higher, self.shifted, self.peak)),
            ]
        complete = Signal()
        m.d.comb += complete.eq(self.held | (self.valid & last))
        with m.If(complete & ~self.done):
            m.d.sync += [self.done.eq(1), self.held.eq(0)]
            for name, value in following.items():
                total = getattr(self, name)
                m.d.sync += [getattr(self, f"done_{name}").eq(value), total.eq(total.init)]
        with m.Else():
            m.d.sync += self.held.eq(complete)
            m.d.sync += [getattr(self, name).eq(value) for name, value in following.items()]

    def _summarise(self, m):
        """Join the front of the head queue with its sums."""
        queued = ("masked", "row", "silent", "plain", "mode", "kappa_mantissa", "kappa_shift", "min_active", "min_mass")
        members = self.summary.payload.shape().members
        kept = data.StructLayout({name: members[name] for name in queued if name in members})
        m.submodules.queue = queue = StreamFifo(kept, queued_heads(self.config))
        head, summary, front = self.head.payload, self.summary, queue.o
        taken = Signal()  # it leaves the queue a cycle after it was taken: until then its sums cannot be others either
        masked = head.value.result.masked
        described = {"masked": masked, "row": head.value.row, "plain": masked | (head.mode == Mode.RELU)}
        m.d.comb += [
            queue.i.valid.eq(self.head.valid),
            self.head.ready.eq(queue.i.ready),
            front.ready.eq(taken),
            summary.valid.eq(front.valid & ~taken & (front.payload.masked | self.done)),
            summary.payload.active.eq(self.done_active),
            summary.payload.none.eq(self.done_none),
            summary.payload.single.eq(self.done_single),
            summary.payload.mass.eq(self.done_mass),
            summary.payload.magnitude.eq(self.done_magnitude),
        ]
        for name in kept.members:
            value = described[name] if name in described else head[name]
            m.d.comb += [queue.i.payload[name].eq(value), summary.payload[name].eq(front.payload[name])]
        if self.config.softmax:
            m.d.comb += [summary.payload.rest.eq(self.done_rest), summary.payload.peak.eq(self.done_peak)]
        read = summary.valid & summary.ready & ~front.payload.masked
        m.d.sync += [self.released.eq(read), taken.eq(summary.valid & summary.ready)]
        with m.If(read):
            m.d.sync += [self.done.eq(0), self.read_bank.eq(~self.read_bank)]
