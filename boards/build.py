"""From Verilog of a linked system to a board's bitstream, and what is to be known about it."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from amaranth.back import verilog

from reluctant.golden.errors import UserError

from .board import Board
from .board_top import BoardTop
from .constraints import SUFFIX, constraints, input_mhz, pins
from .packing import PACKERS, dfu_suffix, pack_command
from .packing import SUFFIX as BITSTREAM_SUFFIX
from .place import PlacementError, PlaceOptions, last_error, place
from .placement import RESOURCES, Placement
from .pll import Pll, find_pll
from .processes import Processes
from .synthesis import synthesis_script
from .toolchain import Tool, find_tools

__all__ = ["Implementation", "Watch", "board_clocks", "implement"]


class Watch:
    """What a build tells while it runs; here: nobody. Methods are called from one thread."""

    def stage(self, name: str) -> None:
        """A stage begins: "synthesis", "place and route", "bitstream"."""

    def seeds(self, done: list[Placement], running: set[int]) -> None:
        """Seeds that ended, and those that run."""


@dataclass(frozen=True)
class Implementation:
    """A build.

    Attributes
    ----------
    placement
        Of the seed that was chosen.
    others
        Of the other seeds that were looked at.
    files
        Name to contents: Verilog, constraints, scripts, and, where timing is met, the bitstream.
    logs
        Name to text; unlike ``files`` these are not the same in every run.
    tools
        Program to version.
    bitstream
        Name of its file; None: timing is not met.
    """

    placement: Placement
    others: list[Placement]
    files: dict[str, bytes]
    logs: dict[str, str]
    tools: dict[str, str]
    bitstream: str | None
    resources: dict[str, tuple[int, int]] = field(default_factory=dict)


def board_clocks(board: Board, *, own_unit_clock: bool) -> Pll:
    """The PLL that makes a board's clocks.

    Raises
    ------
    UserError
        If the board has no such clocks.
    """
    if own_unit_clock and board.unit_clock_mhz is None:
        raise UserError(f"unit_clock is 'own', and board {board.name} has no unit_clock_mhz: give --unit-clock MHZ")
    return find_pll(
        board.family,
        input_mhz(board),
        board.clock_mhz,
        board.unit_clock_mhz if own_unit_clock else None,
        pad=board.pll_on_pin,
        device=board.pll_device,
    )


def implement(
    board: Board,
    system: str,
    module: str,
    *,
    own_unit_clock: bool = False,
    options: PlaceOptions | None = None,
    wheels: bool = False,
    watch: Watch | None = None,
) -> Implementation:
    """Synthesise, place, route and pack ``module`` of the Verilog text ``system`` for a board.

    Parameters
    ----------
    own_unit_clock
        The module has also ports unit_clk and unit_rst.
    wheels
        Use no native tools.

    Raises
    ------
    UserError
        If a tool is missing, or the board's definition is wrong.
    PlacementError
        If synthesis fails, or the system does not fit.
    """
    options, watch = options or PlaceOptions(), watch or Watch()
    nextpnr, packer = f"nextpnr-{board.family}", PACKERS[board.family]
    tools = find_tools(("yosys",), wheels=wheels)
    # What nextpnr and gowin_pack know of Gowin's chips must come from one version of Apycula.
    tools |= find_tools((nextpnr, packer), wheels=wheels, alike=board.family == "gowin")
    pll = board_clocks(board, own_unit_clock=own_unit_clock)
    clocks = {"clk": pll.mhz} | ({} if pll.unit_mhz is None else {"unit_clk": pll.unit_mhz})
    files = _sources(board, pll, clocks, system, module)
    with TemporaryDirectory(prefix="reluctant-") as name, Processes() as processes:
        folder = Path(name)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        run = _Run(board, folder, tools, processes)
        watch.stage("synthesis")
        run.synthesise()
        watch.stage("place and route")
        chosen, *others = place(board, tools[nextpnr], folder, clocks, options, processes, watch.seeds)
        outputs = {file: text.encode() for file, text in files.items()}
        bitstream = None
        if chosen.met:
            watch.stage("bitstream")
            bitstream, image = run.pack(chosen.seed)
            outputs[bitstream] = image
        logs = {path.name: path.read_text(errors="replace") for path in sorted(folder.glob("*.log"))}
    versions = {name: tool.version for name, tool in tools.items()}
    return Implementation(chosen, others, outputs, logs, versions, bitstream, _resources(board, chosen))


def _sources(board: Board, pll: Pll, clocks: dict[str, float], system: str, module: str) -> dict[str, str]:
    """Name to text of all that goes into the tools."""
    top = BoardTop(pll, system=module, led_inverted=pins(board)["led"].inverted)
    title = f"// Top of {board.title}. Generated by reluctant: do not edit.\n"
    files = {
        "top.v": title + verilog.convert(top, name="top", emit_src=False, strip_internal_attrs=True),
        "system.v": system,
        "synthesis.ys": synthesis_script(board, ("system.v", "top.v")),
        f"board{SUFFIX[board.family]}": constraints(board),
    }
    if board.family == "gowin":
        files["board.sdc"] = "".join(
            f"create_clock -name {name} -period {1e3 / mhz:.4f} [get_nets {name}]\n" for name, mhz in clocks.items()
        )
    return files


def _resources(board: Board, placement: Placement) -> dict[str, tuple[int, int]]:
    """What people call a resource to (used, available), where any is used."""
    cells = placement.cells
    return {word: cells[cell] for word, cell in RESOURCES[board.family].items() if cell in cells}


@dataclass(frozen=True)
class _Run:
    """The tools in their folder."""

    board: Board
    folder: Path
    tools: dict[str, Tool]
    processes: Processes

    def synthesise(self) -> None:
        command = [*self.tools["yosys"].command, "-q", "-l", "yosys.log", "synthesis.ys"]
        if self.processes.run(command, self.folder, "yosys.out.log"):
            text = (self.folder / "yosys.out.log").read_text(errors="replace")
            raise PlacementError(f"Yosys failed: {last_error(text)}")

    def pack(self, seed: int) -> tuple[str, bytes]:
        """(name, contents) of the bitstream."""
        name = f"{self.board.name}{BITSTREAM_SUFFIX[self.board.family]}"
        packer = PACKERS[self.board.family]
        command = pack_command(self.board, self.tools[packer], seed, name)
        if self.processes.run(command, self.folder, "pack.log"):
            text = (self.folder / "pack.log").read_text(errors="replace")
            raise PlacementError(f"{packer} failed: {last_error(text)}")
        image = (self.folder / name).read_bytes()
        if self.board.dfu:
            image = dfu_suffix(image, *self.board.usb[0])
        return name, image
