"""The row appender against a list of what must happen, with a store, a sequencer and statistics that stall."""

import random
from dataclasses import dataclass, field

import pytest

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.row_appender import RowAppender
from tests.unit.helpers import Stalls, plain, receive, run, send

ONE = UnitConfig(lanes=4, head_dim=16, slots=4, heads=2, kv_heads=1)
THREE = UnitConfig(lanes=8, head_dim=24, slots=5, heads=6, kv_heads=3)
FIVE = UnitConfig(lanes=16, head_dim=16, slots=8, heads=5, kv_heads=5)
PLAIN = UnitConfig(lanes=8, head_dim=32, slots=8, heads=4, kv_heads=2, statistics=False)
CONFIGS = [ONE, THREE, FIVE, PLAIN]


@dataclass
class Expected:
    """What jobs must lead to, each list in order."""

    config: UnitConfig
    writes: list = field(default_factory=list)  # (address, data, tag of the group)
    groups: list = field(default_factory=list)
    written_before: list = field(default_factory=list)  # writes before each group
    noted_before: list = field(default_factory=list)  # appends before each group
    searches: list = field(default_factory=list)
    appends: list = field(default_factory=list)
    released: list = field(default_factory=list)
    misses: int = 0
    placed: list = field(default_factory=list)
    placed_before: list = field(default_factory=list)  # rows placed before each group
    tags: list = field(default_factory=list)  # of jobs that only append

    def add(self, loaded, victims):
        """One job; ``victims`` gives the answers to its searches."""
        job, sizes = loaded["job"], self.config.sizes
        bank = loaded["bank"] * 2 * self.config.kv_heads * sizes.beats
        for kv in range(self.config.kv_heads):
            first = kv * self.config.slots + job["base"]
            row = first + job["slot"] if job["append"] else None
            if job["append"] and job["evict"]:
                names = ("n", "position", "sinks", "recent", "metric")
                self.searches.append({"row": first} | {name: job[name] for name in names})
                answer = victims()
                row = first + answer["slot"] if answer["found"] else None
                self.misses += not answer["found"]
            if job["append"]:
                slot = answer["slot"] if job["evict"] else job["slot"]
                place = {"valid": 1, "tag": job["tag"], "kv": kv, "slot": slot}
                self.placed.append(place | {"dropped": int(row is None)})
            tag = (job["position"], kv)
            key_at = bank + kv * job["beats"]
            value_at = bank + (self.config.kv_heads + kv) * job["beats"]
            if row is not None:
                if self.config.statistics:
                    self.appends.append({"row": row, "position": job["position"]})
                for beat in range(job["beats"]):
                    self.writes.append((beat * sizes.rows + row, stored(key_at + beat), tag))
            if job["attend"]:
                self.written_before.append(len(self.writes))
                self.noted_before.append(len(self.appends))
                self.placed_before.append(len(self.placed))
                last = kv == self.config.kv_heads - 1
                self.groups.append({"job": job, "bank": loaded["bank"], "kv": kv, "row": first, "last": last})
            if row is not None:
                for beat in range(job["beats"]):
                    self.writes.append(((sizes.beats + beat) * sizes.rows + row, stored(value_at + beat), tag))
        if not job["attend"]:
            self.released.append(1 << loaded["bank"])
            self.tags.append((job["tag"], len(self.placed)))


def stored(addr):
    """What the input banks hold, a different value at every address."""
    return (addr * 2654435761 + 99) & 0xFFFFFFFF


def random_jobs(config, source, count):
    """Jobs with a growing window of rows, at times in the middle of the rows and at times evicting."""
    jobs, n = [], 1
    for tag in range(count):
        base = source.choice([0, 0, source.randrange(config.slots)])
        n = min(n, config.slots - base)
        job = {
            "base": base,
            "n": n,
            "slot": source.choice([n - 1, source.randrange(config.slots - base)]),
            "beats": source.randint(1, config.sizes.beats),
            "position": tag,
            "sinks": source.randrange(5),
            "recent": source.randrange(5),
            "metric": source.randrange(3),
            "mask": source.getrandbits(config.heads),
            "tag": tag % 4,
        }
        job["append"], job["attend"] = source.choice([(1, 1), (1, 1), (0, 1), (1, 0)])
        job["evict"] = int(config.statistics and job["append"] and source.random() < 0.3)
        jobs.append(job)
        n = min(config.slots, n + 1) if source.random() < 0.9 else 1
    return jobs


def banks(dut):
    async def read(ctx):
        async for _, _, addr in ctx.tick().sample(dut.kv_addr):
            ctx.set(dut.kv_data, stored(addr))

    return read


def with_zeros(job, dut):
    return {name: job.get(name, 0) for name, _ in dut.i.payload.shape()["job"].shape}


