"""The multipliers of the serial core, their accumulators, and the sum of them that gives scores."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from reluctant.golden import formats

from .config import UnitConfig
from .multiply_accumulate import MultiplyAccumulate

__all__ = ["SerialArray"]


class SerialArray(wiring.Component):
    """P multipliers that accumulate, for keys and values alike.

    Every lane adds up its products. Of values the sums are contexts; they leave as four words of P/4 elements that
    shift through the accumulators, and zeros follow them. Of keys the sums over all lanes and all rows so far are
    added up, modulo ``2**shifted_bits``: what a row adds to that total is its score.

    Parameters
    ----------
    config
        The unit's configuration.

    Attributes
    ----------
    latency
        Cycles from a beat to what it changes in ``word`` (3), and to its row's ``score`` (4 more than the levels of the
        adder tree).
    settle
        Cycles from the last ``shift`` until ``rebase`` may follow.

    Members
    -------
    row, query : In(lanes * 8)
        Signed bytes of a key or value, and of the query.
    valid, last, axpy : In(1)
        A beat is there; it is the last one of its key row; it is one of a value row, and ``axpy`` holds through its
        phase.
    weight : In(8)
        Of the value row.
    shift : In(1)
        The contexts move on by a word; no beat is in the lanes.
    word : Out(word * 32)
    theta : In(signed)
        Threshold; holds from ``rebase`` on.
    rebase : In(1)
        All sums are zero, the key phase of a head begins.
    scored : Out(1), shifted : Out(shifted_bits - 1)
        A row's score less theta, or 0 where that is negative.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        sizes = config.sizes
        self.levels = (config.lanes - 1).bit_length()
        self.latency = MultiplyAccumulate.latency
        self.score_latency = self.latency + self.levels + 1
        self.settle = self.levels + 1
        width = config.lanes * formats.DATA_BITS
        super().__init__(
            {
                "row": In(width),
                "query": In(width),
                "valid": In(1),
                "last": In(1),
                "axpy": In(1),
                "weight": In(formats.WEIGHT_BITS),
                "shift": In(1),
                "word": Out(sizes.word * formats.CONTEXT_BITS),
                "theta": In(signed(sizes.score_bits)),
                "rebase": In(1),
                "scored": Out(1),
                "shifted": Out(sizes.shifted_bits - 1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        sums = self._lanes(m)
        self._score(m, self._tree(m, [total[: self.config.sizes.shifted_bits] for total in sums]))
        return m

    def _lanes(self, m):
        """The accumulators: each loads what the one a word further on holds."""
        config, word = self.config, self.config.sizes.word
        lanes = [MultiplyAccumulate(formats.DATA_BITS, formats.WEIGHT_BITS + 1) for _ in range(config.lanes)]
        adds = Signal(MultiplyAccumulate.latency - 1)
        m.d.sync += adds.eq(Cat(self.valid, adds))
        for number, lane in enumerate(lanes):
            m.submodules[f"lane_{number}"] = lane
            byte = slice(number * formats.DATA_BITS, (number + 1) * formats.DATA_BITS)
            query = self.query[byte]
            weighed = Signal(signed(formats.WEIGHT_BITS + 1), name=f"operand_{number}")
            with m.If(self.axpy):
                m.d.comb += weighed.eq(self.weight)
            with m.Else():
                m.d.comb += weighed.eq(query.as_signed())
            m.d.comb += [
                lane.a.eq(self.row[byte].as_signed()),
                lane.b.eq(weighed),
                lane.add.eq(adds[-1]),
                lane.load.eq(self.shift),
                lane.c.eq(lanes[number + word].o if number + word < config.lanes else 0),
            ]
        m.d.comb += self.word.eq(Cat(lane.o for lane in lanes[:word]))
        return [lane.o for lane in lanes]

    def _tree(self, m, sums):
        """Their sum: a registered level of adders per halving."""
        for level in range(self.levels):
            pairs = list(zip(sums[::2], sums[1::2], strict=True))
            sums = [Signal(len(sums[0]), name=f"sum_{level}_{n}") for n in range(len(pairs))]
            m.d.sync += [total.eq(a + b) for total, (a, b) in zip(sums, pairs, strict=True)]
        return sums[0]

    def _score(self, m, total):
        """What the row added, less the threshold."""
        ends = Signal(self.latency + self.levels)
        base = Signal(len(total), reset_less=True)  # the total without this row, and the threshold
        shifted = Signal(len(total) - 1, reset_less=True)
        difference = Signal(len(total))
        m.d.sync += [ends.eq(Cat(self.valid & self.last & ~self.axpy, ends)), self.scored.eq(ends[-1])]
        m.d.comb += [difference.eq(total - base), self.shifted.eq(shifted)]
        with m.If(ends[-1] | self.rebase):
            m.d.sync += [base.eq(total + self.theta), shifted.eq(difference)]
            with m.If(difference[-1]):
                m.d.sync += shifted.eq(0)
        return shifted
