import random

import pytest

from reluctant.golden.formats import Mode
from reluctant.hdl.score_buffer import ScoreBuffer, queued_heads

from .helpers import Stalls, plain, receive, run, send, wait
from .test_row_selector import Head, make_config, random_head


def parts(head: Head) -> tuple[list, list]:
    shifted = [(slot, score - head.theta) for slot, score in enumerate(head.scores)]
    return [pair for pair in shifted if pair[1] > 0], [pair for pair in shifted if pair[1] <= 0]


async def read(ctx, dut, high: int, count: int) -> list:
    """``count`` entries from one end of the summary's bank, one a cycle."""
    entries = []
    ctx.set(dut.high, high)
    for index in range(count + 2):
        ctx.set(dut.index, min(index, count - 1))
        _, _, entry = await ctx.tick().sample(dut.entry)
        entries.append((entry["slot"], entry["shifted"]))
    return entries[2:]


class Bench:
    """Pushes heads and scores under the credit protocol; reads every bank back in full."""

    def __init__(self, config, heads, *, gap=0.0, pause=0.0, seed=0):
        self.config, self.heads, self.gap, self.pause, self.seed = config, heads, gap, pause, seed
        self.dut = ScoreBuffer(config)
        self.credits, self.released, self.ready = 2, 0, []
        self.done = False

    async def push(self, ctx):
        for head in self.heads:
            while not head.masked and self.credits == 0:
                await ctx.tick()
            self.credits -= not head.masked
            await send(ctx, self.dut.head, [head.payload()])
            if not head.masked:
                self.ready.append(head)

    async def score(self, ctx):
        gaps = Stalls(self.gap, self.seed)
        for _ in range(sum(not head.masked for head in self.heads)):
            while not self.ready:
                await ctx.tick()
            head = self.ready.pop(0)
            for slot, score in enumerate(head.scores):
                await wait(ctx, gaps.length())
                last = slot == len(head.scores) - 1
                ctx.set(self.dut.score, {"valid": 1, "slot": slot, "score": score, "last": last})
                await ctx.tick()
                ctx.set(self.dut.score, {})

    async def watch(self, ctx):
        dut = self.dut
        async for _, _, released, active, rest in ctx.tick().sample(dut.released, dut.active, dut.rest):
            self.credits += released
            self.released += released
            assert active + rest <= self.config.slots
            if self.done:
                break

    async def check(self, ctx):
        dut, pauses = self.dut, Stalls(self.pause, self.seed + 1)
        for head in self.heads:
            while not ctx.get(dut.summary.valid):
                await ctx.tick()
            await wait(ctx, pauses.length() + 1)
            summary = plain(ctx.get(dut.summary.payload))
            seen = [summary[name] for name in ("masked", "row", "silent")]
            assert seen == [head.masked, head.row, head.silent]
            if not head.masked:
                await self.compare(ctx, head, summary)
            released = self.released
            await receive(ctx, dut.summary, 1)
            await ctx.tick()
            assert self.released - released == (not head.masked), "released comes the cycle after the summary is taken"
        self.done = True
        await ctx.tick()

    async def compare(self, ctx, head, summary):
        above, others = parts(head)
        magnitude = 0
        for _, t in above:
            magnitude |= t
        assert summary["active"] == len(above)
        assert summary["none"] == (not above)
        assert summary["single"] == (len(above) == 1)
        assert summary["mass"] == sum(t for _, t in above)
        assert summary["magnitude"] == magnitude
        if above:
            assert await read(ctx, self.dut, 0, len(above)) == above
        if self.config.softmax:
            assert summary["rest"] == len(others)
            assert summary["peak"] == max(t for _, t in above + others)
            assert summary["mode"] == head.mode
            assert (summary["kappa_mantissa"], summary["kappa_shift"]) == head.kappa
            assert (summary["min_active"], summary["min_mass"]) == (head.min_active, head.min_mass)
            if others and head.mode != Mode.RELU:
                assert await read(ctx, self.dut, 1, len(others)) == others

    def run(self):
        run(self.dut, self.push, self.score, self.watch, self.check, timeout=20_000)
        assert self.released == sum(not head.masked for head in self.heads)


@pytest.mark.parametrize(
    ("slots", "softmax", "gap", "pause"),
    [(2, True, 0, 0), (8, True, 0.3, 0), (13, True, 0, 0.5), (16, False, 0, 0), (11, False, 0.2, 0.4)],
)
def test_random_heads(slots, softmax, gap, pause):
    rng = random.Random(f"{slots} {softmax} {gap} {pause}")
    config = make_config(slots, softmax=softmax)
    Bench(config, [random_head(rng, config, list(Mode)) for _ in range(50)], gap=gap, pause=pause).run()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("slots", [8, 13])
def test_full_bank_of_extremes(slots, sign):
    """All rows at one end, at the largest distances that scores and thresholds allow."""
    config = make_config(slots)
    limit = config.head_dim << 14
    head = Head([sign * limit] * slots, theta=-sign * limit, mode=Mode.SOFTMAX)
    Bench(config, [head, head, Head([0]), head]).run()


def test_summary_latency():
    """Two cycles after the last score, and a second head's sums wait behind it without loss."""
    dut = ScoreBuffer(make_config(8))

    async def drive(ctx):
        ctx.set(dut.score, {})
        heads = [Head([5, -3, 4]), Head([9])]
        await send(ctx, dut.head, [head.payload() for head in heads])
        await wait(ctx, 2)
        for head in heads:
            for slot, score in enumerate(head.scores):
                last = slot == len(head.scores) - 1
                ctx.set(dut.score, {"valid": 1, "slot": slot, "score": score, "last": last})
                assert not ctx.get(dut.summary.valid)
                await ctx.tick()
        ctx.set(dut.score, {})
        assert ctx.get(dut.summary.valid), "two cycles after the first head's last score"
        await wait(ctx, 5)
        assert [entry["mass"] for entry in await receive(ctx, dut.summary, 2)] == [9, 9]
        await wait(ctx, 5)
        assert not ctx.get(dut.summary.valid)

    run(dut, drive)


@pytest.mark.parametrize(("lanes", "heads"), [(4, 4), (8, 4), (16, 8)])
def test_queue_takes_heads(lanes, heads):
    config = make_config(8, lanes=lanes)
    assert queued_heads(config) == heads
    dut = ScoreBuffer(config)

    async def drive(ctx):
        await send(ctx, dut.head, [Head([1]).payload()] + [Head(masked=True).payload()] * (heads - 1))
        assert not ctx.get(dut.head.ready)

    run(dut, drive, timeout=50)
