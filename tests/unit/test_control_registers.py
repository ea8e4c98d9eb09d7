"""The control's registers, tables, errors, interrupts and counters."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect

from reluctant.golden import formats
from reluctant.hdl.gain_table import GainTable
from reluctant.hdl.head_table import HeadTable

from .axi_lite_master import OKAY, SLVERR
from .control_registers_bench import BARE, CONFIGS, FULL, Bench, bare_registers
from .helpers import receive, run
from .register_bus import access, merge


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
