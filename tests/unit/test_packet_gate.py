"""The packet gate: packets that pass, that are dropped, given up, flushed and forgotten; and its patience."""

import random

import pytest

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.packet_gate import PacketGate

from .helpers import Stalls, run, wait

CONFIG = UnitConfig(lanes=4, head_dim=16, slots=4, heads=1, kv_heads=1)


class Bench:
    """A gate with a host's stream and a unit that records what it gets: (data, last, bad)."""

    def __init__(self):
        self.dut = PacketGate(CONFIG)
        self.got, self.dropped = [], 0

    async def record(self, ctx):
        """In the background: beats that the unit takes, packets counted as dropped."""
        o = self.dut.o
        while True:
            _, _, valid, ready, beat, dropped = await ctx.tick().sample(o.valid, o.ready, o.payload, self.dut.dropped)
            if valid and ready:
                self.got.append("bad" if beat.bad else (beat.data, beat.last))
                assert beat.last or not beat.bad
            self.dropped += dropped

    async def pulse(self, ctx, *names):
        """High for a cycle, and one cycle more."""
        for value in (1, 0):
            for name in names:
                ctx.set(getattr(self.dut, name), value)
            await ctx.tick()

    async def offer(self, ctx, data, last=False, limit=20):
        """Offer a beat; returns whether it was taken, else it is withdrawn."""
        i = self.dut.i
        ctx.set(i.payload, {"data": data, "last": last})
        ctx.set(i.valid, 1)
        for _ in range(limit):
            _, _, ready = await ctx.tick().sample(i.ready)
            if ready:
                break
        ctx.set(i.valid, 0)
        return bool(ready)

    async def packet(self, ctx, *data):
        """A whole packet must be taken."""
        for index, value in enumerate(data):
            assert await self.offer(ctx, value, index == len(data) - 1), value

    def run(self, *benches):
        run(self.dut, *benches, processes=[self.record])


def whole(*data):
    return [(value, int(index == len(data) - 1)) for index, value in enumerate(data)]


@pytest.mark.parametrize("stalls", [(0.0, 0.0, 0.0), (0.5, 0.0, 0.3), (0.0, 0.5, 0.0), (0.3, 0.3, 0.9)])
def test_random_packets_and_verdicts(stalls):
    """Three parties with stalls of their own: packets that pass arrive whole and in order, the others are counted."""
    bench, rng = Bench(), random.Random(f"gate {stalls}")
    dut = bench.dut
    packets = [[rng.getrandbits(32) for _ in range(rng.randint(1, 5))] for _ in range(120)]
    verdicts = [rng.random() < 0.6 for _ in packets]
    decided = taken = 0

    async def host(ctx):
        nonlocal taken
        gaps = Stalls(stalls[0], 1)
        for number, packet in enumerate(packets):
            for index, value in enumerate(packet):
                await wait(ctx, gaps.length())
                assert await bench.offer(ctx, value, index == len(packet) - 1, limit=1000)
                assert decided > number, "a beat was taken before its verdict"
            taken = number + 1

    async def unit(ctx):
        gaps = Stalls(stalls[1], 2)
        while taken < len(packets):
            ctx.set(dut.o.ready, 0)
            await wait(ctx, gaps.length())
            ctx.set(dut.o.ready, 1)
            await ctx.tick()

    async def core(ctx):
        nonlocal decided
        gaps, number = Stalls(stalls[2], 3, longest=30), 0
        while number < len(packets):
            await wait(ctx, gaps.length())
            if not ctx.get(dut.can_drop):
                await ctx.tick()
                continue
            both = verdicts[number] and verdicts[number + 1 : number + 2] == [False]
            decided = number = number + 1 + both
            await bench.pulse(
                ctx, *(["started", "drop"] if both else ["started"] if verdicts[number - 1] else ["drop"])
            )

    bench.run(host, unit, core)
    assert bench.got == [beat for packet, ok in zip(packets, verdicts, strict=True) if ok for beat in whole(*packet)]
    assert bench.dropped == verdicts.count(False)


@pytest.mark.parametrize("verdict", ["started", "drop"])
def test_one_beat_a_cycle_and_one_cycle_between_packets(verdict):
    bench = Bench()
    dut = bench.dut

    async def check(ctx):
        for _ in range(3):
            await bench.pulse(ctx, verdict)
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.valid, 1)
        taken = []
        for cycle in range(30):
            ctx.set(dut.i.payload, {"data": cycle, "last": len(taken) % 8 == 7})
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            taken += [cycle] * ready
        assert taken == [start + beat for start in (0, 9, 18) for beat in range(8)]

    bench.run(check)
    assert (len(bench.got), bench.dropped) == ((24, 0) if verdict == "started" else (0, 3))


