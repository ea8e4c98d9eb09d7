"""The buses of a simulated device, driven from the simulator's process."""

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import Event, RisingEdge, Timer
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiStreamBus

from reluctant.sim.clocks import Clocks
from reluctant.sim.drivers import PacketSink, PacketSource

__all__ = ["PERIOD", "BenchFailureError", "Buses", "now"]

CLOCKS = Clocks.from_environment()
PERIOD = 2 * CLOCKS.half
"""Simulation steps per cycle."""
RESET_CYCLES = 4 * -(-CLOCKS.unit_half // CLOCKS.half)
"""At least 4 of either clock."""

INPUTS = (
    *("s_axil_awaddr", "s_axil_awprot", "s_axil_awvalid", "s_axil_wdata", "s_axil_wstrb", "s_axil_wvalid"),
    *("s_axil_bready", "s_axil_araddr", "s_axil_arprot", "s_axil_arvalid", "s_axil_rready"),
    *("s_axis_tdata", "s_axis_tlast", "s_axis_tvalid", "m_axis_tready"),
)
WATCHED = ("s_axis_tvalid", "s_axis_tready", "m_axis_tvalid", "s_axil_awvalid", "s_axil_arvalid", "irq")


class BenchFailureError(AssertionError):
    """The run cannot go on; the text says why."""


def now() -> int:
    """Cycles since the start of the simulation."""
    return get_sim_time("step") // PERIOD


class Buses:
    """Clocks, reset and drivers of one simulation.

    Attributes
    ----------
    host, source, sink
        Drivers of the control bus, the input stream and the output stream; None before :meth:`reset`.
    packets
        Output packets, in order, once :meth:`collect` runs.
    answered
        [first beat, last beat] of each, in cycles.
    arrival
        Set when one comes.
    """

    def __init__(self, dut):
        self.dut = dut
        self.packets: list[bytes] = []
        self.answered: list[list[int]] = []
        self.arrival = Event()
        self.host = self.source = self.sink = None

    async def reset(self) -> None:
        """Start the clocks, reset the device with quiet buses, then attach the drivers."""
        dut = self.dut
        for name in INPUTS:
            getattr(dut, name).value = 0
        self._reset(1)
        Clock(dut.clk, PERIOD, unit="step").start()
        cocotb.start_soon(self._start_unit_clock())
        await Timer(RESET_CYCLES * PERIOD + 1, unit="step")
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk)
        self.source = PacketSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk)
        self.sink = PacketSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk)
        self._reset(0)
        await RisingEdge(dut.clk)

    def _reset(self, level: int) -> None:
        self.dut.rst.value = level
        self.dut.unit_rst.value = level

    async def _start_unit_clock(self) -> None:
        """If the unit has one of its own."""
        if Clocks.given():
            self.dut.unit_clk.value = 0
            if CLOCKS.shift:
                await Timer(CLOCKS.shift, unit="step")
            Clock(self.dut.unit_clk, 2 * CLOCKS.unit_half, unit="step").start()

    async def reset_again(self) -> None:
        """Reset the device in whatever its streams do, and forget what was queued; no access may be under way."""
        drivers = (self.source, self.sink)
        self._reset(1)
        for driver in drivers:
            driver.assert_reset(True)
        self.source.clear()
        await Timer(RESET_CYCLES * PERIOD, unit="step")
        self._reset(0)
        for driver in drivers:
            driver.assert_reset(False)
        await RisingEdge(self.dut.clk)

    async def collect(self) -> None:
        """Take the output packets as they come."""
        while True:
            frame = await self.sink.recv(compact=False)
            self.packets.append(bytes(frame.tdata))
            self.answered.append([frame.sim_time_start // PERIOD, frame.sim_time_end // PERIOD])
            self.arrival.set()

    @property
    def taken(self) -> list[int]:
        """Cycle in which the last beat of each input packet was taken."""
        return [time // PERIOD for time in self.source.taken]

    @property
    def levels(self) -> str:
        """The handshake signals, for a run that does not go on."""
        return ", ".join(f"{name} {getattr(self.dut, name).value!s}" for name in WATCHED)
