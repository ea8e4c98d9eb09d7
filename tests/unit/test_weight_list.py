import random

import pytest

from reluctant.hdl.weight_list import WeightList

from .helpers import Stalls, receive, run, send, wait
from .test_row_selector import Head, make_config, take_records


class Stream:
    """One head's weights: ``weights[i]`` belongs to row ``row + i``; zero ones are dropped."""

    def __init__(self, weights, beats, row=0):
        self.weights, self.beats, self.row = weights, beats, row
        self.value = Head([0] * len(weights), beats=beats, row=row).value()
        self.stats = {"active": len(weights), "mass": sum(weights) + 7, "null": 0, "softmax": row & 1, "fallback": 0}

    def entries(self) -> list[dict]:
        if not self.weights:
            return [{"end": 1, "exponent": 3}]
        entries = [
            {"keep": weight > 0, "drop": weight == 0, "row": self.row + i, "weight": weight}
            for i, weight in enumerate(self.weights)
        ]
        entries[-1] |= {"end": 1, "exponent": 3}
        return entries

    @property
    def kept(self) -> list[tuple]:
        return [(self.row + i, weight) for i, weight in enumerate(self.weights) if weight]

    def record(self) -> dict:
        stats = {**self.stats, "weight_sum": sum(self.weights), "exponent": 3}
        return {"rows": len(self.kept), "stats": stats, "head": self.value}

    def expected(self) -> list[dict]:
        kept = self.kept
        if not kept:
            return [{"zero": 1, "first": 1, "last": 1, "final": 1}]
        rows = [
            {
                "zero": 0,
                "row": row,
                "weight": weight,
                "beat": beat,
                "first": i == 0,
                "last": i == len(kept) - 1,
                "final": 0,
            }
            for beat in range(self.beats)
            for i, (row, weight) in enumerate(kept)
        ]
        rows[-1] |= {"final": 1}
        return rows


class Bench:
    """Plays the weighting: a place is reserved ``delay`` cycles before its entry arrives."""

    delay = 5

    def __init__(self, config, heads, *, gap=0.0, stall=0.0, seed=0, wait=0):
        self.heads, self.gap, self.stall, self.seed, self.wait = heads, gap, stall, seed, wait
        self.dut = WeightList(config)
        self.expected = [row for head in heads for row in head.expected()]
        self.issued, self.cycle, self.done = {}, 0, False
        self.edges, self.entered, self.offered = [], [], []
        self.finals = 0

    async def issue(self, ctx):
        dut, gaps = self.dut, Stalls(self.gap, self.seed)
        for head in self.heads:
            await send(ctx, dut.head, [head.value])
            await send(ctx, dut.stats, [head.stats])
            for entry in head.entries():
                await wait(ctx, gaps.length())
                place = entry.get("keep", 0) or entry.get("drop", 0)
                while place and not ctx.get(dut.room):
                    await ctx.tick()
                ctx.set(dut.reserve, place)
                self.issued[self.cycle + self.delay] = entry
                await ctx.tick()
                ctx.set(dut.reserve, 0)

    async def enter(self, ctx):
        while not self.done:
            entry = self.issued.pop(self.cycle, {})
            if entry:
                self.entered.append(self.cycle)
            ctx.set(self.dut.entry, entry)
            await ctx.tick()

    async def watch(self, ctx):
        dut = self.dut
        sampled = (dut.o.valid, dut.o.valid & dut.o.ready & dut.o.payload.final, dut.space)
        async for _, _, valid, final, space in ctx.tick().sample(*sampled):
            assert 0 <= space <= dut.depth
            if valid:
                self.offered.append(self.cycle)
            self.finals += final
            self.cycle += 1
            if self.done:
                break

    async def take_records(self, ctx):
        await take_records(ctx, self, [head.record() for head in self.heads])

    async def take(self, ctx):
        await wait(ctx, self.wait)
        count = len(self.expected)
        received = await receive(ctx, self.dut.o, count, stall=self.stall, seed=self.seed, cycles=self.edges)
        for index, (got, wanted) in enumerate(zip(received, self.expected, strict=True)):
            assert {name: got[name] for name in wanted} == wanted, f"entry {index}"
        await wait(ctx, 20 + 5 * len(self.heads) * (self.stall > 0))
        assert not ctx.get(self.dut.o.valid)
        assert not ctx.get(self.dut.record.valid)
        assert ctx.get(self.dut.space) == self.dut.depth
        self.done = True

    def run(self, timeout=20_000):
        run(self.dut, self.watch, self.issue, self.enter, self.take, self.take_records, timeout=timeout)
        return self