class Bench:
    """The parts around the appender, and what they saw."""

    def __init__(self, dut, expected, stall, retire, victims):
        self.dut, self.expected, self.stall, self.retire_rate = dut, expected, stall, retire
        self.victims = victims
        self.flight, self.writes, self.groups, self.pulses = [], [], [], []
        self.appends, self.searches, self.misses = 0, 0, 0
        self.placed, self.tags = [], []
        self.offered = None

    def reading(self, row):
        """Groups in flight that attend to ``row``."""
        return [g for g in self.flight if g["row"] <= row < g["row"] + g["job"]["n"]]

    async def watch(self, ctx):
        """Store and sequencer: takes writes and groups, retires groups, checks each cycle."""
        dut, source = self.dut, random.Random(f"{self.stall} {self.retire_rate}")
        groups = Stalls(self.stall, 2)
        group_gap, written = 0, 0  # writes that there must be after this cycle
        while not self.done():
            ctx.set(dut.o.ready, group_gap == 0)
            # a group is retired some time after it was taken
            taken = len(self.flight) - (self.offered is not None)
            retire = taken > 0 and source.random() < self.retire_rate
            ctx.set(dut.retired, retire)
            if retire:
                self.flight.pop(0)
            _, _, write, valid, group = await ctx.tick().sample(dut.write, dut.o.valid, dut.o.payload)
            if write["valid"]:
                self.check_write(plain(write))
            assert len(self.writes) >= written
            if valid and self.offered is None:  # its first heads may start at once
                self.offered = plain(group)
                written = self.check_group(self.offered)
                self.flight.append(self.offered)
            if self.offered is not None:
                assert valid
                assert plain(group) == self.offered
                if group_gap == 0:
                    self.offered, group_gap = None, groups.length() + 1
            group_gap = max(0, group_gap - 1)
        ctx.set(dut.o.ready, 0)

    def check_group(self, group) -> int:
        """Returns how many beats must be written a cycle later."""
        index = len(self.groups)
        assert group == self.expected.groups[index]
        assert self.appends >= self.expected.noted_before[index]
        assert len(self.placed) == self.expected.placed_before[index]
        self.groups.append(group)
        return self.expected.written_before[index]

    def check_write(self, write):
        addr, data, tag = self.expected.writes[len(self.writes)]
        assert (write["addr"], write["data"]) == (addr, data)
        self.writes.append(write)
        for group in self.reading(addr % self.dut.config.sizes.rows):
            assert (group["job"]["position"], group["kv"]) == tag, "a row was overwritten while in use"

    def done(self):
        return (
            self.offered is None
            and len(self.groups) == len(self.expected.groups)
            and len(self.writes) == len(self.expected.writes)
        )

    async def count_pulses(self, ctx):
        dut = self.dut
        pulses = (dut.release, dut.appended, dut.tag, dut.placed, dut.no_victim)
        async for _, _, release, appended, tag, placed, miss in ctx.tick().sample(*pulses):
            assert appended == (release != 0)
            if appended:
                self.pulses.append(release)
                self.tags.append((tag, len(self.placed)))
            if placed["valid"]:
                self.placed.append(plain(placed))
            self.misses += miss

    async def statistics_append(self, ctx):
        for index, append in enumerate(self.expected.appends):
            (found,) = await receive(ctx, self.dut.append, 1, stall=self.stall, seed=index)
            assert found == append
            self.appends += 1

    async def statistics_search(self, ctx):
        stalls = Stalls(self.stall, 4, longest=20)
        for search, answer in zip(self.expected.searches, self.victims, strict=True):
            await ctx.tick().until(self.dut.search.valid)
            kv = search["row"] // self.dut.config.slots
            assert not [g for g in self.flight if g["kv"] == kv], "a search while weights still come"
            await ctx.tick().repeat(1 + stalls.length())
            assert await receive(ctx, self.dut.search, 1) == [search]
            await send(ctx, self.dut.victim, [answer])
            self.searches += 1


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("stall", "retire"), [(0.0, 0.9), (0.0, 0.03), (0.4, 0.15)])
def test_random_jobs(config, stall, retire):
    dut, source = RowAppender(config), random.Random(f"{config.lanes} {stall} {retire}")
    expected, victims, loaded = Expected(config), [], []

    for job in random_jobs(config, source, 60):

        def answer(n=job["n"]):
            victims.append({"found": source.random() < 0.7, "slot": source.randrange(n)})
            return victims[-1]

        loaded.append({"job": with_zeros(job, dut), "bank": source.randrange(2)})
        expected.add(loaded[-1], answer)
    bench = Bench(dut, expected, stall, retire, victims)

    async def feed(ctx):
        await send(ctx, dut.i, loaded, stall=stall, seed=3)
        while not bench.done():
            await ctx.tick()
        await ctx.tick().repeat(10)
        assert not ctx.get(dut.o.valid)
        assert not ctx.get(dut.write.valid)
        assert ctx.get(dut.i.ready)

    parts = [bench.statistics_append, bench.statistics_search] if config.statistics else []
    run(dut, feed, bench.watch, *parts, processes=[banks(dut), bench.count_pulses])
    assert bench.pulses == expected.released
    assert bench.misses == expected.misses
    assert bench.placed == expected.placed
    assert bench.tags == expected.tags
    assert bench.appends == len(expected.appends)
    assert bench.searches == len(expected.searches)
    if config.statistics:
        assert expected.misses
        assert expected.searches


