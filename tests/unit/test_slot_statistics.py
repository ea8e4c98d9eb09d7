"""Slot statistics against a sequential model: sums, saturation, victims, ties, protection, latency."""

import random

import pytest

from reluctant.golden import formats
from reluctant.golden.formats import Metric
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.slot_statistics import SlotStatistics
from tests.unit.helpers import plain, receive, run, send

SMALL = {"lanes": 4, "head_dim": 16, "slots": 6, "heads": 3, "kv_heads": 3}
NARROW = UnitConfig(**SMALL, mass_bits=8, position_bits=8)
USUAL = UnitConfig(**SMALL)
TALL = UnitConfig(**SMALL, mass_bits=9, position_bits=32)
HEAVY = UnitConfig(**SMALL, mass_bits=32, position_bits=11)
CONFIGS = [NARROW, USUAL, TALL, HEAVY]


class Model:
    """Mass and position of every row, and the victim by the definition."""

    def __init__(self, config):
        self.limit = (1 << config.mass_bits) - 1
        self.mass, self.position = [0] * config.sizes.rows, [0] * config.sizes.rows

    def update(self, row, weight):
        self.mass[row] = min(self.limit, self.mass[row] + weight)

    def append(self, row, position):
        self.mass[row], self.position[row] = 0, position

    def metric(self, search, row):
        match Metric(search["metric"]):
            case Metric.POSITION:
                return self.position[row]
            case Metric.MASS:
                return self.mass[row]
            case Metric.RATE:
                return formats.rate(self.mass[row], max(1, search["position"] - self.position[row]))

    def victim(self, search):
        best = None
        for slot in range(search["n"]):
            row = search["row"] + slot
            age = search["position"] - self.position[row]
            if self.position[row] >= search["sinks"] and age > search["recent"]:
                key = self.metric(search, row)
                if best is None or key < best[0]:
                    best = key, slot
        return None if best is None else best[1]


async def peek_all(ctx, dut):
    records = []
    for row in range(dut.config.sizes.rows):
        await send(ctx, dut.peek, [row])
        records += await receive(ctx, dut.peeked, 1)
    return [record["mass"] for record in records], [record["position"] for record in records]


async def give(ctx, dut, row, weight):
    """One update, in the next cycle."""
    ctx.set(dut.update, {"valid": 1, "row": row, "weight": weight})
    await ctx.tick()
    ctx.set(dut.update, {"valid": 0})


async def fill(ctx, dut, model, source, spread):
    """Every row appended at a random position below ``spread`` and given up to 12 weights, some of them 255."""
    rows = list(range(dut.config.sizes.rows))
    for row in rows:
        position = source.randrange(spread)
        await send(ctx, dut.append, [{"row": row, "position": position}])
        model.append(row, position)
    for row in source.choices(rows, k=6 * len(rows)):
        weight = source.choice([0, 1, 255, source.randrange(256)])
        await give(ctx, dut, row, weight)
        model.update(row, weight)


async def ask(ctx, dut, search):
    """(slot or None, cycles from valid to the answer)."""
    ctx.set(dut.search.payload, search)
    ctx.set(dut.search.valid, 1)
    ctx.set(dut.victim.ready, 1)
    cycles = 0
    while True:
        _, _, taken, valid, answer = await ctx.tick().sample(dut.search.ready, dut.victim.valid, dut.victim.payload)
        if taken:
            ctx.set(dut.search.valid, 0)
            ctx.set(dut.search.payload, {})
        if valid:
            ctx.set(dut.victim.ready, 0)
            answer = plain(answer)
            return (answer["slot"] if answer["found"] else None), cycles
        cycles += 1


def random_search(source, config, spread, row=None):
    slots = config.slots
    base = source.randrange(slots)
    search = {
        "row": source.randrange(config.kv_heads) * slots + base if row is None else row,
        "n": source.randint(1, slots - base) if row is None else slots,
        "position": source.choice([spread - 1, source.randrange(spread)]),
        "metric": source.choice(list(Metric)),
    }
    search["sinks"] = source.choice([0, 0, source.randrange(spread)])
    search["recent"] = source.choice([0, 0, source.randrange(spread)])
    return search


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("rows", "rate"), [(1, 1.0), (2, 0.9), (5, 0.5), (18, 0.8)])
def test_updates_and_appends_in_any_order(config, rows, rate):
    """Few rows make the same row follow itself at every distance."""
    dut, model, source = SlotStatistics(config), Model(config), random.Random(f"{config.mass_bits} {rows}")
    appended, masses = [], set()

    async def drive(ctx):
        waiting = None
        for cycle in range(600):
            update = {"valid": source.random() < rate, "row": source.randrange(rows), "weight": source.randrange(256)}
            if waiting is None and source.random() < 0.3:
                waiting = {"row": source.randrange(rows), "position": source.getrandbits(config.position_bits)}
            if cycle % 100 > 90:  # room for the appends
                update["valid"] = 0
            ctx.set(dut.update, update)
            ctx.set(dut.append.valid, waiting is not None)
            ctx.set(dut.append.payload, waiting or {})
            taken = waiting is not None and ctx.get(dut.append.ready)
            masses.update(model.mass)
            if update["valid"]:
                assert not taken
                model.update(update["row"], update["weight"])
            elif taken:
                model.append(**waiting)
                appended.append(waiting)
                waiting = None
            await ctx.tick()
        ctx.set(dut.update, {"valid": 0})
        ctx.set(dut.append.valid, 0)
        assert await peek_all(ctx, dut) == (model.mass, model.position)

    run(dut, drive)
    assert appended
    assert max(masses) == 255 if config is NARROW else max(masses) > 255


