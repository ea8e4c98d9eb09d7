"""The control behind an AXI4-Lite slave, with the real tables behind it and stalls on all five channels."""

import random

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib.wiring import connect

from reluctant.golden import formats
from reluctant.hdl.axi_lite import AxiLiteSlave
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.control_registers import ControlRegisters
from reluctant.hdl.gain_table import GainTable
from reluctant.hdl.head_table import HeadTable
from reluctant.hdl.register_map import RegisterMap

from .axi_lite_master import OKAY, SLVERR, AxiLiteMaster
from .helpers import Stalls, receive, run
from .register_bus import access, merge

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


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_plain_register(name, stall):
    """Constants, resets, storage by bytes, and what is read-only or write-only, against the map."""
    bench, rng = Bench(CONFIGS[name], stall, seed=1), random.Random(2)
    registers = [r for r in bench.map.registers.values() if not r.dimensions and not r.name.startswith("COUNTER")]

    async def check(ctx):
        for register in registers:
            reset = sum(field.reset << field.low for field in register.fields if field.kind != "pulse")
            if register.name == "STATUS":
                reset = bench.map.encode("STATUS", room=bench.config.job_queue)
            assert await bench.read(ctx, register.name) == reset, register.name
            if not register.writable:
                assert not await bench.write(ctx, register.name, rng.getrandbits(32))
                assert await bench.errors(ctx) == {"bad_address"}
                assert await bench.read(ctx, register.name) == reset
        await check_storage(ctx)
        address = bench.map.address("COUNTERS_CLEAR")
        assert await bench.master.read(ctx, address) == (0, SLVERR)
        assert await bench.errors(ctx) == {"bad_address"}
        assert await bench.master.write(ctx, address, 0) == OKAY

    async def check_storage(ctx):
        storage = {r.name: sum(f.mask for f in r.fields) for r in registers if r.fields[0].kind == "storage"}
        assert len(storage) == 10
        mirror = dict.fromkeys(storage, 0)
        for _ in range(60):
            register, word, strobe = rng.choice(list(storage)), rng.getrandbits(32), rng.getrandbits(4)
            assert await bench.write(ctx, register, word, strobe=strobe)
            mirror[register] = merge(mirror[register], word, strobe) & storage[register]
            assert await bench.read(ctx, register) == mirror[register]
        for register, value in mirror.items():
            assert await bench.read(ctx, register) == value
        assert await bench.write(ctx, "IRQ_ENABLE", 0)
        assert await bench.errors(ctx) == set()

    bench.run(check)


@pytest.mark.parametrize("name", CONFIGS)
def test_unmapped_addresses(name):
    bench = Bench(CONFIGS[name], 0.3, seed=3)
    mapped = set()
    for register in bench.map.registers.values():
        for index in range(register.count):
            offset, indices = index, []
            for dimension in reversed(register.dimensions):
                indices.insert(0, offset % dimension)
                offset //= dimension
            mapped.add(bench.map.address(register.name, *indices))
    # Every word around the ends of what is mapped, in every window, and the ends of the space.
    space = 1 << bench.map.address_width
    near = {address + step for address in mapped for step in (-4, 4, 8)} | {0, space - 4, bench.map.window * 4}
    near |= {window * bench.map.window + 4 * word for window in range(8) for word in (0, 7)}
    holes = sorted(address for address in near if 0 <= address < space and address not in mapped)
    assert holes

    async def check(ctx):
        for address in random.Random(4).sample(holes, min(40, len(holes))):
            assert await bench.master.read(ctx, address) == (0, SLVERR), hex(address)
            assert await bench.errors(ctx) == {"bad_address"}
            assert await bench.master.write(ctx, address, 0xFFFFFFFF) == SLVERR, hex(address)
            assert await bench.errors(ctx) == {"bad_address"}

    bench.run(check)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_jobs_leave_in_order_as_they_were_at_start(stall):
    bench, rng, sent, received = Bench(FULL, stall, seed=5), random.Random(6), [], []

    async def host(ctx):
        while len(sent) < 12:
            base = rng.randrange(12)
            n = rng.randrange(1, 13 - base)
            job = {"n": n, "slot": rng.randrange(n), "base": base, "position": rng.getrandbits(20)}
            job |= {"mask": rng.getrandbits(6), "sinks": rng.getrandbits(20), "recent": rng.getrandbits(20)}
            control = {"append": 1, "attend": 1, "evict": rng.randrange(2), "emit_context": rng.randrange(2)}
            control |= {"silent": rng.randrange(2)}
            control |= {"normaliser": rng.randrange(5), "metric": rng.randrange(3), "profile": rng.randrange(3)}
            beats = rng.randrange(1, 4)
            registers = {f"JOB_{key.upper()}": value for key, value in job.items()}
            registers |= {"JOB_HEAD_DIM": 8 * beats, "JOB_CONTROL": bench.map.encode("JOB_CONTROL", **control)}
            if await bench.start(ctx, **registers):
                sent.append(job | control | {"beats": beats, "tag": len(sent) % 4})
            else:
                assert await bench.errors(ctx) == {"queue_full"}

    async def unit(ctx):
        received.extend(await receive(ctx, bench.dut.job, 12, stall=0.9, seed=7))

    bench.run(host, unit)
    assert received == sent


