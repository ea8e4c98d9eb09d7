"""Takes register accesses to another clock."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from .axi_lite import RegisterBus

__all__ = ["BusCrossing"]

HELD = ("write", "addr", "data", "strobe")
"""What describes an access, the same on both sides."""


class BusCrossing(wiring.Component):
    """Makes each access of a bus on the clock of domain ``sync`` one on the clock of domain ``unit``.

    The clocks may have any ratio and phase. One toggle asks and another answers, each through two flip-flops; what
    describes the access, and its answer, are registers that have held still for two edges of the clock that samples
    them, so that no bit of them needs a synchroniser. From ``bus.request`` to ``unit.request`` 1 cycle and 2 to 3 unit
    cycles pass, from ``unit.done`` to ``bus.done`` 1 unit cycle and 2 to 3 cycles.

    The domains' resets are expected together, see :class:`~reluctant.hdl.unit_domain.UnitDomain`.

    Parameters
    ----------
    addr_width
        Bits of the word addresses.

    Members
    -------
    bus : In(RegisterBus(addr_width))
    wait : In(1)
        An access that has not begun does not begin.
    started : Out(1)
        One cycle, that of ``bus.done``: ``unit_started`` was high during the access.
    unit : Out(RegisterBus(addr_width)), unit_started : In(1)
        On the clock of ``unit``. ``unit_started`` is low but during an access, its ``done`` included.
    """

    def __init__(self, addr_width: int):
        super().__init__(
            {
                "bus": In(RegisterBus(addr_width)),
                "wait": In(1),
                "started": Out(1),
                "unit": Out(RegisterBus(addr_width)),
                "unit_started": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        asked, answered = Signal(), Signal()  # each toggles, on its own side
        asked_there, answered_here = Signal(), Signal()
        m.submodules.to_unit = FFSynchronizer(asked, asked_there, o_domain="unit")
        m.submodules.from_unit = FFSynchronizer(answered, answered_here, o_domain="sync")
        answer = {name: Signal(width, name=f"answer_{name}", reset_less=True) for name, width in self._answer()}
        self._ask(m, asked, answered_here, answer)
        self._access(m, asked_there, answered, answer)
        return m

    @staticmethod
    def _answer():
        return (("error", 1), ("read_data", 32), ("started", 1))

    def _ask(self, m: Module, asked, answered, answer):
        """The side that asks: the bus holds the access still until ``done``."""
        under_way, done = Signal(), Signal()
        here = {name: Signal.like(value, name=f"{name}_here") for name, value in answer.items()}
        m.d.comb += [
            self.bus.done.eq(done),
            self.bus.error.eq(here["error"]),
            self.bus.read_data.eq(here["read_data"]),
            self.started.eq(done & here["started"]),
        ]
        m.d.sync += done.eq(0)
        with m.If(under_way), m.If(answered == asked):
            m.d.sync += [under_way.eq(0), done.eq(1), *(here[name].eq(value) for name, value in answer.items())]
        with m.Elif(self.bus.request & ~done & ~self.wait):
            m.d.sync += [under_way.eq(1), asked.eq(~asked)]

    def _access(self, m: Module, asked, answered, answer):
        """The side that is asked: the answer holds still until the next one."""
        request, started = Signal(), Signal()
        m.d.comb += self.unit.request.eq(request)
        for name in HELD:
            held = Signal.like(getattr(self.unit, name), name=f"held_{name}", reset_less=True)
            m.d.comb += getattr(self.unit, name).eq(held)
            with m.If(~request):
                m.d.unit += held.eq(getattr(self.bus, name))
        with m.If(request):
            m.d.unit += started.eq(started | self.unit_started)
            with m.If(self.unit.done):
                m.d.unit += [
                    request.eq(0),
                    answered.eq(asked),
                    answer["error"].eq(self.unit.error),
                    answer["read_data"].eq(self.unit.read_data),
                    answer["started"].eq(started | self.unit_started),
                ]
        with m.Elif(asked != answered):
            m.d.unit += [request.eq(1), started.eq(0)]
