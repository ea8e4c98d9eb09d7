"""What the host sees of a system, over AXI4-Lite with stalls on all five channels; mailbox and memory are real."""

import random

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib.wiring import connect

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.core_memory import CoreMemory
from reluctant.hdl.host_registers import HostRegisters
from reluctant.hdl.mailbox import Mailbox
from reluctant.hdl.messages import MESSAGE_WORDS
from reluctant.hdl.system_config import SystemConfig

from .axi_lite_master import OKAY, SLVERR, AxiLiteMaster
from .helpers import run, wait
from .register_bus import merge

CONFIG = SystemConfig(
    unit=UnitConfig(lanes=4, head_dim=16, slots=4, heads=2, kv_heads=1, counter_bits=40), memory=8192, messages=2
)
CONTENTS = bytes(range(1, 12))
PLAIN = {"CONTROL", "STATUS", "ERROR", "IRQ_ENABLE", "IRQ_STATUS", "SEND", "TAKE", "MEMORY_ADDRESS", "MEMORY_DATA"}
CONSTANT = {"ID", "VERSION", "CONFIG_HASH", "CONFIG_SCHEDULER", "CONFIG_MEMORY"}


class Bench(Elaboratable):
    """The registers with a mailbox and a memory."""

    def __init__(self, stall=0.0, seed=0):
        self.dut, self.mailbox = HostRegisters(CONFIG), Mailbox(CONFIG.messages)
        self.memory = CoreMemory(CONFIG.memory, CONTENTS)
        self.map = self.dut.map
        self.master = AxiLiteMaster(self.dut.axi, stall=stall, seed=seed)

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut, m.submodules.mailbox, m.submodules.memory = self.dut, self.mailbox, self.memory
        connect(m, self.dut.commands, self.mailbox.command_writer)
        connect(m, self.dut.replies, self.mailbox.reply_reader)
        connect(m, self.dut.memory, self.memory.host)
        m.d.comb += self.memory.held.eq(self.dut.held)
        return m

    async def write(self, ctx, name, value, *indices, strobe=0b1111):
        """Whether the answer was OKAY."""
        return await self.master.write(ctx, self.map.address(name, *indices), value, strobe) == OKAY

    async def read(self, ctx, name, *indices):
        """Read; the answer must be OKAY."""
        word, response = await self.master.read(ctx, self.map.address(name, *indices))
        assert response == OKAY, name
        return word

    async def fields(self, ctx, name):
        return self.map.decode(name, await self.read(ctx, name))

    async def errors(self, ctx):
        """Names of the error bits set, which are cleared."""
        word = await self.read(ctx, "ERROR")
        assert (await self.fields(ctx, "IRQ_STATUS"))["error"] == bool(word)
        assert await self.write(ctx, "ERROR", word)
        assert await self.read(ctx, "ERROR") == 0
        return {name for name, value in self.map.decode("ERROR", word).items() if value}


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_every_address(stall):
    """Constants, what is read-only, write-only or not there; strobes of what is stored."""
    bench = Bench(stall, seed=1)
    mapped = {}
    for register in bench.map.registers.values():
        for index in range(register.count):
            mapped[register.address + 4 * index] = register

    async def check(ctx):
        for address in range(0, 1 << bench.map.address_width, 4):
            register = mapped.get(address)
            word, response = await bench.master.read(ctx, address)
            readable = register is not None and register.readable and register.name != "MEMORY_DATA"
            assert response == (OKAY if readable else SLVERR), hex(address)
            if not readable:
                assert word == 0
                kind = "not_held" if register is not None and register.name == "MEMORY_DATA" else "bad_address"
                assert await bench.errors(ctx) == {kind}
            elif register.name in CONSTANT:
                assert word == sum(field.reset << field.low for field in register.fields)
            if register is None or not register.writable:
                assert await bench.master.write(ctx, address, 0xFFFFFFFF) == SLVERR, hex(address)
                assert await bench.errors(ctx) == {"bad_address"}
        assert {r.name for r in mapped.values() if not r.dimensions and "." not in r.name} == PLAIN | CONSTANT

    run(bench, check)