def test_queue_fills_and_soft_reset_empties_it():
    bench = Bench(FULL, 0.2, seed=8)
    pulses = []

    async def host(ctx):
        for level in range(FULL.job_queue):
            status = bench.map.decode("STATUS", await bench.read(ctx, "STATUS"))
            assert status == {"busy": level > 0, "queued": level, "room": FULL.job_queue - level}
            assert await bench.start(ctx, JOB_POSITION=level)
        assert not await bench.start(ctx, JOB_POSITION=99)
        assert await bench.errors(ctx) == {"queue_full"}
        # A bad job is bad before the queue is full.
        assert not await bench.start(ctx, JOB_N=0)
        assert await bench.errors(ctx) == {"bad_job"}
        # Neither a zero nor a byte that is not strobed resets.
        assert await bench.write(ctx, "CONTROL", 0)
        assert await bench.write(ctx, "CONTROL", 1, strobe=0b1110)
        assert bench.map.decode("STATUS", await bench.read(ctx, "STATUS"))["queued"] == FULL.job_queue
        assert pulses == []
        assert ctx.get(bench.dut.job.payload.position) == 0
        assert await bench.write(ctx, "CONTROL", 1)
        await ctx.tick().repeat(6)
        assert len(pulses) == 1
        status = bench.map.decode("STATUS", await bench.read(ctx, "STATUS"))
        assert status == {"busy": 0, "queued": 0, "room": FULL.job_queue}
        assert await bench.read(ctx, "JOB_BASE") == GOOD["JOB_BASE"]
        assert await bench.read(ctx, "CONTROL") == 0
        assert await bench.start(ctx, JOB_N=1, JOB_POSITION=7)
        assert ctx.get(bench.dut.job.payload.position) == 7

    async def watch(ctx):
        for _ in range(4000):
            _, _, pulse = await ctx.tick().sample(bench.dut.soft_reset)
            if pulse:
                pulses.append(1)

    bench.run(host, watch)


REFUSED = [
    {"JOB_N": 0},
    {"JOB_N": 12},
    {"JOB_BASE": 11, "JOB_N": 2},
    {"JOB_CONTROL": 0b01, "JOB_BASE": 8, "JOB_SLOT": 4},
    {"JOB_SLOT": 1},
    {"JOB_HEAD_DIM": 0},
    {"JOB_HEAD_DIM": 12},
    {"JOB_HEAD_DIM": 32},
    {"JOB_CONTROL": 0b11 | 5 << 4},
    {"JOB_CONTROL": 0b110},
    {"JOB_CONTROL": 0b11 | 3 << 8},
    {"JOB_CONTROL": 0},
    {"JOB_CONTROL": 0b11 | 3 << 16},
    {"JOB_N": 17},
    {"JOB_N": 1 | 1 << 31},
    {"JOB_SLOT": 1 << 4},
    {"JOB_BASE": 1 | 1 << 8},
    {"JOB_HEAD_DIM": 16 | 1 << 16},
    {"JOB_POSITION": 1 << 20},
    {"JOB_SINKS": 1 << 24},
    {"JOB_RECENT": 1 << 31},
]