@pytest.mark.parametrize("beats", [0, 1, 3])
def test_packet_given_up_is_ended_and_its_rest_swallowed(beats):
    bench = Bench()

    async def check(ctx):
        ctx.set(bench.dut.o.ready, 1)
        await bench.pulse(ctx, "started")
        await bench.pulse(ctx, "started")
        await wait(ctx, 3)
        for value in range(beats):
            assert await bench.offer(ctx, value)
        assert ctx.get(bench.dut.packet) == (beats > 0)
        await bench.pulse(ctx, "abort")
        await wait(ctx, 3)
        assert bench.got == [(value, 0) for value in range(beats)] + ["bad"]
        await bench.packet(ctx, 90, 91)
        await bench.packet(ctx, 7, 8)
        await wait(ctx, 2)
        assert bench.got[beats + 1 :] == whole(7, 8)
        assert not await bench.offer(ctx, 99)

    bench.run(check)
    assert bench.dropped == 0


def test_several_packets_given_up_in_a_row():
    """With a silent host each job ends on its own; what the host owes is swallowed, packet by packet."""
    bench = Bench()

    async def check(ctx):
        ctx.set(bench.dut.o.ready, 1)
        for verdict in ("started", "started", "drop", "started"):
            await bench.pulse(ctx, verdict)
        for _ in range(2):
            await bench.pulse(ctx, "abort")
            await wait(ctx, 3)
        await bench.pulse(ctx, "abort")  # the next packet is one to be dropped: there is nothing to give up
        await wait(ctx, 3)
        assert bench.got == ["bad", "bad"]
        await bench.packet(ctx, 1, 2)
        await bench.packet(ctx, 3)
        await bench.packet(ctx, 4, 5)
        await bench.packet(ctx, 6, 7)
        await wait(ctx, 2)
        assert bench.got == ["bad", "bad", *whole(6, 7)]

    bench.run(check)
    assert bench.dropped == 1


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("what", ["abort", "flush"])
def test_end_waits_for_a_beat_that_is_offered(what, last):
    bench = Bench()
    dut = bench.dut

    async def check(ctx):
        await bench.pulse(ctx, "started")
        ctx.set(dut.o.ready, 1)
        assert await bench.offer(ctx, 1)
        ctx.set(dut.o.ready, 0)
        ctx.set(dut.i.payload, {"data": 2, "last": last})
        ctx.set(dut.i.valid, 1)
        await ctx.tick()
        await bench.pulse(ctx, what)
        for _ in range(3):
            assert ctx.get(dut.o.valid)
            assert not ctx.get(dut.o.payload.bad)
            await ctx.tick()
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        ctx.set(dut.i.valid, 0)
        await wait(ctx, 3)
        assert bench.got == [(1, 0), (2, int(last))] + ["bad"] * (not last)
        await bench.pulse(ctx, "started")
        if what == "abort" and not last:
            await bench.packet(ctx, 3)
        await bench.packet(ctx, 4)
        await wait(ctx, 2)
        assert bench.got[-1] == (4, 1)
        assert (3, 1) not in bench.got

    bench.run(check)


@pytest.mark.parametrize("verdict", ["started", "drop"])
def test_flush_ends_the_packet_under_way(verdict):
    bench = Bench()

    async def check(ctx):
        ctx.set(bench.dut.o.ready, 1)
        for _ in range(2):
            await bench.pulse(ctx, verdict)
        await bench.pulse(ctx, "started")
        await bench.pulse(ctx, "flush")  # nothing is under way: nothing happens
        assert await bench.offer(ctx, 1)
        await bench.pulse(ctx, "flush")
        assert not ctx.get(bench.dut.packet)
        await bench.packet(ctx, 2, 3)
        await bench.packet(ctx, 4, 5)
        await wait(ctx, 2)
        passed = [(1, 0), "bad", *whole(2, 3)] if verdict == "started" else []
        assert bench.got == [*passed, *whole(4, 5)]

    bench.run(check)
    assert bench.dropped == (2 if verdict == "drop" else 0)


@pytest.mark.parametrize("beats", [0, 1])
def test_flush_forgets_what_is_still_to_be_swallowed(beats):
    bench = Bench()

    async def check(ctx):
        ctx.set(bench.dut.o.ready, 1)
        for _ in range(3):
            await bench.pulse(ctx, "started")
        for _ in range(2):
            await bench.pulse(ctx, "abort")
            await wait(ctx, 3)
        for value in range(beats):
            assert await bench.offer(ctx, value)
        await bench.pulse(ctx, "flush")
        await bench.packet(ctx, 5, 6)
        await wait(ctx, 2)
        assert bench.got == ["bad", "bad", *whole(5, 6)]

    bench.run(check)