def test_storage_honours_strobes():
    bench, rng = Bench(), random.Random(2)
    masks = {"CONTROL": 0b11, "IRQ_ENABLE": 0b11, "MEMORY_ADDRESS": CONFIG.memory - 4}

    async def check(ctx):
        mirror = dict.fromkeys(masks, 0)
        for _ in range(60):
            name, word, strobe = rng.choice(list(masks)), rng.getrandbits(32), rng.getrandbits(4)
            assert await bench.write(ctx, name, word, strobe=strobe)
            mirror[name] = merge(mirror[name], word, strobe) & masks[name]
            assert await bench.read(ctx, name) == mirror[name]
            assert (ctx.get(bench.dut.hold), ctx.get(bench.dut.cold)) == (mirror["CONTROL"] & 1, mirror["CONTROL"] >> 1)

    run(bench, check)


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_commands_and_replies(stall):
    bench, rng = Bench(stall, seed=3), random.Random(4)
    reader, writer = bench.mailbox.command_reader, bench.mailbox.reply_writer

    async def send(ctx, message):
        for index, word in enumerate(message):
            assert await bench.write(ctx, "COMMAND", word, index)
        return await bench.write(ctx, "SEND", len(message))

    async def core(ctx):
        """Answers each command with its words complemented, after a while."""
        for _ in range(12):
            while not ctx.get(reader.count):
                await ctx.tick()
            await wait(ctx, rng.randint(1, 60))
            words = ctx.get(reader.words)
            for index in range(words):
                ctx.set(reader.index, index)
                await ctx.tick()
                ctx.set(writer.index, index)
                ctx.set(writer.data, ~ctx.get(reader.data) & 0xFFFFFFFF)
                ctx.set(writer.write, 1)
                await ctx.tick()
                ctx.set(writer.write, 0)
            ctx.set(writer.words, words)
            ctx.set(writer.send, 1)
            ctx.set(reader.take, 1)
            await ctx.tick()
            ctx.set(writer.send, 0)
            ctx.set(reader.take, 0)

    async def check(ctx):
        assert await bench.fields(ctx, "STATUS") == bench.map.decode("STATUS", CONFIG.messages)
        for _ in range(12):
            message = [rng.getrandbits(32) for _ in range(rng.choice([1, 2, MESSAGE_WORDS]))]
            assert await send(ctx, message)
            status = await bench.fields(ctx, "STATUS")
            while not status["replies"]:
                status = await bench.fields(ctx, "STATUS")
            assert status["words"] == len(message)
            order = list(range(len(message)))
            rng.shuffle(order)
            for index in order:
                assert await bench.read(ctx, "REPLY", index) == ~message[index] & 0xFFFFFFFF
            assert (await bench.fields(ctx, "IRQ_STATUS")) == {"reply": 1, "error": 0}
            assert await bench.write(ctx, "TAKE", 0)
            assert not (await bench.fields(ctx, "IRQ_STATUS"))["reply"]
        assert not await bench.write(ctx, "TAKE", 0)
        assert await bench.errors(ctx) == {"no_reply"}

    run(bench, core, check)


def test_commands_that_are_refused_change_nothing():
    bench = Bench()
    reader = bench.mailbox.command_reader

    async def check(ctx):
        for words in (0, MESSAGE_WORDS + 1, 0x41, 0x101, 1 << 31):
            assert not await bench.write(ctx, "SEND", words)
            assert await bench.errors(ctx) == {"bad_send"}
        assert not await bench.write(ctx, "SEND", 1, strobe=0b1110)
        assert await bench.errors(ctx) == {"bad_send"}
        assert await bench.write(ctx, "SEND", 0xFFFFFF01, strobe=0b0001)
        assert not await bench.write(ctx, "COMMAND", 5, 0, strobe=0b0111)
        assert await bench.errors(ctx) == {"bad_address"}
        assert await bench.write(ctx, "COMMAND", 7, 0)
        assert await bench.write(ctx, "SEND", MESSAGE_WORDS)
        assert not await bench.write(ctx, "COMMAND", 8, 0)
        assert await bench.errors(ctx) == {"bad_send"}
        assert not await bench.write(ctx, "SEND", 1)
        assert await bench.errors(ctx) == {"bad_send"}
        assert ctx.get(reader.count) == CONFIG.messages
        ctx.set(reader.take, 1)
        await ctx.tick()
        ctx.set(reader.take, 0)
        await wait(ctx, 2)
        assert (ctx.get(reader.words), ctx.get(reader.data)) == (MESSAGE_WORDS, 7)

    run(bench, check)


