"""OrangeCrab r0.2 with ECP5-25F: 24,288 LUT4, 56 block RAMs of 18 Kib, 28 multipliers of 18 x 18, speed 8."""

from reluctant.boards.board import Board

from . import ulx3s_25f

__all__ = ["BOARD"]


def _platform():
    from amaranth.build import Attrs
    from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_25FPlatform
    from amaranth_boards.resources import UARTResource

    platform = OrangeCrabR0_2_25FPlatform()
    # Header pins that the board labels 0 and 1: a Feather's RX and TX.
    attributes = Attrs(IO_TYPE="LVCMOS33")
    platform.add_resources([UARTResource(0, rx="0", tx="1", conn=("io", 0), attrs=attributes)])
    return platform


BOARD = Board(
    name="orangecrab-25f",
    title="OrangeCrab 25F (ECP5)",
    family="ecp5",
    place=("--25k", "--package", "CSFBGA285", "--speed", "8"),
    pack=("--compress", "--freq", "38.8"),
    platform=_platform,
    clock="clk",
    led=("rgb_led", 0, "g"),
    clock_mhz=60,
    system=ulx3s_25f.BOARD.system,
    loader=("-b", "orangeCrab"),
    volatile=False,
    dfu=True,
    usb=((0x1209, 0x5AF0),),
    notes=(
        "The board has no USB serial port: connect a 3.3 V USB-UART adapter, its TX to pin 0, its RX to pin 1, and "
        "ground. To flash, hold button 0 while you plug in USB: the bootloader answers then."
    ),
)
