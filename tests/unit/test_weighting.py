import random

import pytest

from reluctant.golden import formats
from reluctant.golden.formats import Mode
from reluctant.hdl.weighting import Weighting

from .helpers import Stalls, plain, receive, run, send, wait
from .test_row_selector import Head, make_config, random_head
from .test_score_buffer import parts


def summary(head: Head, config) -> dict:
    above, others = parts(head)
    magnitude = 0
    for _, t in above:
        magnitude |= t
    payload = {
        "active": len(above),
        "none": not above,
        "single": len(above) == 1,
        "rest": len(others),
        "mass": sum(t for _, t in above),
        "magnitude": magnitude,
        "peak": max((t for _, t in above + others), default=0),
        "masked": head.masked,
        "row": head.row,
        "silent": int(head.silent),
    }
    if head.masked:  # these mean nothing then
        payload |= {"active": 1, "none": 0, "single": 0, "mass": 12345, "magnitude": 0x7FFF, "rest": 1}
    if not config.softmax:
        return payload | {"rest": 0, "peak": 0}
    return payload | {
        "plain": int(head.masked or head.mode == Mode.RELU),
        "mode": int(head.mode),
        "kappa_mantissa": head.kappa[0],
        "kappa_shift": head.kappa[1],
        "min_active": head.min_active,
        "min_mass": head.min_mass,
    }


class Bench:
    """Plays the score buffer, bank memory included, and the weight list's room."""

    def __init__(self, config, heads, *, gap=0.0, stall=0.0, full=0.0, seed=0):
        self.config, self.heads, self.gap, self.stall, self.full, self.seed = config, heads, gap, stall, full, seed
        self.dut = Weighting(config)
        self.bank, self.pipe = ([], []), [{}, {}]
        self.cycle, self.reserved, self.done = 0, 0, False
        self.entries, self.updates, self.announced, self.entered, self.started = [], [], [], [], []

    async def feed(self, ctx):
        gaps = Stalls(self.gap, self.seed)
        for head in self.heads:
            await wait(ctx, gaps.length())
            self.bank = parts(head)
            self.started.append(self.cycle)
            await send(ctx, self.dut.summary, [summary(head, self.config)])

    async def memory(self, ctx):
        """Two cycles of latency; what is read where nothing was written is garbage."""
        dut = self.dut
        while not self.done:
            part, index = self.bank[ctx.get(dut.high)], ctx.get(dut.index)
            found = part[index] if index < len(part) else (self.config.slots - 1, 0x1234)
            data = {"slot": found[0], "shifted": found[1] if self.config.softmax else max(0, found[1])}
            self.pipe = [data, self.pipe[0]]
            await ctx.tick()
            ctx.set(dut.score, self.pipe[1])

    async def room(self, ctx):
        """Falls only with a place taken, as the weight list's does."""
        waits, taken = Stalls(self.full, self.seed + 1), 1
        while not self.done:
            if taken:
                ctx.set(self.dut.room, 0)
                await wait(ctx, waits.length())
            ctx.set(self.dut.room, 1)
            _, _, taken = await ctx.tick().sample(self.dut.reserve)

    async def watch(self, ctx):
        dut = self.dut
        async for _, _, entry, update, reserve, room in ctx.tick().sample(dut.entry, dut.update, dut.reserve, dut.room):
            assert room or not reserve
            self.reserved += reserve
            entry = plain(entry)
            if entry["keep"] or entry["drop"] or entry["end"]:
                self.entries.append(entry)
                self.entered.append(self.cycle)
            if update["valid"]:
                self.updates.append((update["row"], update["weight"]))
            assert entry["keep"] or not update["valid"]
            self.cycle += 1
            if self.done:
                break

    async def stats(self, ctx):
        self.announced = await receive(ctx, self.dut.stats, len(self.heads), stall=self.stall, seed=self.seed)
        while sum(entry["end"] for entry in self.entries) < len(self.heads):
            await ctx.tick()
        await wait(ctx, 20)
        self.done = True

    def run(self):
        run(self.dut, self.watch, self.feed, self.memory, self.room, self.stats, timeout=20_000)
        entries, updates = list(self.entries), []
        for head, announced in zip(self.heads, self.announced, strict=True):
            rows, stats = head.weights(self.config.softmax)
            assert announced == {name: stats[name] for name in announced}
            end = next(i for i, entry in enumerate(entries) if entry["end"])
            own, entries = entries[: end + 1], entries[end + 1 :]
            assert [(entry["row"], entry["weight"]) for entry in own if entry["keep"]] == rows
            assert own[-1]["exponent"] == stats["exponent"]
            read = len(head.scores) if stats["softmax"] else stats["active"]
            assert sum(entry["keep"] + entry["drop"] for entry in own) == read
            assert len(own) == max(1, read)
            updates += [] if head.silent else rows
        assert entries == []
        assert self.updates == updates
        assert self.reserved == sum(entry["keep"] + entry["drop"] for entry in self.entries)
        return self