def test_memory_of_a_held_core():
    bench, rng = Bench(0.2, seed=5), random.Random(6)
    words = CONFIG.memory // 4

    async def check(ctx):
        assert not await bench.write(ctx, "MEMORY_DATA", 1)
        assert await bench.errors(ctx) == {"not_held"}
        assert await bench.read(ctx, "MEMORY_ADDRESS") == 0
        ctx.set(bench.dut.held, 1)
        mirror = {index: int.from_bytes(CONTENTS[4 * index : 4 * index + 4], "little") for index in range(4)}
        for index, word in mirror.items():
            assert await bench.read(ctx, "MEMORY_DATA") == word
            assert await bench.read(ctx, "MEMORY_ADDRESS") == 4 * index + 4
        for _ in range(8):
            start = rng.choice([0, rng.randrange(words), words - 2])
            assert await bench.write(ctx, "MEMORY_ADDRESS", 4 * start)
            for index in range(start, start + 4):
                mirror[index % words] = rng.getrandbits(32)
                assert await bench.write(ctx, "MEMORY_DATA", mirror[index % words])
            assert await bench.write(ctx, "MEMORY_ADDRESS", 4 * start)
            for index in range(start, start + 4):
                assert await bench.read(ctx, "MEMORY_DATA") == mirror[index % words]
        address = await bench.read(ctx, "MEMORY_ADDRESS")
        assert not await bench.write(ctx, "MEMORY_DATA", 5, strobe=0b0011)
        assert await bench.errors(ctx) == {"bad_address"}
        assert await bench.read(ctx, "MEMORY_ADDRESS") == address

    run(bench, check)


def test_status_interrupt_and_pulses():
    bench = Bench()
    dut = bench.dut
    seen = {"restart": 0, "flush": 0}

    async def watch(ctx):
        while True:
            _, _, restart, cold, flush = await ctx.tick().sample(dut.restart, dut.cold, dut.flush)
            seen["restart"] += restart
            seen["flush"] += flush
            assert not restart or cold

    async def check(ctx):
        for name in ("held", "sleeping", "busy", "packet"):
            ctx.set(getattr(dut, name), 1)
            assert {n for n, v in (await bench.fields(ctx, "STATUS")).items() if v} == {"room", name}
            ctx.set(getattr(dut, name), 0)
        ctx.set(dut.cause, 2)
        assert (await bench.fields(ctx, "STATUS"))["cause"] == 2
        assert await bench.write(ctx, "CONTROL", bench.map.encode("CONTROL", cold=1, restart=1))
        assert seen == {"restart": 1, "flush": 0}
        assert await bench.read(ctx, "CONTROL") == 2
        assert await bench.write(ctx, "CONTROL", bench.map.encode("CONTROL", flush=1))
        assert seen == {"restart": 1, "flush": 1}
        for event, error in (("bitten", "watchdog"), ("trapped", "trap")):
            assert await bench.write(ctx, "IRQ_ENABLE", 2)
            assert not ctx.get(dut.irq)
            ctx.set(getattr(dut, event), 1)
            await ctx.tick()
            ctx.set(getattr(dut, event), 0)
            await wait(ctx, 2)
            assert ctx.get(dut.irq)
            assert await bench.write(ctx, "IRQ_ENABLE", 1)
            assert not ctx.get(dut.irq)
            assert await bench.errors(ctx) == {error}

    run(bench, check, processes=[watch])


def test_counters():
    """Counters count what happened between two reads; the high half belongs to the last low half."""
    bench = Bench()
    dut = bench.dut

    async def counter(ctx, name):
        low = await bench.read(ctx, f"{name}.LO")
        return low | await bench.read(ctx, f"{name}.HI") << 32

    async def check(ctx):
        for busy, sleeping, held in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1)):
            before = [await counter(ctx, name) for name in dut.map.counters]
            ctx.set(dut.busy, busy)
            ctx.set(dut.sleeping, sleeping)
            ctx.set(dut.held, held)
            ctx.set(dut.dropped, busy)
            await wait(ctx, 500)
            for name in ("busy", "dropped"):
                ctx.set(getattr(dut, name), 0)
            ctx.set(dut.sleeping, 1)
            after = [await counter(ctx, name) for name in dut.map.counters]
            cycles, unit, active, exposed, dropped = (b - a for a, b in zip(before, after, strict=True))
            running = not sleeping and not held
            assert 500 < cycles < 1000
            assert (unit, dropped) == (500 * busy, 500 * busy)
            # Reads of the counters before were still counted as work of the core.
            assert active // 500 == int(running)
            assert exposed // 500 == int(running and not busy)
            ctx.set(dut.held, 0)

    run(bench, check)
