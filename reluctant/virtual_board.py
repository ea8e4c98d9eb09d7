"""``reluctant virtual-board``: a board's system in Verilator, at the other end of a pseudo terminal."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluctant.golden.errors import UserError

from .options import ConfigFile, Settings

if TYPE_CHECKING:
    from reluctant.hdl.link_config import LinkConfig
    from reluctant.hdl.system_config import SystemConfig

__all__ = ["start_board", "virtual_board"]

CLOCK_HZ, BAUD = 12_000_000, 3_000_000
"""Of a preset that is no board: the fewest cycles a bit, so that simulated time is not spent on the line."""
LOOK_SECONDS = 0.5
Part = Annotated[float, typer.Option(min=0, max=0.5, metavar="P", help="Part of the bytes, each way: 0.001 is much.")]


def virtual_board(
    preset: Annotated[
        str | None, typer.Option("--preset", "-p", metavar="NAME", help="What to run. [default: default]")
    ] = None,
    board: Annotated[
        str | None, typer.Option("--board", "-b", metavar="NAME", help="The system of a board, at its clock and baud.")
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    drop: Part = 0.0,
    flip: Part = 0.0,
    duplicate: Part = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of these faults.")] = 0,
) -> None:
    """Run what a board runs, PLL aside, in Verilator, until Ctrl-C; prints the serial port to open.

    The first line of the output is the port's path alone. The bit rate with which a host opens it does not matter.
    Bytes can be lost, changed or doubled on the line.

    \b
    Examples:
      reluctant virtual-board --preset tiny
      reluctant virtual-board --board icebreaker --drop 0.001 --flip 0.001
    """
    from reluctant.sim.virtual_board import Faults

    faults = Faults(drop=drop, flip=flip, duplicate=duplicate, seed=seed)
    if board is not None and preset is not None:
        raise UserError(f"--board {board}, --preset {preset}: give one of them")
    print("compiling (once) ...", file=sys.stderr)
    with start_board(preset or "default", board, config, settings or (), faults) as running:
        print(running.port, flush=True)
        print(f"reluctant ondevice --port {running.port}    (Ctrl-C here ends the board)", file=sys.stderr)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            while running.wait(LOOK_SECONDS):
                pass
        except KeyboardInterrupt:
            return
    raise UserError("the simulator ended by itself")


def start_board(preset: str, board: str | None, config: Path | None, settings, faults):
    """Build and start a virtual board; a :class:`reluctant.sim.virtual_board.VirtualBoard`.

    Raises
    ------
    UserError
        If the preset, the board or a setting is not right, or an optional package is missing.
    """
    from reluctant.hdl.verilog import linked_system_to_verilog
    from reluctant.sim.virtual_board import VirtualBoard

    from .generate import build_firmware
    from .runs import require_packages

    require_packages(firmware=True)
    system, link, memory_given = _choose(preset, board, config, settings)
    system, firmware = build_firmware(system, memory_given=memory_given)
    return VirtualBoard(linked_system_to_verilog(system, firmware.image, link), link, faults=faults)


def _choose(preset: str, board: str | None, config, settings) -> "tuple[SystemConfig, LinkConfig, bool]":
    """(system, its link, whether the user gave its memory's size)."""
    from reluctant.hdl.config import ConfigError
    from reluctant.hdl.link_config import LinkConfig

    from .configuration import as_system, choose, choose_over

    if board is None:
        choice = choose(preset, config, settings, system=True)
        return as_system(choice), LinkConfig(preset, CLOCK_HZ, BAUD), "memory" in choice.system
    from reluctant.boards.board import load_board

    chosen = load_board(board)
    choice = choose_over(chosen.system, chosen.name, config, settings)
    try:
        return as_system(choice), LinkConfig(chosen.name, round(chosen.clock_mhz * 1e6), chosen.baud), True
    except ConfigError as error:
        raise UserError(f"board {chosen.name}: {error}") from None
