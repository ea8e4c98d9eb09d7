"""Accesses over a RegisterBus in tests."""

LONGEST = 10


async def access(ctx, bus, address: int, data: int | None = None, strobe: int = 0b1111, *, longest: int = LONGEST):
    """Write ``data``, or read if it is None. Returns read data, error, and cycles (fewer than ``longest``) to done."""
    ctx.set(bus.request, 1)
    ctx.set(bus.write, data is not None)
    ctx.set(bus.addr, address)
    ctx.set(bus.data, data or 0)
    ctx.set(bus.strobe, strobe)
    for cycle in range(1, longest):
        await ctx.tick()
        if ctx.get(bus.done):
            answer = ctx.get(bus.read_data), ctx.get(bus.error), cycle
            await ctx.tick()
            ctx.set(bus.request, 0)
            assert not ctx.get(bus.done)
            return answer
    raise AssertionError(f"not done in {longest} cycles")


def merge(old: int, new: int, strobe: int) -> int:
    """``old`` with the strobed bytes of ``new``."""
    mask = sum(0xFF << 8 * byte for byte in range(4) if strobe >> byte & 1)
    return (old & ~mask) | (new & mask)
