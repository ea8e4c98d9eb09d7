"""``reluctant build`` with tools that stand for the real ones: files, report, failures."""

import json
import os
import signal
import zlib

import pytest

from reluctant.boards.packing import dfu_suffix
from reluctant.boards.toolchain import find_tool
from reluctant.cli import main
from tests.boards.fake_tools import install

pytest.importorskip("amaranth_boards")
pytest.importorskip("ziglang")

TINY = ("lanes=4", "head_dim=16", "slots=16", "heads=2", "kv_heads=1")
FITS = {1: (20.0, 0, None), 2: (26.5, 0, None)}


@pytest.fixture(autouse=True)
def _forget():
    yield
    find_tool.cache_clear()


@pytest.fixture
def verilog(monkeypatch):
    """Stands for the system's Verilog, which takes a while."""
    text = "module linked_system; endmodule\n"
    monkeypatch.setattr("reluctant.build._verilog", lambda board, system, firmware: text)


def _build(out, *options):
    sizes = [word for setting in TINY for word in ("--set", setting)]
    return main(["build", "--board", "icebreaker", "--clock", "24", "--out", str(out), *sizes, *options])


def _tree(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_files_and_report(monkeypatch, tmp_path, capsys):
    install(monkeypatch, tmp_path / "tools", FITS)
    assert _build(tmp_path / "a") == 0
    out = capsys.readouterr()
    assert "clk: 24 MHz wanted, 26.50 MHz possible: met" in out.out
    assert "limited by size: block RAM, 90% used" in out.out
    assert "limited by clk: system.core.pc to system.core.target: 8.5 ns" in out.out
    assert "seed 2 (tried: 1, 2); yosys 0.60 (native), nextpnr-ice40 0.9 (native), icepack native" in out.out
    assert out.err.splitlines() == ["Verilog ...", "synthesis ...", "place and route ...", "bitstream ..."]
    files = _tree(tmp_path / "a")
    assert files["icebreaker.bin"] == b"bitstream of seed 2"
    assert b"module linked_system(" in files["system.v"]
    assert {"top.v", "system.v", "board.pcf", "synthesis.ys", "firmware.bin", "config.json"} <= files.keys()
    assert (tmp_path / "a" / "logs" / "nextpnr.2.log").is_file()
    report = json.loads(files["report.json"])
    assert report["utilisation"]["logic cells"] == {"used": 4224, "available": 5280, "share": 0.8}
    assert report["clocks"]["clk"]["critical_path"]["wires_ns"] == 5.25
    assert [item["met"] for item in report["seeds"]] == [False, True]
    assert report["configuration"]["unit"]["slots"] == 16
    assert _build(tmp_path / "b") == 0
    assert _tree(tmp_path / "b") == files


def test_timing_that_is_not_met_is_a_failure(verilog, monkeypatch, tmp_path, capsys):
    install(monkeypatch, tmp_path / "tools", {1: (20.0, 0, None), 2: (22.0, 0, None)})
    assert _build(tmp_path / "a", "--seeds", "2") == 1
    assert "timing is not met: no bitstream" in capsys.readouterr().out.replace("\n", "")
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert (report["timing_met"], report["bitstream"], report["seed"]) == (False, None, 2)
    assert not (tmp_path / "a" / "icebreaker.bin").exists()


def test_a_lower_clock(verilog, monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "tools", FITS)
    assert _build(tmp_path / "a", "--clock", "18", "--seeds", "1") == 0
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert (report["clocks"]["clk"]["mhz"], report["seed"]) == (18.0, 1)


def test_a_system_that_does_not_fit(verilog, monkeypatch, tmp_path, capsys):
    log = "Info: \tICESTORM_SPRAM:    5/    4   125%\nERROR: no"
    install(monkeypatch, tmp_path / "tools", {1: (0, 0, log)})
    assert _build(tmp_path / "a", "--seeds", "1") == 1
    assert "error: does not fit iCEBreaker (iCE40 UP5K): 5 SPRAM of 4\n" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_build_that_is_ended_leaves_nothing(verilog, monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "tools", {1: (30.0, 600, None)})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("reluctant.boards.place._check_room", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert _build(tmp_path / "a", "--seeds", "1") == 130
    assert [path.name for path in tmp_path.iterdir()] == ["tools"]


def test_synthesis_that_fails(verilog, monkeypatch, tmp_path, capsys):
    install(monkeypatch, tmp_path / "tools", FITS, yosys_fails="ERROR: Module `\\x' not found")
    assert _build(tmp_path / "a") == 1
    assert "error: Yosys failed: Module `\\x' not found\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--board", "x"), "--board x: no such board: icebreaker, "),
        (("--set", "lanes=5"), "lanes is 5: a power of two"),
        (("--set", "watchdog=1"), "watchdog is 1: 4096 to "),
        (("--set", "bogus=1"), "bogus is no setting: lanes, "),
        (("--clock", "500"), "the PLL (ice40) cannot make 500 MHz of 12 MHz"),
        (("--clock", "-1"), "baud of board icebreaker"),
        (("--seeds", "0"), "Invalid value for '--seeds'"),
    ],
)
def test_wrong_use_is_one_line(monkeypatch, tmp_path, capsys, options, message):
    install(monkeypatch, tmp_path / "tools", FITS)
    assert _build(tmp_path / "a", *options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error
    assert error.startswith("error: ")
    assert not (tmp_path / "a").exists()


def test_dfu_suffix_is_what_bootloaders_check():
    """Fields of the specification; a CRC-32 without its last inversion is 0 over all, itself included."""
    image = dfu_suffix(b"bitstream", 0x1209, 0x5AF0)
    assert image.startswith(b"bitstream")
    assert len(image) == len(b"bitstream") + 16
    assert image[-16:-4] == bytes.fromhex("ffff f05a 0912 0001 554644 10")
    assert zlib.crc32(image) == 0xFFFFFFFF
