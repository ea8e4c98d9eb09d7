"""The cocotb test that runs a script on the bench; it runs inside the simulator's process.

Environment: ``RELUCTANT_SCRIPT`` names the script, ``RELUCTANT_RECORD`` the file for what was observed,
``RELUCTANT_FAILURE`` the text file that says why a run failed.
"""

import logging
import os
from pathlib import Path

import cocotb
from cocotb.triggers import FallingEdge, First, RisingEdge, Timer

from reluctant.sim.buses import PERIOD, BenchFailureError, Buses, now
from reluctant.sim.script import RESPONSES, Record, Script

POLL_FIRST, POLL_LAST = 8, 1024
"""Cycles between two looks at STATUS, growing."""


class Bench(Buses):
    """Runs one script, from reset."""

    def __init__(self, dut, script: Script):
        super().__init__(dut)
        self.script = script
        self.record = Record(packets=self.packets, answered=self.answered)
        self.doing = "reset"
        self.accesses = 0
        self.jobs = 0

    async def run(self) -> Record:
        """Execute the script; what was observed."""
        await self.reset()
        cocotb.start_soon(self.collect())
        watchdog = cocotb.start_soon(self.watch())
        work = cocotb.start_soon(self.work())
        await First(work, watchdog, RisingEdge(self.dut.violation))
        if self.dut.violation.value:
            raise BenchFailureError(f"a bus rule was broken while: {self.doing}")
        if watchdog.done():
            raise BenchFailureError(self.hanging(await self.registers()))
        return work.result()

    async def work(self) -> Record:
        """Everything after reset."""
        for name, address, expected in self.script.identity:
            await self.read(address, expected, 0xFFFF_FFFF, 0, f"{name} (is this the Verilog of the configuration?)")
        for index, (kind, *arguments) in enumerate(self.script.actions):
            self.doing = f"action {index} of {len(self.script.actions)}: {kind} {str(arguments)[:100]}"
            await getattr(self, f"do_{kind}")(*arguments)
        self.doing = "reading the counters"
        record, addresses = self.record, self.script.addresses
        record.cycles = now()
        record.taken = self.taken
        for name, address in self.script.counters.items():
            low = await self.read(address, None, 0, 0, name)
            record.counters[name] = low | await self.read(address + 4, None, 0, 0, name) << 32
        record.status = await self.read(addresses["STATUS"], None, 0, 0, "STATUS")
        record.error = await self.read(addresses["ERROR"], None, 0, 0, "ERROR")
        return record

    async def watch(self) -> None:
        """Ends when nothing moved on any bus for as long as the script's patience."""
        seen = None
        while seen != (seen := (self.source.beats, self.sink.beats, self.accesses)):
            await Timer(self.script.patience * PERIOD, unit="step")

    # Actions ----------------------------------------------------------------------------------------------------------

    async def do_writes(self, words) -> None:
        """Plain writes, as fast as the bus takes them."""
        events = [self.host.init_write(address, word.to_bytes(4, "little")) for address, word in words]
        for (address, word), event in zip(words, events, strict=True):
            await event.wait()
            self.check(event.data.resp, 0, f"write of {word:#x} to {address:#x}")

    async def do_write(self, address, data, response) -> None:
        answer = await self.host.write(address, bytes.fromhex(data))
        self.check(answer.resp, response, f"write of bytes {data} to {address:#x}")

    async def do_read(self, address, expected, mask, response, name) -> None:
        self.record.reads.append(await self.read(address, expected, mask, response, name))

    async def do_packet(self, index) -> None:
        await self.source.send(self.script.packets[index])

    async def do_start(self, taken) -> None:
        """Start the next step's job when so many packets are taken that the queue must have room."""
        while len(self.source.taken) < taken:
            self.source.dequeue_event.clear()
            await self.source.dequeue_event.wait()
        answer = await self.host.write(self.script.addresses["START"], (1).to_bytes(4, "little"))
        self.accesses += 1
        if answer.resp:
            raise BenchFailureError(f"the job of step {self.jobs} was refused: {await self.registers()}")
        self.record.started.append(now())
        self.jobs += 1

    async def do_packets(self, count) -> None:
        """Wait until ``count`` output packets have come."""
        while len(self.packets) < count:
            self.arrival.clear()
            await self.arrival.wait()

    async def do_interrupt(self, level) -> None:
        if int(self.dut.irq.value) != level:
            await (RisingEdge if level else FallingEdge)(self.dut.irq)

    async def do_idle(self, count) -> None:
        """Wait for ``count`` output packets, for the source to be empty, and for STATUS to say that nothing runs."""
        await self.do_packets(count)
        await self.source.wait()
        interval = POLL_FIRST
        quiet = self.source.beats, self.sink.beats
        waited = 0
        while await self.read(self.script.addresses["STATUS"], None, 0, 0, "STATUS") & 1:
            await Timer(interval * PERIOD, unit="step")
            waited += interval
            if quiet != (quiet := (self.source.beats, self.sink.beats)):
                waited = 0
            elif waited > self.script.patience:
                raise BenchFailureError(self.hanging(await self.registers()))
            interval = min(2 * interval, POLL_LAST)

    async def do_delay(self, cycles) -> None:
        await Timer(cycles * PERIOD, unit="step")

    # Parts ------------------------------------------------------------------------------------------------------------

    async def read(self, address, expected, mask, response, name) -> int:
        answer = await self.host.read(address, 4)
        self.check(answer.resp, response, f"read of {name} at {address:#x}")
        word = int.from_bytes(answer.data, "little")
        if expected is not None and (word ^ expected) & mask:
            raise BenchFailureError(f"{name} at {address:#x} is {word:#010x}: {expected:#010x} is right")
        return word

    def check(self, got, expected, what) -> None:
        self.accesses += 1
        if got != expected:
            raise BenchFailureError(f"{what} was answered with {RESPONSES[got]}, not {RESPONSES[expected]}")

    async def registers(self) -> str:
        """STATUS and ERROR, if the control bus still answers."""
        texts = []
        for name in ("STATUS", "ERROR"):
            reading = cocotb.start_soon(self.host.read(self.script.addresses[name], 4))
            await First(reading, Timer(1000 * PERIOD, unit="step"))
            word = f"{int.from_bytes(reading.result().data, 'little'):#010x}" if reading.done() else "no answer"
            texts.append(f"{name} {word}")
        return ", ".join(texts)

    def hanging(self, registers: str) -> str:
        """Where the run stands, for a run that does not go on."""
        return (
            f"nothing moves since {self.script.patience} cycles, at cycle {now()}, while {self.doing}; "
            f"{self.jobs} jobs started, {len(self.source.taken)} of {len(self.script.packets)} packets taken "
            f"({self.source.beats} beats), {len(self.packets)} packets received ({self.sink.beats} beats); "
            f"{self.levels}; {registers}"
        )


@cocotb.test()
async def run_script(dut):
    """Run the script that the environment names."""
    logging.getLogger("cocotb").setLevel(logging.WARNING)
    bench = Bench(dut, Script.load(Path(os.environ["RELUCTANT_SCRIPT"])))
    try:
        record = await bench.run()
    except BenchFailureError as error:
        Path(os.environ["RELUCTANT_FAILURE"]).write_text(str(error))
        raise
    record.save(Path(os.environ["RELUCTANT_RECORD"]))
