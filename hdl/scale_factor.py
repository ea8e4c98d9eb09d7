"""By what the contexts of a head are shifted and multiplied."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from reluctant.golden import formats

from .config import UnitConfig
from .context_buffer import context_head
from .reciprocal import Reciprocal
from .sink_shift import SinkShift

__all__ = ["ScaleFactor"]

_SQUARE_BITS = 33
"""Of one square: a shifted context is at most 2**15, or 2**16 where all contexts of its head are 0 or -1."""


class ScaleFactor(wiring.Component):
    """``formats.square_shift``, ``rsqrt`` or ``reciprocal``, and ``formats.factor`` for one head after the other.

    The sink of ``formats.sum_divisor`` is 0 unless ``add_sink`` asks for it: then it takes cycles, told by
    ``sink_busy``. The head's ``store`` takes it away again.

    The multiplier F is the product of ``y`` and alpha's mantissa; a lane of the normaliser makes it: after ``prepare``
    the shift is by nothing and ``multiplier`` is alpha's mantissa, and ``y`` is there, ready to go through the lane as
    an element; ``store`` takes F from its product.

    Parameters
    ----------
    config
        The unit's configuration, with at least one normaliser.

    Attributes
    ----------
    square_latency
        From the last squares to ``y``: cycles.
    argument_latency
        From ``head`` (or the first cycle without ``sink_busy`` after ``add_sink``) to ``y`` where no squares are
        needed: cycles.
    shift_latency
        From ``head`` (or ``gather``) to the shift that ``load_square`` loads: cycles.

    Members
    -------
    head : In(context_head)
        Held from ``shift_latency`` before ``load_square`` or ``argument_latency`` before ``prepare`` on.
    gather : In(1)
        The layer's scope: ``head`` is one of the heads that are normalised together.
    squares_valid : In(1), squares : In(normaliser_lanes * 33)
        Squares to be added.
    add_sink : In(1), sink_busy : Out(1)
        Pulse for a head of ReLU weights in ``sum``; from the next cycle on, its sink is not ready yet.
    load_square, load_scale, prepare : In(1)
        From the next cycle on, ``shift`` is for squaring; for scaling (2 or more cycles after ``y``); is by nothing.
    store : In(1), product : In(17)
        F, and when.
    clear : In(1)
        The heads normalised together are done.
    y : Out(17), shift : Out(6), multiplier : Out(17)
        ``shift`` is minus formats.SHIFT_MIN.
    """

    shift_latency = 4
    argument_latency = 1 + Reciprocal.latency

    def __init__(self, config: UnitConfig):
        self.config = config
        modes = set(config.normalisers)
        if not modes:
            raise ValueError(f"normalisers is {config.normalisers!r}: at least one is needed")
        self.layer, self.rms = "rms_layer" in modes, bool(modes & {"rms_head", "rms_layer"})
        self.sums = "sum" in modes
        self.functions = ("reciprocal",) * bool(modes & {"length", "sum"}) + ("rsqrt",) * self.rms
        self.levels = exact_log2(config.sizes.normaliser_lanes)
        self.square_latency = self.levels + 1 + Reciprocal.latency
        super().__init__(
            {
                "head": In(context_head(config)),
                "gather": In(1),
                "squares_valid": In(1),
                "squares": In(config.sizes.normaliser_lanes * _SQUARE_BITS),
                "add_sink": In(1),
                "sink_busy": Out(1),
                "load_square": In(1),
                "load_scale": In(1),
                "prepare": In(1),
                "store": In(1),
                "product": In(formats.MANTISSA_BITS + 1),
                "clear": In(1),
                "y": Out(formats.MANTISSA_BITS + 1),
                "shift": Out(range(formats.SHIFT_MAX - formats.SHIFT_MIN + 1)),
                "multiplier": Out(formats.MANTISSA_BITS + 1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        mode = self.head.record.head.normaliser
        kind = {name: Signal(name=name) for name in self.config.normalisers}
        m.d.sync += [flag.eq(mode == formats.Normaliser[name.upper()]) for name, flag in kind.items()]
        self._is = {name: kind.get(name, Const(0, 1)) for name in ("rms_head", "rms_layer", "length", "sum")}

        k = self._reciprocal(m)
        self._shift(m, k)
        multiplier = Signal.like(self.multiplier, reset_less=True)
        with m.If(self.prepare):
            m.d.sync += multiplier.eq(self.head.record.head.alpha_mantissa)
        with m.Elif(self.store):
            m.d.sync += multiplier.eq(self.product)
        m.d.comb += self.multiplier.eq(multiplier)
        return m

    def _reciprocal(self, m):
        """y from the sum of squares, the number of rows or the sum of weights; k."""
        modes, record = self.config.normalisers, self.head.record
        arguments = [
            value for name, value in (("length", record.head.n), ("sum", record.stats.weight_sum)) if name in modes
        ]
        value = None
        if arguments:
            argument = Mux(mode_is(record, "sum"), *reversed(arguments)) if len(arguments) == 2 else arguments[0]
            total = self._with_sink(m, argument) if self.sums else argument
            value = Signal(len(total), reset_less=True)
            m.d.sync += value.eq(total)
        if self.rms:
            root = self._is["rms_head"] | self._is["rms_layer"]
            total = self._sum_squares(m)
            value = total if value is None else Mux(root, total, value)
        m.submodules.reciprocal = reciprocal = Reciprocal(len(value), self.functions)
        m.d.comb += [reciprocal.i.value.eq(value), self.y.eq(reciprocal.o.y)]
        if len(self.functions) == 2:
            m.d.comb += reciprocal.i.root.eq(root)
        return reciprocal.o.k

    def _with_sink(self, m, argument):
        """The sum of weights plus the sink, or whatever else there is plus 0, in one addition with carry."""
        m.submodules.sink = sink = SinkShift()
        m.d.comb += [
            sink.load.eq(self.add_sink),
            sink.clear.eq(self.store),
            sink.sink.eq(self.head.record.head.sink),
            sink.exponent.eq(self.head.record.stats.exponent),
            self.sink_busy.eq(sink.busy),
        ]
        return (Cat(Const(1, 1), argument) + sink.z)[1:]

    def _sum_squares(self, m):
        """Adder tree, one level a cycle, and accumulator; its registers have a reset on purpose (see Multiplier)."""
        lanes, sizes = self.config.sizes.normaliser_lanes, self.config.sizes
        values = [self.squares[n * _SQUARE_BITS : (n + 1) * _SQUARE_BITS] for n in range(lanes)]
        valid = self.squares_valid
        for level in range(self.levels):
            sums = [Signal(_SQUARE_BITS + level + 1, name=f"sum_{level}_{n}") for n in range(len(values) // 2)]
            m.d.sync += [total.eq(values[2 * n] + values[2 * n + 1]) for n, total in enumerate(sums)]
            later = Signal(name=f"valid_{level}")
            m.d.sync += later.eq(valid)
            values, valid = sums, later
        largest = sizes.heads << 32 if self.layer else 1 << (2 * formats.SQUARE_BITS)
        total = Signal(bits_for(largest * self.config.head_dim))
        with m.If(self.clear):
            m.d.sync += total.eq(0)
        with m.Elif(valid):
            m.d.sync += total.eq(total + values[0])
        return total

    def _shift(self, m, k):
        """Over (bits that squaring drops), its sum with the exponents, then the clamp; all biased by SHIFT_MIN."""
        record = self.head.record
        over = self._over(m) if self.rms else Const(0, 1)
        exponent = Mux(self._is["rms_layer"] | self._is["length"], record.stats.exponent, 0)
        squaring, scaling = Signal(signed(8), reset_less=True), Signal(signed(9), reset_less=True)
        m.d.sync += [
            squaring.eq(over - exponent - formats.SHIFT_MIN),
            scaling.eq(squaring - record.head.alpha_exponent - formats.SHIFTED_FRACTION),
        ]
        total = Signal(signed(10), reset_less=True)
        m.d.sync += total.eq(scaling + k)

        shift = Signal.like(self.shift, reset_less=True)
        with m.If(self.prepare):
            m.d.sync += shift.eq(-formats.SHIFT_MIN)
        if self.rms:
            with m.Elif(self.load_square):
                m.d.sync += shift.eq(_clamp(squaring))
        with m.Elif(self.load_scale):
            m.d.sync += shift.eq(_clamp(total))
        m.d.comb += self.shift.eq(shift)

    def _over(self, m):
        """max(0, bits - SQUARE_BITS), of the head or of all heads gathered; 0 where nothing is squared."""
        bits = self.head.magnitude
        if self.layer:
            most, candidate = Signal(6), Signal(6, reset_less=True)
            candidate_valid = Signal()
            m.d.sync += [
                candidate.eq(self.head.magnitude + self.head.record.stats.exponent),
                candidate_valid.eq(self.gather & (self.head.magnitude != 0)),
            ]
            with m.If(self.clear):
                m.d.sync += most.eq(0)
            with m.Elif(candidate_valid & (candidate > most)):
                m.d.sync += most.eq(candidate)
            bits = Mux(mode_is(self.head.record, "rms_layer"), most, bits)
        wanted = mode_is(self.head.record, "rms_head") | mode_is(self.head.record, "rms_layer")
        over = Signal(6, reset_less=True)
        m.d.sync += over.eq(Mux(wanted & (bits > formats.SQUARE_BITS), bits - formats.SQUARE_BITS, 0))
        return over


def mode_is(record, name: str):
    """Whether a head's normaliser is the one of that (configuration) name."""
    return record.head.normaliser == formats.Normaliser[name.upper()]


def _clamp(shift):
    """A biased shift, clamped to SHIFT_MIN...SHIFT_MAX."""
    top = formats.SHIFT_MAX - formats.SHIFT_MIN
    return Mux(shift < 0, 0, Mux(shift > top, top, Cat(shift[: top.bit_length()])))