def test_start_refuses_what_cannot_run():
    bench = Bench(FULL, 0.1, seed=9)

    async def host(ctx):
        for change in REFUSED:
            assert not await bench.start(ctx, **change), change
            assert await bench.errors(ctx) == {"bad_job"}, change
            assert not ctx.get(bench.dut.job.valid), change
            for name in change:
                assert await bench.write(ctx, name, 0)
        assert await bench.start(ctx)
        assert ctx.get(bench.dut.job.valid)
        assert await bench.read(ctx, "START") == 0

    bench.run(host)


def test_a_word_too_wide_is_remembered_byte_by_byte():
    bench = Bench(FULL)

    async def host(ctx):
        assert not await bench.start(ctx, JOB_POSITION=1 << 24 | 1 << 20)
        assert await bench.write(ctx, "JOB_POSITION", 0, strobe=0b1000)
        assert not await bench.write(ctx, "START", 0)
        assert await bench.write(ctx, "JOB_POSITION", 0, strobe=0b0100)
        assert await bench.write(ctx, "START", 0)

    bench.run(host)


def test_what_a_small_build_does_not_have():
    bench = Bench(BARE, 0.2, seed=10)
    good = {"JOB_N": 1, "JOB_BASE": 0}

    async def host(ctx):
        for control in (0b11 | 1 << 4, 0b11 | 4 << 4, 0b111, 0b11 | 1 << 16):
            assert not await bench.start(ctx, **good, JOB_CONTROL=control)
            assert await bench.errors(ctx) == {"bad_job"}
        for mode in (1, 2, 3):
            assert not await bench.write(ctx, "HEAD_TABLE.MODE", mode, 0, 0)
            assert await bench.errors(ctx) == {"bad_job"}
        for name in ("KAPPA", "MIN_ACTIVE", "MIN_MASS", "ALPHA", "SINK"):
            assert await bench.write(ctx, f"HEAD_TABLE.{name}", 0xFFFFFFFF, 0, 0)
            assert await bench.read(ctx, f"HEAD_TABLE.{name}", 0, 0) == 0
        assert await bench.start(ctx, **good)

    bench.run(host)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_tables(stall):
    bench, rng = Bench(FULL, stall, seed=11), random.Random(12)

    async def host(ctx):
        heads, gains = {}, {}
        for _ in range(60):
            profile, head, element = rng.randrange(3), rng.randrange(6), rng.randrange(24)
            theta, gain = rng.randrange(-5000, 5000), rng.getrandbits(16)
            assert await bench.write(ctx, "HEAD_TABLE.THETA", theta, profile, head)
            assert await bench.write(ctx, "GAIN", gain, profile, head, element)
            heads[profile, head], gains[profile, head, element] = theta & 0xFFFFFFFF, gain
        for indices, theta in heads.items():
            assert await bench.read(ctx, "HEAD_TABLE.THETA", *indices) == theta
            ctx.set(bench.head_table.addr, indices[0] * 6 + indices[1])
            await ctx.tick().repeat(bench.head_table.latency)
            assert ctx.get(bench.head_table.entry.theta) & 0xFFFFFFFF == theta
        for indices, gain in gains.items():
            assert await bench.read(ctx, "GAIN", *indices) == gain
        for mode in (3, 4):
            assert not await bench.write(ctx, "HEAD_TABLE.MODE", mode, 2, 5)
            assert await bench.errors(ctx) == {"bad_job"}
        assert await bench.write(ctx, "HEAD_TABLE.MODE", formats.Mode.HYBRID, 2, 5)
        assert await bench.read(ctx, "HEAD_TABLE.MODE", 2, 5) == formats.Mode.HYBRID
        assert await bench.errors(ctx) == set()

    bench.run(host)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_slot_states(stall):
    bench, rng = Bench(FULL, stall, seed=13), random.Random(14)

    async def host(ctx):
        for _ in range(40):
            kv, slot = rng.randrange(3), rng.randrange(12)
            state = bench.state(kv * 12 + slot)
            assert await bench.read(ctx, "SLOT_MASS", kv, slot) == state["mass"]
            assert await bench.read(ctx, "SLOT_POSITION", kv, slot) == state["position"]
        assert not await bench.write(ctx, "SLOT_MASS", 1, 0, 0)
        assert await bench.errors(ctx) == {"bad_address"}

    bench.run(host)


