"""An AXI4-Lite master for tests in Amaranth's simulator, with seeded stalls on all five channels."""

from .helpers import Stalls

OKAY, SLVERR = 0, 2
PATIENCE = 400
"""Cycles after which an access counts as hung."""


class AxiLiteMaster:
    """Drives ``axi``; checks that a response offered holds until it is taken, and that none comes unasked."""

    def __init__(self, axi, *, stall: float = 0.0, seed: int = 0):
        self.axi = axi
        self.stalls = Stalls(stall, seed)

    async def write(self, ctx, address: int, data: int, strobe: int = 0b1111) -> int:
        """Write; AW and W start after stalls of their own. Returns the response."""
        axi = self.axi
        waits = {"aw": self.stalls.length(), "w": self.stalls.length(), "b": self.stalls.length()}
        ctx.set(axi.awaddr, address)
        ctx.set(axi.wdata, data)
        ctx.set(axi.wstrb, strobe)
        for channel in ("aw", "w"):
            ctx.set(getattr(axi, f"{channel}valid"), waits[channel] == 0)
        return await self._finish(ctx, waits, ("aw", "w"), "b", (axi.bresp,))

    async def read(self, ctx, address: int) -> tuple[int, int]:
        """Read. Returns data and response."""
        axi = self.axi
        waits = {"ar": self.stalls.length(), "r": self.stalls.length()}
        ctx.set(axi.araddr, address)
        ctx.set(axi.arvalid, waits["ar"] == 0)
        return await self._finish(ctx, waits, ("ar",), "r", (axi.rdata, axi.rresp))

    async def _finish(self, ctx, waits, requests, response, results):
        """Run the channels of one access to its end. Returns the response's values, bare if it is one."""
        axi = self.axi
        open_requests, offered = set(requests), None
        response_valid, response_ready = getattr(axi, f"{response}valid"), getattr(axi, f"{response}ready")
        for _ in range(PATIENCE):
            ctx.set(response_ready, waits[response] == 0)
            readies = [getattr(axi, f"{channel}ready") for channel in requests]
            sampled = await ctx.tick().sample(response_valid, *results, *readies)
            valid, values = sampled[2], sampled[3 : 3 + len(results)]
            accepted = dict(zip(requests, sampled[3 + len(results) :], strict=True))
            assert not valid or not open_requests, f"{response} came before its request was taken"
            if offered is not None:
                assert (valid, values) == (1, offered), f"{response} changed before it was taken"
            if valid and waits[response] == 0:
                ctx.set(response_ready, 0)
                return values[0] if len(values) == 1 else values
            if valid:
                offered = values
                waits[response] -= 1
            for channel in list(open_requests):
                if waits[channel]:
                    waits[channel] -= 1
                    ctx.set(getattr(axi, f"{channel}valid"), waits[channel] == 0)
                elif accepted[channel]:
                    ctx.set(getattr(axi, f"{channel}valid"), 0)
                    open_requests.discard(channel)
        raise AssertionError(f"no {response} for {PATIENCE} cycles")