@pytest.mark.parametrize("config", CONFIGS)
def test_victims(config):
    dut, model, source = SlotStatistics(config), Model(config), random.Random(config.position_bits)
    found = {metric: 0 for metric in Metric}
    missing = []

    async def drive(ctx):
        for spread in [8, 60, 1 << config.position_bits]:
            await fill(ctx, dut, model, source, spread)
            for _ in range(40):
                search = random_search(source, config, spread)
                slot, cycles = await ask(ctx, dut, search)
                assert slot == model.victim(search), search
                assert cycles == search["n"] + dut.overhead
                found[search["metric"]] += slot is not None
                missing.append(slot is None)

    run(dut, drive)
    assert min(found.values()) > 3
    assert 3 < sum(missing) < len(missing) - 3


@pytest.mark.parametrize("metric", list(Metric))
def test_the_first_of_equals_wins(metric):
    dut, model = SlotStatistics(USUAL), Model(USUAL)
    assert dut.overhead == 21
    search = {"row": 6, "n": 6, "position": 100, "sinks": 0, "recent": 0, "metric": metric}

    async def drive(ctx):
        for slot, weight in enumerate([200, 50, 90, 50, 50, 51]):
            position = 30 if weight == 50 else 31
            await send(ctx, dut.append, [{"row": 6 + slot, "position": position}])
            model.append(6 + slot, position)
            await give(ctx, dut, 6 + slot, weight)
            model.update(6 + slot, weight)
        assert await ask(ctx, dut, search) == (1, 6 + dut.overhead)
        assert model.victim(search) == 1

    run(dut, drive)


def test_protection_ends_exactly_at_its_edges():
    dut = SlotStatistics(USUAL)

    async def drive(ctx):
        for slot, position in enumerate([3, 4, 5, 20]):
            await send(ctx, dut.append, [{"row": slot, "position": position}])
        search = {"row": 0, "n": 4, "position": 10, "metric": Metric.POSITION}
        for sinks, recent, expected in [(0, 0, 0), (3, 0, 0), (4, 0, 1), (5, 4, 2), (5, 5, None), (6, 0, None)]:
            slot, _ = await ask(ctx, dut, search | {"sinks": sinks, "recent": recent})
            assert slot == expected, (sinks, recent)
        assert (await ask(ctx, dut, search | {"position": 3}))[0] is None  # itself and the future
        assert await ask(ctx, dut, search | {"n": 0}) == (None, 5)  # nothing to read

    run(dut, drive)


@pytest.mark.parametrize("rate", [0.3, 0.9])
def test_search_while_other_rows_are_updated(rate):
    """The search starts with the last update of its own rows; updates of other rows only delay it."""
    config = USUAL
    dut, model, source = SlotStatistics(config), Model(config), random.Random(f"{rate}")

    async def drive(ctx):
        for turn in range(20):
            await fill(ctx, dut, model, source, 50)
            own = source.randrange(config.kv_heads) * config.slots
            other = [row for row in range(config.sizes.rows) if not own <= row < own + config.slots]
            search = random_search(source, config, 51, row=own)
            last = source.randrange(own, own + config.slots)
            updates = [(last, 255)] + [
                (source.choice(other), source.randrange(256)) if source.random() < rate else None for _ in range(250)
            ]
            for update in updates[:1] * (turn % 2):  # the cycle before
                model.update(*update)
                await give(ctx, dut, *update)
            ctx.set(dut.search.payload, search)
            ctx.set(dut.search.valid, 1)
            answer, delays = None, 0
            for cycle, update in enumerate(updates):
                if update is not None:
                    ctx.set(dut.update, {"valid": 1, "row": update[0], "weight": update[1]})
                    model.update(*update)
                ctx.set(dut.victim.ready, 1)
                _, _, taken, valid, victim = await ctx.tick().sample(
                    dut.search.ready, dut.victim.valid, dut.victim.payload
                )
                ctx.set(dut.update, {"valid": 0})
                if taken:
                    ctx.set(dut.search.valid, 0)
                if valid:
                    assert answer is None
                    answer, delays = plain(victim), sum(u is not None for u in updates[4:cycle])
                    assert search["n"] + dut.overhead <= cycle <= search["n"] + dut.overhead + delays
            slot = model.victim(search)
            assert answer["found"] == (slot is not None)
            assert not answer["found"] or answer["slot"] == slot
        assert await peek_all(ctx, dut) == (model.mass, model.position)

    run(dut, drive)


def test_peek_waits_for_everything_else():
    dut = SlotStatistics(USUAL)

    async def drive(ctx):
        await send(ctx, dut.append, [{"row": 2, "position": 77}])
        ctx.set(dut.peek.payload, 2)
        ctx.set(dut.peek.valid, 1)
        for _ in range(20):
            ctx.set(dut.update, {"valid": 1, "row": 2, "weight": 3})
            assert not ctx.get(dut.peek.ready)
            await ctx.tick()
        ctx.set(dut.update, {"valid": 0})
        await ctx.tick().until(dut.peek.ready)
        ctx.set(dut.peek.valid, 0)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.peeked.valid)
        ctx.set(dut.peek.valid, 1)  # held until taken
        await give(ctx, dut, 2, 1)
        await ctx.tick().repeat(5)
        assert not ctx.get(dut.peek.ready)
        assert plain(ctx.get(dut.peeked.payload)) == {"mass": 60, "position": 77}

    run(dut, drive)
