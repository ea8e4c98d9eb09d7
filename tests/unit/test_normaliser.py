"""hdl/normaliser.py (with word_reader, scale_factor, result_packer) behind a real context buffer."""

import random
from functools import cache
from itertools import pairwise

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from reluctant.golden import formats
from reluctant.golden.formats import Normaliser
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.context_buffer import ContextBuffer
from reluctant.hdl.normaliser import Normaliser as NormaliserUnit

from . import helpers
from .normaliser_model import Head, ideal, outputs, packet

ALL = ("rms_head", "rms_layer", "length", "sum")


def config(lanes=16, head_dim=64, heads=4, normalisers=ALL, **settings):
    return UnitConfig(lanes=lanes, head_dim=head_dim, heads=heads, kv_heads=1, normalisers=normalisers, **settings)


class BackEnd(wiring.Component):
    """Context buffer and normaliser."""

    def __init__(self, config):
        self.config = config
        self.buffer, self.normaliser = ContextBuffer(config), NormaliserUnit(config)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.buffer, m.submodules.normaliser = self.buffer, self.normaliser
        wiring.connect(m, self.buffer.o, self.normaliser.i)
        return m


@cache
def gain(profile, head, index):
    """Contents of the gain memory: extremes among them."""
    chosen = random.Random(f"{profile} {head} {index}")
    return chosen.choice([formats.GAIN_ONE, 32767, -32768, -1, 0, 1, *(chosen.randint(-2000, 2000) for _ in range(8))])


def ports(dut, jobs, *, stall=0.0, seed=0, input_stall=0.0, cycles=None):
    """Testbenches that feed ``jobs``, serve gains, and compare what comes out."""
    for number, job in enumerate(jobs):
        for head in job:
            head.tag = (3 * number + seed) % 4
    sizes, lanes, config = dut.config.sizes, dut.config.lanes, dut.config
    buffer, unit = dut.buffer, dut.normaliser
    heads = [head for job in jobs for head in job]
    want = [beat for job in jobs for beat in packet(job, gain, lanes)]
    done, noted = [], []

    async def words(ctx):
        stalls = helpers.Stalls(input_stall, seed + 1)
        for head in heads:
            if head.contexts is None:
                continue
            while not ctx.get(buffer.space):
                await ctx.tick()
            ctx.set(buffer.allocate, 1)
            await ctx.tick()
            ctx.set(buffer.allocate, 0)
            groups = range(0, len(head.contexts), sizes.word)
            for start in groups:
                for _ in range(stalls.length()):
                    await ctx.tick()
                packed = sum((c & 0xFFFFFFFF) << 32 * n for n, c in enumerate(head.contexts[start:][: sizes.word]))
                ctx.set(buffer.word, {"valid": 1, "last": start == groups[-1], "data": packed})
                await ctx.tick()
                ctx.set(buffer.word, {"valid": 0, "last": 1, "data": 12345})

    async def records(ctx):
        await helpers.send(ctx, buffer.record, [head.record() for head in heads], stall=input_stall, seed=seed)

    async def results(ctx):
        got = await helpers.receive(ctx, unit.o, len(want), stall=stall, seed=seed + 2, cycles=cycles)
        assert [(beat["data"], beat["last"]) for beat in got] == want
        await ctx.tick().repeat(2)
        ctx.set(unit.o.ready, 1)
        for _ in range(200):
            _, _, valid = await ctx.tick().sample(unit.o.valid)
            assert not valid
        assert done == [job[0].tag for job in jobs]
        assert noted == [result(head) for head in heads]

    def result(head):
        names = ("active", "mass", "null", "softmax", "fallback")
        stats = {name: head.stats[name] for name in names}
        return {"valid": 1, "tag": head.tag, "head": head.head, "masked": head.masked} | stats

    async def count_done(ctx):
        while True:
            _, _, pulse, tag, transfer, note = await ctx.tick().sample(
                unit.done, unit.done_tag, unit.o.valid & unit.o.ready & unit.o.payload.last, unit.result
            )
            if pulse:
                done.append(tag)
                assert len(noted) >= sum(len(job) for job in jobs[: len(done)])
            if count_done.noted:  # all but valid holds for a cycle
                assert helpers.plain(note) | {"valid": 1} == noted[-1]
            count_done.noted = note["valid"]
            if note["valid"]:
                noted.append(helpers.plain(note))
            assert pulse == count_done.before
            count_done.before = transfer

    count_done.before, count_done.noted = 0, 0

    async def gains(ctx):
        groups, before = config.head_dim // sizes.normaliser_lanes, 0
        while True:
            _, _, address = await ctx.tick().sample(unit.gain_addr)
            (row, group), before = divmod(before, groups), address
            values = [
                gain(*divmod(row, config.heads), group * sizes.normaliser_lanes + n)
                for n in range(sizes.normaliser_lanes)
            ]
            ctx.set(unit.gain_data, sum((value & 0xFFFF) << 16 * n for n, value in enumerate(values)))

    return (words, records, results), (count_done, gains)


