"""The table of boards in docs/boards.md: ``python -m reluctant.board_page``, in the project's folder.

Builds each board whose build in ``out/NAME`` is not of today's preset, runs steps of its system in simulation, and
writes the table. Numbers come from nowhere else.
"""

import argparse
import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

from reluctant.boards.board import Board, boards
from reluctant.boards.place import PlacementError, PlaceOptions
from reluctant.golden.errors import UserError
from reluctant.sim.clocks import Clocks

from .board_steps import ROWS, StepCost, step_cost

__all__ = ["BEGIN", "END", "insert", "row", "table"]

PAGE = Path("docs/boards.md")
BEGIN = "<!-- Written by python -m reluctant.board_page: do not edit. -->"
END = "<!-- End of what is written. -->"
COLUMNS = (
    "board",
    "lanes",
    "head dim",
    "heads / KV",
    "slots",
    "logic",
    "DSP",
    "block RAM",
    "SPRAM",
    "clock, MHz",
    "Fmax, MHz",
    "cycles a step",
    "µs a step",
    "mW, model",
)
LOGIC = ("logic cells", "LUT4")
DSP = ("DSP", "DSP 18 x 18", "DSP 9 x 9")


def _of(used: dict, names: tuple[str, ...]) -> str:
    """Used of available, for the first resource of these names that is used."""
    for name in names:
        if name in used:
            return f"{used[name]['used']:,} of {used[name]['available']:,}"
    return "-"


def row(report: dict, cost: StepCost) -> list[str]:
    """Cells of a board's line, from its build's report and what its steps cost."""
    unit, used, clocks = report["configuration"]["unit"], report["utilisation"], report["clocks"]
    micros = cost.cycles / clocks["clk"]["mhz"]
    rows = "" if cost.rows == ROWS else f" (n = {cost.rows})"
    return [
        report["board"],
        str(unit["lanes"]),
        str(unit["head_dim"]),
        f"{unit['heads']} / {unit['kv_heads']}",
        f"{unit['slots']:,}",
        _of(used, LOGIC),
        _of(used, DSP),
        _of(used, ("block RAM",)),
        _of(used, ("SPRAM",)),
        " / ".join(f"{clock['mhz']:g}" for clock in clocks.values()),
        " / ".join(f"{clock['fmax_mhz']:.1f}" for clock in clocks.values()),
        f"{cost.cycles:,.0f}{rows}",
        f"{micros:,.0f}",
        f"{cost.energy_pj / micros / 1000:.2f}",
    ]


def table(rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [COLUMNS, ["---"] + ["--:"] * (len(COLUMNS) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def insert(page: str, text: str) -> str:
    """``page`` with ``text`` between the marks.

    Raises
    ------
    UserError
        If it has no marks.
    """
    if BEGIN not in page or END not in page:
        raise UserError(f"{PAGE}: the marks {BEGIN} and {END} are needed around the table")
    head, rest = page.split(BEGIN, 1)
    return f"{head}{BEGIN}\n\n{text}\n{END}{rest.split(END, 1)[1]}"


def _report(board: Board, folder: Path, options: PlaceOptions) -> dict:
    """Of the build in ``folder``, if it is of this board as it is defined now; else of a new one."""
    from .build import build_board

    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        same = report["timing_met"] and report["hash"] == f"{board.system.hash:08x}"
        wanted = [board.clock_mhz] + ([board.unit_clock_mhz] if "unit_clk" in report["clocks"] else [])
        if same and [clock["mhz"] for clock in report["clocks"].values()] == [round(mhz, 4) for mhz in wanted]:
            return report
    except (OSError, ValueError, KeyError):
        pass
    return build_board(board, folder, options=options)


def _clocks(board: Board) -> Clocks | None:
    """Half periods in the ratio of the board's two clocks; None: it has one."""
    if board.system.unit_clock != "own":
        return None
    ratio = Fraction(board.unit_clock_mhz / board.clock_mhz).limit_denominator(16)
    return Clocks(ratio.numerator, ratio.denominator)


def _cost(board: Board, folder: Path) -> StepCost:
    """Kept beside the build."""
    clocks = _clocks(board)
    file, name = folder / "steps.json", f"{board.system.hash:08x} {clocks}"
    if file.is_file() and (kept := json.loads(file.read_text(encoding="utf-8"))).get("hash") == name:
        return StepCost(**kept["cost"])
    cost = step_cost(board.system, clocks)
    file.write_text(json.dumps({"hash": name, "cost": asdict(cost)}) + "\n", encoding="utf-8")
    return cost


def main() -> int:
    """Write the table; exit code 1 if a board does not meet its timing or does not fit."""
    parser = argparse.ArgumentParser(prog="python -m reluctant.board_page", description=__doc__)
    parser.add_argument("--seeds", type=int, default=4, help="placements to try for each board (4)")
    parser.add_argument("--builds", type=Path, default=Path("out"), help="folder of the builds (out)")
    arguments = parser.parse_args()
    rows, failed = [], []
    for board in boards().values():
        folder = arguments.builds / board.name
        try:
            report = _report(board, folder, PlaceOptions(seeds=arguments.seeds))
        except PlacementError as error:
            failed.append(f"{board.name}: {error}")
            continue
        if report["timing_met"]:
            rows.append(row(report, _cost(board, folder)))
        else:
            failed.append(f"{board.name}: timing is not met")
    PAGE.write_text(insert(PAGE.read_text(encoding="utf-8"), table(rows)), encoding="utf-8")
    print("\n".join([f"{PAGE}: {len(rows)} boards", *failed]))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
