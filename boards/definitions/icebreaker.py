"""iCEBreaker: iCE40 UP5K, 5,280 logic cells, 30 block RAMs, 128 KiB of single-port RAM, 8 multipliers."""

from reluctant.boards.board import Board
from reluctant.hdl.config import UnitConfig
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
        # 64 KiB of keys and values, half of the single-port RAM.
        unit=UnitConfig(
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
        sequences=1,
        messages=2,
    ),
    # The FT2232H's first channel is at the flash memory's pins; an iCE40 is always loaded through that memory here.
    loader=("-b", "ice40_generic"),
    volatile=False,
    usb=((0x0403, 0x6010),),
)
