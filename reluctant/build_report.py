"""What a build found, as JSON and for people."""

from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reluctant.boards.board import Board
    from reluctant.boards.build import Implementation
    from reluctant.boards.placement import ClockResult, Placement
    from reluctant.firmware.build import Firmware
    from reluctant.hdl.system_config import SystemConfig

__all__ = ["build_report", "print_build"]


def build_report(
    board: "Board", system: "SystemConfig", firmware: "Firmware", implementation: "Implementation"
) -> dict:
    """Everything that is to be known about a build: plain values, the same for the same settings and tools."""
    placement = implementation.placement
    used = {
        word: {"used": use, "available": available, "share": round(use / available, 4)}
        for word, (use, available) in implementation.resources.items()
    }
    return {
        "version": version("reluctant"),
        "board": board.name,
        "title": board.title,
        "hash": f"{system.hash:08x}",
        "configuration": system.as_dict(),
        "firmware": {"bytes": len(firmware.image), "sha256": sha256(firmware.image).hexdigest()},
        "tools": implementation.tools,
        "timing_met": placement.met,
        "bitstream": implementation.bitstream,
        "seed": placement.seed,
        "clocks": {name: _clock(clock) for name, clock in placement.clocks.items()},
        "seeds": [_seed(item) for item in sorted([placement, *implementation.others], key=lambda item: item.seed)],
        "utilisation": used,
        "cells": {name: list(counts) for name, counts in placement.cells.items()},
        "limits": _limits(placement, used),
    }


def _clock(clock: "ClockResult") -> dict:
    path = clock.path
    critical = None
    if path is not None:
        critical = {
            "from": path.start,
            "to": path.end,
            "logic_ns": path.logic_ns,
            "wires_ns": path.wires_ns,
            "cells": path.cells,
        }
    return {
        "mhz": round(clock.mhz, 4),
        "fmax_mhz": clock.fmax_mhz,
        "met": clock.met,
        "critical_path": critical,
    }


def _seed(placement: "Placement") -> dict:
    return {
        "seed": placement.seed,
        "met": placement.met,
        **{f"{name}_mhz": clock.fmax_mhz for name, clock in placement.clocks.items()},
    }


def _limits(placement: "Placement", used: dict) -> list[str]:
    """What keeps the system from being larger, and each clock from being faster, in words."""
    limits = []
    parts = {word: item["share"] for word, item in used.items() if word != "PLL"}
    if parts:
        fullest = max(parts, key=parts.get)
        limits.append(f"size: {fullest}, {100 * parts[fullest]:.0f}% used")
    for name, clock in placement.clocks.items():
        if clock.path is not None:
            limits.append(f"{name}: {clock.path.words}")
    return limits


def print_build(report: dict, out: Path) -> None:
    """Use of the chip, clocks, what limits both, and where the bitstream is."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    unit = report["configuration"]["unit"]
    console.print(
        f"{report['title']}: {unit['lanes']} lanes, {unit['heads']} heads on {unit['kv_heads']} KV heads of "
        f"{unit['head_dim']}, {unit['slots']} slots; firmware {report['firmware']['bytes']:,} bytes"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("of the chip", "used", "available", "share"):
        table.add_column(name, justify="left" if name == "of the chip" else "right")
    for word, item in report["utilisation"].items():
        table.add_row(word, f"{item['used']:,}", f"{item['available']:,}", f"{100 * item['share']:.1f}%")
    console.print(table)
    for name, clock in report["clocks"].items():
        verdict = "[green]met[/]" if clock["met"] else "[red]not met[/]"
        console.print(f"{name}: {clock['mhz']:g} MHz wanted, {clock['fmax_mhz']:.2f} MHz possible: {verdict}")
    for limit in report["limits"]:
        console.print(f"  limited by {limit}", style="dim", markup=False)
    tools = ", ".join(f"{name} {said}" for name, said in report["tools"].items())
    seeds = ", ".join(str(item["seed"]) for item in report["seeds"])
    console.print(f"seed {report['seed']} (tried: {seeds}); {tools}", style="dim")
    if report["timing_met"]:
        console.print(
            f"Bitstream: {out / report['bitstream']}; load it with 'reluctant flash'; all numbers: report.json"
        )
        return
    console.print(f"[red]timing is not met[/]: no bitstream; see {out / 'report.json'}; more seeds, or a lower --clock")
