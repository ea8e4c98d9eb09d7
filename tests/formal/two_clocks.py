"""Two clocks in any relation: one clock that the solver sees, and for each domain an input that says when it ticks."""

from amaranth.hdl import Assume, DomainRenamer, EnableInserter, Fragment, Module, Mux, ResetSignal, Signal

__all__ = ["TwoClocks"]

ALWAYS = "always"
"""The solver's clock, in a component: it ticks whether or not the component's own do."""


class _Synchroniser:
    """Flip-flops of which the first may see a change that came shortly before only at the next edge.

    ``late`` says so of each bit; it is an input. Of one bit, shortly is since the edge before. Of several, which must
    be a code that changes in one bit at a time, it is the last tick of the other clock.
    """

    def __init__(self, described):
        self.i, self.o, self.domain = described.i, described.o, described._o_domain
        assert (described._stages, described._init) == (2, 0)
        self.late = Signal(len(self.i), name=f"late_{self.i.name}")

    def elaborate(self, platform):
        m = Module()
        shape = self.i.shape()
        first, second, seen = (Signal(shape, name=name, reset_less=True) for name in ("first", "second", "seen"))
        m.d[self.domain] += [first.eq((self.late & seen) | (~self.late & self.i)), second.eq(first)]
        m.d[self.domain if len(self.i) == 1 else ALWAYS] += seen.eq(self.i)
        m.d.comb += self.o.eq(second)
        return m


class TwoClocks:
    """A component whose domains ``sync`` and ``unit`` tick when ``here`` and ``there`` are high, at any time or both.

    ``inputs`` are to be made inputs of the check, beside the component's own. Each of the domains ticks at least once
    in every ``patience`` cycles. There is no reset: one that is long enough leads to where all begins.
    """

    def __init__(self, m: Module, dut, patience: int):
        self.here, self.there, self._made = Signal(), Signal(), []
        # Elaborated now, as the inputs of synchronisers must be known.
        fragment = Fragment.get(EnableInserter({"sync": self.here, "unit": self.there})(dut), self)
        m.submodules.dut = DomainRenamer({"unit": "sync", ALWAYS: "sync"})(fragment)
        for name, tick in (("here", self.here), ("there", self.there)):
            missed = Signal(range(patience + 1), name=f"missed_{name}")
            m.d.sync += missed.eq(Mux(tick, 0, missed + 1))
            m.d.comb += Assume(tick | (missed < patience - 1))
        m.d.comb += Assume(~ResetSignal())
        self.inputs = [self.here, self.there, *(item.late for item in self._made)]

    def get_ff_sync(self, described):
        """What Amaranth asks a platform for."""
        self._made.append(_Synchroniser(described))
        return self._made[-1].elaborate(self)
