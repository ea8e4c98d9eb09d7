"""ULX3S with ECP5-85F: 83,640 LUT4, 208 block RAMs of 18 Kib, 156 multipliers of 18 x 18."""

from reluctant.boards.board import Board
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig

__all__ = ["BOARD"]


def _platform():
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    return ULX3S_85F_Platform()


BOARD = Board(
    name="ulx3s-85f",
    title="ULX3S 85F (ECP5)",
    family="ecp5",
    place=("--85k", "--package", "CABGA381", "--speed", "6"),
    pack=("--compress",),
    platform=_platform,
    clock="clk25",
    clock_mhz=75,
    # 256 KiB of keys and values: 128 of the block RAMs, 2 KiB each; the rest holds statistics and buffers.
    system=SystemConfig(
        unit=UnitConfig(lanes=64, head_dim=64, slots=2048, heads=8, kv_heads=1, profiles=8),
    ),
    loader=("-b", "ulx3s"),
    usb=((0x0403, 0x6015),),
)
