"""Named systems: where to start from, and what uses the boards well."""

from dataclasses import dataclass

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig

from .board import boards

__all__ = ["CLOCKS", "PRESETS", "SUMMARIES", "BoardClock", "preset"]

_CONSTRAINTS = {"ice40": ".pcf", "ecp5": ".lpf", "gowin": ".sdc"}


@dataclass(frozen=True)
class BoardClock:
    """The clocks that a board's build must reach.

    Attributes
    ----------
    mhz
        Frequency of ``clk``.
    suffix
        File type of the constraints: ``.pcf`` (nextpnr-ice40), ``.lpf`` (nextpnr-ecp5) or ``.sdc`` (Gowin).
    unit_mhz
        Frequency of ``unit_clk``, of a system whose unit has its own clock; None: the board has none.
    """

    mhz: float
    suffix: str
    unit_mhz: float | None = None

    def constraint(self, *, own_unit_clock: bool = False) -> str:
        """Text of a constraint file for the ports clk and, with ``own_unit_clock``, unit_clk."""
        clocks = {"clk": self.mhz} | ({"unit_clk": self.unit_mhz} if own_unit_clock and self.unit_mhz else {})
        return "".join(self._line(port, mhz) for port, mhz in clocks.items())

    def _line(self, port: str, mhz: float) -> str:
        if self.suffix == ".pcf":
            return f"set_frequency {port} {mhz:g}\n"
        if self.suffix == ".sdc":
            return f"create_clock -name {port} -period {1e3 / mhz:.4f} [get_ports {port}]\n"
        return f'FREQUENCY PORT "{port}" {mhz:g} MHZ;\n'


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
    name: BoardClock(board.clock_mhz, _CONSTRAINTS[board.family], board.unit_clock_mhz)
    for name, board in boards().items()
}
"""Presets that are boards, with their clocks."""


def preset(name: str) -> SystemConfig:
    """The configuration called ``name``; raises KeyError with the names that exist."""
    try:
        return PRESETS[name]
    except KeyError:
        raise KeyError(f"no preset {name!r}: {', '.join(PRESETS)} exist") from None
