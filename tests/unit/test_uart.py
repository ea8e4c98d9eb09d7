"""Both ends of a serial line: bit lengths, tolerances, and what is no byte."""

import random
from fractions import Fraction

import pytest

from reluctant.hdl.link_config import LinkConfig
from reluctant.hdl.uart_receiver import UartReceiver
from reluctant.hdl.uart_transmitter import UartTransmitter

from .helpers import run, send, wait

RATES = [(4, 1), (5, 1), (13, 3), (25, 3), (16, 1), (139, 7)]
"""Clocks for so many bits."""
BYTES = [0x00, 0xFF, 0x7E, 0x55, 0xAA, 0x01, 0x80, *random.Random(1).randbytes(20)]


def link(clock: int, baud: int) -> LinkConfig:
    return LinkConfig("line", clock * 100_000, baud * 100_000)


def levels(data, bit: Fraction, gap: int = 0) -> list[int]:
    """The line, cycle by cycle, with bits of exactly this length; ``gap`` bits of idle between bytes."""
    bits = [1, 1]
    for byte in data:
        bits += [0, *(byte >> place & 1 for place in range(8)), 1, *[1] * gap]
    bits += [1, 1]
    return [bits[int(cycle / bit)] for cycle in range(int(bit * len(bits)))]


def receive(config: LinkConfig, line: list[int]) -> list[int]:
    dut, received = UartReceiver(config), []

    async def drive(ctx):
        for level in line:
            ctx.set(dut.rx, level)
            _, _, valid, data = await ctx.tick().sample(dut.valid, dut.data)
            if valid:
                received.append(data)

    run(dut, drive)
    return received


@pytest.mark.parametrize(("clock", "baud"), RATES)
@pytest.mark.parametrize("gap", [0, 1, 3])
@pytest.mark.parametrize("error", [Fraction(0), Fraction(1, 50), Fraction(-1, 50)], ids=["exact", "slow", "fast"])
def test_bytes_are_received(clock, baud, gap, error):
    assert receive(link(clock, baud), levels(BYTES, Fraction(clock, baud) * (1 + error), gap)) == BYTES


@pytest.mark.parametrize(("clock", "baud"), RATES)
def test_what_is_no_byte_is_dropped(clock, baud):
    bit = Fraction(clock, baud)
    low, idle = [0] * int(14 * bit), [1] * int(12 * bit)
    glitch = [1, 1, 0, *idle]
    no_stop = levels([0x5A], bit)
    place = int(bit * 11)
    no_stop[place : place + int(bit) + 1] = [0] * (int(bit) + 1)
    good = levels([0x42], bit)
    for line, bytes_in_it in ((low, 0), (glitch, 0), (no_stop, 0), ([*low, *idle, *good], 1), ([*glitch, *good], 1)):
        assert receive(link(clock, baud), [1, 1, *line, *idle, *good]) == [0x42] * (bytes_in_it + 1)


@pytest.mark.parametrize(("clock", "baud"), RATES)
def test_bytes_are_sent(clock, baud):
    """Every bit changes within a cycle of where it should."""
    config = link(clock, baud)
    dut, bit, line = UartTransmitter(config), Fraction(config.bit_steps, 16), []

    async def feed(ctx):
        await wait(ctx, 3)
        await send(ctx, dut.i, BYTES)

    async def watch(ctx):
        for _ in range(int(bit * 10 * (len(BYTES) + 2))):
            _, _, level = await ctx.tick().sample(dut.tx)
            line.append(level)

    run(dut, feed, watch)
    place, received = 0, []
    while 0 in line[place:]:
        place = line.index(0, place)
        bits = [line[place + int(bit * Fraction(2 * number + 1, 2))] for number in range(10)]
        for number in range(1, 10):
            edge = place + bit * number
            assert line[int(edge) - 1] == bits[number - 1]
            assert line[int(edge) + 1] == bits[number]
        assert (bits[0], bits[9]) == (0, 1)
        received.append(sum(level << number for number, level in enumerate(bits[1:9])))
        place += int(bit * Fraction(19, 2))
    assert received == BYTES
