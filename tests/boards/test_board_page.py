"""The page of boards: its table, from reports alone, and its examples."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from reluctant.board_page import BEGIN, COLUMNS, END, _clocks, insert, row, table
from reluctant.board_steps import StepCost, step_cost
from reluctant.boards.board import boards, load_board
from reluctant.boards.constraints import constraints
from reluctant.golden.errors import UserError
from reluctant.sim.clocks import Clocks
from tests.integration.systems import CONFIG

PAGE = Path(__file__).parents[2] / "docs" / "boards.md"
REPORT = {
    "board": "some-board",
    "configuration": {"unit": {"lanes": 8, "head_dim": 32, "heads": 8, "kv_heads": 2, "slots": 1024}},
    "utilisation": {
        "logic cells": {"used": 5000, "available": 5280},
        "DSP": {"used": 8, "available": 8},
        "SPRAM": {"used": 4, "available": 4},
    },
    "clocks": {"clk": {"mhz": 24.0, "fmax_mhz": 26.54}, "unit_clk": {"mhz": 48.0, "fmax_mhz": 50.01}},
}


def test_row():
    cells = row(REPORT, StepCost(rows=128, cycles=9600.4, energy_pj=400_000.0))
    assert dict(zip(COLUMNS, cells, strict=True)) == {
        "board": "some-board",
        "lanes": "8",
        "head dim": "32",
        "heads / KV": "8 / 2",
        "slots": "1,024",
        "logic": "5,000 of 5,280",
        "DSP": "8 of 8",
        "block RAM": "-",
        "SPRAM": "4 of 4",
        "clock, MHz": "24 / 48",
        "Fmax, MHz": "26.5 / 50.0",
        "cycles a step": "9,600 (n = 128)",
        "µs a step": "400",
        "mW, model": "1.00",
    }


def test_two_clocks_run_in_their_ratio():
    board = boards()["ulx3s-85f"]
    own = replace(board.system, unit_clock="own")
    assert _clocks(replace(board, system=replace(board.system, unit_clock="shared"))) is None
    assert _clocks(replace(board, system=own, clock_mhz=60, unit_clock_mhz=120)) == Clocks(2, 1)
    assert _clocks(replace(board, system=own, clock_mhz=50, unit_clock_mhz=125)) == Clocks(5, 2)


def test_table_goes_between_the_marks():
    page = insert(f"before\n{BEGIN}\nold\n{END}\nafter\n", table([["x"] * len(COLUMNS)]))
    assert page.startswith(f"before\n{BEGIN}\n\n| board | lanes |")
    assert page.endswith(f"| x |\n\n{END}\nafter\n")
    assert "old" not in page
    assert insert(page, "new\n") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    with pytest.raises(UserError, match=r"the marks .* are needed"):
        insert("nothing", "")


def test_the_page_takes_the_table():
    text = PAGE.read_text(encoding="utf-8")
    assert insert(text, table([])).count("| board | lanes |") == 1
    for board in boards().values():
        assert board.title.split()[0] in text


def test_the_pages_own_boards_can_be_used(tmp_path):
    pytest.importorskip("amaranth_boards")
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names = []
    for example in examples:
        file = tmp_path / "my_board.py"
        file.write_text(example, encoding="utf-8")
        board = load_board(str(file))
        names.append(board.name)
        assert 'LOCATE COMP "clock"' in constraints(board)
    assert names == ["ulx3s-12f", "my-board"]


def test_what_a_step_costs():
    unit = CONFIG.unit
    cost = step_cost(CONFIG)
    assert cost.rows == unit.slots == 64
    keys = unit.heads * unit.slots * unit.head_dim // unit.lanes
    assert keys < cost.cycles < 4 * keys + 2000
    assert cost.energy_pj > 0
