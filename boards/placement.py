"""What nextpnr found: how much of the chip is used, how fast each clock can be, and which path is the longest."""

import json
import re
from dataclasses import dataclass

__all__ = ["RESOURCES", "ClockResult", "CriticalPath", "Placement", "overfull", "parse_report"]

RESOURCES = {
    "ice40": {
        "logic cells": "ICESTORM_LC",
        "block RAM": "ICESTORM_RAM",
        "SPRAM": "ICESTORM_SPRAM",
        "DSP": "ICESTORM_DSP",
        "PLL": "ICESTORM_PLL",
    },
    "ecp5": {
        "LUT4": "TRELLIS_COMB",
        "flip-flops": "TRELLIS_FF",
        "LUT RAM": "TRELLIS_RAMW",
        "block RAM": "DP16KD",
        "DSP": "MULT18X18D",
        "PLL": "EHXPLLL",
    },
    "gowin": {
        "LUT4": "LUT4",
        "carry": "ALU",
        "flip-flops": "DFF",
        "LUT RAM": "RAM16SDP4",
        "block RAM": "BSRAM",
        "DSP 18 x 18": "MULT18X18",
        "DSP 9 x 9": "MULT9X9",
        "PLL": "rPLL",
    },
}
"""What people call a resource, and nextpnr's name of its cell."""
# Suffixes that Yosys and nextpnr add to a signal's name to name the cell that drives it.
_CELL_SUFFIX = re.compile(
    r"_(SB_(?!MAC|SPRAM|RAM)|TRELLIS_|CCU2C|LUT\d|PFUMX|L6MUX|DFF|MUX2_|ALU_|\$lut|ICESTORM_|[DQ]_|[DQ]$).*$"
)


@dataclass(frozen=True)
class CriticalPath:
    """The longest path between two registers of a clock; times in ns, ``cells`` is the number of cells passed."""

    clock: str
    start: str
    end: str
    logic_ns: float
    wires_ns: float
    cells: int

    @property
    def words(self) -> str:
        """In one line."""
        total = self.logic_ns + self.wires_ns
        return (
            f"{self.start} to {self.end}: {total:.1f} ns, {self.logic_ns:.1f} in {self.cells} cells, "
            f"{self.wires_ns:.1f} in wires"
        )


@dataclass(frozen=True)
class ClockResult:
    """A clock: what it must reach, what it can reach, MHz, and what limits it (None: no path between registers)."""

    mhz: float
    fmax_mhz: float
    path: CriticalPath | None

    @property
    def met(self) -> bool:
        """Whether timing holds; frequencies of nextpnr are rounded to picoseconds of the period."""
        return self.fmax_mhz >= self.mhz * (1 - 1e-4)


@dataclass(frozen=True)
class Placement:
    """Result of one seed.

    Attributes
    ----------
    seed
        Of the placer.
    cells
        nextpnr's name of a cell to (used, available); those of which none is used are left out.
    clocks
        ``clk`` and, of a system with two clocks, ``unit_clk``.
    """

    seed: int
    cells: dict[str, tuple[int, int]]
    clocks: dict[str, ClockResult]

    @property
    def met(self) -> bool:
        """Whether every clock's timing holds."""
        return all(clock.met for clock in self.clocks.values())

    @property
    def margin(self) -> float:
        """The least of all clocks' frequency over what is wanted."""
        return min(clock.fmax_mhz / clock.mhz for clock in self.clocks.values())


def parse_report(text: str, seed: int, clocks: dict[str, float]) -> Placement:
    """nextpnr's ``--report``; ``clocks``: name to MHz that is wanted.

    Raises
    ------
    ValueError
        If it has none of the clocks.
    """
    report = json.loads(text)
    cells = {
        name: (item["used"], item["available"]) for name, item in sorted(report["utilization"].items()) if item["used"]
    }
    found = {}
    for name, item in report["fmax"].items():
        clock = _clock(name)
        if clock in clocks:
            found[clock] = ClockResult(clocks[clock], round(item["achieved"], 2), _path(report, clock))
    if set(found) != set(clocks):
        raise ValueError(f"nextpnr reports the clocks {', '.join(report['fmax'])}: {', '.join(clocks)} are needed")
    return Placement(seed, cells, {name: found[name] for name in clocks})


def _clock(net: str) -> str:
    """Our name of a clock: nextpnr marks global nets, Yosys names the net by any of the instances that it enters."""
    name = net.removeprefix("posedge ").removeprefix("$glbnet$")
    return re.sub(r"\$.*$", "", name).split(".")[-1]


def _path(report: dict, clock: str) -> CriticalPath | None:
    for item in report["critical_paths"]:
        if item["from"].startswith("posedge") and _clock(item["from"]) == _clock(item["to"]) == clock:
            steps = item["path"]
            wires = sum(step["delay"] for step in steps if step["type"] == "routing")
            logic = sum(step["delay"] for step in steps if step["type"] != "routing")
            cells = sum(step["type"] == "logic" for step in steps)
            start, end = steps[0]["from"], steps[-1]["to"]
            return CriticalPath(clock, _name(start), _name(end), round(logic, 2), round(wires, 2), cells)
    return None


def _name(end: dict) -> str:
    """The signal that a cell drives, by our hierarchy."""
    return _CELL_SUFFIX.sub("", end["cell"]) or end["cell"]


def overfull(log: str, family: str) -> list[str]:
    """What does not fit, in words, from nextpnr's log."""
    words = {cell: word for word, cell in RESOURCES[family].items()}
    problems = []
    for cell, used, available in re.findall(r"Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", log):
        if int(used) > int(available) > 0:
            problems.append(f"{int(used):,} {words.get(cell, cell)} of {int(available):,}")
    return problems