@pytest.mark.parametrize(
    ("slots", "softmax", "gap", "stall", "full"),
    [
        (8, True, 0, 0, 0),
        (13, True, 0.3, 0.3, 0.3),
        (2, True, 0, 0, 0.5),
        (16, False, 0, 0, 0),
        (8, False, 0, 0.5, 0.3),
    ],
)
def test_random_heads(slots, softmax, gap, stall, full):
    rng = random.Random(f"{slots} {softmax} {gap} {stall} {full}")
    config = make_config(slots, softmax=softmax)
    Bench(config, [random_head(rng, config, list(Mode)) for _ in range(60)], gap=gap, stall=stall, full=full).run()


def test_every_exponent():
    """Peaks of every bit length, each with scores at the edges of rounding and saturation."""
    config = make_config(8, softmax=False)
    heads = []
    for bits in range(1, config.sizes.shifted_bits):
        top, step = (1 << bits) - 1, 1 << max(0, bits - 9)
        limit = config.head_dim << 14
        theta = -limit if top > limit else 0
        shifted = [t for t in (top, max(1, top - step), step, max(1, step - 1), 1) if t + theta <= limit]
        heads.append(Head([t + theta for t in shifted], theta=theta))
    Bench(config, heads).run()


@pytest.mark.parametrize(("mode", "latency"), [(Mode.RELU, 5), (Mode.HYBRID, 7), (Mode.SOFTMAX, 14)])
def test_latency(mode, latency):
    bench = Bench(make_config(8), [Head([400, 3, 500], mode=mode, kappa=formats.encode_kappa(0.01))]).run()
    assert bench.entered == [bench.started[0] + latency + i for i in range(3)]


def test_relu_heads_back_to_back():
    """One entry a cycle, also across heads, heads without scores above the threshold included."""
    heads = [Head([5] * 8), Head([1]), Head([-1, -2]), Head(masked=True), Head([3, 3])]
    bench = Bench(make_config(8), heads).run()
    assert bench.entered == list(range(bench.entered[0], bench.entered[0] + 8 + 1 + 1 + 1 + 2))


def test_fallback_thresholds():
    """A head at its thresholds stays with ReLU; one below either of them falls back."""
    kappa = formats.encode_kappa(0.01)
    heads = [
        Head([10, 20, -5], mode=Mode.HYBRID, kappa=kappa, min_active=active, min_mass=mass)
        for active, mass in [(2, 30), (3, 0), (0, 31), (3, 31), (0, 0)]
    ]
    bench = Bench(make_config(8), heads).run()
    assert [announced["fallback"] for announced in bench.announced] == [0, 1, 1, 1, 0]
    null = [Head([-1, -2], mode=Mode.HYBRID, kappa=kappa, min_mass=mass) for mass in (0, 1)]
    bench = Bench(make_config(8), null).run()
    assert [announced["null"] for announced in bench.announced] == [1, 0]
