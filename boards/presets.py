"""Named units: where to start from, and what fits the boards."""

from dataclasses import dataclass

from reluctant.hdl.config import UnitConfig

__all__ = ["CLOCKS", "PRESETS", "SUMMARIES", "BoardClock", "preset"]


@dataclass(frozen=True)
class BoardClock:
    """The clock that a board's build must reach.

    Attributes
    ----------
    mhz
        Frequency of the unit's clock.
    suffix
        File type of the constraints: ``.pcf`` (nextpnr-ice40) or ``.lpf`` (nextpnr-ecp5).
    """

    mhz: float
    suffix: str

    def constraint(self, port: str = "clk") -> str:
        """Text of a constraint file for the clock on ``port``."""
        if self.suffix == ".pcf":
            return f"set_frequency {port} {self.mhz:g}\n"
        return f'FREQUENCY PORT "{port}" {self.mhz:g} MHZ;\n'


PRESETS: dict[str, UnitConfig] = {
    "default": UnitConfig(),
    "tiny": UnitConfig(lanes=4, head_dim=16, slots=32, heads=2, kv_heads=1, mass_bits=16, position_bits=16),
    # 64 KiB of keys and values, half of the UP5K's single-port RAM.
    "icebreaker": UnitConfig(
        lanes=8,
        head_dim=32,
        slots=512,
        heads=8,
        kv_heads=2,
        store="single",
        softmax=False,
        normalisers=("rms_head",),
        mass_bits=16,
        position_bits=16,
        counter_bits=32,
    ),
    # 256 KiB of keys and values: 128 of the 208 block RAMs, 2 KiB each; the rest holds statistics and buffers.
    "ulx3s-85f": UnitConfig(lanes=64, head_dim=64, slots=2048, heads=8, kv_heads=1, profiles=8),
}
"""Name to configuration."""

SUMMARIES: dict[str, str] = {
    "default": "embedded default, everything built",
    "tiny": "for quick tests",
    "icebreaker": "small iCE40, ReLU only; too large for a UP5K yet",
    "ulx3s-85f": "ULX3S (ECP5-85F), long contexts",
}

CLOCKS: dict[str, BoardClock] = {
    "icebreaker": BoardClock(24, ".pcf"),
    "ulx3s-85f": BoardClock(100, ".lpf"),
}
"""Presets that are boards, with their clocks."""


def preset(name: str) -> UnitConfig:
    """The configuration called ``name``; raises KeyError with the names that exist."""
    try:
        return PRESETS[name]
    except KeyError:
        raise KeyError(f"no preset {name!r}: {', '.join(PRESETS)} exist") from None
