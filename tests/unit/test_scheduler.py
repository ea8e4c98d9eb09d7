"""The scheduler with its core, running programs put together by hand: registers, mailbox, unit, events."""

import random

import pytest

from reluctant.hdl.scheduler_registers import SchedulerRegisters

from .helpers import run, wait
from .rv32 import CSR_MIE, CSR_MTVEC, Program
from .scheduler_bench import (
    BASE,
    CONFIG,
    MAP,
    REGISTERS,
    TARGET,
    UNIT,
    UNIT_MAP,
    ZERO,
    A,
    B,
    Bench,
    C,
    D,
    reg,
    sleep,
    start,
)


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
