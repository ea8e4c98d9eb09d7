import random
from dataclasses import dataclass, field

import pytest

from reluctant.golden import formats
from reluctant.golden.formats import Mode
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.row_selector import RowSelector

from .helpers import Stalls, plain, receive, run, send, wait


def make_config(slots: int = 16, *, softmax: bool = True, beats: int = 4, lanes: int = 4, **settings) -> UnitConfig:
    return UnitConfig(
        lanes=lanes,
        head_dim=max(16, lanes * beats),
        slots=slots,
        heads=4,
        kv_heads=2,
        softmax=softmax,
        normalisers=("sum",),
        **settings,
    )


@dataclass
class Head:
    """One head as the sequencer describes it, and its scores."""

    scores: list = field(default_factory=list)
    theta: int = 0
    mode: Mode = Mode.RELU
    kappa: tuple = (0, 0)
    min_active: int = 0
    min_mass: int = 0
    row: int = 0
    beats: int = 1
    masked: bool = False
    silent: bool = False
    head: int = 0

    def value(self) -> dict:
        result = {
            "head": self.head,
            "n": len(self.scores),
            "beats": self.beats,
            "alpha_mantissa": 0x8000 + self.row,
            "alpha_exponent": -self.beats,
            "sink": 0xFFFFFF - self.row,
            "normaliser": self.head,
            "emit_context": self.beats & 1,
            "profile": 0,
            "masked": int(self.masked),
            "last": self.row & 1,
            "tag": (self.row + self.head) % 4,
        }
        return {"row": self.row, "group_last": self.head & 1, "result": result}

    def payload(self) -> dict:
        return {
            "theta": self.theta,
            "mode": int(self.mode),
            "kappa_mantissa": self.kappa[0],
            "kappa_shift": self.kappa[1],
            "min_active": self.min_active,
            "min_mass": self.min_mass,
            "silent": int(self.silent),
            "value": self.value(),
        }

    def weights(self, softmax_built: bool = True) -> tuple[list, dict]:
        """[(row, weight)] without zeros, in the order of the hardware, and the statistics."""
        shifted = [score - self.theta for score in self.scores]
        above = [(slot, t) for slot, t in enumerate(shifted) if t > 0]
        active, mass = len(above), sum(t for _, t in above)
        peak = max((t for _, t in above), default=0)
        few = active < self.min_active or mass < self.min_mass
        fallback = softmax_built and not self.masked and self.mode == Mode.HYBRID and few
        softmax = fallback or (softmax_built and not self.masked and self.mode == Mode.SOFTMAX)
        exponent = 0 if softmax else formats.block_exponent(peak)
        if softmax:
            ordered = above + [(slot, t) for slot, t in enumerate(shifted) if t <= 0]
            top = max(shifted)
            pairs = [(slot, formats.softmax_weight(top - t, *self.kappa)) for slot, t in ordered]
        else:
            pairs = [(slot, formats.relu_weight(t, exponent)) for slot, t in above]
        rows = [(self.row + slot, weight) for slot, weight in pairs if weight]
        stats = {
            "exponent": exponent,
            "active": active,
            "mass": mass,
            "weight_sum": sum(weight for _, weight in rows),
            "null": int(not self.masked and not softmax and active == 0),
            "softmax": int(softmax),
            "fallback": int(fallback),
        }
        return rows, stats

    def entries(self, softmax_built: bool = True) -> list[dict]:
        """What is expected at ``o``."""
        rows, _ = self.weights(softmax_built)
        if not rows:
            return [{"zero": 1, "first": 1, "last": 1, "final": 1}]
        return [
            {
                "zero": 0,
                "row": row,
                "beat": beat,
                "weight": weight,
                "first": int(i == 0),
                "last": int(i == len(rows) - 1),
                "final": int(i == len(rows) - 1 and beat == self.beats - 1),
            }
            for beat in range(self.beats)
            for i, (row, weight) in enumerate(rows)
        ]

    def record(self, softmax_built: bool = True) -> dict:
        """What is expected at ``record``."""
        rows, stats = self.weights(softmax_built)
        return {"rows": len(rows), "stats": stats, "head": self.value()}


async def take_records(ctx, bench, expected: list[dict]):
    """Take each record as soon as it may be, or at times later: the cycle after a final row was taken, or after that.

    ``bench`` has ``dut`` and ``stall``, and counts final rows in ``finals``.
    """
    stalls = Stalls(bench.stall, 9)
    for index, wanted in enumerate(expected):
        while bench.finals <= index:
            await ctx.tick()
        await wait(ctx, stalls.length())
        (got,) = await receive(ctx, bench.dut.record, 1)
        assert got == wanted, f"record {index}"


