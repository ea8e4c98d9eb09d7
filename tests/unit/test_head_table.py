"""The head table's bus against the register map, and what the sequencer reads."""

import random

import pytest

from reluctant.golden import formats
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.head_table import HeadTable
from reluctant.hdl.register_map import RegisterMap

from .helpers import plain, run, wait
from .register_bus import access, merge

FULL = UnitConfig(lanes=8, head_dim=24, slots=100, heads=6, kv_heads=3, profiles=3)
RELU = FULL.with_settings(softmax=False)
LENGTH = FULL.with_settings(normalisers=("length",))
BARE = FULL.with_settings(softmax=False, normalisers=())
ONE = UnitConfig(lanes=4, head_dim=16, slots=2, heads=1, kv_heads=1)
WORDS = ("THETA", "MODE", "KAPPA", "MIN_ACTIVE", "MIN_MASS", "ALPHA", "SINK")
SOFTMAX_WORDS = ("KAPPA", "MIN_ACTIVE", "MIN_MASS")


def is_built(config, name):
    if name in SOFTMAX_WORDS:
        return config.softmax
    if name == "SINK":
        return "sum" in config.normalisers
    return bool(config.normalisers) if name == "ALPHA" else True


def random_fields(rng, config, name):
    """Legal field values of a word, extremes included."""
    bits = config.sizes.score_bits
    choices = {
        "THETA": {"value": [-(1 << (bits - 1)), (1 << (bits - 1)) - 1, -1, 0, rng.randrange(-9999, 9999)]},
        "MODE": {"value": list(range(3 if config.softmax else 1))},
        "KAPPA": {"mantissa": [0, 0xFFFF, rng.getrandbits(16)], "shift": [0, 1, 2, 3]},
        "MIN_ACTIVE": {"value": [0, 1, config.slots, (1 << config.sizes.count_bits) - 1]},
        "MIN_MASS": {"value": [0, 0xFFFFFFFF, rng.getrandbits(32)]},
        "ALPHA": {"mantissa": [0, 0x8000, 0xFFFF], "exponent": [-128, 127, -1, 0]},
        "SINK": {"value": [0, 1, (1 << formats.SINK_BITS) - 1, rng.getrandbits(formats.SINK_BITS)]},
    }
    return {field: rng.choice(values) for field, values in choices[name].items()}


def entry_names(name, fields):
    """Names of a word's fields in the entry."""
    return {name.lower() + ("" if field == "value" else f"_{field}"): value for field, value in fields.items()}


def initial(config):
    registers = RegisterMap(config)
    resets = {name: registers.decode(f"HEAD_TABLE.{name}", registers.encode(f"HEAD_TABLE.{name}")) for name in WORDS}
    return [
        {name: fields if is_built(config, name) else dict.fromkeys(fields, 0) for name, fields in resets.items()}
        for _ in range(config.profiles * config.heads)
    ]


@pytest.mark.parametrize("config", [FULL, RELU, LENGTH, BARE, ONE], ids=["full", "relu", "length", "bare", "one"])
def test_words_and_entries(config):
    dut, registers, rng = HeadTable(config), RegisterMap(config), random.Random(5)
    depth, mirror = config.profiles * config.heads, initial(config)

    async def check_entry(ctx, index):
        ctx.set(dut.addr, index)
        await wait(ctx, dut.latency)
        expected = {}
        for name, fields in mirror[index].items():
            if name != "SINK" or is_built(config, name):
                expected |= entry_names(name, fields)
        assert plain(ctx.get(dut.entry)) == expected

    async def check_word(ctx, index, name):
        word, error, cycles = await access(ctx, dut.bus, 8 * index + WORDS.index(name))
        assert (error, cycles) == (0, 3)
        register = f"HEAD_TABLE.{name}"
        assert registers.decode(register, word) == mirror[index][name]
        assert word & ~sum(field.mask for field in registers.register(register).fields) == 0

    async def bench(ctx):
        for index in range(depth):
            await check_entry(ctx, index)
            for name in WORDS:
                await check_word(ctx, index, name)
        for _ in range(300):
            index, name = rng.randrange(depth), rng.choice(WORDS)
            fields = random_fields(rng, config, name)
            word = registers.encode(f"HEAD_TABLE.{name}", **fields)
            _, error, cycles = await access(ctx, dut.bus, 8 * index + WORDS.index(name), word)
            assert (error, cycles) == (0, 3)
            if is_built(config, name):
                mirror[index][name] = fields
            await check_word(ctx, index, name)
            await check_entry(ctx, rng.randrange(depth))
        for index in range(depth):
            await check_entry(ctx, index)

    run(dut, bench)


