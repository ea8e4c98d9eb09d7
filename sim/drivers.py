"""cocotbext-axi's stream source and sink, without Python running while nothing moves.

Stock models wake on every clock edge as long as a beat waits for ``tready``, and take beats apart byte by byte. A unit
that computes for thousands of cycles between beats would spend nearly all of the simulation's time there. These wait on
the edge of the handshake signal instead, and move whole beats. Stalls are made by the bench's gates, not here:
``set_pause_generator`` has no effect. An X on a handshake signal counts as 0: the bench's checkers report it.
"""

from cocotb.triggers import Event, RisingEdge
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiStreamFrame, AxiStreamSink, AxiStreamSource

__all__ = ["PacketSink", "PacketSource"]


class PacketSource(AxiStreamSource):
    """Sends packets, beats back to back, packets too. A frame with ``tuser`` 1 has no end: the next goes on with it.

    Attributes
    ----------
    beats
        Beats taken so far.
    taken
        Time at which the last beat of each packet was taken.
    """

    def __init__(self, *args, **kwargs):
        self.beats = 0
        self.taken = []
        super().__init__(*args, **kwargs)

    async def _run(self):
        bus, lanes = self.bus, self.byte_lanes
        clock_edge, ready_edge = RisingEdge(self.clock), RisingEdge(bus.tready)
        while True:
            if self.queue.empty():
                bus.tvalid.value = 0
                self.active = False
                self.idle_event.set()
                self.active_event.clear()
                await self.active_event.wait()
                await clock_edge
            frame = self.current_frame = self.queue.get_nowait()
            self.active = True
            data = bytes(frame.tdata)
            last = len(data) if frame.tuser else len(data) - lanes
            for offset in range(0, len(data), lanes):
                bus.tdata.value = int.from_bytes(data[offset : offset + lanes], "little")
                bus.tlast.value = int(offset >= last)
                bus.tvalid.value = 1
                await clock_edge
                while bus.tready.value != 1:
                    await ready_edge
                    await clock_edge
                self.beats += 1
            if not frame.tuser:
                self.taken.append(get_sim_time("step"))
            self.current_frame = None
            self.dequeue_event.set()
            frame.handle_tx_complete()


class PacketSink(AxiStreamSink):
    """Takes packets, always ready but while ``holding``.

    Attributes
    ----------
    beats
        Beats taken so far.
    """

    def __init__(self, *args, **kwargs):
        self.beats = 0
        self._holding, self._release = False, Event()
        super().__init__(*args, **kwargs)

    def hold(self, holding: bool) -> None:
        """Take nothing any more, from the next cycle on, or go on."""
        self._holding = holding
        self.bus.tready.value = int(not holding)
        if not holding:
            self._release.set()

    async def _run_tvalid_monitor(self):
        """The stock model's wake-up calls, which :meth:`_run` does without."""

    async def _run_tready_monitor(self):
        """See :meth:`_run_tvalid_monitor`."""

    async def _run(self):
        bus, lanes = self.bus, self.byte_lanes
        clock_edge, valid_edge = RisingEdge(self.clock), RisingEdge(bus.tvalid)
        bus.tready.value = 1
        data, first = bytearray(), 0
        await clock_edge
        while True:
            await clock_edge
            if self._holding:
                self._release.clear()
                await self._release.wait()
                continue
            if bus.tvalid.value != 1:
                await valid_edge
                continue
            if not data:
                first = get_sim_time("step")
            data += int(bus.tdata.value).to_bytes(lanes, "little")
            self.beats += 1
            if bus.tlast.value == 1:
                frame = AxiStreamFrame(data)
                frame.sim_time_start, frame.sim_time_end = first, get_sim_time("step")
                self.queue_occupancy_frames += 1
                self.queue_occupancy_bytes += len(data)
                self.queue.put_nowait(frame)
                self.active_event.set()
                data = bytearray()
