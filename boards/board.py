"""A board: its chip, its pins, its clocks, and the system that uses it well."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from reluctant.golden.errors import UserError
from reluctant.hdl.system_config import SystemConfig

if TYPE_CHECKING:
    from amaranth.build import ResourceManager

__all__ = ["FAMILIES", "Board", "boards", "load_board"]

FAMILIES = ("ice40", "ecp5", "gowin")


@dataclass(frozen=True, kw_only=True)
class Board:
    """What a build for a board needs; docs/boards.md shows how to write one of your own.

    Attributes
    ----------
    name
        As in ``--board NAME``; lower case, digits and hyphens.
    title
        For people.
    family
        ``ice40``, ``ecp5`` or ``gowin``: cells that are instantiated, and tools.
    place
        Options of nextpnr that choose the chip, its package and its speed.
    pack
        Options of ecppack or gowin_pack.
    platform
        Gives the board's pins: a platform of amaranth-boards, or a ``ResourceManager``. Called only by a build, so that
        all else works without amaranth-boards.
    clock
        Name of the resource of the input clock.
    led, uart
        (name, number, subsignals...) of the resources of a LED and of a serial port with ``rx`` and ``tx``.
    pll_on_pin
        iCE40: the input clock's pin is the PLL's own.
    pll_device
        Gowin: ``DEVICE`` of rPLL.
    clock_mhz
        Of the system, and of the unit too unless it has its own clock.
    unit_clock_mhz
        Of the unit, where the system's ``unit_clock`` is ``own``.
    baud
        Of the serial link.
    system
        The board's preset.
    loader
        Options of openFPGALoader that choose board or cable.
    volatile
        The loader can load the chip without writing its flash memory.
    dfu
        The bitstream gets the suffix that a DFU bootloader looks for, with the first of ``usb``.
    usb
        (vendor, product) of the board's USB devices, for the rules that let users reach them.
    notes
        What a user must know before they connect it.
    """

    name: str
    title: str
    family: str
    place: tuple[str, ...]
    pack: tuple[str, ...] = ()
    platform: "Callable[[], ResourceManager]"
    clock: str
    led: tuple = ("led", 0)
    uart: tuple = ("uart", 0)
    pll_on_pin: bool = True
    pll_device: str = ""
    clock_mhz: float
    unit_clock_mhz: float | None = None
    baud: int = 1_000_000
    system: SystemConfig = field(default_factory=SystemConfig)
    loader: tuple[str, ...] = ()
    volatile: bool = True
    dfu: bool = False
    usb: tuple[tuple[int, int], ...] = ()
    notes: str = ""

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise UserError(f"family of board {self.name} is {self.family!r}: one of {', '.join(FAMILIES)} is needed")
        if not all(part.isalnum() for part in self.name.split("-")) or self.name != self.name.lower():
            raise UserError(f"name of a board is {self.name!r}: lower case, digits and hyphens are needed")
        if not isinstance(self.system, SystemConfig):
            raise UserError(f"system of board {self.name} is {self.system!r}: a SystemConfig is needed")
        if not 0 < self.baud <= self.clock_mhz * 1e6 / 4:
            raise UserError(f"baud of board {self.name} is {self.baud}: at most a quarter of the clock is possible")

    def resources(self) -> "ResourceManager":
        """The board's pins.

        Raises
        ------
        UserError
            If amaranth-boards is not installed.
        """
        try:
            return self.platform()
        except ModuleNotFoundError as error:
            hint = "pip install 'reluctant[boards]' brings what a build needs"
            raise UserError(f"{error.name}, which has the pins of {self.name}, is not installed: {hint}") from None


_DEFINED = (
    "icebreaker",
    "ulx3s_85f",
    "ulx3s_85f_128",
    "ulx3s_25f",
    "orangecrab_25f",
    "tang_nano_9k",
    "tang_nano_20k",
)


@cache
def boards() -> dict[str, Board]:
    """Name to board, for all that are defined here."""
    modules = (importlib.import_module(f"reluctant.boards.definitions.{name}") for name in _DEFINED)
    return {module.BOARD.name: module.BOARD for module in modules}


def load_board(name: str) -> Board:
    """The board of that name, or the ``BOARD`` of a file: ``name`` ends in ``.py`` then.

    Raises
    ------
    UserError
        If there is none.
    """
    if not name.endswith(".py"):
        if name not in boards():
            known = ", ".join(boards())
            raise UserError(f"--board {name}: no such board: {known} exist, or give a file such as my_board.py")
        return boards()[name]
    path = Path(name)
    if not path.is_file():
        raise UserError(f"--board {name}: there is no such file")
    module = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("own_board", path))
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:  # whatever is wrong in a user's file is theirs to put right
        line = getattr(error, "lineno", None) or _line(error, path)
        where = f"{name}, line {line}" if line else name
        raise UserError(f"{where}: {type(error).__name__}: {error}") from None
    board = getattr(module, "BOARD", None)
    if not isinstance(board, Board):
        raise UserError(f"{name}: it must set BOARD = Board(...): docs/boards.md has an example")
    return board


def _line(error: Exception, path: Path) -> int | None:
    """The line of the file that raised it."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            found = trace.tb_lineno
        trace = trace.tb_next
    return found
