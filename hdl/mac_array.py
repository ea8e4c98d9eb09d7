"""The one array of multipliers, in its two dataflows."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from reluctant.golden import formats

from .config import UnitConfig
from .multiplier import Multiplier

__all__ = ["MacArray", "beat_control", "product_control", "score"]

PRODUCT_BITS = formats.DATA_BITS + formats.WEIGHT_BITS + 1


def beat_control(config: UnitConfig) -> data.StructLayout:
    """What goes with a beat of a row. ``last``: of its row (dot) or pass (axpy); ``final``: of its head."""
    return data.StructLayout(
        {
            "valid": 1,
            "axpy": 1,  # 0: dot with the query, 1: times the weight
            "first": 1,
            "last": 1,
            "final": 1,
            "slot": config.sizes.slot_bits,  # dot only
            "weight": formats.WEIGHT_BITS,  # axpy only
        }
    )


def product_control() -> data.StructLayout:
    """What goes with P products: ``first`` and ``last`` of a pass, ``final`` of a head."""
    return data.StructLayout({"valid": 1, "first": 1, "last": 1, "final": 1})


def score(config: UnitConfig) -> data.StructLayout:
    """One exact score; ``last`` of its head."""
    sizes = config.sizes
    return data.StructLayout({"valid": 1, "slot": sizes.slot_bits, "score": signed(sizes.score_bits), "last": 1})


class MacArray(wiring.Component):
    """P multipliers, int8 x signed 9 bits, an adder tree for *dot* and bare products for *axpy*.

    ::

        row ──────────► x ──► products (axpy)
        query ─┐        ▲
        weight ┴─ mux ──┘ └─► tree ─► + over the beats of a row ─► score (dot)

    Feed-forward: one beat a cycle, dot and axpy in any order. ``products`` come 2 cycles after the beat, ``score``
    ``score_latency`` = 3 + log2(P) cycles after the last beat of its row.

    Parameters
    ----------
    config
        Uses ``lanes``, ``head_dim`` (score width) and ``slots`` (slot width).

    Members
    -------
    control : In(beat_control)
    row, query : In(lanes * 8), packed signed bytes; ``query`` belongs to dot
    products : Out(lanes x signed 17), product : Out(product_control)
    score : Out(score)
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        self.lanes = config.lanes
        self.levels = (self.lanes - 1).bit_length()
        self.score_latency = Multiplier.latency + self.levels + 1
        width = self.lanes * formats.DATA_BITS
        super().__init__(
            {
                "control": In(beat_control(config)),
                "row": In(width),
                "query": In(width),
                "products": Out(data.ArrayLayout(signed(PRODUCT_BITS), self.lanes)),
                "product": Out(product_control()),
                "score": Out(score(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        for lane in range(self.lanes):
            m.submodules[f"multiplier_{lane}"] = multiplier = Multiplier(formats.DATA_BITS, formats.WEIGHT_BITS + 1)
            byte = slice(lane * formats.DATA_BITS, (lane + 1) * formats.DATA_BITS)
            query, weight = self.query[byte].as_signed(), Cat(self.control.weight, 0).as_signed()
            m.d.comb += [
                multiplier.a.eq(self.row[byte].as_signed()),
                multiplier.b.eq(Mux(self.control.axpy, weight, query)),
                self.products[lane].eq(multiplier.p),
            ]
        control = self._delay(m, self.control, Multiplier.latency, "operand")
        m.d.comb += [
            self.product.valid.eq(control.valid & control.axpy),
            self.product.first.eq(control.first),
            self.product.last.eq(control.last),
            self.product.final.eq(control.final),
        ]
        self._accumulate(m, self._tree(m), self._delay(m, control, self.levels, "tree"))
        return m

    def _delay(self, m, value, cycles, name):
        """``value`` after some cycles; only ``valid`` is reset."""
        for index in range(cycles):
            stage = Signal(value.shape(), name=f"{name}_{index}", reset_less=True)
            valid = Signal(name=f"{name}_valid_{index}")
            m.d.sync += [stage.eq(value), valid.eq(value.valid)]
            delayed = Signal(value.shape(), name=f"{name}_{index}_out")
            m.d.comb += [delayed.eq(stage), delayed.valid.eq(valid)]
            value = delayed
        return value

    def _tree(self, m):
        """Sum of the products: one registered level of adders per halving."""
        level = [self.products[lane] for lane in range(self.lanes)]
        for depth in range(self.levels):
            sums = []
            for index in range(len(level) // 2):
                total = Signal(signed(PRODUCT_BITS + depth + 1), name=f"sum_{depth}_{index}")
                m.d.sync += total.eq(level[2 * index] + level[2 * index + 1])
                sums.append(total)
            level = sums
        return level[0]

    def _accumulate(self, m, total, control):
        """Add up the beats of a row; the last one completes the score."""
        dot = control.valid & ~control.axpy
        accumulator = Signal(signed(self.config.sizes.score_bits))
        with m.If(dot):
            m.d.sync += accumulator.eq(Mux(control.first, 0, accumulator) + total)
        m.d.sync += [
            self.score.valid.eq(dot & control.last),
            self.score.slot.eq(control.slot),
            self.score.last.eq(control.final),
        ]
        m.d.comb += self.score.score.eq(accumulator)
