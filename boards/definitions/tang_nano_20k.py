"""Tang Nano 20K: Gowin GW2AR-18, 20,736 LUT4, 46 block RAMs of 18 Kib, 48 multipliers of 18 x 18.

amaranth-boards 0.0.21 has no class for it. The pins are those of Sipeed's examples for the board
(https://github.com/sipeed/TangNano-20K-example, uart/src/top.cst and led/flow_led/src/flow_led.cst) and of its wiki
(https://wiki.sipeed.com/hardware/en/tang/tang-nano-20k/nano-20k.html).
"""

from reluctant.boards.board import Board
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig

__all__ = ["BOARD"]


def _platform():
    from amaranth.build import Attrs, Clock, Pins, PinsN, Resource, Subsignal
    from amaranth.build.res import ResourceManager

    cmos = Attrs(IO_TYPE="LVCMOS33")
    return ResourceManager(
        [
            Resource("clk27", 0, Pins("4", dir="i"), Clock(27e6), cmos),
            *(Resource("led", index, PinsN(str(15 + index), dir="o"), cmos) for index in range(6)),
            Resource("uart", 0, Subsignal("rx", Pins("70", dir="i")), Subsignal("tx", Pins("69", dir="o")), cmos),
        ],
        [],
    )


BOARD = Board(
    name="tang-nano-20k",
    title="Tang Nano 20K (Gowin GW2AR-18)",
    family="gowin",
    place=("--device", "GW2AR-LV18QN88C8/I7", "--vopt", "family=GW2A-18C"),
    pack=("-d", "GW2A-18C", "--sspi_as_gpio", "--mspi_as_gpio"),
    platform=_platform,
    clock="clk27",
    pll_device="GW2AR-18C",
    clock_mhz=27,
    system=SystemConfig(
        unit=UnitConfig(lanes=8, head_dim=32, slots=256, heads=8, kv_heads=1, softmax=False, normalisers=("rms_head",)),
        sequences=1,
    ),
    loader=("-b", "tangnano20k"),
    usb=((0x0403, 0x6010),),
)
