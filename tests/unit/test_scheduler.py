"""The scheduler with its core, running programs put together by hand: registers, unit, events, starts."""

import random

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib.wiring import connect

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.core_memory import CoreMemory
from reluctant.hdl.mailbox import Mailbox
from reluctant.hdl.register_map import RegisterMap, scheduler_map
from reluctant.hdl.scheduler import COLD, HOST, TRAP, WATCHDOG, Scheduler
from reluctant.hdl.scheduler_registers import SchedulerRegisters
from reluctant.hdl.system_config import SystemConfig

from .helpers import refuses, run, wait
from .rv32 import CSR_MIE, CSR_MTVEC, Program

CONFIG = SystemConfig(
    unit=UnitConfig(lanes=4, head_dim=16, slots=4, heads=2, kv_heads=1), memory=8192, messages=2, watchdog=4096
)
MAP, UNIT_MAP = scheduler_map(CONFIG), RegisterMap(CONFIG.unit)
REGISTERS, UNIT = 0x40000000, 0x80000000
ZERO, BASE, A, B, C, D, E, TARGET = 0, 1, 2, 3, 4, 5, 6, 7
LOG = 0x1000
"""Where programs leave what they saw, for the test to look at through the host's port."""


def reg(name, *index):
    return MAP.address(name, *index)


