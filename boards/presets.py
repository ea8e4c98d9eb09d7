"""Named systems: where to start from, and what uses the boards well."""

from dataclasses import dataclass

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig

from .board import boards

__all__ = ["CLOCKS", "PRESETS", "SUMMARIES", "BoardClock", "preset"]

_CONSTRAINTS = {"ice40": ".pcf", "ecp5": ".lpf", "gowin": ".sdc"}


@dataclass(frozen=True)
class BoardClock:
    """The clock that a board's build must reach.

    Attributes
    ----------
    mhz
        Frequency of the system's clock.
    suffix
        File type of the constraints: ``.pcf`` (nextpnr-ice40), ``.lpf`` (nextpnr-ecp5) or ``.sdc`` (Gowin).
    """

    mhz: float
    suffix: str

    def constraint(self, port: str = "clk") -> str:
        """Text of a constraint file for the clock on ``port``."""
        if self.suffix == ".pcf":
            return f"set_frequency {port} {self.mhz:g}\n"
        if self.suffix == ".sdc":
            return f"create_clock -name {port} -period {1e3 / self.mhz:.4f} [get_ports {port}]\n"
        return f'FREQUENCY PORT "{port}" {self.mhz:g} MHZ;\n'


PRESETS: dict[str, SystemConfig] = {
    "default": SystemConfig(),
    "tiny": SystemConfig(
        unit=UnitConfig(lanes=4, head_dim=16, slots=32, heads=2, kv_heads=1, mass_bits=16, position_bits=16)
    ),
    **{name: board.system for name, board in boards().items()},
}
"""Name to configuration; the boards' presets have their names."""

SUMMARIES: dict[str, str] = {
    "default": "embedded default, everything built",
    "tiny": "for quick tests",
    **{name: board.title for name, board in boards().items()},
}

CLOCKS: dict[str, BoardClock] = {
    name: BoardClock(board.clock_mhz, _CONSTRAINTS[board.family]) for name, board in boards().items()
}
"""Presets that are boards, with their clocks."""


def preset(name: str) -> SystemConfig:
    """The configuration called ``name``; raises KeyError with the names that exist."""
    try:
        return PRESETS[name]
    except KeyError:
        raise KeyError(f"no preset {name!r}: {', '.join(PRESETS)} exist") from None