def random_stream(rng, slots, beats):
    n = rng.choice([0, 1, 2, slots, rng.randint(1, slots)])
    zero = rng.choice([0.0, 0.3, 0.9, 1.0])
    weights = [0 if rng.random() < zero else rng.randint(1, 255) for _ in range(n)]
    return Stream(weights, rng.randint(1, beats), row=rng.randrange(slots))


@pytest.mark.parametrize(
    ("slots", "lanes", "gap", "stall"),
    [(2, 4, 0, 0), (8, 4, 0, 0), (8, 16, 0.3, 0), (13, 16, 0, 0.4), (16, 4, 0.2, 0.2), (8, 16, 0, 0.8)],
)
def test_random_streams(slots, lanes, gap, stall):
    rng = random.Random(f"{slots} {lanes} {gap} {stall}")
    config = make_config(slots, lanes=lanes)
    heads = [random_stream(rng, slots, config.sizes.beats) for _ in range(80)]
    Bench(config, heads, gap=gap, stall=stall).run()


@pytest.mark.parametrize("stall", [0, 0.2, 0.5])
def test_many_tiny_heads(stall):
    """Heads end while the one before leaves, at every distance."""
    rng = random.Random(f"tiny {stall}")
    heads = [Stream([rng.randint(0, 3) for _ in range(rng.randint(0, 3))], rng.randint(1, 3)) for _ in range(250)]
    Bench(make_config(4, lanes=16), heads, stall=stall).run()


@pytest.mark.parametrize("beats", [1, 4])
def test_full_ring(beats):
    """A head of as many weights as the ring has places, twice, with no place to spare."""
    heads = [Stream([255] * 8, beats), Stream([1] * 8, beats)]
    Bench(make_config(8), heads).run(timeout=500)


def test_latency():
    """Three cycles for a row with another behind it, or the last one; also for a head without rows."""
    config = make_config(8, lanes=16)
    for weights in ([5, 6], [5, 0, 6], [9], [], [0]):
        bench = Bench(config, [Stream(weights, 2)]).run()
        first = bench.entered[0] + 3 + (weights == [5, 0, 6])
        assert bench.offered[0] == first, weights


def test_last_row_is_held_back_until_the_end_is_known():
    """A lone weight followed by zero ones is not sent before it is known to be the last of its pass."""
    bench = Bench(make_config(8), [Stream([5, 0, 0, 0, 0, 0], 1)]).run()
    assert bench.offered[0] == bench.entered[-1] + 3


@pytest.mark.parametrize(("rows", "beats", "count"), [(1, 1, 4), (1, 3, 4), (2, 2, 4), (3, 1, 4), (4, 4, 4), (8, 2, 2)])
def test_no_bubbles(rows, beats, count):
    heads = [Stream([3] * rows, beats) for _ in range(count)]
    bench = Bench(make_config(16, lanes=16), heads, wait=100).run()
    assert bench.edges == list(range(1, len(bench.expected) + 1))


def test_room_is_exact():
    """Room is given for every place, and withdrawn with the last."""
    dut = WeightList(make_config(8))

    async def drive(ctx):
        for taken in range(8):
            assert ctx.get(dut.room), taken
            ctx.set(dut.reserve, 1)
            await ctx.tick()
        ctx.set(dut.reserve, 0)
        assert not ctx.get(dut.room)
        ctx.set(dut.entry, {"drop": 1})
        await ctx.tick()
        ctx.set(dut.entry, {})
        await wait(ctx, 2)
        assert ctx.get(dut.room)

    run(dut, drive)