def test_byte_strobes():
    dut, registers, rng = HeadTable(FULL), RegisterMap(FULL), random.Random(6)

    async def bench(ctx):
        for name, number in (("MIN_MASS", 4), ("ALPHA", 5), ("KAPPA", 2), ("SINK", 6)):
            mask = sum(field.mask for field in registers.register(f"HEAD_TABLE.{name}").fields)
            word, _, _ = await access(ctx, dut.bus, 8 * 4 + number)
            for _ in range(40):
                new, strobe = rng.getrandbits(32), rng.getrandbits(4)
                await access(ctx, dut.bus, 8 * 4 + number, new, strobe)
                word = merge(word, new, strobe) & mask
                assert (await access(ctx, dut.bus, 8 * 4 + number))[0] == word
        # A threshold, byte by byte: the bytes between may be anything.
        for theta in (-2, 1000, -(1 << (FULL.sizes.score_bits - 1))):
            for byte in (2, 0, 3, 1):
                _, error, _ = await access(ctx, dut.bus, 8 * 4, theta & 0xFFFFFFFF, 1 << byte)
                assert not error
            assert (await access(ctx, dut.bus, 8 * 4))[0] == theta & 0xFFFFFFFF

    run(dut, bench)


@pytest.mark.parametrize("config", [FULL, RELU], ids=["full", "relu"])
def test_refuses_what_cannot_be_held(config):
    dut, half = HeadTable(config), 1 << (config.sizes.score_bits - 1)
    refused = [(0, half), (0, -half - 1), (0, 0x7FFFFFFF), (1, 3), (1, 4), (1, 1 << 31)]
    refused += [(3, 1 << config.sizes.count_bits), (3, 1 << 31)] if config.softmax else [(1, 1), (1, 2)]

    async def bench(ctx):
        await access(ctx, dut.bus, 0, 77)
        before = [(await access(ctx, dut.bus, word))[0] for word in range(7)]
        for word, value in refused:
            _, error, _ = await access(ctx, dut.bus, word, value & 0xFFFFFFFF)
            assert error, f"word {word} took {value}"
            answers = [await access(ctx, dut.bus, number) for number in range(7)]
            assert [answer[0] for answer in answers] == before
            assert not any(answer[1] for answer in answers)
        # Bytes that are not strobed do not matter.
        _, error, _ = await access(ctx, dut.bus, 1, 0xFFFFFF00, 0b0001)
        assert not error

    run(dut, bench)


def test_initial_alpha_is_one():
    dut = HeadTable(FULL)
    mantissa, exponent = formats.encode_alpha(1)

    async def bench(ctx):
        for index in range(dut.depth):
            ctx.set(dut.addr, index)
            await wait(ctx, dut.latency)
            entry = plain(ctx.get(dut.entry))
            assert (entry["alpha_mantissa"], entry["alpha_exponent"]) == (mantissa, exponent)
            assert (entry["theta"], entry["mode"], entry["sink"]) == (0, formats.Mode.RELU, 0)

    run(dut, bench)


def test_one_entry_a_cycle():
    dut = HeadTable(FULL)

    async def bench(ctx):
        for index in range(dut.depth):
            await access(ctx, dut.bus, 8 * index, index * 3)
        for index in range(dut.depth + 1):
            ctx.set(dut.addr, index % dut.depth)
            await ctx.tick()
            if index:
                assert ctx.get(dut.entry.theta) == (index - 1) * 3

    run(dut, bench)