class Bench(Elaboratable):
    """A scheduler with a mailbox, and a unit whose registers answer ``~address`` and remember what was written."""

    def __init__(self, program: Program):
        self.dut = Scheduler(CONFIG, program.image())
        self.mailbox = Mailbox(CONFIG.messages)
        self.written, self.refused, self.delay = [], set(), lambda: 2

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut, m.submodules.mailbox = self.dut, self.mailbox
        connect(m, self.dut.commands, self.mailbox.command_reader)
        connect(m, self.dut.replies, self.mailbox.reply_writer)
        return m

    async def unit(self, ctx):
        """The unit's registers; checks that a request holds until it is done."""
        bus = self.dut.unit
        while True:
            _, _, request, *what = await ctx.tick().sample(bus.request, bus.write, bus.addr, bus.data, bus.strobe)
            if not request:
                continue
            for _ in range(self.delay()):
                _, _, request, *again = await ctx.tick().sample(bus.request, bus.write, bus.addr, bus.data, bus.strobe)
                assert request
                assert again == what
            write, addr, data, strobe = what
            ctx.set(bus.done, 1)
            ctx.set(bus.error, addr in self.refused)
            ctx.set(bus.read_data, ~addr & 0xFFFFFFFF)
            if write:
                self.written.append((4 * addr, data, strobe))
            await ctx.tick()
            ctx.set(bus.done, 0)
            ctx.set(bus.read_data, 0)
            _, _, request = await ctx.tick().sample(bus.request)
            assert not request

    async def hold(self, ctx):
        ctx.set(self.dut.hold, 1)
        await wait(ctx, 3)
        assert ctx.get(self.dut.held)

    async def peek(self, ctx, address):
        """A word of the memory; the core must be held."""
        ctx.set(self.dut.memory.addr, address // 4)
        await ctx.tick()
        return ctx.get(self.dut.memory.read_data)

    async def poke(self, ctx, address, word):
        ctx.set(self.dut.memory.addr, address // 4)
        ctx.set(self.dut.memory.data, word)
        ctx.set(self.dut.memory.write, 1)
        await ctx.tick()
        ctx.set(self.dut.memory.write, 0)

    async def log(self, ctx, count):
        await self.hold(ctx)
        return [await self.peek(ctx, LOG + 4 * index) for index in range(count)]

    async def until(self, ctx, signal, limit=3000):
        for _ in range(limit):
            if ctx.get(signal):
                return
            await ctx.tick()
        raise AssertionError(f"{signal.name} did not rise in {limit} cycles")

    async def pulse(self, ctx, name):
        ctx.set(getattr(self.dut, name), 1)
        await ctx.tick()
        ctx.set(getattr(self.dut, name), 0)

    async def asleep(self, ctx):
        """The core sleeps, and the store before it is over."""
        await self.until(ctx, self.dut.sleeping)
        await wait(ctx, 60)
        assert ctx.get(self.dut.sleeping)

    def run(self, *benches):
        run(self, *benches, processes=[self.unit])


def sleep(program):
    program.label("sleep")
    program.wfi()
    program.jump("sleep")


def start(program):
    program.li(BASE, REGISTERS)
    program.li(TARGET, LOG)


class Log:
    """Stores one word after the other at LOG."""

    def __init__(self, program):
        self.program, self.count = program, 0

    def __call__(self, register):
        self.program.sw(register, TARGET, 4 * self.count)
        self.count += 1


def test_answers_a_command():
    """The words of a command, each with one added, come back as a reply; the core sleeps until the command is there."""
    program = Program()
    start(program)
    program.li(A, MAP.encode("EVENT_ENABLE", mask=1))
    program.sw(A, BASE, reg("EVENT_ENABLE"))
    program.li(A, 1 << 11)
    program.csrw(CSR_MIE, A)
    program.label("next")
    program.wfi()
    program.lw(A, BASE, reg("COMMAND_STATUS"))
    program.beq(A, ZERO, "next")
    for index in range(3):
        program.lw(B, BASE, reg("COMMAND", index))
        program.addi(B, B, 1)
        program.sw(B, BASE, reg("REPLY", index))
    program.sw(ZERO, BASE, reg("COMMAND_TAKE"))
    program.li(C, 3)
    program.sw(C, BASE, reg("REPLY_SEND"))
    program.jump("next")
    bench = Bench(program)
    writer, reader = bench.mailbox.command_writer, bench.mailbox.reply_reader

    async def check(ctx):
        for number in range(3):
            await bench.asleep(ctx)
            for index in range(3):
                ctx.set(writer.index, index)
                ctx.set(writer.data, 100 * number + index)
                ctx.set(writer.write, 1)
                await ctx.tick()
            ctx.set(writer.write, 0)
            assert ctx.get(bench.dut.sleeping)
            ctx.set(writer.words, 3)
            ctx.set(writer.send, 1)
            await ctx.tick()
            ctx.set(writer.send, 0)
            await bench.until(ctx, reader.count)
            assert ctx.get(reader.words) == 3
            for index in range(3):
                ctx.set(reader.index, index)
                await ctx.tick()
                assert ctx.get(reader.data) == 100 * number + index + 1
            ctx.set(reader.take, 1)
            await ctx.tick()
            ctx.set(reader.take, 0)
            assert ctx.get(bench.mailbox.command_writer.room) == CONFIG.messages

    bench.run(check)


def test_replies_of_a_wrong_length_and_without_room_are_ignored():
    program = Program()
    start(program)
    log = Log(program)
    for words in (0, 33, 64, 1 << 20 | 1, 2, 32, 1):
        program.li(A, words)
        program.sw(A, BASE, reg("REPLY_SEND"))
        program.lw(B, BASE, reg("REPLY_STATUS"))
        log(B)
    program.lw(B, BASE, reg("REPLY_SEND"))
    log(B)
    sleep(program)
    bench = Bench(program)

    async def check(ctx):
        await bench.asleep(ctx)
        assert ctx.get(bench.mailbox.reply_reader.count) == 2
        assert await bench.log(ctx, log.count) == [2, 2, 2, 2, 1, 0, 0, 0]

    bench.run(check)


def test_unit_registers():
    """Words and bytes reach the unit as they are, its words come back, whatever its wait states."""
    program, rng = Program(), random.Random(1)
    start(program)
    program.li(C, UNIT)
    log = Log(program)
    names = ["ID", "JOB_N", "START", "STATUS", "ERROR"]
    for number, name in enumerate(names):
        program.li(A, 0x1234_5600 + number)
        program.sw(A, C, UNIT_MAP.address(name))
        program.lw(B, C, UNIT_MAP.address(name))
        log(B)
    program.sb(A, C, UNIT_MAP.address("JOB_SLOT") + 2)
    sleep(program)
    bench = Bench(program)
    bench.delay = lambda: rng.randint(0, 6)

    async def check(ctx):
        await bench.asleep(ctx)
        addresses = [UNIT_MAP.address(name) for name in names]
        assert await bench.log(ctx, log.count) == [~(address // 4) & 0xFFFFFFFF for address in addresses]
        words = [(address, 0x1234_5600 + number, 0xF) for number, address in enumerate(addresses)]
        assert bench.written[:-1] == words
        address, data, strobe = bench.written[-1]
        assert (address, data >> 16 & 0xFF, strobe) == (UNIT_MAP.address("JOB_SLOT"), 4, 0b0100)

    bench.run(check)


CASES = {
    "beyond the memory": (CONFIG.memory, True, "lw"),
    "beyond the memory, written": (CONFIG.memory, True, "sw"),
    "last word": (CONFIG.memory - 4, False, "sw"),
    "no registers": (REGISTERS + 0x38, True, "lw"),
    "between the windows": (REGISTERS + 0x40, True, "lw"),
    "behind the windows": (REGISTERS + 0x180, True, "sw"),
    "mirrored": (REGISTERS + 0x1000, True, "lw"),
    "commands are read-only": (REGISTERS + reg("COMMAND", 3), True, "sw"),
    "replies are write-only": (REGISTERS + reg("REPLY", 3), True, "lw"),
    "status is read-only": (REGISTERS + reg("EVENTS"), True, "sw"),
    "bytes of registers": (REGISTERS + reg("EVENT_ENABLE"), True, "sb"),
    "words of registers": (REGISTERS + reg("EVENT_ENABLE"), False, "sw"),
    "unit": (UNIT + UNIT_MAP.address("JOB_N"), False, "sw"),
    "refused by the unit": (UNIT + UNIT_MAP.address("START"), True, "sw"),
    "beyond the unit": (UNIT + (1 << UNIT_MAP.address_width), True, "lw"),
    "far beyond the unit": (UNIT + 0x20000000, True, "sw"),
    "nothing": (0xC0000000, True, "lw"),
    "end of the address space": (0xFFFFFFFC, True, "sw"),
}


HANDLER = 17
"""The word at which the program below handles traps."""


@pytest.mark.parametrize("case", CASES)
def test_access_faults(case):
    """Whether an access traps."""
    address, faults, kind = CASES[case]
    program = Program()
    start(program)
    program.addi(D, ZERO, 0)
    program.li(A, 4 * HANDLER)
    program.csrw(CSR_MTVEC, A)
    program.li(C, address)
    getattr(program, kind)(A, C)
    program.jump("done")
    while len(program.words) < HANDLER:
        program.addi(ZERO, ZERO, 0)
    program.addi(D, ZERO, 1)
    program.label("done")
    program.sw(D, TARGET)
    sleep(program)
    bench = Bench(program)
    bench.refused = {UNIT_MAP.address("START") // 4}

    async def check(ctx):
        await bench.asleep(ctx)
        assert await bench.log(ctx, 1) == [int(faults)]

    bench.run(check)


def test_events_and_gate():
    """Each event by itself wakes the core when it is enabled; what the firmware writes reaches the gate."""
    program = Program()
    start(program)
    log = Log(program)
    program.li(A, 1 << 11)
    program.csrw(CSR_MIE, A)
    program.li(A, 17)
    program.sw(A, BASE, reg("GATE_TIMEOUT"))
    for mask in (1 << 4, 1 << 3, 1 << 2):
        program.li(A, mask)
        program.sw(A, BASE, reg("EVENT_ENABLE"))
        for _ in range(4):  # the interrupt is two cycles late, and a wfi right behind would not wait
            program.addi(ZERO, ZERO, 0)
        program.wfi()
        program.lw(B, BASE, reg("EVENTS"))
        log(B)
    program.sw(ZERO, BASE, reg("EVENT_CLEAR"))
    program.lw(B, BASE, reg("EVENTS"))
    log(B)
    for name in ("GATE_DROP", "GATE_ABORT", "GATE_RESET"):
        program.sw(ZERO, BASE, reg(name))
    sleep(program)
    bench, pulses = Bench(program), []

    async def watch(ctx):
        gate = bench.dut.gate
        while True:
            _, _, *now = await ctx.tick().sample(gate.drop, gate.abort, gate.reset)
            pulses.extend(name for name, value in zip(("drop", "abort", "reset"), now, strict=True) if value)

    async def check(ctx):
        await wait(ctx, 300)
        assert ctx.get(bench.dut.sleeping)
        assert ctx.get(bench.dut.gate.patience) == 17
        await bench.pulse(ctx, "finished")
        await wait(ctx, 50)
        assert ctx.get(bench.dut.sleeping)
        ctx.set(bench.dut.can_drop, 1)
        await wait(ctx, 50)
        ctx.set(bench.dut.can_drop, 0)
        assert ctx.get(bench.dut.sleeping)
        assert pulses == []
        ctx.set(bench.dut.timeout, 1)
        await wait(ctx, 200)
        assert pulses == ["drop", "abort", "reset"]
        room = MAP.encode("EVENTS", room=1)
        expected = [{"job": 1, "gate": 1}, {"job": 1, "timeout": 1}, {"job": 1, "timeout": 1}, {"timeout": 1}]
        assert await bench.log(ctx, 4) == [room | MAP.encode("EVENTS", **events) for events in expected]

    run(bench, check, processes=[bench.unit, watch])


def counting_program(kick=False):
    """Counts its starts at LOG, notes the cause behind, then loops, with signs of life or without."""
    program = Program()
    start(program)
    program.lw(A, TARGET)
    program.addi(A, A, 1)
    program.sw(A, TARGET)
    program.lw(B, BASE, reg("START_CAUSE"))
    program.add(C, A, A)
    program.add(C, C, C)
    program.add(C, C, TARGET)
    program.sw(B, C)
    program.label("loop")
    if kick:
        program.sw(ZERO, BASE, reg("WATCHDOG"))
    program.jump("loop")
    return program


def test_starts_by_the_host():
    bench = Bench(counting_program(kick=True))
    dut = bench.dut

    async def check(ctx):
        await wait(ctx, 300)
        await bench.pulse(ctx, "restart")
        await wait(ctx, 300)
        assert ctx.get(dut.cause) == HOST
        ctx.set(dut.cold, 1)
        await bench.pulse(ctx, "restart")
        await wait(ctx, 300)
        assert await bench.log(ctx, 4) == [3, COLD, HOST, COLD]
        await bench.pulse(ctx, "restart")  # held: the core does not start
        await wait(ctx, 300)
        assert await bench.log(ctx, 4) == [3, COLD, HOST, COLD]
        ctx.set(dut.hold, 0)
        await wait(ctx, 300)
        ctx.set(dut.cold, 0)
        await bench.hold(ctx)
        ctx.set(dut.hold, 0)
        await wait(ctx, 300)
        assert await bench.log(ctx, 6) == [5, COLD, HOST, COLD, COLD, HOST]

    bench.run(check)


def test_watchdog():
    """Bites a core that gives no sign of life, not one that does; not while the core is held."""
    bench, alive, bites = Bench(counting_program()), Bench(counting_program(kick=True)), []

    async def bitten(ctx):
        for _ in range(2):
            await bench.until(ctx, bench.dut.bitten, 5000)
            bites.append(1)
            await wait(ctx, 100)
        assert ctx.get(bench.dut.cause) == WATCHDOG
        assert await bench.log(ctx, 4) == [3, COLD, WATCHDOG, WATCHDOG]
        for _ in range(CONFIG.watchdog + 100):
            await ctx.tick()
            assert not ctx.get(bench.dut.bitten)

    async def spared(ctx):
        for _ in range(2 * CONFIG.watchdog):
            await ctx.tick()
            assert not ctx.get(alive.dut.bitten)
        assert await alive.log(ctx, 2) == [1, COLD]

    bench.run(bitten)
    assert len(bites) == 2
    alive.run(spared)


def test_sleeping_core_is_not_bitten():
    program = Program()
    sleep(program)
    bench = Bench(program)

    async def check(ctx):
        await bench.asleep(ctx)
        for _ in range(2 * CONFIG.watchdog):
            await ctx.tick()
            assert not ctx.get(bench.dut.bitten)

    bench.run(check)


def test_restart_after_a_trap_during_an_access_to_the_unit():
    """The firmware's own restart; and one by the host in the midst of an access, which goes on to its end."""
    program = Program()
    start(program)
    program.lw(A, TARGET)
    program.addi(A, A, 1)
    program.sw(A, TARGET)
    program.addi(B, ZERO, 1)
    program.bne(A, B, "later")
    program.sw(ZERO, BASE, reg("RESTART"))
    program.label("wait")
    program.jump("wait")
    program.label("later")
    program.lw(B, BASE, reg("START_CAUSE"))
    program.sw(B, TARGET, 4)
    program.li(C, UNIT)
    program.sw(A, C, UNIT_MAP.address("JOB_N"))
    program.lw(D, C, UNIT_MAP.address("JOB_SLOT"))
    program.sw(D, TARGET, 8)
    sleep(program)
    bench = Bench(program)
    bench.delay = lambda: 40

    async def check(ctx):
        await bench.until(ctx, bench.dut.trapped)
        await bench.until(ctx, bench.dut.unit.request)
        assert ctx.get(bench.dut.cause) == TRAP
        await wait(ctx, 10)
        await bench.pulse(ctx, "restart")
        await bench.asleep(ctx)
        assert await bench.log(ctx, 3) == [3, HOST, ~(UNIT_MAP.address("JOB_SLOT") // 4) & 0xFFFFFFFF]
        assert [data for _, data, _ in bench.written] == [2, 3]

    bench.run(check)


@pytest.mark.parametrize("after", range(24))
def test_restart_at_any_time_loses_no_access(after):
    """However the restart meets the core, the unit sees whole accesses and the core's first fetch is right."""
    program = Program()
    start(program)
    program.li(C, UNIT)
    program.label("loop")
    program.sw(C, C, UNIT_MAP.address("JOB_N"))
    program.lw(B, BASE, reg("EVENTS"))
    program.lw(D, C, UNIT_MAP.address("JOB_SLOT"))
    program.sw(D, TARGET)
    program.jump("loop")
    bench = Bench(program)

    async def check(ctx):
        await wait(ctx, 150 + after)
        await bench.pulse(ctx, "restart")
        await wait(ctx, 200)
        count = len(bench.written)
        await wait(ctx, 200)
        assert len(bench.written) > count
        assert set(bench.written) == {(UNIT_MAP.address("JOB_N"), UNIT, 0xF)}
        assert await bench.log(ctx, 1) == [~(UNIT_MAP.address("JOB_SLOT") // 4) & 0xFFFFFFFF]

    bench.run(check)


def test_host_loads_firmware_while_the_core_is_held():
    bench = Bench(counting_program())
    other = Program()
    start(other)
    other.li(A, 77)
    other.sw(A, TARGET)
    sleep(other)
    image = other.image()

    async def check(ctx):
        await wait(ctx, 20)
        await bench.hold(ctx)
        for at in range(0, len(image), 4):
            await bench.poke(ctx, at, int.from_bytes(image[at : at + 4], "little"))
        ctx.set(bench.dut.hold, 0)
        await bench.asleep(ctx)
        assert await bench.log(ctx, 1) == [77]

    bench.run(check)


def test_word_of_a_register_holds():
    """Until the next transfer, whatever happens to the register meanwhile; it is there in the second cycle after the
    request."""
    dut = SchedulerRegisters(CONFIG)

    async def check(ctx):
        ctx.set(dut.timeout, 1)
        ctx.set(dut.bus.addr, reg("EVENTS") // 4)
        ctx.set(dut.bus.request, 1)
        assert ctx.get(dut.bus.ready)
        await ctx.tick()
        ctx.set(dut.bus.request, 0)
        assert not ctx.get(dut.bus.ready)
        await ctx.tick()
        ctx.set(dut.timeout, 0)
        for _ in range(5):
            assert ctx.get(dut.bus.ready)
            assert not ctx.get(dut.bus.error)
            assert ctx.get(dut.bus.word) == MAP.encode("EVENTS", timeout=1)
            await ctx.tick()

    run(dut, check)


def test_firmware_must_fit():
    refuses(lambda: CoreMemory(16, bytes(17)), "contents are 17 bytes: at most 16 fit the memory")
