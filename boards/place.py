"""Place and route with several seeds side by side."""

import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from .board import Board
from .constraints import SUFFIX
from .placement import Placement, overfull, parse_report
from .processes import Processes
from .toolchain import Tool

__all__ = ["PlaceOptions", "PlacementError", "last_error", "place", "place_command", "placed_file"]

_OUTPUT = {"ice40": ("--asc", "asc"), "ecp5": ("--textcfg", "config"), "gowin": ("--write", "json")}
TICK_SECONDS = 0.2


class PlacementError(RuntimeError):
    """The system does not fit the chip, or nextpnr failed; the message says what."""


@dataclass(frozen=True, kw_only=True)
class PlaceOptions:
    """How hard to try.

    Attributes
    ----------
    seeds
        Seeds 1 to so many may be tried.
    jobs
        How many at a time; 0: as many as there are processors.
    best
        Try all, and take the one with the most margin; else the lowest that meets timing, whatever ends first, so that
        the result does not depend on the machine.
    """

    seeds: int = 4
    jobs: int = 0
    best: bool = False


def placed_file(board: Board, seed: int) -> str:
    """The file of nextpnr that the packer reads."""
    return f"placed.{seed}.{_OUTPUT[board.family][1]}"


def place_command(board: Board, tool: Tool, seed: int) -> list[str]:
    """nextpnr's command line: reads top.json and the constraints, writes ``placed.SEED.*`` and ``report.SEED.json``."""
    constraints = f"board{SUFFIX[board.family]}"
    read = {
        "ice40": ["--pcf", constraints],
        "ecp5": ["--lpf", constraints],
        "gowin": ["--vopt", f"cst={constraints}", "--sdc", "board.sdc"],
    }[board.family]
    command = [*tool.command, *board.place, "--json", "top.json", *read]
    command += [_OUTPUT[board.family][0], placed_file(board, seed)]
    return [*command, "--report", f"report.{seed}.json", "--seed", str(seed), "--timing-allow-fail"]


def place(
    board: Board,
    tool: Tool,
    folder: Path,
    clocks: dict[str, float],
    options: PlaceOptions,
    processes: Processes,
    tick: Callable[[list[Placement], set[int]], None] = lambda done, running: None,
) -> list[Placement]:
    """Place and route what is in ``folder``; the chosen result first, then the other seeds that were looked at.

    Parameters
    ----------
    tick
        Called a few times a second with the results so far and the seeds that run.

    Raises
    ------
    PlacementError
        If no seed could be placed and routed.
    """

    def one(seed: int) -> Placement:
        if processes.run(place_command(board, tool, seed), folder, f"nextpnr.{seed}.log", seed):
            raise PlacementError(_reason(board, (folder / f"nextpnr.{seed}.log").read_text(errors="replace")))
        return parse_report((folder / f"report.{seed}.json").read_text(), seed, clocks)

    seeds = range(1, options.seeds + 1)
    with ThreadPoolExecutor(options.jobs or os.cpu_count()) as pool:
        tries = {seed: pool.submit(one, seed) for seed in seeds}
        try:
            while pending := {future for future in tries.values() if not future.done()}:
                _check_room(board, folder)
                _end_useless(tries, options, processes)
                tick(*_state(tries))
                wait(pending, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
            chosen = _choose(tries, options)
        finally:
            for seed in seeds:
                processes.stop(seed)
    return chosen


def _state(tries: dict[int, Future]) -> tuple[list[Placement], set[int]]:
    done = [item.result() for item in tries.values() if item.done() and not item.exception()]
    return done, {seed for seed, item in tries.items() if item.running()}


def _winner(tries: dict[int, Future]) -> int | None:
    """The lowest seed that meets timing, as soon as all seeds below it have ended."""
    for seed, future in tries.items():
        if not future.done():
            return None
        if not future.exception() and future.result().met:
            return seed
    return None


def _end_useless(tries: dict[int, Future], options: PlaceOptions, processes: Processes) -> None:
    """End seeds that cannot be chosen any more: those above one that meets timing."""
    met = [seed for seed, future in tries.items() if future.done() and not future.exception() and future.result().met]
    for seed in tries:
        if met and seed > met[0] and not options.best:
            processes.stop(seed)


def _choose(tries: dict[int, Future], options: PlaceOptions) -> list[Placement]:
    winner = None if options.best else _winner(tries)
    looked = [seed for seed in tries if winner is None or seed <= winner]
    done = [tries[seed].result() for seed in looked if not tries[seed].exception()]
    if not done:
        raise tries[1].exception()
    best = next(item for item in done if item.seed == winner) if winner else max(done, key=lambda item: item.margin)
    return [best, *(item for item in done if item is not best)]


def _check_room(board: Board, folder: Path) -> None:
    """Raise PlacementError as soon as nextpnr has packed more than there is room for: it would search for very long."""
    log = folder / "nextpnr.1.log"
    text = log.read_text(errors="replace") if log.is_file() else ""
    if "cells based on constraints" in text and (problems := overfull(text, board.family)):
        raise PlacementError(_too_large(board, problems))


def _too_large(board: Board, problems: list[str]) -> str:
    return f"does not fit {board.title}: {', '.join(problems)}"


def _reason(board: Board, log: str) -> str:
    """Why nextpnr failed."""
    if problems := overfull(log, board.family):
        return _too_large(board, problems)
    return f"nextpnr failed: {last_error(log)}"


def last_error(log: str) -> str:
    """The first line of a log that says ERROR, else the last one."""
    lines: Iterable[str] = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(?i)error", line)]
    return (errors or list(lines)[-1:] or ["it said nothing"])[0].removeprefix("ERROR: ")
