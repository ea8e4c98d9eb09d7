"""Real bitstreams, one for each family: a small design with a memory and a multiplier, on the tools of PyPI alone."""

import json
from dataclasses import replace

import pytest
from amaranth.back import verilog
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from reluctant.boards.board import boards
from reluctant.boards.build import implement
from reluctant.boards.place import PlaceOptions
from reluctant.cli import main
from reluctant.hdl.memory import Ram
from reluctant.hdl.multiplier import Multiplier
from reluctant.hdl.technology import Technology

pytest.importorskip("amaranth_boards")


class Sample(wiring.Component):
    """What arrives on rx goes through 8 Kib of memory and a multiplier to tx; with ``own``, unit_clk counts for led."""

    rx: In(1)
    tx: Out(1)
    led: Out(1)

    def __init__(self, own: bool):
        self.own = own
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Ram(width=16, depth=512, latency=2)
        m.submodules.multiplier = multiplier = Multiplier(9, 8)
        shift, address, product = Signal(16), Signal(9), Signal(17)
        m.d.sync += [shift.eq(Cat(self.rx, shift)), address.eq(address + 1), product.eq(multiplier.p)]
        m.d.comb += [
            ram.write_en.eq(1),
            ram.write_addr.eq(address),
            ram.write_data.eq(shift),
            ram.read_addr.eq(address + 1),
            multiplier.a.eq(ram.read_data),
            multiplier.b.eq(ram.read_data[8:]),
            self.tx.eq(product.xor()),
        ]
        if self.own:
            count = Signal(16)
            m.d.unit += count.eq(count + 1)
            m.d.comb += self.led.eq(count[-1])
        else:
            m.d.comb += self.led.eq(address[-1])
        return m


@pytest.mark.parametrize(
    ("name", "unit_mhz", "size", "starts", "resources"),
    [
        # 0x7EAA997E: the word that wakes an iCE40.
        ("icebreaker", None, 104_090, bytes.fromhex("ff0000ff7eaa997e"), {"logic cells", "block RAM", "PLL"}),
        ("ulx3s-25f", 120, None, b"\xff\x00", {"LUT4", "flip-flops", "block RAM", "DSP", "PLL"}),
        ("tang-nano-9k", None, None, b"1" * 32, {"LUT4", "flip-flops", "block RAM"}),
    ],
)
def test_a_bitstream(name, unit_mhz, size, starts, resources):
    own = unit_mhz is not None
    board = replace(boards()[name], unit_clock_mhz=unit_mhz)
    text = verilog.convert(Sample(own), name="sample", platform=Technology(board.family), emit_src=False)
    result = implement(board, text, "sample", own_unit_clock=own, options=PlaceOptions(seeds=1), wheels=True)
    assert result.placement.met
    assert list(result.placement.clocks) == ["clk", *(["unit_clk"] if own else [])]
    assert all(clock.path is not None for clock in result.placement.clocks.values())
    image = result.files[result.bitstream]
    assert image.startswith(starts)
    assert size in (None, len(image))
    assert resources <= result.resources.keys()
    assert result.resources["block RAM"][0] <= 2
    assert all(said.endswith("(PyPI)") for said in result.tools.values())


def test_a_whole_system(tmp_path, capsys):
    """``reluctant build`` of a very small system, firmware and serial link included."""
    pytest.importorskip("ziglang")
    sizes = ("lanes=4", "head_dim=16", "slots=16", "heads=2", "kv_heads=1", "unit_clock=shared")
    options = [word for setting in sizes for word in ("--set", setting)]
    out = tmp_path / "out"
    tools = ("--wheels", "--seeds", "2", "--clock", "40")
    assert main(["build", "--board", "ulx3s-25f", "--out", str(out), *tools, *options]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["timing_met"]
    assert all(clock["fmax_mhz"] >= clock["mhz"] for clock in report["clocks"].values())
    # The core's memory of 16 KiB alone takes 8 of these blocks.
    assert report["utilisation"]["block RAM"]["used"] >= 8
    assert report["utilisation"]["DSP"]["used"] >= 4
    assert (out / report["bitstream"]).read_bytes()[:2] == b"\xff\x00"
    assert main(["flash", "--board", "ulx3s-25f", "--from", str(out), "--dry-run"]) == 0
    assert f"-b ulx3s -m {out / 'ulx3s-25f.bit'}" in capsys.readouterr().out
