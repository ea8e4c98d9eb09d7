"""The order of the heads: from groups to heads with their settings, and their key phases."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import UnitConfig
from .slot_walker import walk

__all__ = ["HeadSequencer"]


class HeadSequencer(wiring.Component):
    """Gives each head of a group to row selection, and its key phase to the slot walker.

    A head that runs waits until one of the two score banks is free and the walker takes its key phase, so that
    ``head`` and ``walk`` transfer in the same cycle. So ``head.valid`` follows ``walk.ready`` and may fall before the
    transfer, an exception to the stream rule: both must go to components that look at valid only when they are ready.
    A masked head goes to row selection alone: it reads nothing.
    One head every 3 cycles at most; the first one 1 cycle after its group arrives, if the payload was there a cycle
    before (or asks for the settings that were asked for then), else 2.

    Members
    -------
    group : In(stream(layouts.group))
        ``ready`` is a register: a group is taken the cycle after its last head. The payload is looked at before
        ``valid``.
    settings_addr : Out(range(profiles * heads)), ``profile * heads + head``
    settings : In(layouts.head_settings), 2 cycles after the address
    head : Out(stream(layouts.score_head))
    walk : Out(stream(slot_walker.walk))
    released : In(1), a score bank may be written again
    query_released : Out(2), input banks of jobs in which every head is masked
    masked : Out(1), pulse for each masked head; ``query_released`` and it a cycle after the head is taken
    """

    score_banks = 2

    def __init__(self, config: UnitConfig):
        self.config = config
        super().__init__(
            {
                "group": In(stream.Signature(layouts.group(config))),
                "settings_addr": Out(range(max(2, config.profiles * config.heads))),
                "settings": In(layouts.head_settings(config)),
                "head": Out(stream.Signature(layouts.score_head(config))),
                "walk": Out(stream.Signature(walk(config))),
                "released": In(1),
                "query_released": Out(2),
                "masked": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        sizes = self.config.sizes
        group, job = self.group.payload, self.group.payload.job
        # The head that comes next, as soon as its group is there; and, a cycle later, beside its settings.
        index = Signal(range(max(2, sizes.group)))
        next_head, head = Signal(sizes.head_bits), Signal(sizes.head_bits)
        next_mask, mask = Signal(sizes.heads), Signal(sizes.heads)
        next_query, query = Signal(sizes.query_bits), Signal(sizes.query_bits)
        starts, group_last = Signal(), Signal()
        known = Signal(data.StructLayout({"head": sizes.head_bits, "query": sizes.query_bits, "group_last": 1}))
        masked, others_masked = Signal(), Signal()
        m.d.comb += [
            starts.eq((group.kv == 0) & (index == 0)),
            group_last.eq(index == sizes.group - 1),
            head.eq(Mux(starts, 0, next_head)),
            mask.eq(Mux(starts, job.mask, next_mask)),
            query.eq(Mux(starts, Mux(group.bank, sizes.query_depth // 2, 0), next_query)),
            self.settings_addr.eq(job.profile * sizes.heads + head),
        ]
        m.d.sync += [
            known.head.eq(head),
            known.query.eq(query),
            known.group_last.eq(group_last),
            masked.eq(mask[0]),
            others_masked.eq(Const(1) if sizes.heads == 1 else mask[1:].all()),
        ]
        asked = Signal.like(self.settings_addr)
        m.d.sync += asked.eq(self.settings_addr)
        taken = self._hand_over(m, masked, known.group_last, self.settings_addr == asked)
        with m.If(taken):
            m.d.sync += [
                index.eq(Mux(known.group_last, 0, index + 1)),
                next_head.eq(known.head + 1),
                next_mask.eq(Cat(mask[1:], 1)),
                next_query.eq(known.query + job.beats),
            ]
        self._describe(m, known, masked)
        m.d.comb += [
            self.walk.payload.row.eq(group.row),
            self.walk.payload.n.eq(job.n),
            self.walk.payload.beats.eq(job.beats),
            self.walk.payload.query.eq(known.query),
            self.walk.payload.bank.eq(group.bank),
            self.walk.payload.release.eq(others_masked),
        ]
        return m

    def _hand_over(self, m, masked, group_last, settled):
        """When the known head goes. What follows from it comes a cycle later, and before that no other head is known.

        ``settled``: the settings come next.

        Returns whether it goes.
        """
        group, is_known, taken, ends = self.group.payload, Signal(), Signal(), Signal()
        credit = self._credits(m)
        told = Signal(data.StructLayout({"masked": 1, "all_masked": 1}))
        m.d.sync += [
            is_known.eq(self.group.valid & ~taken & ~ends & (is_known | settled)),
            ends.eq(taken & group_last),
            told.masked.eq(taken & masked),
            told.all_masked.eq(group.job.mask.all() & group.last),
        ]
        m.d.comb += [
            self.head.valid.eq(is_known & (masked | (credit & self.walk.ready))),
            self.walk.valid.eq(is_known & ~masked & credit & self.head.ready),
            taken.eq(self.head.valid & self.head.ready),
            self.group.ready.eq(ends),
            self.masked.eq(told.masked),
            self.query_released.eq(Mux(ends & told.all_masked, 1 << group.bank, 0)),
        ]
        return taken

    def _credits(self, m):
        """Whether a score bank is free: one credit a bank, taken by a head that runs."""
        credits, some = Signal(range(self.score_banks + 1), init=self.score_banks), Signal(init=1)
        takes = self.walk.valid & self.walk.ready
        m.d.sync += credits.eq(credits + self.released - takes)
        with m.If(takes != self.released):
            m.d.sync += some.eq(self.released | (credits > 1))
        return some

    def _describe(self, m, known, masked):
        group, job = self.group.payload, self.group.payload.job
        described = self.head.payload
        for name in ("theta", "mode", "kappa_mantissa", "kappa_shift", "min_active", "min_mass"):
            m.d.comb += described[name].eq(self.settings[name])
        result = described.value.result
        for name in layouts.head_scales(self.config):
            m.d.comb += result[name].eq(self.settings[name])
        for name in ("n", "beats", "normaliser", "emit_context", "profile", "tag"):
            m.d.comb += result[name].eq(job[name])
        m.d.comb += [
            described.silent.eq(job.silent),
            described.value.row.eq(group.row),
            described.value.group_last.eq(known.group_last),
            result.head.eq(known.head),
            result.masked.eq(masked),
            result.last.eq(group.last & known.group_last),
        ]