@pytest.mark.parametrize("cause", ["running", "queued"])
def test_tables_are_closed_while_busy(cause):
    bench = Bench(FULL, 0.2, seed=15)
    tables = [("HEAD_TABLE.THETA", 1, 2), ("HEAD_TABLE.MODE", 0, 0), ("GAIN", 1, 2, 3)]

    async def host(ctx):
        for name, *indices in tables:
            assert await bench.write(ctx, name, 1, *indices)
        if cause == "running":
            ctx.set(bench.dut.busy, 1)
        else:
            assert await bench.start(ctx)
        assert bench.map.decode("STATUS", await bench.read(ctx, "STATUS"))["busy"] == 1
        for name, *indices in tables:
            assert not await bench.write(ctx, name, 2, *indices)
            assert await bench.errors(ctx) == {"write_busy"}
        for name, *indices in [*tables, ("SLOT_MASS", 1, 3), ("SLOT_POSITION", 2, 11)]:
            address = bench.map.address(name, *indices)
            assert await bench.master.read(ctx, address) == (0, SLVERR)
            assert await bench.errors(ctx) == {"write_busy"}
        # Job registers stay open, and an address that does not exist is told apart.
        assert await bench.write(ctx, "JOB_N", 1)
        assert await bench.master.read(ctx, bench.map.address("HEAD_TABLE.SINK", 0, 0) + 4) == (0, SLVERR)
        assert await bench.errors(ctx) == {"bad_address"}
        ctx.set(bench.dut.busy, 0)
        if cause == "queued":
            await receive(ctx, bench.dut.job, 1)
            await ctx.tick().repeat(3)
        for name, *indices in tables:
            assert await bench.read(ctx, name, *indices) == 1

    bench.run(host)


def test_busy_covers_the_gap_until_the_unit_says_so():
    """A table stays closed while a job goes from the queue to a unit that raises busy two cycles later."""
    bench, raised = Bench(FULL), []
    dut = bench.dut

    async def host(ctx):
        for round_ in range(16):
            assert await bench.start(ctx)
            while len(raised) <= round_:
                assert not await bench.write(ctx, "GAIN", 1, 0, 0, 0)
            ctx.set(dut.busy, 0)
            await ctx.tick().repeat(3)
            assert await bench.read(ctx, "GAIN", 0, 0, 0) == formats.encode_gain(32)

    async def unit(ctx):
        for delay in range(16):
            valid = 0
            while not valid:
                _, _, valid = await ctx.tick().sample(dut.job.valid)
            for _ in range(delay):
                await ctx.tick()
            ctx.set(dut.job.ready, 1)
            await ctx.tick()
            ctx.set(dut.job.ready, 0)
            await ctx.tick()
            ctx.set(dut.busy, 1)
            raised.append(delay)

    bench.run(host, unit)


