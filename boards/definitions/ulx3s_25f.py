"""ULX3S with ECP5-25F: 24,288 LUT4, 56 block RAMs of 18 Kib, 28 multipliers of 18 x 18."""

from dataclasses import replace

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig

from . import ulx3s_85f

__all__ = ["BOARD"]


def _platform():
    from amaranth_boards.ulx3s import ULX3S_25F_Platform

    return ULX3S_25F_Platform()


BOARD = replace(
    ulx3s_85f.BOARD,
    name="ulx3s-25f",
    title="ULX3S 25F (ECP5)",
    place=("--25k", "--package", "CABGA381", "--speed", "6"),
    platform=_platform,
    clock_mhz=60,
    system=SystemConfig(
        unit=UnitConfig(
            lanes=16, head_dim=32, slots=256, heads=8, kv_heads=1, softmax=False, normalisers=("rms_head",)
        ),
    ),
    notes="A ULX3S 12F holds the same die; its bitstream needs the 12F's identification: --12k instead of --25k.",
)
