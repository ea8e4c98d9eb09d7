"""The order of the heads: from groups to heads with their settings, and their key phases."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
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
    One head every 2 cycles at most; the first one 1 cycle after its group arrives.

    Members
    -------
    group : In(stream(layouts.group))
    settings_addr : Out(range(profiles * heads)), ``profile * heads + head``
    settings : In(layouts.head_settings), 1 cycle after the address
    head : Out(stream(layouts.score_head))
    walk : Out(stream(slot_walker.walk))
    released : In(1), a score bank may be written again
    query_released : Out(2), input banks of jobs in which every head is masked
    masked : Out(1), pulse for each masked head
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
        index = Signal(range(max(2, sizes.group)))
        next_head, head = Signal(sizes.head_bits), Signal(sizes.head_bits)
        next_mask, mask = Signal(sizes.heads), Signal(sizes.heads)
        next_query, query = Signal(sizes.query_bits), Signal(sizes.query_bits)
        starts, group_last = Signal(), Signal()
        m.d.comb += [
            starts.eq((group.kv == 0) & (index == 0)),
            group_last.eq(index == sizes.group - 1),
            head.eq(Mux(starts, 0, next_head)),
            mask.eq(Mux(starts, job.mask, next_mask)),
            query.eq(Mux(starts, Mux(group.bank, sizes.query_depth // 2, 0), next_query)),
            self.settings_addr.eq(job.profile * sizes.heads + head),
        ]
        others_masked = Const(1) if sizes.heads == 1 else mask[1:].all()

        known, taken, credit = Signal(), Signal(), self._credits(m)
        m.d.sync += known.eq(self.group.valid & ~taken)
        runs = known & ~mask[0] & credit
        m.d.comb += [
            self.head.valid.eq((known & mask[0]) | (runs & self.walk.ready)),
            self.walk.valid.eq(runs & self.head.ready),
            taken.eq(self.head.valid & self.head.ready),
            self.group.ready.eq(taken & group_last),
            self.masked.eq(taken & mask[0]),
            self.query_released.eq(Mux(taken & job.mask.all() & group.last & group_last, 1 << group.bank, 0)),
        ]
        with m.If(taken):
            m.d.sync += [
                index.eq(Mux(group_last, 0, index + 1)),
                next_head.eq(head + 1),
                next_mask.eq(Cat(mask[1:], 1)),
                next_query.eq(query + job.beats),
            ]
        self._describe(m, head, mask[0], group_last)
        m.d.comb += [
            self.walk.payload.row.eq(group.row),
            self.walk.payload.n.eq(job.n),
            self.walk.payload.beats.eq(job.beats),
            self.walk.payload.query.eq(query),
            self.walk.payload.bank.eq(group.bank),
            self.walk.payload.release.eq(others_masked),
        ]
        return m

    def _credits(self, m):
        """Whether a score bank is free: one credit a bank, taken by a head that runs."""
        credits = Signal(range(self.score_banks + 1), init=self.score_banks)
        m.d.sync += credits.eq(credits + self.released - (self.walk.valid & self.walk.ready))
        return credits != 0

    def _describe(self, m, head, masked, group_last):
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
            described.value.group_last.eq(group_last),
            result.head.eq(head),
            result.masked.eq(masked),
            result.last.eq(group.last & group_last),
        ]
