"""Tang Nano 9K: Gowin GW1NR-9, 8,640 LUT4, 26 block RAMs of 18 Kib, 20 multipliers of 18 x 18."""

from reluctant.boards.board import Board
from reluctant.hdl.config import SERIAL, UnitConfig
from reluctant.hdl.system_config import SystemConfig

__all__ = ["BOARD"]


def _platform():
    from amaranth_boards.tang_nano_9k import TangNano9kPlatform

    return TangNano9kPlatform(toolchain="Apicula")


BOARD = Board(
    name="tang-nano-9k",
    title="Tang Nano 9K (Gowin GW1NR-9)",
    family="gowin",
    place=("--device", "GW1NR-LV9QN88PC6/I5", "--vopt", "family=GW1N-9C"),
    # Pins of the configuration's flash memory are used as ordinary ones, as in amaranth-boards.
    pack=("-d", "GW1N-9C", "--sspi_as_gpio", "--mspi_as_gpio"),
    platform=_platform,
    clock="clk27",
    pll_device="GW1NR-9C",
    clock_mhz=54,
    system=SystemConfig(
        # 23 block RAMs: 8 of keys and values, 8 of the core, 7 of everything else.
        unit=UnitConfig(
            **SERIAL,
            lanes=8,
            head_dim=16,
            slots=512,
            heads=8,
            kv_heads=1,
            mass_bits=16,
            position_bits=16,
            profiles=4,
            counter_bits=32,
        ),
        sequences=1,
        messages=2,
    ),
    loader=("-b", "tangnano9k"),
    usb=((0x0403, 0x6010),),
)