@pytest.mark.parametrize("verdict", ["started", "drop"])
@pytest.mark.parametrize("beats", [0, 2])
def test_reset_forgets_verdicts_and_swallows_the_rest(verdict, beats):
    bench = Bench()

    async def check(ctx):
        ctx.set(bench.dut.o.ready, 1)
        for name in (verdict, "started", "drop"):
            await bench.pulse(ctx, name)
        for value in range(beats):
            assert await bench.offer(ctx, value)
        await bench.pulse(ctx, "reset")
        got = list(bench.got)
        assert got == [(value, 0) for value in range(beats)] * (verdict == "started")
        assert ctx.get(bench.dut.can_drop)
        if beats:
            await bench.packet(ctx, 7, 8)
        assert not await bench.offer(ctx, 9)
        await bench.pulse(ctx, "started")
        await bench.packet(ctx, 10)
        await wait(ctx, 2)
        assert bench.got == [*got, (10, 1)]

    bench.run(check)


def test_reset_withdraws_what_the_unit_does_not_take():
    bench = Bench()
    dut = bench.dut

    async def check(ctx):
        for _ in range(2):
            await bench.pulse(ctx, "started")
        assert not await bench.offer(ctx, 1)
        ctx.set(dut.i.valid, 1)
        await ctx.tick()
        assert ctx.get(dut.o.valid)
        await bench.pulse(ctx, "reset")
        assert not ctx.get(dut.o.valid)
        assert not ctx.get(dut.i.ready)

    bench.run(check)


def test_room_for_a_drop():
    """``can_drop`` leaves room for four packets of jobs behind the one dropped."""
    bench = Bench()

    async def check(ctx):
        ctx.set(bench.dut.o.ready, 1)
        verdicts = 0
        while ctx.get(bench.dut.can_drop):
            await bench.pulse(ctx, "drop")
            verdicts += 1
        assert verdicts == 4
        for _ in range(4):
            await bench.pulse(ctx, "started")
        for value in range(8):
            await bench.packet(ctx, value)
        await wait(ctx, 2)
        assert not await bench.offer(ctx, 9)
        assert ctx.get(bench.dut.can_drop)

    bench.run(check)
    assert bench.got == [(value, 1) for value in range(4, 8)]
    assert bench.dropped == 4


@pytest.mark.parametrize("patience", [0, 1, 4])
def test_patience(patience):
    bench = Bench()
    dut = bench.dut

    async def cycles(ctx):
        for cycle in range(1, 60):
            await ctx.tick()
            if ctx.get(dut.timeout):
                return cycle
        return None

    async def check(ctx):
        ctx.set(dut.patience, patience)
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.waiting, 1)
        assert await cycles(ctx) is None  # no packet is decided: the host owes nothing
        await bench.pulse(ctx, "drop")
        assert await cycles(ctx) is None
        await bench.packet(ctx, 1)
        await bench.pulse(ctx, "started")
        if patience == 0:
            assert await cycles(ctx) is None
            return
        await cycles(ctx)
        ctx.set(dut.waiting, 0)
        await wait(ctx, 2)
        assert not ctx.get(dut.timeout)
        for _ in range(2):  # time does not add up over interruptions
            ctx.set(dut.waiting, 1)
            await wait(ctx, 2**patience - 1)
            ctx.set(dut.waiting, 0)
            await wait(ctx, 2)
            assert not ctx.get(dut.timeout)
        ctx.set(dut.waiting, 1)
        assert await cycles(ctx) == 2**patience + 1
        await bench.pulse(ctx, "abort")
        await wait(ctx, 2)
        assert not ctx.get(dut.timeout)
        assert bench.got == ["bad"]

    bench.run(check)


def test_what_is_owed_is_bounded():
    """Fifteen packets given up are remembered; the sixteenth is not given up, and no time runs for it."""
    bench = Bench()
    dut = bench.dut

    async def check(ctx):
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.patience, 1)
        ctx.set(dut.waiting, 1)
        for _ in range(16):
            await bench.pulse(ctx, "started")
            await bench.pulse(ctx, "abort")
            await wait(ctx, 3)
        await wait(ctx, 10)
        assert bench.got == ["bad"] * 15
        assert not ctx.get(dut.timeout)
        for value in range(15):
            await bench.packet(ctx, value)
        await bench.packet(ctx, 99)
        await wait(ctx, 2)
        assert bench.got == ["bad"] * 15 + [(99, 1)]

    bench.run(check)