class Emitter:
    """Feeds single jobs into an appender whose surroundings never stall; groups are retired by hand."""

    def __init__(self, ctx, dut):
        self.ctx, self.dut = ctx, dut
        ctx.set(dut.o.ready, 1)
        if dut.config.statistics:
            ctx.set(dut.append.ready, 1)

    async def job(self, **fields):
        await self.ctx.tick()
        self.ctx.set(self.dut.i.payload, {"job": {"beats": 1} | fields})
        self.ctx.set(self.dut.i.valid, 1)
        await self.ctx.tick().until(self.dut.i.ready)
        self.ctx.set(self.dut.i.valid, 0)

    async def group(self, limit=40):
        """Cycles until the next group is valid (1: in the next cycle), or None if there is none in ``limit``."""
        for cycle in range(1, limit + 1):
            if self.ctx.get(self.dut.o.valid):
                await self.ctx.tick()
                return cycle
            await self.ctx.tick()
        return None

    async def groups(self):
        return [await self.group() for _ in range(self.dut.config.kv_heads)]

    async def retire(self, count):
        self.ctx.set(self.dut.retired, 1)
        await self.ctx.tick().repeat(count)
        self.ctx.set(self.dut.retired, 0)


@pytest.mark.parametrize("config", CONFIGS)
def test_latency(config):
    dut, beats = RowAppender(config), config.sizes.beats

    async def drive(ctx):
        emitter = Emitter(ctx, dut)
        await emitter.job(attend=1, n=2, beats=beats)
        assert await emitter.groups() == [1] * config.kv_heads
        await emitter.job(attend=1, append=1, slot=2, n=3, beats=beats)
        assert await emitter.group() == beats + 2
        for _ in range(config.kv_heads - 1):  # value row, one cycle to turn, then like the first
            assert await emitter.group() == (beats - 1) + 1 + (beats + 2)

    run(dut, drive, processes=[banks(dut)])


def test_appending_behind_the_rows_in_use_waits_for_nobody():
    dut = RowAppender(THREE)

    async def drive(ctx):
        emitter = Emitter(ctx, dut)
        for n in range(1, THREE.slots + 1):
            await emitter.job(attend=1, append=1, slot=n - 1, n=n)
            assert None not in await emitter.groups()
        # 15 groups are in flight; rows that are in use must wait, whoever used them last
        await emitter.job(attend=1, append=1, slot=4, n=1)
        assert await emitter.group() is None
        await emitter.retire(12)
        assert await emitter.group() is None
        await emitter.retire(1)
        assert await emitter.group() is not None
        assert await emitter.group() is None  # KV head 1 is still in use
        await emitter.retire(1)
        assert await emitter.group() is not None
        assert await emitter.group() is None
        await emitter.retire(1)
        assert await emitter.group() is not None

    run(dut, drive, processes=[banks(dut)])


def test_append_only_waits_until_none_is_in_flight():
    dut, writes = RowAppender(THREE), []

    async def count(ctx):
        async for _, _, valid in ctx.tick().sample(dut.write.valid):
            if valid:
                writes.append(1)

    async def drive(ctx):
        emitter = Emitter(ctx, dut)
        await emitter.job(attend=1, n=3)
        await emitter.groups()
        await emitter.job(append=1, slot=3)  # behind
        await ctx.tick().until(dut.appended)
        assert len(writes) == 6
        await emitter.job(append=1, slot=2)
        await ctx.tick().repeat(30)
        await emitter.retire(2)
        await ctx.tick().repeat(30)
        assert len(writes) == 6
        await emitter.retire(1)
        await ctx.tick().until(dut.appended)
        assert len(writes) == 12
        await emitter.job(attend=1, append=1, slot=2, n=3)  # nothing in flight: nothing to wait for
        assert None not in await emitter.groups()

    run(dut, drive, processes=[count, banks(dut)])


def test_groups_wait_when_too_many_are_in_flight():
    dut = RowAppender(ONE)

    async def drive(ctx):
        emitter = Emitter(ctx, dut)
        for _ in range(31):
            await emitter.job(attend=1, n=1)
            assert await emitter.group() == 1
        await emitter.job(attend=1, n=1)
        assert await emitter.group() is None
        await emitter.retire(1)
        assert await emitter.group() == 2  # that there is room again is known a cycle late

    run(dut, drive)
