"""Scores of one head, and the weights that take their place."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from reluctant.golden import formats

from .block_shift import BlockShift
from .config import UnitConfig
from .memory import Ram

__all__ = ["SerialWeights", "head_sums"]


def head_sums(config: UnitConfig) -> data.StructLayout:
    """What is known of a head when its weights are."""
    sizes = config.sizes
    return data.StructLayout(
        {
            "exponent": formats.EXPONENT_BITS,
            "active": sizes.count_bits,
            "mass": sizes.mass_bits,
            "weight_sum": sizes.weight_sum_bits,
        }
    )


class SerialWeights(wiring.Component):
    """One memory that holds a head's shifted scores, row by row, and then its non-zero weights with their slots.

    A weighing pass reads every score and writes the weights that are not zero back from the start on, never ahead of
    what is read; a replay reads those again. Both give (slot, weight) of one row a cycle, 2 cycles after ``read``.

    Parameters
    ----------
    config
        A build without softmax.

    Members
    -------
    clear : In(1)
        A new head: sums are zero. (``rewind`` too is needed.)
    rewind : In(1)
        The next score or weight is the first.
    scored : In(1), shifted : In(shifted_bits - 1)
        The next row's, at least 0.
    go : In(1)
        What is read moves on; without, nothing is read and the outputs hold.
    read : In(1), index : In(slot_bits)
        A row of a weighing pass, or an entry of a replay.
    weighing : In(1)
        Holds through a pass.
    keep : Out(1), slot : Out(slot_bits)
        A row with a weight, 2 cycles behind ``read``; the weight follows in the next cycle (with ``go``).
    weight : Out(8)
    count : Out(count_bits)
        Scores or weights written.
    sums : Out(head_sums(config))
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        sizes = config.sizes
        super().__init__(
            {
                "clear": In(1),
                "rewind": In(1),
                "scored": In(1),
                "shifted": In(sizes.shifted_bits - 1),
                "go": In(1),
                "read": In(1),
                "index": In(sizes.slot_bits),
                "weighing": In(1),
                "keep": Out(1),
                "slot": Out(sizes.slot_bits),
                "weight": Out(formats.WEIGHT_BITS),
                "count": Out(sizes.count_bits),
                "sums": Out(head_sums(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        sizes = self.config.sizes
        width = max(sizes.shifted_bits - 1, formats.WEIGHT_BITS + sizes.slot_bits)
        m.submodules.entries = entries = Ram(width=width, depth=1 << sizes.slot_bits)
        magnitude = self._sum(m)
        weight, saved = self._read(m, entries, magnitude)
        m.d.comb += [
            entries.read_en.eq(self.go),
            entries.read_addr.eq(self.index),
            entries.write_en.eq(self.scored | saved),
            entries.write_addr.eq(self.count),
            entries.write_data.eq(Mux(self.weighing, Cat(weight, self.slot), self.shifted)),
        ]
        with m.If(self.rewind):
            m.d.sync += self.count.eq(0)
        with m.Elif(entries.write_en):
            m.d.sync += self.count.eq(self.count + 1)
        return m

    def _sum(self, m):
        """Sums over the scores. Returns their OR."""
        sums = self.sums
        magnitude = Signal(len(self.shifted))
        with m.If(self.scored):
            m.d.sync += [
                magnitude.eq(magnitude | self.shifted),
                sums.mass.eq(sums.mass + self.shifted),
                sums.active.eq(sums.active + self.shifted.any()),
            ]
        with m.If(self.clear):
            m.d.sync += [magnitude.eq(0), sums.mass.eq(0), sums.active.eq(0)]
        return magnitude

    def _read(self, m, entries, magnitude):
        """Read, shift, round. Returns the weight of ``slot`` and whether it is written back."""
        exponent = self._exponent(m, magnitude)
        m.submodules.shift = shift = BlockShift(self.config.sizes.shifted_bits - 1, registered=False)
        entry = entries.read_data
        token, valid = Signal(), Signal()
        index = Signal(len(self.index), reset_less=True)
        doubled = Signal(BlockShift.bits, reset_less=True)
        weight, late = Signal(formats.WEIGHT_BITS), Signal(formats.WEIGHT_BITS, reset_less=True)
        earns = Signal()
        half = doubled[1:]
        m.d.comb += [
            shift.shifted.eq(entry),
            shift.exponent.eq(Mux(self.weighing, exponent, 0)),
            self.keep.eq(valid & doubled.any()),
            weight.eq(half + (doubled[0] & ~half.all())),  # rounded, at most 255
            self.weight.eq(late),
            self.sums.exponent.eq(exponent),
        ]
        with m.If(self.go):
            m.d.sync += [
                token.eq(self.read),
                index.eq(self.index),
                valid.eq(token),
                doubled.eq(shift.doubled),
                self.slot.eq(Mux(self.weighing, index, entry[formats.WEIGHT_BITS :])),
                late.eq(weight),
            ]
        saved = self.keep & self.go & self.weighing
        m.d.sync += earns.eq(saved)
        with m.If(self.clear):
            m.d.sync += self.sums.weight_sum.eq(0)
        with m.Elif(earns):
            m.d.sync += self.sums.weight_sum.eq(self.sums.weight_sum + late)
        return weight, saved

    def _exponent(self, m, magnitude):
        """Bit length of the magnitude above its low 8 bits."""
        high = magnitude[formats.WEIGHT_BITS :]
        exponent = Signal(formats.EXPONENT_BITS)
        for bit in range(len(high)):
            with m.If(high[bit]):
                m.d.comb += exponent.eq(bit + 1)
        return exponent
