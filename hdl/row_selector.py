"""Row selection: which value rows of a head are worth reading, and with which weight."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from . import layouts
from .config import UnitConfig
from .score_buffer import ScoreBuffer, scored
from .weight_list import WeightList
from .weighting import Weighting, weight_update

__all__ = ["RowSelector"]


class RowSelector(wiring.Component):
    """Takes scores, gives the value rows with non-zero weight, for every beat of the row.

    ::

        head, score ─► ScoreBuffer ─► Weighting ─┬─► WeightList ─► o
                            └─► released         └─► update

    The arithmetic is that of :mod:`reluctant.golden.formats`. In ReLU mode the first entry is at ``o`` 10 cycles after
    the last score of its head, if earlier heads are out of the way; 12 in hybrid mode without fallback; 19 with
    softmax. ``o`` then brings one entry a cycle without bubbles between rows, passes and heads, as far as weights
    are there; the first pass follows the weights as they are computed, one a cycle.

    Parameters
    ----------
    config
        The unit's configuration. Without ``softmax`` every head is a ReLU head, whatever its mode.

    Members
    -------
    head : In(stream(:func:`layouts.score_head`))
        Heads in order, masked ones too; each at least 2 cycles before its first score. As many as
        :func:`score_buffer.queued_heads` may be between their arrival and their last row. An unmasked head takes one
        of two credits.
    score : In(:func:`score_buffer.scored`)
        The scores of the unmasked heads, in order; never stalls, heads may follow each other without a gap.
    released : Out(1)
        One cycle high: a credit comes back.
    update : Out(:func:`weighting.weight_update`)
        Every non-zero weight of heads that are not silent, once.
    o : Out(stream(:func:`layouts.value_row`))
        A head without non-zero weights is one entry with ``zero`` set. Every other head comes in
        ``head.value.result.beats`` passes over its rows. Rows above the threshold come in slot order, for softmax
        followed by the others in slot order.
    record : Out(stream(:func:`layouts.value_record`))
        As that of :class:`WeightList`.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        super().__init__(
            {
                "head": In(stream.Signature(layouts.score_head(config))),
                "score": In(scored(config)),
                "released": Out(1),
                "update": Out(weight_update(config)),
                "o": Out(stream.Signature(layouts.value_row(config))),
                "record": Out(stream.Signature(layouts.value_record(config))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.buffer = buffer = ScoreBuffer(self.config)
        m.submodules.weighting = weighting = Weighting(self.config)
        m.submodules.list = weights = WeightList(self.config)
        connect(m, buffer.summary, weighting.summary)
        connect(m, weighting.stats, weights.stats)
        connect(m, weights.o, flipped(self.o))
        connect(m, weights.record, flipped(self.record))
        room = Signal()  # as heads do not come one a cycle, none has come since
        m.d.sync += room.eq(buffer.head.ready & weights.head.ready & ~(self.head.valid & room))
        m.d.comb += [
            self.head.ready.eq(room),
            buffer.head.valid.eq(self.head.valid & room),
            buffer.head.payload.eq(self.head.payload),
            weights.head.valid.eq(self.head.valid & room),
            weights.head.payload.eq(self.head.payload.value),
            buffer.score.eq(self.score),
            buffer.index.eq(weighting.index),
            buffer.high.eq(weighting.high),
            weighting.score.eq(buffer.entry),
            weighting.room.eq(weights.room),
            weights.reserve.eq(weighting.reserve),
            weights.entry.eq(weighting.entry),
            self.released.eq(buffer.released),
            self.update.eq(weighting.update),
        ]
        return m
