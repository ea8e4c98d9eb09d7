"""From the contexts of heads to the output packets of jobs."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from reluctant.golden import formats

from . import layouts
from .config import UnitConfig
from .context_buffer import ContextReadout
from .result_packer import ResultPacker, result_beat
from .scale_factor import ScaleFactor
from .scaler import Scaler
from .word_reader import WordReader

__all__ = ["Normaliser"]

_SQUARE_BITS = 33
_STATES = ("idle", "settle", "settled", "square", "solve", "inject", "shift", "shifted", "scale")


class Normaliser(wiring.Component):
    """Takes heads from a :class:`ContextBuffer`, in order, and sends a packet per job, as docs/design.md describes it.

    What it computes is ``formats.magnitude_bits``, ``square_shift``, ``rsqrt`` or ``reciprocal``, ``factor`` and
    ``scale``. Contexts stay in the buffer and are read once to be sent, once to be squared (RMS modes), once to be
    scaled; ``N = sizes.normaliser_lanes`` elements a cycle, or a word a cycle when they are sent. With ``rms_layer``
    the heads of a job are looked at three times (magnitude, squares, output), so all of them must fit the buffer.

    The first header beat is valid 2 cycles after a head, when ``o`` is free and the mode is not ``rms_layer``. From one
    head of ``rms_head`` to the next, without contexts and with ``o`` always ready, it takes ``2 * d / N + 21 +
    log2(N)`` cycles (up to ``d / (4 * N)`` more where a beat has 8 groups); without normaliser, header beats plus
    context beats plus 4. A sink under the block exponent e takes ``2 + e // 4 + e % 4`` cycles more than none, which is
    what heads of softmax weights have.

    A mode that is not in ``config.normalisers`` is not built, and asking for it gives ``none``.

    Parameters
    ----------
    config
        The unit's configuration.

    Members
    -------
    i : In(ContextReadout)
    gain_addr : Out
        Group of N gains: ``(profile * heads + head) * (head_dim / N) + group``; unused (0) without RMS modes.
    gain_data : In(N * 16)
        N signed gains, the first lowest, 2 cycles after the address.
    o : Out(stream of result_beat)
        ``data``: ``lanes`` bytes; ``last``: end of the packet.
    result : Out(layouts.head_result)
        Of each head, when its header begins.
    done : Out(1), done_tag : Out
        Pulse in the cycle after the last beat of a packet was transferred, and the tag of its job.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        sizes = config.sizes
        self.lanes = sizes.normaliser_lanes
        self.groups = config.head_dim // self.lanes
        super().__init__(
            {
                "i": In(ContextReadout(config)),
                "gain_addr": Out(max(1, ceil_log2(config.profiles * config.heads * self.groups))),
                "gain_data": In(self.lanes * formats.GAIN_BITS),
                "o": Out(stream.Signature(result_beat(config))),
                "result": Out(layouts.head_result(config)),
                "done": Out(1),
                "done_tag": Out(layouts.TAG_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._classify(m)
        self._packer(m)
        self._reader(m)
        if self.config.normalisers:
            self._datapath(m)
        self._sequence(m)
        return m

    def _classify(self, m):
        """Flags of the head at hand, a cycle after its payload and thus in time for its ``valid``."""
        self.record = record = self.i.head.payload.record
        built = self.config.normalisers
        mode = record.head.normaliser
        self.layered, self.rms = "rms_layer" in built, "rms_head" in built or "rms_layer" in built
        self.sums = "sum" in built
        self.is_mode = {name: mode == formats.Normaliser[name.upper()] for name in built}
        computes = Cat(self.is_mode.values()).any() if built else Const(0, 1)
        layer = self.is_mode.get("rms_layer", Const(0, 1))
        head = self.is_mode.get("rms_head", Const(0, 1))
        self.phase = Signal(2)  # of a layer's heads: 0 gather magnitudes, 1 add squares, 2 emit
        emitting = ~layer | (self.phase == 2)
        contexts = ~computes | record.head.emit_context
        flags = {
            "outputs": computes,
            "contexts": contexts,
            "last": record.head.last,
            "layer": layer,
            "emitting": emitting,
            "gather": ~emitting & (self.phase == 0) & ~record.zero,
            "pass": ~emitting & ((self.phase == 0) | record.zero),  # nothing to do
            "compute": ~emitting | (computes & ~record.zero),
            "works": (emitting | ((self.phase != 0) & ~record.zero)) & (~emitting | (computes & ~record.zero)),
            "early": ~emitting | ~contexts,  # computes without waiting for the packer
            "squares": head | ~emitting,
            "together": emitting & (head | record.head.last),  # the last one of those normalised together
            "rms": head | layer,
        }
        if self.sums:
            flags["sink"] = self.is_mode["sum"] & ~record.stats.softmax & record.head.sink.any()
        self.flag = {name: Signal(name=f"head_{name}") for name in flags}
        m.d.sync += [self.flag[name].eq(value) for name, value in flags.items()]
        self.emitting = self.flag["emitting"]
        self.advance = Signal()
        m.d.comb += self.i.head.ready.eq(self.advance)

    def _reader(self, m):
        m.submodules.reader = self.reader = reader = WordReader(self.config)
        m.d.comb += [
            reader.run.eq(self.i.head.valid),
            reader.whole.eq(self.packer.words),
            reader.base.eq(self.i.head.payload.base),
            reader.words.eq(Cat(Const(0, 2), self.record.head.beats)),
            self.i.read_addr.eq(reader.read_addr),
            reader.read_data.eq(self.i.read_data),
            self.packer.word.eq(reader.data),
            self.packer.word_valid.eq(reader.valid),
        ]

    def _packer(self, m):
        m.submodules.packer = self.packer = packer = ResultPacker(self.config)
        m.d.comb += [
            packer.head.eq(self.record),
            packer.begin.eq(self.i.head.valid & self.emitting),
            packer.contexts.eq(self.flag["contexts"]),
            packer.outputs.eq(self.flag["outputs"]),
            packer.advance.eq(self.advance),
            self.result.eq(packer.result),
            self.done.eq(packer.done),
            self.done_tag.eq(packer.done_tag),
        ]
        wiring.connect(m, packer.o, wiring.flipped(self.o))

    def _datapath(self, m):
        """Lanes, the factor and the pulses that accompany elements through the lanes."""
        m.submodules.factor = self.factor = factor = ScaleFactor(self.config)
        scalers = [Scaler(squares=self.rms, gains=self.rms) for _ in range(self.lanes)]
        self.issue_square, self.issue_scale, self.inject = Signal(), Signal(), Signal()
        squared = _trail(m, self.issue_square, "square", Scaler.product_latency) if self.rms else None
        scaled = _trail(m, self.issue_scale, "scale", scalers[0].latency)
        injected = _trail(m, self.inject, "inject", Scaler.product_latency)
        gains = self._gains(m, scaled) if self.rms else [Const(0, 1)] * self.lanes

        for n, scaler in enumerate(scalers):
            m.submodules[f"scaler_{n}"] = scaler
            element = self.reader.data[n * formats.CONTEXT_BITS : (n + 1) * formats.CONTEXT_BITS]
            if n == 0:
                element = Mux(self.inject, factor.y, element)
            m.d.comb += [
                scaler.element.eq(element),
                scaler.shift.eq(factor.shift),
                scaler.multiplier.eq(factor.multiplier),
                scaler.gain.eq(gains[n]),
            ]
            if self.rms:
                m.d.comb += scaler.square.eq(squared[Scaler.multiplier_delay])
        m.d.comb += [
            factor.head.eq(self.i.head.payload),
            factor.squares.eq(Cat(scaler.product[:_SQUARE_BITS] for scaler in scalers)),
            factor.product.eq(scalers[0].product[formats.MANTISSA_BITS :]),
            factor.store.eq(injected[Scaler.product_latency]),
            self.packer.claim.eq(self.issue_scale & self.reader.beat_start),
            self.packer.elements.eq(Cat(scaler.o for scaler in scalers)),
            self.packer.elements_valid.eq(scaled[scalers[0].latency]),
        ]
        if self.rms:
            m.d.comb += factor.squares_valid.eq(squared[Scaler.product_latency])

    def _gains(self, m, scaled):
        """Gains for the groups that reach the second multiplier; the address counts on as they come."""
        head = self.record.head
        row = Signal(range(max(2, self.config.profiles * self.config.heads)), reset_less=True)
        base, group = Signal.like(self.gain_addr, reset_less=True), Signal.like(self.gain_addr, reset_less=True)
        use = Signal(reset_less=True)
        profile = _times(head.profile, self.config.heads) if self.config.profiles > 1 else 0
        m.d.sync += [row.eq(profile + head.head), base.eq(_times(row, self.groups))]
        with m.If(self.inject):
            m.d.sync += [group.eq(base), use.eq(self.flag["rms"])]
        with m.Elif(scaled[Scaler.gain_delay - 2]):
            m.d.sync += group.eq(group + 1)
        m.d.comb += self.gain_addr.eq(group)
        bits = formats.GAIN_BITS
        one = Const(formats.GAIN_ONE, signed(bits))
        return [Mux(use, self.gain_data[n * bits : (n + 1) * bits].as_signed(), one) for n in range(self.lanes)]

    def _sequence(self, m):
        """One head after the other; the packer works beside, and is waited for where the order of beats asks for it."""
        reader, packer, flag = self.reader, self.packer, self.flag
        if self.layered:
            with m.If(self.advance & flag["last"] & flag["layer"]):
                m.d.sync += self.phase.eq(Mux(self.emitting, 0, self.phase + 1))
            m.d.comb += self.i.keep.eq(~self.emitting)
            m.d.comb += self.i.rewind.eq(flag["last"] & ~self.emitting)
        if self.config.normalisers:
            m.d.comb += self.factor.clear.eq(self.advance & flag["together"])
        if not self.config.normalisers:
            m.d.comb += [self.advance.eq(self.i.head.valid & packer.sent), reader.take.eq(packer.word_take)]
            return
        m.d.comb += reader.take.eq(packer.word_take | self.issue_square | self.issue_scale)
        self.timer = Signal(range(32))
        m.d.sync += self.timer.eq(self.timer - 1)
        # One register a state, for the sake of the clock.
        self.state = Signal(data.StructLayout(dict.fromkeys(_STATES, 1)), init={"idle": 1})
        self._idle(m)
        square_end = self._squares(m) if self.rms else Const(0)
        scale_end = self._scales(m)
        skips = self.state.idle & self.i.head.valid & (flag["pass"] | (~flag["compute"] & packer.sent))
        m.d.comb += self.advance.eq(skips | (square_end & ~self.emitting) | scale_end)

    def _go(self, m, name: str):
        m.d.sync += [self.state.as_value().eq(0), self.state[name].eq(1)]

    def _idle(self, m):
        """Wait for a head that is to be computed."""
        flag, begin, ready = self.flag, Signal(), self.state.idle & self.i.head.valid
        m.d.comb += [
            self.factor.gather.eq(ready & flag["gather"]),
            begin.eq(ready & flag["works"] & (flag["early"] | self.packer.sent)),
        ]
        with m.If(begin):
            self._go(m, "solve")
            if self.rms:
                with m.If(flag["squares"]):
                    self._go(m, "settle")
        with m.If(self.state.idle):
            m.d.sync += self.timer.eq(ScaleFactor.argument_latency - 2)
            if self.layered:
                with m.If(flag["layer"]):
                    m.d.sync += self.timer.eq(self._square_wait())
            if self.sums:
                with m.If(flag["sink"]):
                    m.d.comb += self.factor.add_sink.eq(begin)
                    m.d.sync += self.timer.eq(ScaleFactor.argument_latency)

    def _square_wait(self):
        """Cycles less 2 from the last group squared to the ``y`` of their sum."""
        return Scaler.product_latency + self.factor.square_latency - 2

    def _squares(self, m):
        """Square all groups of the head. Returns whether the last one goes."""
        state, reader, end = self.state, self.reader, Signal()
        m.d.comb += [
            self.factor.load_square.eq(state.settled),
            self.issue_square.eq(state.square & reader.valid),
            end.eq(self.issue_square & reader.final),
        ]
        with m.If(state.settle):
            self._go(m, "settled")
        with m.If(state.settled):
            self._go(m, "square")
        with m.If(end):
            m.d.sync += self.timer.eq(self._square_wait())
            with m.If(self.emitting):
                self._go(m, "solve")
            with m.Else():
                self._go(m, "idle")
        return end

    def _scales(self, m):
        """Wait for the factor, and scale all groups of the head. Returns whether the last one goes."""
        state, reader, factor, packer = self.state, self.reader, self.factor, self.packer
        solved, end = Signal(), Signal()
        m.d.comb += [
            solved.eq(state.solve & (self.timer == 0)),
            factor.prepare.eq(solved),
            self.inject.eq(state.inject),
            factor.load_scale.eq(state.shifted),
            self.issue_scale.eq(state.scale & reader.valid & packer.sent & (packer.room | ~reader.beat_start)),
            end.eq(self.issue_scale & reader.final),
        ]
        with m.If(solved):
            self._go(m, "inject")
        if self.sums:
            with m.If(state.solve & factor.sink_busy):
                m.d.sync += self.timer.eq(self.timer)
        for name, after in (("inject", "shift"), ("shift", "shifted"), ("shifted", "scale")):
            with m.If(state[name]):
                self._go(m, after)
        with m.If(end):
            self._go(m, "idle")
        return end


def _trail(m, pulse, name, cycles):
    """``pulse`` and its copies 1...``cycles`` cycles later."""
    trail = [pulse]
    for n in range(cycles):
        later = Signal(name=f"{name}_{n + 1}")
        m.d.sync += later.eq(trail[-1])
        trail.append(later)
    return trail


def _times(value, constant: int):
    """``value * constant`` from shifts and additions, so that no multiplier is spent on it."""
    return sum(value << bit for bit in range(constant.bit_length()) if constant >> bit & 1)
