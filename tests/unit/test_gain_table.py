"""The gain table: one gain a word on the bus, groups of gains for the normaliser."""

import gc
import random

import pytest

from reluctant.golden import formats
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.gain_table import GainTable

from .helpers import run, wait
from .register_bus import access, merge

CONFIGS = {
    "one lane": UnitConfig(lanes=4, head_dim=20, slots=4, heads=3, kv_heads=1, profiles=2),
    "four lanes": UnitConfig(lanes=16, head_dim=32, slots=4, heads=3, kv_heads=3, profiles=3, normaliser_lanes=4),
    "layer": UnitConfig(lanes=32, head_dim=32, slots=4, heads=1, kv_heads=1, normalisers=("rms_layer",)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_gains(name):
    config, rng = CONFIGS[name], random.Random(1)
    dut, lanes = GainTable(config), config.sizes.normaliser_lanes
    count = config.profiles * config.heads * config.head_dim
    mirror = [formats.encode_gain(32) & 0xFFFF] * count

    def signed(value):
        return value - (1 << 16) if value >> 15 else value

    async def check_groups(ctx):
        for group in range(count // lanes):
            ctx.set(dut.addr, group)
            await wait(ctx, dut.latency)
            gains = [ctx.get(dut.data[lane]) for lane in range(lanes)]
            assert gains == [signed(gain) for gain in mirror[group * lanes : (group + 1) * lanes]]

    async def bench(ctx):
        await check_groups(ctx)
        for index in range(count):
            mirror[index] = rng.choice([0, 0x7FFF, 0x8000, 0xFFFF, rng.getrandbits(16)])
            assert (await access(ctx, dut.bus, index, mirror[index] | rng.getrandbits(16) << 16))[1:] == (0, 1)
        await check_groups(ctx)
        for _ in range(100):
            index, word, strobe = rng.randrange(count), rng.getrandbits(32), rng.getrandbits(4)
            await access(ctx, dut.bus, index, word, strobe)
            mirror[index] = merge(mirror[index], word, strobe) & 0xFFFF
            other = rng.randrange(count)
            assert await access(ctx, dut.bus, other) == (mirror[other], 0, 3)
        await check_groups(ctx)

    run(dut, bench)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_needs_an_rms_normaliser():
    with pytest.raises(ValueError, match=r"normalisers are \('sum',\): rms_head or rms_layer is needed"):
        GainTable(UnitConfig(normalisers=("sum",)))
    gc.collect()  # the component that was refused warns when it goes: let that be here
