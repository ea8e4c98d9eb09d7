"""``reluctant build``: a bitstream for a board, what it uses of the chip, how fast it is, and what limits it."""

import json
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluctant.golden.errors import UserError

from .options import ConfigFile, Settings

if TYPE_CHECKING:
    from reluctant.boards.board import Board
    from reluctant.boards.build import Implementation
    from reluctant.boards.place import PlaceOptions
    from reluctant.firmware.build import Firmware
    from reluctant.hdl.system_config import SystemConfig

__all__ = ["BoardName", "build", "build_board"]

BoardName = Annotated[
    str, typer.Option("--board", "-b", metavar="NAME", help="A board's name, or a file such as my_board.py.")
]
TIMING_FAILED = 1


def build(
    board: BoardName,
    config: ConfigFile = None,
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder to write. [default: out/NAME]")
    ] = None,
    clock: Annotated[float | None, typer.Option(metavar="MHZ", help="Clock. [default: the board's]")] = None,
    unit_clock: Annotated[
        float | None, typer.Option(metavar="MHZ", help="The unit's own clock. [default: the board's]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Placements to try.")] = 4,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=0, help="At a time; 0: one for each processor.")] = 0,
    best: Annotated[bool, typer.Option("--best", help="Try all seeds, take the fastest.")] = False,
    wheels: Annotated[bool, typer.Option("--wheels", help="Use the tools of PyPI, not native ones.")] = False,
) -> int:
    """Make a bitstream: the board's system with its serial link, by Yosys and nextpnr.

    The folder gets the bitstream, report.json (use of the chip, clocks, longest paths), config.json, the Verilog,
    constraints and script, the firmware, and the tools' logs. Native tools are used where they are installed and
    recent, else those of PyPI, which compile themselves once, for about a minute. The same settings and tools give the
    same bytes. Exit code: 1 if timing is not met (no bitstream then) or the system does not fit, 2 for wrong use.

    \b
    Examples:
      reluctant build --board icebreaker
      reluctant build --board ulx3s-85f --set slots=1024 --seeds 8 --best
    """
    from reluctant.boards.board import load_board
    from reluctant.boards.place import PlaceOptions

    chosen = load_board(board)
    changes = {"clock_mhz": clock, "unit_clock_mhz": unit_clock}
    chosen = replace(chosen, **{name: value for name, value in changes.items() if value is not None})
    options = PlaceOptions(seeds=seeds, jobs=jobs, best=best)
    report = build_board(chosen, out or Path("out") / chosen.name, config, settings or (), options, wheels=wheels)
    return 0 if report["timing_met"] else TIMING_FAILED


def build_board(
    board: "Board",
    out: Path,
    config: Path | None = None,
    settings: tuple[str, ...] | list[str] = (),
    options: "PlaceOptions | None" = None,
    *,
    wheels: bool = False,
) -> dict:
    """Build, write the folder ``out``, print the tables; gives the report."""
    from reluctant.boards.build import implement
    from reluctant.golden.files import new_folder

    from .build_report import build_report, print_build
    from .configuration import as_system, choose_over

    system = as_system(choose_over(board.system, board.name, config, settings))
    firmware = _firmware(system)
    with _ended_cleanly(), new_folder(out) as folder, _watching() as watch:
        watch.stage("Verilog")
        verilog = _verilog(board, system, firmware)
        implementation = implement(
            board,
            verilog,
            MODULE,
            own_unit_clock=_own_unit_clock(system),
            options=options,
            wheels=wheels,
            watch=watch,
        )
        report = build_report(board, system, firmware, implementation)
        _write(folder, board, system, firmware, implementation, report)
    print_build(report, out)
    return report


MODULE = "linked_system"


def _own_unit_clock(system: "SystemConfig") -> bool:
    return system.unit_clock == "own"


def _firmware(system: "SystemConfig") -> "Firmware":
    from .generate import build_firmware

    return build_firmware(system, memory_given=True)[1]


def _verilog(board: "Board", system: "SystemConfig", firmware: "Firmware") -> str:
    """The system with its link, in the cells of the board's family."""
    from reluctant.boards.build import board_clocks
    from reluctant.hdl.config import ConfigError
    from reluctant.hdl.link_config import LinkConfig
    from reluctant.hdl.verilog import linked_system_to_verilog

    pll = board_clocks(board, own_unit_clock=_own_unit_clock(system))
    try:
        link = LinkConfig(name=board.name, clock_hz=round(pll.mhz * 1e6), baud=board.baud)
    except ConfigError as error:
        raise UserError(f"board {board.name}: {error}") from None
    return linked_system_to_verilog(system, firmware.image, link, MODULE, board.family)


def _write(
    folder: Path,
    board: "Board",
    system: "SystemConfig",
    firmware: "Firmware",
    implementation: "Implementation",
    report: dict,
) -> None:
    for name, contents in implementation.files.items():
        (folder / name).write_bytes(contents)
    (folder / "firmware.bin").write_bytes(firmware.image)
    description = {
        "board": board.name,
        "hash": f"{system.hash:08x}",
        "clock_mhz": report["clocks"]["clk"]["mhz"],
        "baud": board.baud,
        "configuration": system.as_dict(),
        "firmware_sha256": sha256(firmware.image).hexdigest(),
        "bitstream": implementation.bitstream,
    }
    for name, content in (("config", description), ("report", report)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    logs = folder / "logs"
    logs.mkdir()
    for name, text in implementation.logs.items():
        (logs / name).write_text(text, encoding="utf-8")


@contextmanager
def _ended_cleanly():
    """SIGTERM is as Ctrl-C: programs that run are ended, and half-made folders removed."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _watching():
    """A line that shows the stage, its time, and the seeds, on a terminal; elsewhere a line for each stage."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from reluctant.boards.build import Watch

    console = Console(file=sys.stderr, highlight=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("firmware", total=None)

        class Line(Watch):
            def stage(self, name: str) -> None:
                progress.update(task, description=name)
                if not console.is_terminal:
                    console.print(f"{name} ...")

            def seeds(self, done, running) -> None:
                ended = [f"seed {item.seed}: {item.clocks['clk'].fmax_mhz:.1f} MHz" for item in done]
                going = [f"seed {seed} runs" for seed in sorted(running)]
                progress.update(task, description=f"place and route ({', '.join(ended + going)})")

        yield Line()
