"""A core's memory in the store of a small unit: both find what is theirs, whoever had the store meanwhile."""

import random

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect

from reluctant.hdl.config import SERIAL, UnitConfig
from reluctant.hdl.serial_rows import SerialRows
from reluctant.hdl.shared_memory import SharedMemory
from tests.unit.helpers import run

SIZE = 8192
WORDS = SIZE // 4
CONFIG = UnitConfig(
    **SERIAL,
    lanes=8,
    head_dim=16,
    heads=2,
    kv_heads=1,
    slots=16,
    shared_memory=SIZE,
)


class Shared(wiring.Component):
    """Memory and store."""

    def __init__(self):
        self.memory, self.rows = SharedMemory(SIZE), SerialRows(CONFIG)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory, m.submodules.rows = self.memory, self.rows
        connect(m, self.memory.store, self.rows.memory)
        return m


class Core:
    """Transfers, one at a time, and what they should read."""

    def __init__(self, ctx, dut: Shared, source: random.Random):
        self.ctx, self.memory, self.bus, self.source = ctx, dut.memory, dut.memory.bus, source
        self.words: dict[int, int] = {}

    async def transfer(self, addr: int, data: int | None = None, strobe: int = 15) -> bool:
        """One transfer; whether it failed. A word that was read must be right."""
        ctx, bus = self.ctx, self.bus
        assert ctx.get(bus.ready)
        ctx.set(self.memory.asks, 1)
        for name, value in (("request", 1), ("write", data is not None), ("addr", addr)):
            ctx.set(getattr(bus, name), value)
        await ctx.tick()
        ctx.set(self.memory.asks, 0)
        for name, value in (("request", 0), ("data", data or 0), ("strobe", strobe)):
            ctx.set(getattr(bus, name), value)
        waited = 0
        while not ctx.get(bus.ready):
            await ctx.tick()
            waited += 1
        assert waited == (data is not None)
        failed = ctx.get(bus.error)
        if data is not None and not failed:
            mask = sum(0xFF << 8 * byte for byte in range(4) if strobe >> byte & 1)
            self.words[addr] = self.words.get(addr, 0) & ~mask | data & mask
        if data is None and not failed:
            await self.holds(addr)
        return failed

    async def holds(self, addr: int) -> None:
        """The word that was read stays."""
        for _ in range(self.source.randrange(3)):
            assert self.ctx.get(self.bus.word) == self.words[addr]
            await self.ctx.tick()
        assert self.ctx.get(self.bus.word) == self.words[addr]

    async def sleep(self) -> None:
        """Until some cycles later; the word that was read last is there again."""
        ctx, memory, latest = self.ctx, self.memory, self.source.randrange(WORDS)
        await self.transfer(latest)
        ctx.set(memory.sleeping, 1)
        for _ in range(self.source.randrange(12)):
            await ctx.tick()
            assert not ctx.get(memory.awake)
        ctx.set(memory.wake, 1)
        while not ctx.get(memory.awake):
            await ctx.tick()
        assert ctx.get(self.bus.word) == self.words[latest]
        await ctx.tick()
        ctx.set(memory.sleeping, 0)
        await self.holds(latest)
        ctx.set(memory.wake, 0)


def test_core_and_unit_share_the_store():
    """Writes of bytes, reads, addresses that do not exist, sleep; meanwhile the unit writes and reads its rows."""
    dut, source, seen, over = Shared(), random.Random(1), [], []

    async def core(ctx):
        ctx.set(dut.memory.held, 1)
        await ctx.tick().repeat(2)
        words = [source.getrandbits(32) for _ in range(WORDS)]
        await _host(ctx, dut.memory, words)
        ctx.set(dut.memory.held, 0)
        await ctx.tick()
        core = Core(ctx, dut, source)
        core.words = dict(enumerate(words))
        for _ in range(600):
            kind = source.randrange(8)
            if kind == 0:
                await core.sleep()
            elif kind == 1:
                beyond = WORDS << source.randrange(19)
                assert await core.transfer(beyond, *([source.getrandbits(32)] * source.randrange(2)))
            elif kind < 5:
                assert not await core.transfer(source.randrange(WORDS))
            else:
                data = source.getrandbits(32)
                assert not await core.transfer(source.randrange(WORDS), data, source.choice((1, 2, 4, 8, 3, 12, 15)))
        ctx.set(dut.memory.held, 1)
        await ctx.tick().repeat(2)
        for addr, word in core.words.items():
            ctx.set(dut.memory.host.addr, addr)
            await ctx.tick()
            assert ctx.get(dut.memory.host.read_data) == word
        over.append(True)

    async def unit(ctx):
        rows, store = dut.rows, {}
        ctx.set(rows.copying, 1)
        while not over:
            addr = source.randrange(2 * CONFIG.sizes.beats * CONFIG.slots)
            slot, beat, values = addr % CONFIG.slots, addr // CONFIG.slots % CONFIG.sizes.beats, addr & 1
            for name, value in (("slot", slot), ("beat", beat), ("values", values), ("value", values)):
                ctx.set(getattr(rows, name), value)
            go, write = ctx.get(rows.go), source.randrange(3) == 0
            ctx.set(rows.write, go and write)
            place, query = (slot, beat, values), ctx.get(rows.query)
            await ctx.tick()
            ctx.set(rows.write, 0)
            if go and write:
                store[place] = query
            elif go and place in store:
                seen.append(ctx.get(rows.stored))
                assert seen[-1] == store[place]

    async def packet(ctx):
        """Beats that the unit then copies."""
        while not over:
            ctx.set(dut.rows.take, 1)
            ctx.set(dut.rows.index, source.randrange(2 * CONFIG.kv_heads))
            ctx.set(dut.rows.data, source.getrandbits(64))
            await ctx.tick()

    run(dut, core, unit, packet)
    assert len(seen) > 100
    assert len(set(seen)) > 50


async def _host(ctx, memory: SharedMemory, words: list[int]) -> None:
    """Write all words of a held core's memory."""
    for addr, word in enumerate(words):
        ctx.set(memory.host.addr, addr)
        ctx.set(memory.host.write, 1)
        ctx.set(memory.host.data, word)
        await ctx.tick()
    ctx.set(memory.host.write, 0)