def test_errors_interrupts_and_jobs_done():
    bench, dut_errors = Bench(FULL, 0.2, seed=16), ("packet_short", "packet_long", "no_victim")
    dut = bench.dut

    async def pulse(ctx, signal, value):
        ctx.set(signal, value)
        await ctx.tick()
        ctx.set(signal, {})
        await ctx.tick().repeat(3)

    async def host(ctx):
        for name in dut_errors:
            await pulse(ctx, dut.errors, {name: 1})
            assert not ctx.get(dut.irq)
            assert await bench.errors(ctx) == {name}
        await pulse(ctx, dut.errors, dict.fromkeys(dut_errors, 1))
        # Sticky bits are cleared one by one, by ones in strobed bytes.
        assert await bench.write(ctx, "ERROR", 0xFF, strobe=0b1110)
        assert await bench.write(ctx, "ERROR", bench.map.encode("ERROR", packet_long=1))
        word = bench.map.decode("ERROR", await bench.read(ctx, "ERROR"))
        assert {name for name, value in word.items() if value} == {"packet_short", "no_victim"}
        assert await bench.write(ctx, "IRQ_ENABLE", bench.map.encode("IRQ_ENABLE", error=1))
        assert ctx.get(dut.irq)
        assert await bench.write(ctx, "IRQ_STATUS", bench.map.encode("IRQ_STATUS", error=1))
        await ctx.tick().repeat(2)
        assert not ctx.get(dut.irq)

        total = 0
        for finished in ({"result_done": 1}, {"append_done": 1, "dropped": 1}, {}, dict.fromkeys(FINISHES, 1)):
            await pulse(ctx, dut.finished, finished)
            total += len(finished)
            assert await bench.read(ctx, "JOBS_DONE") == total
            status = bench.map.decode("IRQ_STATUS", await bench.read(ctx, "IRQ_STATUS"))
            assert status == {"job_done": bool(finished), "error": 0}
            assert await bench.write(ctx, "IRQ_ENABLE", bench.map.encode("IRQ_ENABLE", job_done=1))
            assert ctx.get(dut.irq) == bool(finished)
            assert await bench.write(ctx, "IRQ_STATUS", 0b11)
            await ctx.tick().repeat(2)
            assert not ctx.get(dut.irq)

    bench.run(host)


FINISHES = ("result_done", "append_done", "dropped")


def test_an_error_in_the_cycle_of_clearing_is_kept():
    bench = Bench(FULL)

    async def host(ctx):
        ctx.set(bench.dut.errors, {"no_victim": 1})
        assert await bench.write(ctx, "ERROR", 0x7F)
        ctx.set(bench.dut.errors, {})
        assert bench.map.decode("ERROR", await bench.read(ctx, "ERROR"))["no_victim"] == 1

    bench.run(host)


@pytest.mark.parametrize("name", CONFIGS)
def test_counters(name):
    bench = Bench(CONFIGS[name], 0.3, seed=17)
    names = list(bench.map.counters)

    async def read_counter(ctx, counter):
        low = await bench.read(ctx, f"{counter}.LO")
        return low | await bench.read(ctx, f"{counter}.HI") << 32

    async def host(ctx):
        counts = dict.fromkeys(names, 0)
        for cycle in range(150):
            events = {name: cycle % (index + 1) == 0 for index, name in enumerate(names)}
            ctx.set(bench.dut.events, {name.lower(): value for name, value in events.items()})
            for counter, value in events.items():
                counts[counter] += value
            await ctx.tick()
        ctx.set(bench.dut.events, {})
        for counter, count in counts.items():
            assert await read_counter(ctx, counter) == count
        assert not await bench.write(ctx, "JOBS.LO", 0)
        assert await bench.errors(ctx) == {"bad_address"}
        assert await bench.write(ctx, "COUNTERS_CLEAR", 0)
        for counter in names:
            assert await read_counter(ctx, counter) == 0

    bench.run(host)


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