def random_head(rng, config: UnitConfig, modes, masked: float = 0.2) -> Head:
    sizes = config.sizes
    limit = config.head_dim << 14
    head = Head(
        row=rng.randrange(sizes.rows - config.slots + 1), beats=rng.randint(1, sizes.beats), head=rng.randrange(4)
    )
    head.mode = rng.choice(modes)
    head.silent = rng.random() < 0.3
    if rng.random() < masked:
        head.masked = True
        return head
    n = min(config.slots, rng.choice([1, 2, 3, config.slots, rng.randint(1, config.slots)]))
    scale = rng.choice([1, 3, 300, 5_000, 100_000, limit])
    kind = rng.choice(["any", "any", "any", "sparse", "none", "all", "extreme"])
    low, high = {"none": (-scale, 0), "all": (1, scale), "extreme": (-limit, limit)}.get(kind, (-scale, scale))
    head.theta = rng.choice([0, 0, rng.randint(-scale, scale)])
    for _ in range(n):
        score = rng.choice([low, high]) if kind == "extreme" else rng.randint(low, high)
        head.scores.append(-abs(score) if kind == "sparse" and rng.random() < 0.8 else score)
    head.theta = max(-limit, min(limit - 1, head.theta))
    head.kappa = formats.encode_kappa(rng.choice([0, 1e-6, 1.5 / scale, 8 / scale, 1 / 256, 100]))
    head.min_active, head.min_mass = rng.choice([0, 0, n // 2, n]), rng.choice([0, 0, scale, 2 * scale])
    return head


class Bench:
    """Plays the sequencer and the array; collects what comes out and when (cycle numbers)."""

    def __init__(self, config: UnitConfig, heads: list[Head], *, lead: int = 6, gap: float = 0.0, stall: float = 0.0,
                 seed: int = 0, cycles: int = 2000):  # fmt: skip
        self.config, self.heads, self.lead, self.gap, self.stall, self.seed = config, heads, lead, gap, stall, seed
        self.dut = RowSelector(config)
        self.timeout = cycles
        self.expected = [entry for head in heads for entry in head.entries(config.softmax)]
        self.finals = 0
        self.updates, self.released, self.last_score, self.offered = [], 0, {}, []
        self.pushed, self.credits, self.cycle, self.done = {}, 2, 0, False

    async def _push(self, ctx):
        for index, head in enumerate(self.heads):
            while not head.masked and self.credits == 0:
                await ctx.tick()
            if not head.masked:
                self.credits -= 1
            await send(ctx, self.dut.head, [head.payload()])
            self.pushed[index] = self.cycle

    async def _score(self, ctx):
        gaps = Stalls(self.gap, self.seed)
        for index, head in enumerate(self.heads):
            if head.masked:
                continue
            while index not in self.pushed or self.cycle < self.pushed[index] + self.lead - 1:
                await ctx.tick()
            for slot, score in enumerate(head.scores):
                await wait(ctx, gaps.length())
                last = slot == len(head.scores) - 1
                ctx.set(self.dut.score, {"valid": 1, "slot": slot, "score": score, "last": last})
                if last:
                    self.last_score[index] = self.cycle
                await ctx.tick()
                ctx.set(self.dut.score, {})

    async def _watch(self, ctx):
        dut = self.dut
        final = dut.o.valid & dut.o.ready & dut.o.payload.final
        sampled = (dut.update, dut.released, dut.o.valid, final)
        async for _, _, update, released, valid, final in ctx.tick().sample(*sampled):
            self.finals += final
            if update["valid"]:
                self.updates.append((update["row"], update["weight"]))
            self.credits += released
            self.released += released
            if valid:
                self.offered.append(self.cycle)
            self.cycle += 1
            if self.done:
                break

    async def _take_records(self, ctx):
        await take_records(ctx, self, [head.record(self.config.softmax) for head in self.heads])

    async def _take(self, ctx):
        self.edges = []
        count = len(self.expected)
        received = await receive(ctx, self.dut.o, count, stall=self.stall, seed=self.seed, cycles=self.edges)
        for index, (got, wanted) in enumerate(zip(received, self.expected, strict=True)):
            assert {name: got[name] for name in wanted} == wanted, f"entry {index}"
        await wait(ctx, 40 + 5 * len(self.heads) * (self.stall > 0))
        assert not ctx.get(self.dut.o.valid)
        assert not ctx.get(self.dut.record.valid)
        self.done = True

    def run(self):
        parts = (self._watch, self._push, self._score, self._take, self._take_records)
        run(self.dut, *parts, timeout=self.timeout)
        earning = [head for head in self.heads if not head.silent]
        assert self.updates == [pair for head in earning for pair in head.weights(self.config.softmax)[0]]
        assert self.released == sum(not head.masked for head in self.heads)
        return self


RELU_ONLY, ALL = [Mode.RELU], list(Mode)


@pytest.mark.parametrize(
    ("slots", "softmax", "modes", "gap", "stall"),
    [
        (8, False, ALL, 0.0, 0.0),
        (13, False, ALL, 0.2, 0.3),
        (32, False, RELU_ONLY, 0.0, 0.5),
        (2, True, ALL, 0.0, 0.2),
        (8, True, ALL, 0.0, 0.0),
        (13, True, ALL, 0.3, 0.0),
        (16, True, [Mode.HYBRID], 0.0, 0.1),
        (16, True, [Mode.SOFTMAX], 0.0, 0.0),
        (32, True, ALL, 0.1, 0.3),
    ],
)
def test_random_heads(slots, softmax, modes, gap, stall):
    rng = random.Random(f"{slots} {softmax} {modes} {gap} {stall}")
    config = make_config(slots, softmax=softmax, beats=4)
    heads = [random_head(rng, config, modes) for _ in range(60)]
    Bench(config, heads, gap=gap, stall=stall, seed=slots, cycles=30_000).run()


def test_long_queues():
    """Builds with more lanes queue more heads."""
    rng = random.Random(5)
    config = make_config(8, lanes=16)
    heads = [random_head(rng, config, ALL, masked=0.5) for _ in range(80)]
    Bench(config, heads, stall=0.3, cycles=30_000).run()


def test_shortest_lead():
    rng = random.Random(3)
    config = make_config(8)
    heads = [random_head(rng, config, ALL, masked=0.4) for _ in range(40)]
    Bench(config, heads, lead=2, stall=0.2, cycles=20_000).run()


def test_many_masked_heads_and_slow_output():
    rng = random.Random(4)
    config = make_config(8, softmax=False)
    heads = [random_head(rng, config, RELU_ONLY, masked=0.8) for _ in range(60)]
    Bench(config, heads, stall=0.8, cycles=30_000).run()


@pytest.mark.parametrize(
    ("mode", "kappa", "latency"),
    [(Mode.RELU, 0.0, 10), (Mode.HYBRID, 0.0, 12), (Mode.SOFTMAX, 0.001, 19)],
)
@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("scores", [300, -300])
def test_latency(mode, kappa, latency, count, scores):
    head = Head([scores] * count, mode=mode, kappa=formats.encode_kappa(kappa))
    bench = Bench(make_config(8), [head]).run()
    assert bench.offered[0] - bench.last_score[0] == latency


def test_latency_without_softmax():
    bench = Bench(make_config(8, softmax=False), [Head([0, 5, 3, 0])]).run()
    assert bench.offered[0] - bench.last_score[0] == 10


@pytest.mark.parametrize(("rows", "beats"), [(16, 1), (16, 4), (1, 1), (1, 4), (2, 1), (2, 3), (3, 2)])
def test_no_bubbles(rows, beats):
    """Heads that are in the list before the first entry is taken leave without a gap, whatever their shape."""
    config = make_config(16, lanes=16)
    heads = [Head([7] * rows, beats=beats) for _ in range(min(4, 16 // rows))]
    bench = Bench(config, heads, cycles=3000)

    async def take(ctx):
        await wait(ctx, 200)
        edges = []
        received = await receive(ctx, bench.dut.o, len(bench.expected), cycles=edges)
        assert edges == list(range(1, len(bench.expected) + 1))
        assert [plain(entry)["final"] for entry in received] == [entry["final"] for entry in bench.expected]
        bench.done = True

    run(bench.dut, bench._watch, bench._push, bench._score, take, bench._take_records, timeout=3000)


def test_first_pass_follows_the_weights():
    """One row a cycle from the first on, while the others are still being weighed."""
    bench = Bench(make_config(32, softmax=False), [Head([9] * 32, beats=4)]).run()
    assert bench.edges == list(range(bench.edges[0], bench.edges[0] + 4 * 32))


def test_heads_back_to_back_keep_up():
    """Full heads with one beat: scores come and rows leave one a cycle, but for what two credits cost."""
    heads = [Head([5] * 32, beats=1) for _ in range(6)]
    bench = Bench(make_config(32, softmax=False), heads, lead=2, cycles=1000).run()
    assert bench.edges[-1] - bench.edges[0] < 6 * 32 + 12
