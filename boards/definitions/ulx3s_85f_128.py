"""ULX3S with ECP5-85F, 128 lanes: a multiplier of every lane is one of the chip's 156."""

from dataclasses import replace

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig

from . import ulx3s_85f

__all__ = ["BOARD"]

BOARD = replace(
    ulx3s_85f.BOARD,
    name="ulx3s-85f-128",
    title="ULX3S 85F (ECP5), 128 lanes",
    clock_mhz=60,
    system=SystemConfig(
        unit=UnitConfig(lanes=128, head_dim=128, slots=512, heads=8, kv_heads=1, profiles=4, softmax=False),
    ),
)
