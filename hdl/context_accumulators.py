"""P accumulators, drained in four words."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from reluctant.golden import formats

from .config import UnitConfig
from .mac_array import PRODUCT_BITS, product_control

__all__ = ["ContextAccumulators", "context_word"]


def context_word(config: UnitConfig) -> data.StructLayout:
    """P/4 contexts, int32, element 0 lowest; ``last`` word of its head."""
    return data.StructLayout({"valid": 1, "last": 1, "data": config.sizes.word * formats.CONTEXT_BITS})


class ContextAccumulators(wiring.Component):
    """Sums the products of a pass and drains them as four words, while the next pass accumulates.

    Feed-forward: one beat of products a cycle. The first word comes 2 cycles after the last products of a pass, the
    others in the 3 cycles after it. So two passes must end at least ``drain`` = 4 cycles apart.

    Members
    -------
    products : In(lanes x signed 17), product : In(product_control)
    word : Out(context_word)
    """

    drain = 4

    def __init__(self, config: UnitConfig):
        self.config = config
        super().__init__(
            {
                "products": In(data.ArrayLayout(signed(PRODUCT_BITS), config.lanes)),
                "product": In(product_control()),
                "word": Out(context_word(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        sizes = self.config.sizes
        sums = [Signal(signed(formats.CONTEXT_BITS), name=f"context_{lane}") for lane in range(sizes.lanes)]
        with m.If(self.product.valid):
            for lane, total in enumerate(sums):
                m.d.sync += total.eq(Mux(self.product.first, 0, total) + self.products[lane])
        complete, final = Signal(), Signal()
        m.d.sync += [complete.eq(self.product.valid & self.product.last), final.eq(self.product.final)]

        word_bits = sizes.word * formats.CONTEXT_BITS
        words = Signal(self.drain * word_bits, reset_less=True)
        left = Signal(range(self.drain + 1))
        head_ends = Signal()
        with m.If(complete):
            m.d.sync += [words.eq(Cat(*sums)), left.eq(self.drain), head_ends.eq(final)]
        with m.Elif(left != 0):
            m.d.sync += [words.eq(words >> word_bits), left.eq(left - 1)]
        m.d.comb += [
            self.word.valid.eq(left != 0),
            self.word.last.eq(head_ends & (left == 1)),
            self.word.data.eq(words[:word_bits]),
        ]
        return m
