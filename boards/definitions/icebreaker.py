"""iCEBreaker: iCE40 UP5K, 5,280 logic cells, 30 block RAMs, 128 KiB of single-port RAM, 8 multipliers."""

from reluctant.boards.board import Board
from reluctant.hdl.config import SERIAL, UnitConfig
from reluctant.hdl.system_config import SystemConfig

__all__ = ["BOARD"]


def _platform():
    from amaranth_boards.icebreaker import ICEBreakerPlatform

    return ICEBreakerPlatform()


BOARD = Board(
    name="icebreaker",
    title="iCEBreaker (iCE40 UP5K)",
    family="ice40",
    place=("--up5k", "--package", "sg48"),
    platform=_platform,
    clock="clk12",
    clock_mhz=24,
    system=SystemConfig(
        # All of the single-port RAM: 64 KiB of keys and values, 32 KiB beside them for the core. All 30 block RAMs:
        # scores (6), slot statistics (7), packet (4), thresholds (2), messages (4), the core's registers (4),
        # the link's frames (2), the system's counters (1).
        unit=UnitConfig(
            **SERIAL,
            lanes=8,
            head_dim=32,
            slots=1024,
            heads=8,
            kv_heads=1,
            shared_memory=32768,
            mass_bits=16,
            position_bits=12,
            profiles=8,
            counter_bits=0,
            head_log=False,
        ),
        sequences=2,
        memory=32768,
        messages=2,
    ),
    # The FT2232H's first channel is at the flash memory's pins; an iCE40 is always loaded through that memory here.
    loader=("-b", "ice40_generic"),
    volatile=False,
    usb=((0x0403, 0x6010),),
)
