"""The cocotb test that lets another process drive the bench; it runs inside the simulator's process.

Simulated time stands still while no request is there: the simulator then waits in :meth:`Link.receive`. Environment:
``RELUCTANT_LINK`` names the Unix socket of the process that asks, ``RELUCTANT_FAILURE`` the text file that says why
the run failed, ``RELUCTANT_PATIENCE`` the cycles after which an access to a register counts as hanging.

A request is a head ``[name, argument]`` and input packets, which are queued before anything else. The answer is a head
(``cycle``, ``level`` of the interrupt, ``taken`` and ``answered`` of :class:`Buses`, what the request gives) and the
output packets; of taken, answered and packets those that are new since the answer before.
"""

import logging
import os
import socket
from pathlib import Path

import cocotb
from cocotb.triggers import First, RisingEdge, Timer
from cocotbext.axi import AxiStreamFrame

from reluctant.sim.buses import PERIOD, BenchFailureError, Buses, now
from reluctant.sim.link import Link

AT_A_TIME = 64
"""Accesses that are handed to the driver together."""


class Remote(Buses):
    """Executes requests, one by one."""

    def __init__(self, dut, patience: int):
        super().__init__(dut)
        self.patience = patience
        self.told_packets = self.told_taken = 0

    async def answer(self, head, packets: list[bytes]) -> tuple[dict, list[bytes]]:
        """Do what the request says; raises BenchFailureError when a bus breaks a rule or does not answer."""
        for packet in packets:
            await self.source.send(packet)
        name, argument = head
        work = cocotb.start_soon(getattr(self, f"do_{name}")(argument))
        await First(work, RisingEdge(self.dut.violation))
        if self.dut.violation.value:
            raise BenchFailureError(f"a bus rule was broken while the host asked for: {name} {str(argument)[:100]}")
        return {**work.result(), **self._news()}, self._fresh_packets()

    def _news(self) -> dict:
        taken, answered = self.taken[self.told_taken :], self.answered[self.told_packets :]
        self.told_taken += len(taken)
        return {"cycle": now(), "level": int(self.dut.irq.value == 1), "taken": taken, "answered": answered}

    def _fresh_packets(self) -> list[bytes]:
        fresh = self.packets[self.told_packets :]
        self.told_packets += len(fresh)
        return fresh

    # Requests ---------------------------------------------------------------------------------------------------------

    async def do_execute(self, accesses) -> dict:
        """Accesses [address, word or None] in order: ``words`` read, index of the first ``refused`` or None."""
        words, start = [], 0
        while start < len(accesses):
            reads, stop = accesses[start][1] is None, start
            while stop < len(accesses) and stop < start + AT_A_TIME and (accesses[stop][1] is None) == reads:
                stop += 1
            answers = await self._together(accesses[start:stop])
            for index, answer in enumerate(answers, start):
                if answer.resp:
                    return {"words": words, "refused": index}
                if reads:
                    words.append(int.from_bytes(answer.data, "little"))
            start = stop
        return {"words": words, "refused": None}

    async def do_receive(self, limit) -> dict:
        """Wait until there is an output packet that the host does not know, for ``limit`` cycles at most."""
        end = now() + limit
        while len(self.packets) == self.told_packets and now() < end:
            self.arrival.clear()
            await First(cocotb.start_soon(self.arrival.wait()), Timer((end - now()) * PERIOD, unit="step"))
        return {}

    async def do_wait(self, limit) -> dict:
        """Wait for the interrupt line, for ``limit`` cycles at most."""
        if limit and self.dut.irq.value != 1:
            await First(RisingEdge(self.dut.irq), Timer(limit * PERIOD, unit="step"))
        return {}

    async def do_delay(self, cycles) -> dict:
        """Let cycles pass."""
        if cycles:
            await Timer(cycles * PERIOD, unit="step")
        return {}

    async def do_part(self, text) -> dict:
        """Queue beats, in hexadecimal, that do not end a packet."""
        await self.source.send(AxiStreamFrame(bytes.fromhex(text), tuser=1))
        return {}

    async def do_hold(self, holding) -> dict:
        """Take no output any more, or go on."""
        self.sink.hold(holding)
        return {}

    async def do_reset(self, _) -> dict:
        """Reset the device."""
        await self.reset_again()
        return {}

    async def _together(self, accesses) -> list:
        """Reads, or writes, as fast as the bus takes them."""
        events = [
            self.host.init_read(address, 4)
            if word is None
            else self.host.init_write(address, word.to_bytes(4, "little"))
            for address, word in accesses
        ]
        for (address, word), event in zip(accesses, events, strict=True):
            if not event.is_set():
                await First(cocotb.start_soon(event.wait()), Timer(self.patience * PERIOD, unit="step"))
            if not event.is_set():
                what = f"read of {address:#x}" if word is None else f"write of {word:#x} to {address:#x}"
                raise BenchFailureError(
                    f"no answer to the {what} within {self.patience} cycles, at cycle {now()}; {self.levels}"
                )
        return [event.data for event in events]


async def _serve(dut, link: Link) -> None:
    remote = Remote(dut, int(os.environ["RELUCTANT_PATIENCE"]))
    await remote.reset()
    cocotb.start_soon(remote.collect())
    while (request := link.receive()) is not None:
        if request[0][0] == "end":
            link.send(remote._news(), [])
            return
        link.send(*await remote.answer(*request))


@cocotb.test()
async def serve(dut):
    """Answer requests until the host has enough of it, or is gone."""
    logging.getLogger("cocotb").setLevel(logging.WARNING)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ["RELUCTANT_LINK"])
    link = Link(connection)
    try:
        await _serve(dut, link)
    except BenchFailureError as error:
        Path(os.environ["RELUCTANT_FAILURE"]).write_text(str(error))
        raise
    finally:
        link.close()
