"""Definitions of boards: those that come with the package, and a user's own file."""

import subprocess
import sys
from dataclasses import replace

import pytest

from reluctant.boards.board import boards, load_board
from reluctant.boards.build import board_clocks
from reluctant.golden.errors import UserError
from reluctant.hdl.link_config import LinkConfig

NAMES = (
    "icebreaker",
    "ulx3s-85f",
    "ulx3s-85f-128",
    "ulx3s-25f",
    "orangecrab-25f",
    "tang-nano-9k",
    "tang-nano-20k",
)
OWN = """
from dataclasses import replace
from reluctant.boards.board import load_board

BOARD = replace(load_board("ulx3s-25f"), name="ulx3s-12f", place=("--12k", "--package", "CABGA381", "--speed", "6"))
"""


def test_names():
    assert tuple(boards()) == NAMES
    assert all(load_board(name).name == name for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_clocks_and_link_of_a_board_can_be_made(name):
    pytest.importorskip("amaranth_boards")
    board = boards()[name]
    own = board.unit_clock_mhz is not None
    pll = board_clocks(board, own_unit_clock=own)
    assert pll.mhz == pytest.approx(board.clock_mhz, rel=0.05)
    LinkConfig(name=board.name, clock_hz=round(pll.mhz * 1e6), baud=board.baud)


def test_own_board_is_a_short_file(tmp_path):
    file = tmp_path / "my_board.py"
    file.write_text(OWN)
    board = load_board(str(file))
    assert (board.name, board.place[0]) == ("ulx3s-12f", "--12k")
    assert board.system == boards()["ulx3s-25f"].system


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"my_board.py: it must set BOARD = Board\(...\): docs/boards.md has an example"),
        ("BOARD = 3\n", "it must set BOARD"),
        ("a = 1\nb = c\n", r"my_board.py, line 2: NameError: name 'c' is not defined"),
        ("a = 1\n\nif:\n", r"my_board.py, line 3: SyntaxError: "),
        ("import no_such_module\n", r"my_board.py, line 1: ModuleNotFoundError: "),
        (OWN.replace('"ulx3s-12f"', '"My Board"'), "name of a board is 'My Board': lower case"),
        (OWN.replace("name=", "family='xilinx', name="), "family of board ulx3s-12f is 'xilinx': one of ice40, ecp5"),
        (OWN.replace("name=", "system=3, name="), "system of board ulx3s-12f is 3: a SystemConfig is needed"),
        (OWN.replace("name=", "baud=10**9, name="), "baud of board ulx3s-12f is 1000000000: at most a quarter"),
    ],
)
def test_what_is_wrong_with_an_own_board(tmp_path, text, message):
    file = tmp_path / "my_board.py"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        load_board(str(file))


def test_boards_that_do_not_exist():
    with pytest.raises(UserError, match=r"--board ulx3s: no such board: icebreaker, ulx3s-85f, .* my_board.py"):
        load_board("ulx3s")
    with pytest.raises(UserError, match=r"--board no/such.py: there is no such file"):
        load_board("no/such.py")


def test_unit_clock_must_be_known():
    pytest.importorskip("amaranth_boards")
    board = replace(boards()["ulx3s-85f"], unit_clock_mhz=None)
    with pytest.raises(UserError, match="unit_clock is 'own', and board ulx3s-85f has no unit_clock_mhz"):
        board_clocks(board, own_unit_clock=True)


def test_only_a_build_needs_amaranth_boards():
    code = (
        "import sys; sys.modules['amaranth_boards'] = None\n"
        "from reluctant.boards.board import boards\n"
        "from reluctant.boards.presets import PRESETS\n"
        "from reluctant.golden.errors import UserError\n"
        "from reluctant.boards.constraints import pins\n"
        "assert 'icebreaker' in PRESETS\n"
        "try:\n    pins(boards()['icebreaker'])\n"
        "except UserError as error:\n    print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    assert "pip install 'reluctant[boards]' brings what a build needs" in result.stdout
