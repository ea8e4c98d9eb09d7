"""The control behind an AXI4-Lite slave, with the real tables behind it and stalls on all five channels."""

from amaranth.hdl import Elaboratable, Module
from amaranth.lib.wiring import connect

from reluctant.hdl.axi_lite import AxiLiteSlave
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.control_registers import ControlRegisters
from reluctant.hdl.gain_table import GainTable
from reluctant.hdl.head_table import HeadTable
from reluctant.hdl.register_map import RegisterMap

from .axi_lite_master import OKAY, AxiLiteMaster
from .helpers import Stalls, run
from .register_bus import access

FULL = UnitConfig(lanes=8, head_dim=24, slots=12, heads=6, kv_heads=3, profiles=3, counter_bits=40, job_queue=3)
BARE = UnitConfig(
    lanes=4, head_dim=16, slots=2, heads=1, kv_heads=1, softmax=False, normalisers=(), statistics=False, counter_bits=16
)
WIDE = UnitConfig(
    lanes=16, head_dim=64, slots=256, heads=32, kv_heads=4, position_bits=32, mass_bits=32, counter_bits=64, profiles=2
)
CONFIGS = {"full": FULL, "bare": BARE, "wide": WIDE}
GOOD = {"JOB_N": 1, "JOB_SLOT": 0, "JOB_BASE": 1, "JOB_HEAD_DIM": 16, "JOB_CONTROL": 0b11}


class Bench(Elaboratable):
    """Control registers with their tables, a host, and slot states that are functions of the row."""

    def __init__(self, config, stall=0.0, seed=0):
        self.config, self.map = config, RegisterMap(config)
        self.dut = ControlRegisters(config)
        self.head_table = HeadTable(config)
        self.gain_table = GainTable(config) if "GAIN" in self.map.registers else None
        self.slave = AxiLiteSlave(self.map.address_width)
        self.master = AxiLiteMaster(self.slave.axi, stall=stall, seed=seed)
        self.stalls = Stalls(stall, seed + 1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = self.dut
        m.submodules.slave = self.slave
        connect(m, self.slave.bus, self.dut.bus)
        m.submodules.head_table = self.head_table
        connect(m, self.dut.head_table, self.head_table.bus)
        if self.gain_table is not None:
            m.submodules.gain_table = self.gain_table
            connect(m, self.dut.gain_table, self.gain_table.bus)
        return m

    def run(self, *benches):
        run(self, *benches, processes=[self.slots] if self.config.statistics else [])

    def state(self, row):
        """Mass and position of a row."""
        mass = row * 0x9E3779B1 & ((1 << self.config.mass_bits) - 1)
        return {"mass": mass, "position": (row * 77 + 5) & ((1 << self.config.position_bits) - 1)}

    async def slots(self, ctx):
        """Answers peeks, after a while."""
        peek, peeked = self.dut.peek, self.dut.peeked
        while True:
            _, _, valid, row = await ctx.tick().sample(peek.valid, peek.payload)
            if not valid:
                continue
            for _ in range(self.stalls.length()):
                await ctx.tick()
            ctx.set(peek.ready, 1)
            await ctx.tick()
            ctx.set(peek.ready, 0)
            for _ in range(self.stalls.length()):
                await ctx.tick()
            ctx.set(peeked.payload, self.state(row))
            ctx.set(peeked.valid, 1)
            ready = 0
            while not ready:
                _, _, ready = await ctx.tick().sample(peeked.ready)
            ctx.set(peeked.valid, 0)

    async def write(self, ctx, name, value, *indices, strobe=0b1111):
        """Write a register by name; returns whether the answer was OKAY."""
        return await self.master.write(ctx, self.map.address(name, *indices), value & 0xFFFFFFFF, strobe) == OKAY

    async def read(self, ctx, name, *indices):
        """Read a register by name; the answer must be OKAY."""
        data, response = await self.master.read(ctx, self.map.address(name, *indices))
        assert response == OKAY, name
        return data

    async def errors(self, ctx):
        """Names of the error bits set, which are cleared, and the interrupt's error bit with them."""
        word = await self.read(ctx, "ERROR")
        irq = self.map.decode("IRQ_STATUS", await self.read(ctx, "IRQ_STATUS"))
        assert bool(word) == irq["error"]
        assert await self.write(ctx, "ERROR", word)
        assert await self.write(ctx, "IRQ_STATUS", self.map.encode("IRQ_STATUS", error=1))
        assert await self.read(ctx, "ERROR") == 0
        return {name for name, value in self.map.decode("ERROR", word).items() if value}

    async def start(self, ctx, **registers):
        """Write the good job with some registers changed, and START; returns whether it was queued."""
        for name, value in (GOOD | registers).items():
            assert await self.write(ctx, name, value)
        return await self.write(ctx, "START", 0)


async def start_bare(ctx, dut, registers):
    """The good job over the bus itself; returns the error of START."""
    for name, value in GOOD.items():
        await access(ctx, dut.bus, registers.address(name) // 4, value)
    return (await access(ctx, dut.bus, registers.address("START") // 4, 0))[1]


async def read_log(ctx, dut, registers):
    """JOBS_STARTED and JOB_STATE, the latter by tag."""
    words = [(await access(ctx, dut.bus, registers.address(name) // 4))[0] for name in ("JOBS_STARTED", "JOB_STATE")]
    return words[0], [words[1] >> 8 * tag & 0xFF for tag in range(4)]


def bare_registers(config):
    """The control with nothing around it, and its map."""
    return ControlRegisters(config), RegisterMap(config)