def test_job_log():
    """Tags go up with each job accepted, also over a soft reset; state by tag; heads and slots while jobs run."""
    dut, registers = bare_registers(FULL)
    tags = []

    async def event(ctx, events, **finished):
        ctx.set(dut.job_events, events)
        ctx.set(dut.finished, finished)
        await ctx.tick()
        ctx.set(dut.job_events, {name: {} for name in events})
        ctx.set(dut.finished, {})

    async def host(ctx):
        for _ in range(3):
            assert not await start_bare(ctx, dut, registers)
        assert await start_bare(ctx, dut, registers)  # the queue is full
        assert await read_log(ctx, dut, registers) == (3, [0, 0, 0, 0])
        tags.extend(job["tag"] for job in await receive(ctx, dut.job, 2))
        await access(ctx, dut.bus, registers.address("CONTROL") // 4, 1)
        assert not await start_bare(ctx, dut, registers)
        ctx.set(dut.busy, 1)
        tags.extend(job["tag"] for job in await receive(ctx, dut.job, 1))
        assert tags == [0, 1, 3]
        await event(ctx, {"too_short": {"valid": 1, "tag": 1}}, dropped=1)
        await event(ctx, {"too_long": {"valid": 1, "tag": 3}}, dropped=1)
        await event(ctx, {"row": {"valid": 1, "tag": 2, "kv": 1, "slot": 9, "dropped": 1}})
        await event(ctx, {"append_done": {"valid": 1, "tag": 0}}, append_done=1)
        assert await read_log(ctx, dut, registers) == (4, [0b0001, 0b0011, 0b1000, 0b0101])
        await event(ctx, {"result_done": {"valid": 1, "tag": 2}}, result_done=1)
        assert not await start_bare(ctx, dut, registers)
        assert await read_log(ctx, dut, registers) == (5, [0, 0b0011, 0b1001, 0b0101])
        head = {"valid": 1, "tag": 3, "head": 5, "masked": 0, "null": 1, "softmax": 0, "fallback": 1, "active": 7}
        await event(ctx, {"head": head | {"mass": 12345}})
        ctx.set(dut.job_events.head, head | {"mass": 12345, "valid": 0})
        await ctx.tick()
        expected = {("SUMMARY", 3, 5): 7 | 1 << 29 | 1 << 31, ("MASS", 3, 5): 12345}
        for (name, *indices), word in expected.items():
            address = registers.address(f"JOB_HEADS.{name}", *indices) // 4
            assert await access(ctx, dut.bus, address) == (word, 0, 3)
            assert (await access(ctx, dut.bus, address, 1))[1] == 1
        assert await access(ctx, dut.bus, registers.address("JOB_SLOTS", 2, 1) // 4) == (9 | 1 << 31, 0, 3)

    run(dut, host)


def test_started_and_ended():
    """A pulse for each job accepted, before its START is answered or with it; one for each cycle with ends."""
    dut, registers = bare_registers(FULL)
    pulses = {"started": 0, "ended": 0}

    async def watch(ctx):
        async for _, _, started, ended in ctx.tick().sample(dut.started, dut.ended):
            pulses["started"] += started
            pulses["ended"] += ended

    async def host(ctx):
        for number in range(1, 4):
            assert not await start_bare(ctx, dut, registers)
            assert pulses["started"] == number
        assert ctx.get(dut.working)
        assert await start_bare(ctx, dut, registers)
        ctx.set(dut.finished, {"dropped": 1, "append_done": 1})
        await ctx.tick().repeat(2)
        ctx.set(dut.finished, {})
        await ctx.tick()
        assert not ctx.get(dut.ended)
        await receive(ctx, dut.job, 3)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.working)

    run(dut, host, processes=[watch])
    assert pulses == {"started": 3, "ended": 2}


def test_latency():
    """Cycles from a request to its end, as promised, at every phase of the counters' scan."""
    dut, registers = bare_registers(FULL)
    words = -(-FULL.counter_bits // 16)
    longest_read = 13 * words + words + 4
    limits = {"JOB_N": 2, "JOB_HEADS.MASS": 3, "JOB_SLOTS": 3, "HEAD_TABLE.THETA": 7, "GAIN": 7}
    limits |= {"JOBS.LO": 2 + longest_read}
    m = Module()
    m.submodules.dut = dut
    m.submodules.head_table = head_table = HeadTable(FULL)
    m.submodules.gain_table = gain_table = GainTable(FULL)
    connect(m, dut.head_table, head_table.bus)
    connect(m, dut.gain_table, gain_table.bus)

    async def host(ctx):
        for phase in range(13 * words):
            for name, limit in limits.items():
                address = registers.address(name, *(0 for _ in registers.register(name).dimensions)) // 4
                *_, cycles = await access(ctx, dut.bus, address, longest=limit + 1)
                assert cycles == limit or name == "JOBS.LO", name
                await access(ctx, dut.bus, address, 0, longest=8)
            await ctx.tick().repeat(1 + phase % 5)

    run(m, host)