def simulate(dut, jobs, **options):
    """Run the jobs; raises where the packets differ."""
    stimulus, background = ports(dut, jobs, **options)
    helpers.run(dut, *stimulus, processes=background, timeout=60_000)


def contexts(chosen, size, bits=None):
    """Random contexts of at most ``bits`` bits of magnitude (also chosen at random), or a special case."""
    bits = chosen.randint(0, 31) if bits is None else bits
    kind = chosen.randrange(8)
    if kind == 0:
        return [chosen.choice([-(1 << bits), (1 << bits) - 1]) for _ in range(size)]
    if kind == 1:
        return [chosen.randint(-(1 << bits), (1 << bits) - 1) if chosen.random() < 0.1 else 0 for _ in range(size)]
    return [chosen.randint(-(1 << bits), (1 << bits) - 1) for _ in range(size)]


def alpha(chosen, middle, spread=6):
    """A scale near 2**middle."""
    return chosen.randint(1 << 15, (1 << 16) - 1), max(-128, min(127, middle + chosen.randint(-spread, spread)))


def random_job(chosen, config, mode, *, beats=None, zero=0.2, emit=None):
    """A job of all heads in one mode, with every field of the records at random."""
    sizes = config.sizes
    beats = beats or chosen.randint(1, sizes.beats)
    emit = chosen.randrange(2) if emit is None else emit
    profile = chosen.randrange(config.profiles)
    job = []
    for number in range(config.heads):
        is_zero = chosen.random() < zero
        data = None if is_zero else contexts(chosen, beats * config.lanes)
        n = chosen.choice([1, config.slots, chosen.randint(1, config.slots)])
        weight_sum = 0 if is_zero else chosen.randint(0, (1 << sizes.weight_sum_bits) - 1)
        exponent, softmax = chosen.randint(0, 16), chosen.getrandbits(1)
        sink = chosen.choice([0, chosen.getrandbits(chosen.randint(1, formats.SINK_BITS))])
        size = formats.magnitude_bits(data or [0])
        middle = {
            Normaliser.LENGTH: n.bit_length() - exponent - size + 7,
            Normaliser.SUM: (weight_sum + (0 if softmax else sink >> exponent)).bit_length() - size + 7,
        }.get(mode, chosen.choice([0, 5]))
        scale = (0, 0) if chosen.random() < 0.05 else alpha(chosen, middle)
        stats = {
            "exponent": exponent,
            "active": chosen.getrandbits(sizes.count_bits),
            "mass": chosen.getrandbits(sizes.mass_bits),
            "weight_sum": weight_sum,
            **{name: chosen.getrandbits(1) for name in ("null", "fallback")},
            "softmax": softmax,
        }
        last = number == config.heads - 1
        head = Head(beats, data, mode, emit, number, n, scale, profile, int(is_zero), last, stats)
        head.sink = sink if "sum" in config.normalisers else 0
        job.append(head)
    return job


def modes_of(config):
    return [Normaliser.NONE, *(Normaliser[name.upper()] for name in config.normalisers)]


CONFIGS = [
    {"lanes": 4, "head_dim": 16, "heads": 2},
    {"lanes": 8, "head_dim": 24, "heads": 3, "profiles": 3},
    {"lanes": 16, "head_dim": 48, "heads": 2, "profiles": 2},
    {"lanes": 16, "head_dim": 32, "heads": 3, "normaliser_lanes": 4},
    {"lanes": 16, "head_dim": 64, "heads": 1, "normaliser_lanes": 2},
    {"lanes": 32, "head_dim": 64, "heads": 2, "normaliser_lanes": 1},
    {"lanes": 32, "head_dim": 96, "heads": 2, "normaliser_lanes": 4, "slots": 100},
]


