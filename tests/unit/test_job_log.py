"""The job log under random events, against dictionaries."""

import random

import pytest

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.job_log import JobLog

from .helpers import plain, run

CONFIGS = {
    "odd": UnitConfig(lanes=8, head_dim=24, slots=12, heads=6, kv_heads=3),
    "one": UnitConfig(lanes=4, head_dim=16, slots=2, heads=1, kv_heads=1),
    "most": UnitConfig(lanes=16, head_dim=256, slots=65_536, heads=32, kv_heads=1),
}
ENDS = ("result_done", "append_done", "too_short", "too_long")


class Model:
    """What the log must tell."""

    def __init__(self, config):
        self.config = config
        self.state = [dict.fromkeys(("done", "short", "long", "no_victim"), 0) for _ in range(4)]
        self.words = {}  # (of slots, address)

    def take(self, started, events):
        for name in ENDS:
            if name in events:
                state = self.state[events[name]["tag"]]
                state["done"] = 1
                state["short"] |= name == "too_short"
                state["long"] |= name == "too_long"
        if "row" in events:
            row = events["row"]
            self.state[row["tag"]]["no_victim"] |= row["dropped"]
            address = row["tag"] * self.config.kv_heads + row["kv"]
            self.words[True, address] = row["slot"] | row["dropped"] << 31
        if "head" in events:
            head = events["head"]
            address = 2 * (head["tag"] * self.config.heads + head["head"])
            flags = ("masked", "null", "softmax", "fallback")
            self.words[False, address] = head["active"] | sum(head[name] << 28 + bit for bit, name in enumerate(flags))
            self.words[False, address + 1] = min(head["mass"], (1 << 32) - 1)
        if started is not None:
            self.state[started] = dict.fromkeys(self.state[started], 0)


def random_events(config, rng):
    """Some of each kind; heads are left to the caller."""
    sizes = config.sizes
    events = {name: {"valid": 1, "tag": rng.randrange(4)} for name in ENDS if rng.random() < 0.1}
    if rng.random() < 0.5:
        row = {"valid": 1, "tag": rng.randrange(4), "kv": rng.randrange(config.kv_heads)}
        events["row"] = row | {"slot": rng.getrandbits(sizes.slot_bits), "dropped": int(rng.random() < 0.1)}
    return events


def random_head(config, rng):
    sizes = config.sizes
    head = {"valid": 1, "tag": rng.randrange(4), "head": rng.randrange(config.heads)}
    head |= {name: rng.randrange(2) for name in ("masked", "null", "softmax", "fallback")}
    mass = rng.choice([rng.getrandbits(sizes.mass_bits), rng.getrandbits(10), (1 << sizes.mass_bits) - 1])
    return head | {"active": rng.randint(0, config.slots), "mass": mass}


@pytest.mark.parametrize("name", CONFIGS)
def test_random_events(name):
    config, rng = CONFIGS[name], random.Random(name)
    dut, model, seen = JobLog(config), Model(config), set()

    async def host(ctx):
        held = None  # a head's values hold for another cycle
        due = None  # the word asked for a cycle ago
        for _ in range(3000):
            events = random_events(config, rng)
            if held is not None:
                ctx.set(dut.events.head, held | {"valid": 0})
                held = None
            elif rng.random() < 0.5:
                held = events["head"] = random_head(config, rng)
            else:
                ctx.set(dut.events.head, random_head(config, rng) | {"valid": 0})
            started = rng.randrange(4) if rng.random() < 0.2 else None
            for kind in (*ENDS, "row"):
                ctx.set(dut.events[kind], events.get(kind, {}))
            if "head" in events:
                ctx.set(dut.events.head, events["head"])
            ctx.set(dut.started, {"valid": started is not None, "tag": started or 0})
            known = list(model.words)
            wanted = rng.choice(known) if known else (False, 0)
            before = model.words.get(wanted)
            ctx.set(dut.slots, wanted[0])
            ctx.set(dut.addr, wanted[1])
            model.take(started, events)
            await ctx.tick()
            assert plain(ctx.get(dut.state)) == model.state
            seen.update(key for state in model.state for key, value in state.items() if value)
            if due is not None:
                assert ctx.get(dut.word) == due
                counted.append(1)
            # A word that is being written, in this cycle or (a mass) in the next, is not to be relied on.
            due = None if in_writing(wanted, events, previous) else before
            previous.clear()
            previous.update(events)

    def in_writing(wanted, events, last):
        heads = [item["head"] for item in (events, last) if "head" in item]
        addresses = {
            (False, 2 * (head["tag"] * config.heads + head["head"]) + step) for head in heads for step in (0, 1)
        }
        if "row" in events:
            addresses.add((True, events["row"]["tag"] * config.kv_heads + events["row"]["kv"]))
        return wanted in addresses

    previous, counted = {}, []
    run(dut, host, timeout=10_000)
    assert seen == {"done", "short", "long", "no_victim"}
    assert len(counted) > 1000
