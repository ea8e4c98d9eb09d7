"""Heads in order, two score banks, masked heads that read nothing."""

import random

import pytest

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.head_sequencer import HeadSequencer

from .helpers import receive, run, send


def _groups(rng, config, jobs):
    """Random jobs as the appender would send them: one group a KV head."""
    sizes = config.sizes
    for number in range(jobs):
        kind = rng.random()
        mask = (1 << config.heads) - 1 if kind < 0.15 else 0 if kind < 0.4 else rng.getrandbits(config.heads)
        job = {
            "n": rng.randint(1, config.slots),
            "beats": rng.randint(1, sizes.beats),
            "mask": mask,
            "profile": rng.randrange(config.profiles),
            "normaliser": rng.randrange(5),
            "silent": rng.randrange(2),
            "tag": number % 4,
        }
        for kv in range(config.kv_heads):
            yield {
                "job": job,
                "bank": number % 2,
                "kv": kv,
                "row": kv * config.slots,
                "last": kv == config.kv_heads - 1,
            }


def _expected(config, groups):
    heads, walks = [], []
    for group in groups:
        job, sizes = group["job"], config.sizes
        for index in range(sizes.group):
            head = group["kv"] * sizes.group + index
            masked = (job["mask"] >> head) & 1
            group_last = index == sizes.group - 1
            heads.append(
                {
                    "theta": job["profile"] * config.heads + head,
                    "head": head,
                    "n": job["n"],
                    "tag": job["tag"],
                    "silent": job["silent"],
                    "row": group["row"],
                    "masked": masked,
                    "group_last": int(group_last),
                    "last": int(group["last"] and group_last),
                }
            )
            if not masked:
                later = job["mask"] >> (head + 1)
                others = config.heads - head - 1
                walks.append(
                    {
                        "row": group["row"],
                        "n": job["n"],
                        "beats": job["beats"],
                        "query": group["bank"] * sizes.query_depth // 2 + head * job["beats"],
                        "bank": group["bank"],
                        "release": int(later == (1 << others) - 1),
                    }
                )
    return heads, walks


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize(("heads", "kv_heads", "profiles"), [(1, 1, 1), (4, 2, 2), (6, 2, 3), (8, 8, 1), (8, 1, 1)])
def test_heads_and_key_phases(heads, kv_heads, profiles, stall):
    config = UnitConfig(lanes=4, head_dim=16, slots=8, heads=heads, kv_heads=kv_heads, profiles=profiles)
    dut, rng = HeadSequencer(config), random.Random(heads * 100 + kv_heads)
    groups = list(_groups(rng, config, 12))
    heads_expected, walks_expected = _expected(config, groups)
    banks, finished, released = [0], [False], [0, 0]

    async def table(ctx):
        """The head table: theta tells which entry was read, two cycles after its address."""
        before = 0
        while not finished[0]:
            _, _, addr = await ctx.tick().sample(dut.settings_addr)
            ctx.set(dut.settings.theta, before)
            before = addr

    async def watch(ctx):
        while not finished[0]:
            free = banks[0] > 0 and rng.random() < 0.3
            ctx.set(dut.released, free)
            _, _, starts, queries = await ctx.tick().sample(dut.walk.valid & dut.walk.ready, dut.query_released)
            banks[0] += int(starts) - int(free)
            assert 0 <= banks[0] <= 2, "a third head in two banks"
            for bank in range(2):
                released[bank] += (queries >> bank) & 1

    async def feed(ctx):
        await send(ctx, dut.group, groups, stall=stall, seed=1)

    async def check_heads(ctx):
        for head in heads_expected:
            (got,) = await receive(ctx, dut.head, 1, stall=stall, seed=head["head"])
            value, result = got["value"], got["value"]["result"]
            seen = {
                "theta": got["theta"],
                "silent": got["silent"],
                "row": value["row"],
                "group_last": value["group_last"],
            }
            seen |= {name: result[name] for name in ("head", "n", "masked", "last", "tag")}
            assert seen == head
        await ctx.tick().repeat(20)
        finished[0] = True

    async def check_walks(ctx):
        assert await receive(ctx, dut.walk, len(walks_expected)) == walks_expected

    run(dut, feed, check_heads, check_walks, table, watch)
    everything_masked = (1 << heads) - 1
    for bank in range(2):
        masked_jobs = [g for g in groups if g["last"] and g["bank"] == bank and g["job"]["mask"] == everything_masked]
        assert released[bank] == len(masked_jobs)
