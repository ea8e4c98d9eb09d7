"""Seeds side by side: which one is taken, and that none outlives the build."""

import time

import pytest

from reluctant.boards.board import boards
from reluctant.boards.place import PlacementError, PlaceOptions, place, place_command
from reluctant.boards.processes import Processes
from reluctant.boards.toolchain import Tool, find_tool
from tests.boards.fake_tools import install

BOARD = boards()["icebreaker"]
SLOW = 60.0
"""Seconds that a seed takes that must be ended."""


def _place(monkeypatch, tmp_path, results, tick=lambda done, running: None, **options):
    install(monkeypatch, tmp_path / "tools", results)
    options = {"seeds": len(results), "jobs": len(results), **options}
    started = time.monotonic()
    with Processes() as processes:
        tool = find_tool("nextpnr-ice40")
        found = place(BOARD, tool, tmp_path, {"clk": 24.0}, PlaceOptions(**options), processes, tick)
    assert time.monotonic() - started < SLOW / 2
    return [item.seed for item in found]


def test_the_lowest_seed_that_meets_timing_is_taken_whatever_ends_first(monkeypatch, tmp_path):
    results = {1: (20, 0, None), 2: (25, 0.6, None), 3: (30, 0, None), 4: (40, SLOW, None)}
    assert _place(monkeypatch, tmp_path, results) == [2, 1]


def test_one_job_at_a_time_gives_the_same(monkeypatch, tmp_path):
    results = {1: (20, 0, None), 2: (25, 0, None), 3: (30, SLOW, None)}
    assert _place(monkeypatch, tmp_path, results, jobs=1) == [2, 1]


def test_best_tries_all(monkeypatch, tmp_path):
    results = {1: (25, 0, None), 2: (20, 0, None), 3: (30, 0.3, None)}
    assert _place(monkeypatch, tmp_path, results, best=True) == [3, 1, 2]


def test_the_fastest_is_taken_where_none_meets_timing(monkeypatch, tmp_path):
    assert _place(monkeypatch, tmp_path, {1: (20, 0, None), 2: (22, 0, None), 3: (21, 0, None)}) == [2, 1, 3]


def test_a_seed_that_cannot_be_routed_does_not_end_the_others(monkeypatch, tmp_path):
    results = {1: (0, 0, "Info: x\nERROR: Routing design failed."), 2: (30, 0.2, None)}
    assert _place(monkeypatch, tmp_path, results) == [2]


def test_what_does_not_fit_is_said_at_once(monkeypatch, tmp_path):
    log = "Info: \t ICESTORM_LC:  6107/  5280   115%\nERROR: Unable to place cell"
    with pytest.raises(PlacementError, match=r"does not fit iCEBreaker \(iCE40 UP5K\): 6,107 logic cells of 5,280"):
        _place(monkeypatch, tmp_path, {1: (0, 0, log)})


def test_a_search_for_room_that_is_not_there_is_ended(monkeypatch, tmp_path):
    log = "Info: \t ICESTORM_LC:  6107/  5280   115%\nInfo: Placed 4 cells based on constraints."
    with pytest.raises(PlacementError, match="6,107 logic cells of 5,280"):
        _place(monkeypatch, tmp_path, {1: (0, SLOW, log), 2: (30, SLOW, None)})


def test_other_failures_say_what_nextpnr_said(monkeypatch, tmp_path):
    with pytest.raises(PlacementError, match="nextpnr failed: no such pin"):
        _place(monkeypatch, tmp_path, {1: (0, 0, "Info: x\nERROR: no such pin\nmore")})


def test_ticks_tell_what_runs_and_what_is_done(monkeypatch, tmp_path):
    seen = []
    _place(
        monkeypatch,
        tmp_path,
        {1: (20, 0, None), 2: (25, 0.8, None)},
        lambda done, running: seen.append(([item.seed for item in done], running)),
    )
    assert ([1], {2}) in seen


def test_an_error_of_the_caller_ends_what_runs(monkeypatch, tmp_path):
    def tick(done, running):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _place(monkeypatch, tmp_path, {1: (30, SLOW, None)}, tick)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("icebreaker", ["--up5k", "--pcf", "board.pcf", "--asc", "placed.3.asc"]),
        ("ulx3s-85f", ["--85k", "--lpf", "board.lpf", "--textcfg", "placed.3.config"]),
        ("tang-nano-9k", ["family=GW1N-9C", "cst=board.cst", "--sdc", "--write", "placed.3.json"]),
    ],
)
def test_commands(name, words):
    command = place_command(boards()[name], Tool("nextpnr", ("nextpnr",), "1"), 3)
    assert command[0] == "nextpnr"
    assert all(word in command for word in [*words, "--timing-allow-fail", "report.3.json"])