@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.4, 0.0), (0.1, 0.3)], ids=["free", "slow sink", "both"])
@pytest.mark.parametrize("settings", CONFIGS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_every_mode_in_any_order(settings, stalls):
    build = config(**settings)
    chosen = random.Random(f"{settings} {stalls}")
    jobs = [random_job(chosen, build, mode) for mode in modes_of(build) * (2 if stalls[1] else 1)]
    chosen.shuffle(jobs)
    simulate(BackEnd(build), jobs, stall=stalls[0], input_stall=stalls[1], seed=chosen.getrandbits(16))


@pytest.mark.parametrize("normalisers", [(), *((name,) for name in ALL), ("length", "sum"), ("rms_head", "sum")])
def test_builds_with_some_modes(normalisers):
    build = config(head_dim=32, heads=2, normalisers=normalisers)
    chosen = random.Random(str(normalisers))
    jobs = [random_job(chosen, build, mode) for mode in modes_of(build) * 3]
    simulate(BackEnd(build), jobs, stall=0.1, seed=3)


def test_all_heads_zero():
    build = config(heads=3)
    chosen = random.Random(1)
    simulate(BackEnd(build), [random_job(chosen, build, mode, zero=1) for mode in modes_of(build)], stall=0.2)


def test_a_context_of_zeros_and_minus_ones():
    """Magnitude 0 although not all elements are 0, under every exponent; once beside a large head."""
    build = config(head_dim=32, heads=2)
    chosen = random.Random(2)
    jobs = []
    for mode in (Normaliser.RMS_HEAD, Normaliser.RMS_LAYER):
        for exponent in (0, 9, 16):
            job = random_job(chosen, build, mode, beats=2, zero=0)
            job[0].contexts = [-(i & 1) for i in range(32)]
            job[0].stats["exponent"] = exponent
            jobs.append(job)
        both = random_job(chosen, build, mode, beats=2, zero=0)
        for head in both:
            head.contexts = [-1] * 32
        jobs.append(both)
        none = random_job(chosen, build, mode, beats=2, zero=0)
        for head in none:
            head.contexts = [0] * 32
        jobs.append(none)
    simulate(BackEnd(build), jobs)


@pytest.mark.parametrize("normalisers", [("sum",), ("length", "sum"), ALL])
def test_sinks_under_every_exponent(normalisers):
    """Largest divisor, ties of the rounding, and a head without any right behind one with a sink."""
    build = config(head_dim=16, heads=3, slots=65536, normalisers=normalisers)
    chosen = random.Random(8)
    jobs = []
    for exponent in range(20):
        job = random_job(chosen, build, Normaliser.SUM, beats=1, zero=0, emit=0)
        largest = (1 << formats.SINK_BITS) - 1
        for head, sink in zip(job, (largest, 1 << exponent >> 1, 0), strict=True):
            head.sink, head.alpha = sink, (0x8000, chosen.randint(0, 6))
            head.contexts = contexts(chosen, 16, 20)
            head.stats |= {"exponent": exponent, "softmax": 0, "weight_sum": chosen.choice([largest, 300])}
        jobs += [job, random_job(chosen, build, chosen.choice(modes_of(build)), zero=0)]
    simulate(BackEnd(build), jobs)


@pytest.mark.parametrize("sign", [1, -1])
def test_extremes(sign):
    build = config(head_dim=256, heads=2, normaliser_lanes=4)
    chosen = random.Random(4)
    jobs = []
    for mode in modes_of(build):
        job = random_job(chosen, build, mode, beats=16, zero=0)
        for head in job:
            head.contexts = [(1 << 31) - 1 if sign > 0 else -(1 << 31)] * 256
            head.stats["exponent"] = 16
        jobs.append(job)
    simulate(BackEnd(build), jobs)


def errors(mode, limit):
    """|model - formula| of every output whose value before the gain is below ``limit``."""
    build = config(head_dim=64, heads=4)
    chosen = random.Random(int(mode))
    for _ in range(150):
        job = random_job(chosen, build, mode)
        for got, want, before in zip(outputs(job, gain), ideal(job, gain), ideal(job, None), strict=True):
            if want is not None:
                got = got or [0] * len(want)
                yield from (abs(a - b) for a, b, c in zip(got, want, before, strict=True) if abs(c) < limit)


@pytest.mark.parametrize("mode", [mode for mode in Normaliser if mode is not Normaliser.NONE])
def test_model_is_within_one_of_the_formula(mode):
    """F may be as low as 1/2, so half of what the scaled format can hold is safe before the gain."""
    found = list(errors(mode, 1 << (formats.SCALED_BITS - 2 - formats.SCALED_FRACTION)))
    assert len(found) > 4000
    assert max(found) <= 1


@pytest.mark.parametrize("mode", [Normaliser.LENGTH, Normaliser.SUM])
def test_model_saturates_where_the_formula_does(mode):
    assert max(errors(mode, float("inf"))) <= 1


def first_beats(jobs, build):
    """Clock edges of the transfers with an output that is always ready, and the beats of each head."""
    cycles = []
    simulate(BackEnd(build), jobs, cycles=cycles)
    return cycles


@pytest.mark.parametrize(
    ("settings", "extra"),
    [
        ({"lanes": 16, "normaliser_lanes": 1}, 0),
        ({"lanes": 32, "normaliser_lanes": 2}, 1),
        ({"lanes": 16, "normaliser_lanes": 4}, 2),
    ],
)
def test_cycles_per_head_with_rms(settings, extra):
    build = config(head_dim=64, heads=4, **settings)
    job = random_job(random.Random(5), build, Normaliser.RMS_HEAD, beats=build.sizes.beats, zero=0, emit=0)
    cycles = first_beats([job], build)
    per_head = build.sizes.header_beats + build.sizes.beats
    starts = cycles[::per_head]
    limit = 2 * 64 // build.sizes.normaliser_lanes + 21 + extra
    assert [b - a for a, b in pairwise(starts[1:])] == [limit] * 2


def test_cycles_per_head_with_short_beats():
    """8 groups a beat: two beats are not enough to cover the way through the lane."""
    build = config(lanes=8, head_dim=64, heads=4, normaliser_lanes=1)
    job = random_job(random.Random(5), build, Normaliser.RMS_HEAD, beats=8, zero=0, emit=0)
    starts = first_beats([job], build)[:: 2 + 8]
    assert max(b - a for a, b in pairwise(starts[1:])) <= 2 * 64 + 21 + 16


@pytest.mark.parametrize("mode", [Normaliser.NONE, Normaliser.RMS_HEAD, Normaliser.SUM])
def test_header_comes_two_cycles_after_the_head(mode):
    build = config()
    dut = BackEnd(build)
    job = random_job(random.Random(7), build, mode, zero=0)
    valid = []

    async def watch(ctx):
        while True:
            _, _, *sample = await ctx.tick().sample(dut.buffer.o.head.valid, dut.normaliser.o.valid)
            valid.append(sample)

    stimulus, background = ports(dut, [job])
    helpers.run(dut, *stimulus, processes=(*background, watch))
    heads, beats = zip(*valid, strict=True)
    assert beats.index(1) - heads.index(1) == 2


def test_cycles_that_a_sink_takes():
    build = config(heads=4)
    job = random_job(random.Random(9), build, Normaliser.SUM, beats=4, zero=0, emit=0)
    cycles = []
    for exponent, sink, softmax in ((0, 0, 0), (11, 5, 1), (0, 1, 0), (11, 1 << 23, 0), (16, 1, 0)):
        for head in job:
            head.sink, head.stats["exponent"], head.stats["softmax"] = sink, exponent, softmax
        starts = first_beats([job], build)[:: 1 + 4]
        cycles.append({b - a for a, b in pairwise(starts[1:])})
    (base,) = cycles[0]
    assert cycles == [{base}, {base}, {base + 2}, {base + 2 + 2 + 3}, {base + 2 + 4}]


@pytest.mark.parametrize("lanes", [4, 16, 32])
def test_cycles_per_head_without_normaliser(lanes):
    build = config(lanes=lanes, head_dim=64, heads=4, normalisers=("length",))
    job = random_job(random.Random(6), build, Normaliser.NONE, beats=build.sizes.beats, zero=0)
    cycles = first_beats([job], build)
    per_head = build.sizes.header_beats + 4 * build.sizes.beats
    assert cycles[per_head : 2 * per_head] == list(range(cycles[per_head], cycles[per_head] + per_head))
    assert cycles[2 * per_head] - cycles[per_head] == per_head + 4
