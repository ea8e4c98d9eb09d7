import random
import zlib

import pytest

from reluctant.hdl.link_crc import LinkCrc

from .helpers import run, wait

MESSAGES = [b"", b"\0", b"123456789", bytes(20), random.Random(2).randbytes(40)]


async def load(ctx, dut, byte: int, *, out: bool = False) -> int:
    """Load a byte, or take one of the CRC; what it is when the CRC is up to date."""
    ctx.set(dut.data, byte)
    ctx.set(dut.out, out)
    ctx.set(dut.load, 1)
    await ctx.tick()
    ctx.set(dut.load, 0)
    await wait(ctx, 8)
    assert not ctx.get(dut.busy)
    return ctx.get(dut.byte)


@pytest.mark.parametrize("message", MESSAGES, ids=len)
def test_crc_is_that_of_zlib(message):
    dut, crc = LinkCrc(), zlib.crc32(message).to_bytes(4, "little")

    async def check(ctx):
        for _ in range(2):
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            for byte in message:
                assert await load(ctx, dut, byte) == byte
            made = bytes([await load(ctx, dut, 0, out=True) for _ in range(4)])
            assert made == crc
            for damage in (0, 1):
                ctx.set(dut.clear, 1)
                await ctx.tick()
                ctx.set(dut.clear, 0)
                for byte in message + (crc[:3] + bytes([crc[3] ^ damage])):
                    await load(ctx, dut, byte)
                assert ctx.get(dut.right) == (damage == 0)

    run(dut, check)
