"""A scheduler with its core, and what programs put together by hand for it need."""

from amaranth.hdl import Elaboratable, Module
from amaranth.lib.wiring import connect

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.mailbox import Mailbox
from reluctant.hdl.register_map import RegisterMap, scheduler_map
from reluctant.hdl.scheduler import Scheduler
from reluctant.hdl.system_config import SystemConfig

from .helpers import run, wait
from .rv32 import Program

CONFIG = SystemConfig(
    unit=UnitConfig(lanes=4, head_dim=16, slots=4, heads=2, kv_heads=1), memory=8192, messages=2, watchdog=4096
)
MAP, UNIT_MAP = scheduler_map(CONFIG), RegisterMap(CONFIG.unit)
REGISTERS, UNIT = 0x40000000, 0x80000000
ZERO, BASE, A, B, C, D, TARGET = range(7)
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
